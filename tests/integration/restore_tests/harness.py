"""Restores files that lie on disk through the real phases: the repository is the only stand-in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import Capability, Engine, Fetched, FetchRequest, JobSelector
from backupguard.model import Observation, RecoveryPoint, RestoreTestResult
from backupguard.sandbox import Box, SandboxLimits, open_sandbox
from backupguard.testing.contexts import TestContext
from backupguard.testing.contexts import context as new_context
from restore_tests.phases import RestoreTestPlan, restore_test
from restore_tests.postgresql import POSTGRESQL
from restore_tests.settings import PostgresqlSettings

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
SELECTOR = JobSelector(job="dpi.nightly", application="dpi")


def point(native_id: str = "p1", at: datetime | None = None, **values: Any) -> RecoveryPoint:
    moment = at or NOW - timedelta(hours=4)
    return RecoveryPoint(
        repository="nas",
        job="dpi.nightly",
        native_id=native_id,
        at=moment,
        covers_until=moment,
        **values,
    )


@dataclass
class FilesRepository:
    """A repository whose points are paths; fetching copies one."""

    files: Mapping[str, Path]
    standing: Sequence[RecoveryPoint]
    errors: list[Exception] = field(default_factory=list)
    capabilities: frozenset[Capability] = frozenset({Capability.FETCH})

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        yield from self.standing

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        if self.errors:
            raise self.errors.pop(0)
        source = self.files[request.point.native_id]
        target = into / source.name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)
        size = sum(f.lstat().st_size for f in ([target] if target.is_file() else target.rglob("*")))
        return Fetched(
            artifact=PurePosixPath(source.name), bytes=size, files=1, tools={"files": "1"}
        )


@dataclass
class OneRepository:
    repository: Any

    def identifiers(self) -> Sequence[str]:
        return ("nas",)

    def jobs(self, identifier: str) -> Sequence[JobSelector]:
        return (SELECTOR,)

    @contextmanager
    def open(self, identifier: str) -> Iterator[Any]:
        yield self.repository

    def parallelism(self) -> int:
        return 1

    def allowance(self, identifier: str) -> int | None:
        return None


@dataclass
class Trials:
    """Runs restore tests below one directory and keeps what they told."""

    directory: Path
    facts: list[Observation] = field(default_factory=list)
    traces: bytes = b""
    context: TestContext | None = None
    limits: SandboxLimits = field(default_factory=lambda: SandboxLimits(reserve_percent=1))
    count: int = 0
    now: datetime = NOW
    engines: Mapping[str, Engine] = field(default_factory=lambda: {"postgresql": POSTGRESQL})

    def restore(self, dump: Path, **plan: Any) -> RestoreTestResult:
        repository = FilesRepository({"p1": dump}, [point(at=plan.pop("point_at", None))])
        return self.perform(repository, **plan)

    def perform(self, repository: Any, **plan: Any) -> RestoreTestResult:
        self.count += 1
        self.context = context = new_context(self.directory, run=f"run-{self.count}")
        context.clock.set(self.now)
        values = {
            "run": "01JTEST",
            "application": "dpi",
            "selectors": {"nas": (SELECTOR,)},
            "settings": PostgresqlSettings(engine="postgresql", memory=600_000_000, jobs=2),
            "timezone": "Europe/Paris",
            **plan,
        }

        @contextmanager
        def sandbox(artifact: Path) -> Iterator[Box]:
            place = context.work / "sandbox"
            with open_sandbox(place, artifact, limits=self.limits, cancel=context.cancel) as box:
                try:
                    yield box
                finally:
                    self.traces += box.log("postgres", 1 << 20)

        self.facts.clear()
        result = restore_test(
            RestoreTestPlan(**values),
            repositories=OneRepository(repository),
            engines=self.engines,
            sandbox=sandbox,
            context=context,
            record=self.facts.append,
        )
        assert not list(context.work.iterdir()), "nothing restored outlives its test"
        return result
