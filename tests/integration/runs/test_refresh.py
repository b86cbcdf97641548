"""A refresh into a real store: what is new is asked for and stored, and nothing else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from backupguard.contracts import (
    Capability,
    Changes,
    JobRun,
    JobSelector,
    RepositorySettings,
    RepositoryState,
)
from backupguard.daemon.tasks import TASKS
from backupguard.errors import Unreachable
from backupguard.model import Fact, Observation, RecoveryPoint, RunRequest, Verdict
from backupguard.processes import Cancellation
from backupguard.runs import StoreKnown, TaskContext, bytes_read, perform
from backupguard.settings import load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore
from backupguard.testing import TestContext, TestRepositories
from backupguard.testing.contexts import SetClock, context
from probes import inventory, looking, spool
from probes.inventory import INVENTORY

START = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
JOBS = (
    JobSelector(job="dpi.nightly", application="dpi"),
    JobSelector(job="labo.nightly", application="labo"),
)


def point(job: str, number: int) -> RecoveryPoint:
    at = START - timedelta(days=number)
    return RecoveryPoint(
        repository="cat", job=job, native_id=f"{job}-{number}", at=at, covers_until=at, bytes=number
    )


@dataclass
class Catalogue:
    """A type whose one repository is a list in memory, and which counts what it is asked."""

    name = "catalogue"
    settings = RepositorySettings

    held: list[RecoveryPoint] = field(default_factory=list)
    tool_runs: list[JobRun] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    since: list[datetime] = field(default_factory=list)
    capabilities: frozenset[Capability] = frozenset()
    dies_after: int | None = None
    forgets: bool = False

    @contextmanager
    def open(self, identifier: str, settings: Any, context: Any) -> Iterator[Catalogue]:
        yield self

    def attack(self, identifier: str, settings: Any, context: Any) -> None:
        return None

    def inspect(self) -> RepositoryState:
        return RepositoryState(tool="catalogue", tool_version="1")

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        names = [one.job for one in jobs]
        self.asked.append(f"points {' '.join(names)}")
        for number, one in enumerate(one for one in self.held if one.job in names):
            if number == self.dies_after:
                raise Unreachable("timeout")
            yield one

    def runs(self, since: datetime) -> Iterator[JobRun]:
        self.since.append(since)
        return iter(self.tool_runs)


class Telling(Catalogue):
    """The same, which can tell what is new: its mark is the number of the newest point."""

    def changes(self, jobs: Sequence[JobSelector], mark: str | None) -> Changes:
        self.asked.append(f"changes {mark}")
        names = {one.job for one in jobs}
        held = [one for one in self.held if one.job in names]
        whole = mark is None or self.forgets
        return Changes(
            points=(one for one in held if whole or (one.bytes or 0) < int(mark or 0)),
            standing={name: sum(one.job == name for one in held) for name in names},
            mark=str(min(one.bytes or 0 for one in held)),
            complete=whole,
        )


def test_what_was_read_today_is_counted_per_repository(tmp_path: Path) -> None:
    clock = SetClock(START)
    store = open_store(tmp_path, now=clock)
    number = iter(range(99))

    def verified(repository: str, *sizes: int) -> None:
        units = [
            {"unit": f"u{n}", "verdict": "passed", "bytes": size, "code": None}
            for n, size in enumerate(sizes)
        ]
        data = {"units": units, "units_total": 9, "verdict": "passed", "code": None}
        store.append(
            [
                Observation(
                    kind="repository.verified",
                    subject=f"repository/{repository}",
                    observed_at=clock(),
                    data={**data, "complete_at": None},
                    key=f"test/{next(number)}",
                )
            ]
        )

    verified("nas", 1000)
    clock.advance(timedelta(days=1))
    verified("nas", 5, 6)
    verified("tape", 70)
    since = START + timedelta(hours=1)
    assert bytes_read(store, "nas", since) == 11
    assert bytes_read(store, "tape", since) == 70
    assert bytes_read(store, "nas", START) == 1011
    assert bytes_read(store, "nas", clock() + timedelta(hours=1)) == 0
    store.close()


@dataclass
class Place:
    """A store, a context whose clock is set, and one repository."""

    store: SqlStore
    here: TestContext
    kind: Catalogue
    jobs: tuple[JobSelector, ...] = JOBS

    def refresh(self, *, hours: int = 1) -> list[Fact]:
        """Let time pass, list, store; return the new facts."""
        self.here.clock.advance(timedelta(hours=hours))
        before, _ = self.store.head()
        settings = RepositorySettings(type="catalogue")
        asked = TestRepositories(
            context=self.here, entries={"cat": (self.kind, settings, self.jobs)}
        )
        self.here.work = self.here.work.with_name(f"run-{before}-{time.monotonic_ns()}")
        self.here.work.mkdir()
        request = SimpleNamespace(requested_by="test")
        task: Any = SimpleNamespace(
            store=self.store,
            settings=SimpleNamespace(repositories={}, media={}),
            run=SimpleNamespace(id="run", request=request),
            record=lambda *seen: self.store.append(seen, run="run", author="test"),
        )
        for seen in INVENTORY.observe("site", asked, self.here, None):
            TaskContext.keep(task, seen)
        return list(self.store.facts(after=before))

    def standing(self) -> dict[str, int]:
        return {one.job: one.standing for one in self.store.summaries()}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[Catalogue], Place]]:
    here = context(tmp_path / "here")
    here.clock.set(START)
    store = open_store(tmp_path / "state", now=here.clock)
    here.known = StoreKnown(store=store)  # type: ignore[assignment]
    yield lambda kind: Place(store=store, here=here, kind=kind)
    store.close()


def both(*numbers: int) -> list[RecoveryPoint]:
    return [point(selector.job, number) for number in numbers for selector in JOBS]


def test_what_tells_what_is_new_is_asked_for_nothing_else(place: Callable[..., Place]) -> None:
    where = place(Telling(held=both(3, 2)))
    assert [one.observation.kind for one in where.refresh()] == [
        "inventory.listed",
        "repository.inspected",
    ]
    where.kind.held += both(1)
    (fact,) = where.refresh()
    assert len(fact.observation.data["appeared"]) == 2
    assert where.refresh() == []
    assert where.kind.asked == ["changes None", "changes 2", "changes 1"]
    assert where.standing() == {"dpi.nightly": 3, "labo.nightly": 3}


def test_a_sudden_loss_is_seen_at_the_next_refresh(place: Callable[..., Place]) -> None:
    where = place(Telling(held=both(3, 2, 1)))
    where.refresh()
    del where.kind.asked[:]
    where.kind.held = [one for one in where.kind.held if one.native_id != "labo.nightly-2"]
    (fact,) = where.refresh()
    assert [one["native_id"] for one in fact.observation.data["vanished"]] == ["labo.nightly-2"]
    assert where.kind.asked == ["changes 1", "points labo.nightly"]
    assert where.refresh() == []
    assert where.kind.asked[-1] == "changes 1"


def test_one_lost_and_one_new_do_not_hide_each_other(place: Callable[..., Place]) -> None:
    where = place(Telling(held=both(3, 2)))
    where.refresh()
    where.kind.held = [*both(3, 2)[1:], point("dpi.nightly", 1)]
    facts = where.refresh()
    changes = {
        name: [one["native_id"] for fact in facts for one in fact.observation.data[name]]
        for name in ("appeared", "vanished")
    }
    assert changes == {"appeared": ["dpi.nightly-1"], "vanished": ["dpi.nightly-3"]}


def test_everything_is_listed_again_once_a_day(place: Callable[..., Place]) -> None:
    where = place(Telling(held=both(2)))
    where.refresh()
    where.refresh(hours=25)
    where.refresh(hours=-30)  # the clock was set back
    assert where.kind.asked == ["changes None"] * 3


def test_another_selection_makes_a_mark_worthless(place: Callable[..., Place]) -> None:
    where = place(Telling(held=both(2)))
    where.refresh()
    where.jobs = (replace(JOBS[0], paths=("/srv",)), JOBS[1])
    where.refresh()
    assert where.kind.asked == ["changes None"] * 2


def test_a_mark_that_the_repository_forgot(place: Callable[..., Place]) -> None:
    where = place(Telling(held=both(3, 2)))
    where.refresh()
    where.kind.forgets = True
    where.kind.held = both(2)
    (fact,) = where.refresh()
    assert len(fact.observation.data["vanished"]) == 2


@pytest.mark.parametrize("kind", [Catalogue, Telling], ids=["whole", "telling"])
def test_by_a_listing_that_breaks_off_nothing_vanishes(
    kind: type[Catalogue], place: Callable[..., Place]
) -> None:
    where = place(kind(held=both(3, 2, 1)))
    where.refresh()
    before = where.store.sightings()["cat"].listed_at
    where.kind.dies_after = 1
    where.kind.held = both(3, 1)
    (fact,) = where.refresh()
    data = fact.observation.data
    assert (fact.observation.kind, data["reachable"], data["code"]) == (
        "repository.inspected",
        False,
        "timeout",
    )
    assert where.standing() == {"dpi.nightly": 3, "labo.nightly": 3}
    assert where.store.sightings()["cat"].listed_at == before
    where.kind.dies_after = None
    assert len(where.refresh()) == 2  # what is gone, and that it answers again
    assert where.standing() == {"dpi.nightly": 2, "labo.nightly": 2}


def test_the_tools_own_runs_are_remembered(place: Callable[..., Place]) -> None:
    run = JobRun(job="dpi.nightly", native_id="7", started_at=START, ended_at=START, state="failed")
    kind = Catalogue(tool_runs=[run], capabilities=frozenset({Capability.RUNS}))
    where = place(kind)
    kinds = [one.observation.kind for one in where.refresh()]
    assert kinds == ["inventory.listed", "backup.runs", "repository.inspected"]
    where.refresh()
    assert where.store.job_runs("dpi.nightly") == (run,)
    assert kind.since[0] == START + timedelta(hours=1) - looking.RUNS_FROM
    assert kind.since[1] == START - timedelta(days=2)


def test_a_long_listing_goes_over_the_disk(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    monkeypatch.setattr("backupguard.store.listings.IN_MEMORY_BYTES", 10_000)
    where = place(Catalogue(held=both(*range(3000))))
    facts = where.refresh()
    assert len(facts) == 13
    assert where.standing() == {"dpi.nightly": 3000, "labo.nightly": 3000}
    assert where.refresh() == []
    where.kind.held = both(*range(2000))
    (first, *_) = where.refresh()
    assert first.observation.data["standing"] == 4000
    assert where.standing() == {"dpi.nightly": 2000, "labo.nightly": 2000}
    assert list(where.here.work.iterdir()) == []


class Slow(Catalogue):
    """A type that notes how many of one host are open together."""

    guard = threading.Lock()
    now: ClassVar[dict[str, int]] = {}
    most: ClassVar[dict[str, int]] = {}

    @contextmanager
    def open(self, identifier: str, settings: Any, context: Any) -> Iterator[Catalogue]:
        host = identifier.split("-")[0]
        with self.guard:
            self.now[host] = self.now.get(host, 0) + 1
            self.most[host] = max(self.most.get(host, 0), self.now[host])
        time.sleep(0.05)
        yield self
        with self.guard:
            self.now[host] -= 1


@dataclass
class Hosts(TestRepositories):
    """Repositories whose host is the beginning of their name."""

    __test__ = False

    def host_of(self, identifier: str) -> str:
        return identifier.split("-")[0]


@pytest.mark.parametrize(
    "broken",
    [
        {"native_id": "dpi-\udce9.dump"},
        {"at": datetime(2026, 3, 5, 9, 0)},  # noqa: DTZ001 - without a zone
        {"bytes": 1.5},
        {"bytes": 2**60},
        {"extra": {"patient": object()}},
    ],
    ids=["not-utf-8", "no-time-zone", "float", "too-large", "no-json"],
)
def test_what_no_record_can_hold_takes_no_other_repository_with_it(
    tmp_path: Path, broken: dict[str, Any]
) -> None:
    here = context(tmp_path / "here")
    here.clock.set(START)
    store = open_store(tmp_path / "state", now=here.clock)
    bad = Catalogue(held=[*both(2), replace(point("dpi.nightly", 1), **broken)])
    asked = TestRepositories(
        context=here,
        entries={
            "bad": (bad, RepositorySettings(type="c"), JOBS),
            "good": (Catalogue(held=both(2, 1)), RepositorySettings(type="c"), JOBS),
        },
    )
    task: Any = SimpleNamespace(
        store=store,
        context=here,
        settings=SimpleNamespace(probe=lambda _name: None, repositories={}, media={}),
        repositories=lambda *_only: asked,
        keep=lambda item: TaskContext.keep(task, item),
        record=lambda *seen: store.append(seen, run="run", author="test"),
        recorded=0,
        quiet=False,
        tools_used={},
        run=SimpleNamespace(
            id="run", request=SimpleNamespace(subject="site", requested_by="test", options={})
        ),
    )
    assert TASKS["inventory"](task) == (Verdict.COULD_NOT_VERIFY, "output_unparsable")
    assert [one.repository for one in store.summaries()] == ["good", "good"]
    told = {
        fact.observation.subject: fact.observation.data["code"]
        for fact in store.facts(kinds=["repository.inspected"])
    }
    assert told == {"repository/bad": "output_unparsable", "repository/good": None}
    store.close()


def test_repositories_are_bound_per_host_and_in_all(tmp_path: Path) -> None:
    here = context(tmp_path)
    kind = Slow()
    names = [f"nas-{number}" for number in range(6)] + ["tape-1", "cloud-1"]
    asked = Hosts(
        context=here,
        entries=dict.fromkeys(names, (kind, None, ())),
        bound=4,
        bound_per_host=2,
    )
    list(INVENTORY.observe("site", asked, here, None))
    assert kind.most == {"nas": 2, "tape": 1, "cloud": 1}
    assert len(asked.opened) == 8
    assert set(asked.opened[:4]) == {"nas-0", "nas-1", "tape-1", "cloud-1"}


def test_a_hung_host_delays_no_other_and_not_itself_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "PATIENCE_S", 0.3)
    here = context(tmp_path)
    release = threading.Event()

    class Hung(Catalogue):
        def open(
            self, identifier: str, settings: Any, context: Any
        ) -> AbstractContextManager[Catalogue]:
            release.wait(30)
            raise Unreachable("timeout")

    dead, alive = Hung(), Catalogue()
    kinds = {"nas-1": dead, "nas-2": dead, "nas-3": alive, "tape-1": alive}
    asked = Hosts(
        context=here,
        entries={name: (kind, None, ()) for name, kind in kinds.items()},
        bound=2,
        bound_per_host=1,
    )
    answered = []
    for seen in INVENTORY.observe("site", asked, here, None):
        subject = getattr(seen, "subject", None)
        if subject is not None:
            answered.append(subject)
        if {"repository/nas-3", "repository/tape-1"} <= {*answered}:
            release.set()
    assert set(answered[:2]) == {"repository/nas-3", "repository/tape-1"}
    assert len(answered) == 4


def test_a_second_run_with_nothing_new_appends_nothing(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    for day in ("20260301", "20260302"):
        (dumps / f"dpi-{day}.dump").write_bytes(b"PGDMP" + b"x" * 100)
        os.utime(dumps / f"dpi-{day}.dump", (1_772_000_000, 1_772_000_000))
    file = tmp_path / "backupguard.toml"
    file.write_text(
        f"""
        [site]
        name = "Essai"
        [store]
        directory = "{tmp_path / "state"}"
        [repositories.dumps]
        type = "directory"
        path = "{dumps}"
        [applications.dpi]
        name = "DPI"
        criticality = "C2"
        [applications.dpi.backups.nightly]
        repository = "dumps"
        select.pattern = "dpi-%Y%m%d.dump"
        every = "24h"
        """
    )
    settings = load(file)
    noon = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
    store = open_store(settings.state_directory, now=lambda: noon)

    def refresh(minutes: int) -> tuple[int, Verdict | None]:
        request = RunRequest(
            task="inventory",
            subject="site",
            due_at=noon + timedelta(minutes=minutes),
            exclusive="inventory",
            resource="probe",
            requested_by="test",
        )
        before, _ = store.head()
        run = store.enqueue(request)
        at = noon + timedelta(minutes=minutes)
        perform(run, settings, store, Cancellation(), TASKS, clock=lambda: at)
        ended = store.run(run.id)
        assert ended is not None
        return store.head()[0] - before, ended.verdict

    assert refresh(0) == (3, Verdict.PASSED)  # the points, the repository, the end of the run
    assert refresh(15) == (0, Verdict.PASSED)
    assert refresh(30) == (0, Verdict.PASSED)
    assert store.sightings()["dumps"].asked_at == noon + timedelta(minutes=30)
    dumps.rename(tmp_path / "gone")
    assert refresh(45) == (2, Verdict.COULD_NOT_VERIFY)
    assert refresh(60)[0] == 1  # what a run could not do is told each time
    (tmp_path / "gone").rename(dumps)
    assert refresh(75) == (2, Verdict.PASSED)
    assert refresh(90) == (0, Verdict.PASSED)
    assert refresh(24 * 60)[0] == 3
    store.close()
