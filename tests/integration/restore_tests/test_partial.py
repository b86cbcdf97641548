"""A tree that is too large is tested in parts, each time another one, and every word says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from backupguard.contracts import Capability, Fetched, FetchRequest, JobSelector
from backupguard.model import RecoveryPoint, RestoreTestResult, Verdict
from backupguard.repositories.fetched import measure
from backupguard.repositories.sharing import Tree
from restore_tests.files import FILES
from restore_tests.outcome import payload
from restore_tests.settings import FilesSettings
from tests.integration.restore_tests.harness import NOW, Trials, point


@dataclass
class Shared:
    """A repository that brings parts as those do whose tool lists a tree."""

    root: Path
    capabilities: frozenset[Capability] = frozenset({Capability.FETCH})

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        yield point(bytes=10**15)  # more than this host has room for

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        assert request.part is not None
        tree = Tree(request.part)
        for path in self.root.rglob("*"):
            place = f"/{self.root.name}/{path.relative_to(self.root)}"
            tree.take(place, is_file=path.is_file(), size=path.stat().st_size)
        chosen = tree.choose([f"/{self.root.name}"])
        for place in chosen.paths:
            source, target = self.root.parent / place[1:], into / place[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        files, size = measure(into, lambda: None)
        assert (files, size) == (chosen.files, chosen.bytes)
        artifact = PurePosixPath(self.root.name)
        return Fetched(artifact=artifact, bytes=size, files=files, part=chosen.part)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path / "trials", engines={"files": FILES})


@pytest.fixture
def ged(tmp_path: Path) -> Path:
    root = tmp_path / "ged"
    for n in range(48):
        path = root / f"20{20 + n % 4}" / f"{n % 12:02}" / f"{n}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(128) + b"DICM" + bytes(900))
        moment = (NOW - timedelta(hours=5, minutes=n)).timestamp()
        os.utime(path, (moment, moment))
    (root / "index").mkdir()
    (root / "index" / "day.csv").write_text("a;b")
    return root


def settings(**more: Any) -> FilesSettings:
    return FilesSettings.model_validate({
        "engine": "files",
        "partial": {"max-bytes": "20kB", "within": "31d", "always": ["index"]},
        "checks": [
            {"name": "index", "files": "index/day.csv", "at-least": 1},
            {"name": "images", "files": "*.dcm", "at-least": 48},
        ],
        **more,
    })  # fmt: skip


def perform(trials: Trials, root: Path, **more: Any) -> RestoreTestResult:
    return trials.perform(Shared(root), settings=settings(**more))


def test_a_part_is_said_and_the_next_test_brings_another(trials: Trials, ged: Path) -> None:
    first = perform(trials, ged)
    assert (first.verdict, first.code) == (Verdict.PASSED, None), first
    assert first.partial is not None
    assert 0 < first.partial.percent < 50
    assert first.partial.covered_since is None
    assert first.level == 3  # by the one check that each test can answer
    assert [check.name for check in first.checks if check.configured] == ["index"]
    assert first.fingerprint is None
    started = trials.now
    for _ in range(6):
        trials.now += timedelta(days=1)
        last = perform(trials, ged).partial
        assert last is not None
        if last.covered_since is not None:
            break
    assert last.covered_since == int(started.timestamp()) * 1_000_000
    body = payload(perform(trials, ged))
    assert isinstance(body, dict)
    assert body["partial"]["shares"] < body["partial"]["shares_total"]


def test_what_is_wrong_with_a_part_fails_the_test(trials: Trials, ged: Path) -> None:
    for path in ged.rglob("*.dcm"):
        path.write_bytes(os.urandom(path.stat().st_size))
    found = perform(trials, ged)
    assert (found.verdict, found.code) == (Verdict.FAILED, "files_encrypted")
    assert found.partial is not None


def test_what_each_test_brings_must_be_there(trials: Trials, ged: Path) -> None:
    (ged / "index" / "day.csv").unlink()
    found = perform(trials, ged)
    assert (found.verdict, found.code) == (Verdict.FAILED, "check_failed")


def test_a_share_that_could_not_be_looked_at_is_not_read(
    trials: Trials, ged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("restore_tests.inside.text", lambda name: "raise SystemExit(3)")
        assert perform(trials, ged).verdict is Verdict.COULD_NOT_VERIFY
    found = perform(trials, ged).partial
    assert found is not None
    kept = json.loads(next(trials.directory.rglob("nas.json")).read_text())
    assert len(kept["read_at"]) == found.shares < found.shares_total
