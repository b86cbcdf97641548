"""A `contracts.Context` for tests, and what it is made of."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backupguard.contracts import (
    Attacker,
    Cancel,
    Context,
    Http,
    JobSelector,
    Known,
    Repositories,
    Repository,
    RepositoryType,
    Secret,
    SecretReference,
    Tools,
)
from backupguard.errors import MissingMeans
from backupguard.model import Fact, Origin, RecoveryPoint, Sighting, Subject, VerifiedCoverage


@dataclass(slots=True)
class SetClock:
    """A clock that stands still until it is set; the real time when it never was."""

    moment: datetime | None = None

    def __call__(self) -> datetime:
        """Return the time it shows, aware and in UTC."""
        return self.moment or datetime.now(UTC)

    def set(self, moment: datetime) -> None:
        """Set it, also backwards."""
        self.moment = moment.astimezone(UTC)

    def advance(self, by: timedelta) -> None:
        """Move it on from what it shows."""
        self.moment = self() + by


@dataclass(slots=True)
class KnownFacts(Known):
    """`contracts.Known` out of dictionaries that a test fills."""

    standing_points: dict[tuple[str, str], Sequence[RecoveryPoint]] = field(default_factory=dict)
    facts: dict[tuple[str, Subject], Fact] = field(default_factory=dict)
    covered: dict[str, dict[str, VerifiedCoverage]] = field(default_factory=dict)
    sighted: dict[str, Sighting] = field(default_factory=dict)
    known_runs: dict[str, datetime] = field(default_factory=dict)
    history: list[Fact] = field(default_factory=list)

    def points(self, job: str, repository: str) -> Sequence[RecoveryPoint]:
        """Return the points that the test put there for that job and repository."""
        return self.standing_points.get((job, repository), ())

    def latest(self, kind: str, subject: Subject) -> Fact | None:
        """Return the fact that the test put there."""
        return self.facts.get((kind, subject))

    def since(self, kind: str, subject: Subject, seq: int) -> Sequence[Fact]:
        """Return what the test put into `history`."""
        return tuple(
            fact
            for fact in self.history
            if fact.seq > seq
            and (fact.observation.kind, fact.observation.subject) == (kind, subject)
        )

    def coverage(self, repository: str) -> Mapping[str, VerifiedCoverage]:
        """Return the coverage that the test put there."""
        return self.covered.get(repository, {})

    def sighting(self, repository: str) -> Sighting | None:
        """Return the sighting that the test put there."""
        return self.sighted.get(repository)

    def standing(self, repository: str, listed: Iterable[RecoveryPoint] = ()) -> Mapping[str, int]:
        """Count what the test put there, and `listed`."""
        names = {(point.job, point.native_id) for point in listed}
        for (_, place), points in self.standing_points.items():
            if place == repository:
                names |= {(point.job, point.native_id) for point in points}
        return Counter(job for job, _ in names)

    def runs_since(self, repository: str) -> datetime | None:
        """Return the time that the test put there."""
        return self.known_runs.get(repository)


@dataclass(slots=True, kw_only=True)
class TestContext(Context):
    """`contracts.Context` over a temporary directory."""

    __test__ = False  # not a test, whatever its name

    tools: Tools
    http: Http
    cancel: Cancel
    known: KnownFacts
    work: Path
    cache: Path
    clock: SetClock
    steps: list[tuple[int, int | None, str]] = field(default_factory=list)

    def now(self) -> datetime:
        """Return what the clock shows."""
        return self.clock()

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Keep the step in `steps`."""
        self.steps.append((done, total, unit))

    def secret(self, reference: SecretReference) -> Secret:
        """Read a secret's file; raises MissingMeans (secret_missing)."""
        try:
            return Secret(str(reference.file), Path(reference.file or "").read_bytes())
        except OSError as error:
            raise MissingMeans("secret_missing", name=str(reference.file)) from error

    def remember(self, name: str) -> Path:
        """Return a directory below the temporary one."""
        directory = self.cache / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory


def context(directory: Path, *, tools: Tools | None = None, run: str = "run-1") -> TestContext:
    """Return a context whose files lie in `directory`; programs run in the real jail.

    `tools` replaces the jail. `run` is the name of the run: keys of observations carry it.
    """
    from backupguard.http import BoundedHttp
    from backupguard.processes import Cancellation, Jail

    work, cache = directory / run, directory / "cache"
    for each in (work, cache):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    cancel = Cancellation()
    return TestContext(
        tools=tools if tools is not None else Jail(work, cancel),
        http=BoundedHttp(cancel=cancel),
        cancel=cancel,
        known=KnownFacts(),
        work=work,
        cache=cache,
        clock=SetClock(),
    )


@dataclass(slots=True, kw_only=True)
class TestRepositories(Repositories):
    """`contracts.Repositories` out of a dictionary: id → type, settings, jobs."""

    __test__ = False

    context: Context
    entries: Mapping[str, tuple[RepositoryType, Any, Sequence[JobSelector]]]
    bound: int = 2
    bound_per_host: int = 2
    allowed: Mapping[str, int] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def identifiers(self) -> Sequence[str]:
        """Return the ids in the order of the dictionary."""
        return tuple(self.entries)

    def jobs(self, identifier: str) -> Sequence[JobSelector]:
        """Return the jobs of one."""
        return self.entries[identifier][2]

    def type_of(self, identifier: str) -> str:
        """Return the name of its type."""
        return self.entries[identifier][0].name

    def open(self, identifier: str) -> AbstractContextManager[Repository]:
        """Open it with this object's context."""
        with self._guard:
            self.opened.append(identifier)
        kind, settings, _ = self.entries[identifier]
        return kind.open(identifier, settings, self.context)

    def attack(self, identifier: str) -> AbstractContextManager[Attacker] | None:
        """Open it as its backup writer with this object's context."""
        kind, settings, _ = self.entries[identifier]
        return kind.attack(identifier, settings, self.context)

    def parallelism(self) -> int:
        """Return `bound`."""
        return self.bound

    def host_of(self, identifier: str) -> str:
        """Return what its settings say; "localhost" where they are none of ours."""
        return getattr(self.entries[identifier][1], "talks_to", "localhost")

    def origin_of(self, identifier: str) -> Origin:
        """Return what its type says; observed where it says nothing."""
        return getattr(self.entries[identifier][0], "origin", Origin.OBSERVED)

    def parallelism_per_host(self) -> int:
        """Return `bound_per_host`."""
        return self.bound_per_host

    def allowance(self, identifier: str) -> int | None:
        """Return what the test put there; None where it put nothing."""
        return self.allowed.get(identifier)
