"""What every repository plug-in must keep: it reads, it never writes, it ends, it blames rightly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import (
    Capability,
    Fetched,
    FetchRequest,
    JobSelector,
    ListsChanges,
    Repository,
    RepositorySettings,
    RepositoryType,
    VerifyPlan,
)
from backupguard.errors import BackupDefect, Cancelled, Changing, Unreachable
from backupguard.model import RecoveryPoint, Verdict
from backupguard.testing.contexts import TestContext
from backupguard.testing.trees import listing

_EXTRA_LIMIT = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryCase:
    """A healthy repository on this host's disk, with at least one complete point.

    `settings_at` returns the settings of a repository of the same kind and secrets at another path:
    a copy, or a place where there is none. `files` is what a fetch of `jobs[0]`'s newest point must
    bring, in number.
    """

    kind: RepositoryType
    root: Path
    settings_at: Callable[[Path], RepositorySettings]
    jobs: tuple[JobSelector, ...]
    context: TestContext
    files: int

    def open(self, root: Path | None = None) -> Any:
        """Open it, or the one at `root`."""
        return self.kind.open("tested", self.settings_at(root or self.root), self.context)


def newest(repository: Repository, case: RepositoryCase) -> RecoveryPoint:
    """Return the newest point of the first job."""
    return max(repository.points(case.jobs[:1]), key=lambda point: (point.at, point.native_id))


def fetched(repository: Repository, case: RepositoryCase, into: Path) -> Fetched:
    """Fetch the newest point of the first job into a new directory."""
    into.mkdir()
    request = FetchRequest(point=newest(repository, case), selector=case.jobs[0])
    return repository.fetch(request, into)


def use_fully(case: RepositoryCase, into: Path, root: Path | None = None) -> None:
    """Do everything with a repository that it can do."""
    with case.open(root) as repository:
        list(repository.points(case.jobs))
        repository.inspect()
        if Capability.VERIFY in repository.capabilities:
            units = list(repository.verify(VerifyPlan(data_percent=1, jobs=case.jobs)))
            assert units
            assert {unit.verdict for unit in units} == {Verdict.PASSED}
        if Capability.FETCH in repository.capabilities:
            fetched(repository, case, into)


class RepositoryContract:
    """Inherit, and provide a fixture `case` that returns a `RepositoryCase`."""

    @pytest.fixture
    def copy(self, case: RepositoryCase, tmp_path: Path) -> Iterator[Path]:
        """A copy of the repository that nobody may write to."""
        copy = tmp_path / "copy"
        shutil.copytree(case.root, copy, symlinks=True)
        subprocess.run(["chmod", "-R", "a-w", str(copy)], check=True)  # noqa: S607
        yield copy
        subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)  # noqa: S607

    def test_it_is_an_entry_point(self, case: RepositoryCase) -> None:
        """It has all that the loader asks for."""
        assert isinstance(case.kind, RepositoryType)
        assert issubclass(case.kind.settings, RepositorySettings)

    def test_points_are_well_formed_and_the_same_when_asked_again(
        self, case: RepositoryCase
    ) -> None:
        """Points have the repository's id, times with zones, and one name each."""
        with case.open() as repository:
            points = list(repository.points(case.jobs))
            again = list(repository.points(case.jobs))
        assert points
        assert points == again
        assert {point.repository for point in points} == {"tested"}
        assert {point.job for point in points} <= {selector.job for selector in case.jobs}
        assert len({(point.job, point.native_id) for point in points}) == len(points)
        for point in points:
            assert point.at.tzinfo is not None
            assert point.covers_until >= point.at
            assert len(json.dumps(point.extra)) <= _EXTRA_LIMIT
            assert point.native_id.isascii()

    def test_what_is_new_is_told_and_nothing_is_forgotten(self, case: RepositoryCase) -> None:
        """Where a repository can tell what is new: its counts are those of its points."""
        with case.open() as repository:
            points = list(repository.points(case.jobs))
            if not isinstance(repository, ListsChanges):
                return
            first = repository.changes(case.jobs, None)
            listed = list(first.points)
            after = repository.changes(case.jobs, first.mark)
            new = list(after.points)
            forgotten = repository.changes(case.jobs, "no mark of this repository")
            everything = list(forgotten.points)
        names = {(point.job, point.native_id) for point in points}
        counts = Counter(point.job for point in points)
        assert first.complete
        assert forgotten.complete
        for found in (listed, everything):
            assert {(point.job, point.native_id) for point in found} == names
        assert {(point.job, point.native_id) for point in new} <= names
        for told in (first, after, forgotten):
            assert {job: told.standing[job] for job in counts} == counts
            assert set(told.standing) <= {selector.job for selector in case.jobs}

    def test_no_jobs_no_points(self, case: RepositoryCase) -> None:
        """Nothing asked for, nothing yielded."""
        with case.open() as repository:
            assert list(repository.points(())) == []

    def test_inspect_names_tool_and_device(self, case: RepositoryCase) -> None:
        """The state says which tool in which version looked, and where the repository lies."""
        with case.open() as repository:
            state = repository.inspect()
        assert state.tool
        assert state.tool_version
        assert state.device

    def test_a_fetch_brings_the_whole_selection(self, case: RepositoryCase, tmp_path: Path) -> None:
        """What is reported is what is there, inside the directory that was given."""
        into = tmp_path / "into"
        with case.open() as repository:
            if Capability.FETCH not in repository.capabilities:
                return
            result = fetched(repository, case, into)
        artifact = into / result.artifact
        assert artifact.resolve().is_relative_to(into.resolve())
        files = [path for path in [artifact, *artifact.rglob("*")] if path.is_file()]
        assert len(files) == result.files == case.files
        assert sum(path.stat().st_size for path in files) == result.bytes

    def test_nothing_is_written(self, case: RepositoryCase, tmp_path: Path) -> None:
        """Names, modes, sizes, change times and locks are the same after everything was done."""
        before = listing(case.root)
        use_fully(case, tmp_path / "into")
        assert listing(case.root) == before

    def test_it_works_where_nothing_can_be_written(
        self, case: RepositoryCase, copy: Path, tmp_path: Path
    ) -> None:
        """A copy without any write permission serves as well."""
        assert os.geteuid() != 0, "root may write anywhere: run this as an ordinary user"
        before = listing(copy)
        use_fully(case, tmp_path / "into", copy)
        assert listing(copy) == before

    @pytest.mark.parametrize("after_s", [0.05, 0.4, 0.9])
    def test_nothing_is_left_by_a_kill(
        self, case: RepositoryCase, tmp_path: Path, after_s: float
    ) -> None:
        """After kill -9 in the midst of work the repository is as it was, and stays so."""
        before = listing(case.root)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork beside threads: the child only works and dies
            child = os.fork()
        if child == 0:
            try:
                os.setsid()
                use_fully(case, tmp_path / "into")
            finally:
                os._exit(0)
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert listing(case.root) == before
        time.sleep(0.3)
        assert listing(case.root) == before

    def test_a_repository_that_is_not_there_is_unreachable(
        self, case: RepositoryCase, tmp_path: Path
    ) -> None:
        """Neither an empty listing nor a defect: nobody knows what it holds."""
        for act in (lambda one: one.inspect(), lambda one: list(one.points(case.jobs))):
            with (
                pytest.raises(Unreachable) as caught,
                case.open(tmp_path / "nowhere") as repository,
            ):
                act(repository)
            assert caught.value.code == "not_found"
            assert caught.value.verdict is Verdict.COULD_NOT_VERIFY

    def test_a_point_that_has_gone_accuses_nobody(
        self, case: RepositoryCase, tmp_path: Path
    ) -> None:
        """A point that vanished between listing and fetch is a change, not a defect."""
        with case.open() as repository:
            if Capability.FETCH not in repository.capabilities:
                return
            point = newest(repository, case)
            gone = type(point)(
                **{
                    **{name: getattr(point, name) for name in point.__slots__},
                    "native_id": "0" * 64,
                }
            )
            with pytest.raises(Changing):
                repository.fetch(FetchRequest(point=gone, selector=case.jobs[0]), tmp_path)

    def test_a_cancelled_run_ends_at_once(self, case: RepositoryCase, tmp_path: Path) -> None:
        """Cancelled passes through, and is no defect."""
        with case.open() as repository:
            point = newest(repository, case)
            case.context.cancel.set("by_operator")  # type: ignore[attr-defined]
            into = tmp_path / "into"
            into.mkdir()

            def work() -> object:
                if Capability.FETCH not in repository.capabilities:
                    return list(repository.points(case.jobs))
                return repository.fetch(FetchRequest(point=point, selector=case.jobs[0]), into)

            with pytest.raises(Cancelled) as caught:
                work()
        assert not isinstance(caught.value, BackupDefect)
