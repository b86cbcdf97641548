"""Keys that persons bring: held for one run, in no file, and no other key stands in for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Secret
from backupguard.daemon import escrow
from backupguard.errors import Busy, MissingMeans, UsageError
from backupguard.model import Run, RunRequest, RunState
from backupguard.runs import RunContext, TaskContext
from backupguard.settings import Settings, load

CONFIGURATION = """
[site]
name = "Essai"
[repositories.nas]
type = "restic"
url = "/srv/nas"
credentials.reader.file = "{root}/password"
credentials.backend.file = "{root}/backend"
credentials.escrow.file = "{root}/escrow"
[repositories.borg]
type = "borg"
url = "/srv/borg"
key-file.file = "{root}/key"
credentials.reader.file = "{root}/password"
[repositories.dumps]
type = "directory"
path = "/srv/dumps"
"""


def run_with(**options: Any) -> Run:
    asked = RunRequest(
        task="restore-test",
        subject="application/dpi",
        due_at=None,
        exclusive="x",
        resource="restore-test",
        requested_by="uid/0 (root)",
        options={"key": "escrow", **options},
    )
    return Run(id="R", request=asked, state=RunState.RUNNING, created_at=datetime.now(UTC))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("password", "backend", "key"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(f"the {name}\n")
    (tmp_path / "backupguard.toml").write_text(CONFIGURATION.format(root=tmp_path))
    return load(tmp_path / "backupguard.toml")


def task(settings: Settings, work: Path, **options: Any) -> TaskContext:
    given: Any = None
    context = RunContext(
        tools=given, http=given, cancel=given, known=given, work=work, cache=work / "cache",
        clock=lambda: datetime.now(UTC), report=lambda *_: None,
    )  # fmt: skip
    return TaskContext(run=run_with(**options), settings=settings, store=given, context=context)


@pytest.fixture
def keys() -> Iterator[escrow.HandedKeys]:
    made = escrow.HandedKeys()
    yield made
    for name in list(made._pipes):
        made.forget(run_with(handed=name))


def test_a_key_is_handed_once_and_forgotten_with_its_run(keys: escrow.HandedKeys) -> None:
    name = keys.put(b"the escrowed key\n")
    assert "key" not in name
    descriptor = keys.of(run_with(handed=name))
    assert descriptor is not None
    assert escrow.read_key(descriptor).reveal() == b"the escrowed key"
    with pytest.raises(MissingMeans):
        escrow.read_key(descriptor)
    keys.forget(run_with(handed=name))
    keys.forget(run_with(handed=name))
    assert keys.of(run_with(handed=name)) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_run_without_one_gets_none(keys: escrow.HandedKeys) -> None:
    keys.put(b"somebody else's")
    assert keys.of(run_with()) is None
    assert keys.of(run_with(handed="0123456789abcdef")) is None


@pytest.mark.parametrize("size", [0, escrow.KEY_LIMIT + 1], ids=["empty", "too long"])
def test_what_is_no_key_is_refused(keys: escrow.HandedKeys, size: int) -> None:
    with pytest.raises(UsageError):
        keys.put(b"x" * size)


def test_the_longest_fits_into_its_pipe(keys: escrow.HandedKeys) -> None:
    name = keys.put(b"x" * escrow.KEY_LIMIT)
    descriptor = keys.of(run_with(handed=name))
    assert descriptor is not None
    assert len(escrow.read_key(descriptor).reveal()) == escrow.KEY_LIMIT


def test_not_too_many_wait(keys: escrow.HandedKeys) -> None:
    for _ in range(escrow.MOST_KEYS):
        keys.put(b"k")
    with pytest.raises(Busy):
        keys.put(b"k")


def test_only_the_escrowed_key_opens_the_repository(settings: Settings, tmp_path: Path) -> None:
    found = escrow.with_escrowed_key(task(settings, tmp_path, repository="nas"), Secret("e", b"E"))
    credentials = settings.repositories["nas"].credentials
    assert credentials.reader is not None
    assert credentials.backend is not None
    assert found.context.secret(credentials.reader).reveal() == b"E"
    assert found.context.secret(credentials.backend).reveal() == b"the backend"
    fresh = found.context.remember("restic-nas")
    assert fresh.is_relative_to(tmp_path / "fresh")
    assert not (tmp_path / "cache").exists()


def test_another_key_of_this_host_is_not_handed_out(settings: Settings, tmp_path: Path) -> None:
    given = task(settings, tmp_path, repository="borg")
    found = escrow.with_escrowed_key(given, Secret("escrow", b"E"))
    with pytest.raises(MissingMeans) as refused:
        found.context.secret(settings.repositories["borg"].key_file)  # type: ignore[attr-defined]
    assert refused.value.message.id == "escrow.other_key"


def test_where_the_configuration_says_it_lies(settings: Settings, tmp_path: Path) -> None:
    given = task(settings, tmp_path, repository="nas")
    with pytest.raises(MissingMeans):
        escrow.with_escrowed_key(given, None)
    (tmp_path / "escrow").touch(mode=0o600)
    (tmp_path / "escrow").write_text("from the safe\n")
    found = escrow.with_escrowed_key(given, None)
    reader = settings.repositories["nas"].credentials.reader
    assert reader is not None
    assert found.context.secret(reader).reveal() == b"from the safe"


def test_a_handed_key_that_got_lost_is_replaced_by_no_other(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "escrow").touch(mode=0o600)
    (tmp_path / "escrow").write_text("from the safe\n")
    given = task(settings, tmp_path, repository="nas", handed="0123456789abcdef")
    with pytest.raises(MissingMeans):
        escrow.with_escrowed_key(given, None)


@pytest.mark.parametrize("repository", ["dumps", "unknown", None])
def test_a_place_without_a_key_to_try(
    settings: Settings, tmp_path: Path, repository: str | None
) -> None:
    with pytest.raises(UsageError):
        escrow.with_escrowed_key(task(settings, tmp_path, repository=repository), Secret("e", b"E"))


def test_the_run_keeps_its_numbers(settings: Settings, tmp_path: Path) -> None:
    given = task(settings, tmp_path, repository="nas")
    found = escrow.with_escrowed_key(given, Secret("e", b"E"))
    found.tools_used["restic"] = "0.18.0"
    assert given.tools_used == {"restic": "0.18.0"}
    assert replace(found, context=given.context) == given
