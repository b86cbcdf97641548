"""Whether the restore tests that the settings ask for fit the time and bytes they allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from backupguard.errors import ConfigurationProblem
from backupguard.model import Message, application_subject
from backupguard.settings import schedule
from backupguard.settings.files import Merged, Trouble
from backupguard.settings.positions import KeyPath
from backupguard.settings.rules import parse_bandwidth

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.settings.model import Settings

#: Four weeks hold every weekly window four times, and most schedules at least once.
PERIOD = timedelta(days=28)
#: What a disk repository on a local network gives, until it was measured.
ASSUMED_BYTES_PER_SECOND = 100_000_000
#: Until a test of it was timed: everything after the fetch takes about as long as the fetch.
_WHOLE_TEST = 2
_RESULT = "restore-test.result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What was measured: sizes, throughputs, durations of whole tests."""

    job_bytes: Mapping[str, int] = field(default_factory=dict)  # by job "dpi.nightly", newest point
    fetch_bytes_per_second: Mapping[str, int] = field(default_factory=dict)  # by repository
    test_seconds: Mapping[str, int] = field(default_factory=dict)  # by application


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTest:
    """The restore tests of one application in the period."""

    application: str
    tests: int
    bytes: int | None  # of one test; None: unknown
    seconds: int  # of one test
    basis: str  # "measured", "estimated", "unknown"
    repositories: tuple[str, ...]

    @property
    def total_seconds(self) -> int:
        """How long all of them take."""
        return self.tests * self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is needed of something in the period, and what there is of it.

    `unit` is "seconds" or "bytes"; `path` is the key that bounds it.
    """

    path: KeyPath
    unit: str
    needed: int
    available: int

    @property
    def fits(self) -> bool:
        """Tell whether there is enough."""
        return self.needed <= self.available


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The restore tests of a period against their windows and limits."""

    start: datetime
    days: int
    tests: tuple[PlannedTest, ...]
    budgets: tuple[Budget, ...]
    always_open: bool
    assumed_throughput: tuple[str, ...]  # repositories nobody has fetched from yet
    unknown_sizes: tuple[str, ...]  # applications counted as nothing

    @property
    def fits(self) -> bool:
        """Tell whether everything fits."""
        return all(budget.fits for budget in self.budgets)


def plan(settings: Settings, measures: Measures, start: datetime) -> Plan:
    """Return how the restore tests of the 28 days after `start` fit the windows and limits.

    An application's tests are shared equally among its repositories, as they rotate. Pure: whoever
    calls brings the measures and the time.
    """
    end = start + PERIOD
    tests = tuple(_planned(settings, measures, name, start) for name in settings.applications)
    wanted = [test for test in tests if test.tests]
    read_from = {place for test in wanted for place in test.repositories}
    budgets = [
        _window_budget(settings, ("daemon", "windows"), settings.daemon.windows, wanted, start)
    ]
    for name in settings.repositories:
        limits = settings.repositories[name].limits
        mine = [test for test in wanted if name in test.repositories]
        if limits.windows:
            path: KeyPath = ("repositories", name, "limits", "windows")
            both = _open_in_both(settings, limits.windows, start, end)
            needed = sum(test.total_seconds // len(test.repositories) for test in mine)
            parallel = settings.daemon.parallel_restore_tests
            budgets.append(
                Budget(path=path, unit="seconds", needed=needed, available=both * parallel)
            )
        if limits.max_bytes_per_day is not None:
            needed = sum((t.bytes or 0) * t.tests // len(t.repositories) for t in mine)
            budgets.append(
                Budget(
                    path=("repositories", name, "limits", "max-bytes-per-day"),
                    unit="bytes",
                    needed=needed,
                    available=limits.max_bytes_per_day * PERIOD.days,
                )
            )
    estimated = {place for t in wanted if t.basis == "estimated" for place in t.repositories}
    return Plan(
        start=start,
        days=PERIOD.days,
        tests=tests,
        budgets=tuple(budgets),
        always_open=not settings.daemon.windows,
        assumed_throughput=tuple(
            sorted(read_from & estimated - set(measures.fetch_bytes_per_second))
        ),
        unknown_sizes=tuple(test.application for test in wanted if test.basis == "unknown"),
    )


def _planned(
    settings: Settings, measures: Measures, application: str, start: datetime
) -> PlannedTest:
    owner = settings.applications[application]
    places = tuple(sorted({job.repository for job in owner.backups.values()}))
    rhythm = settings.restore_test_schedule(application)
    count = sum(1 for _ in schedule.slots(rhythm, start, start + PERIOD, settings.site.timezone))
    sizes = [measures.job_bytes.get(f"{application}.{job}") for job in owner.backups]
    known = [size for size in sizes if size is not None]
    size = max(known) if known else None
    seconds, basis = 0, "unknown"
    if application in measures.test_seconds:
        seconds, basis = measures.test_seconds[application], "measured"
    elif size is not None and places:
        rate = min(_rate(settings, measures, place) for place in places)
        seconds, basis = -(-size * _WHOLE_TEST // rate), "estimated"
    return PlannedTest(
        application=application,
        tests=count if places else 0,
        bytes=size,
        seconds=seconds,
        basis=basis,
        repositories=places,
    )


def _rate(settings: Settings, measures: Measures, repository: str) -> int:
    """Return bytes per second from a repository: measured or assumed, and never above its limit."""
    rate = measures.fetch_bytes_per_second.get(repository, ASSUMED_BYTES_PER_SECOND)
    place = settings.repositories.get(repository)
    limit = place.limits.bandwidth if place is not None else None
    return max(1, min(rate, parse_bandwidth(limit)) if limit else rate)


def _window_budget(
    settings: Settings,
    path: KeyPath,
    windows: Iterable[str],
    tests: Iterable[PlannedTest],
    start: datetime,
) -> Budget:
    seconds = schedule.open_seconds(windows, start, start + PERIOD, settings.site.timezone)
    return Budget(
        path=path,
        unit="seconds",
        needed=sum(test.total_seconds for test in tests),
        available=seconds * settings.daemon.parallel_restore_tests,
    )


def _open_in_both(
    settings: Settings, windows: Iterable[str], start: datetime, end: datetime
) -> int:
    """Return for how many seconds the daemon's windows and a repository's are open together."""
    zone = settings.site.timezone
    ours = schedule.opened(settings.daemon.windows, start, end, zone)
    theirs = schedule.opened(windows, start, end, zone)
    return sum(
        max(0, int((min(a[1], b[1]) - max(a[0], b[0])).total_seconds()))
        for a in ours
        for b in theirs
    )


def measured(store: Store, settings: Settings) -> Measures:
    """Return what the store knows: sizes of newest points, durations and throughput of tests."""
    sizes: dict[str, int] = {}
    for summary in store.summaries():
        if summary.newest_bytes is not None:
            sizes[summary.job] = max(sizes.get(summary.job, 0), summary.newest_bytes)
    seconds: dict[str, int] = {}
    rates: dict[str, list[int]] = {}
    subjects = [application_subject(name) for name in settings.applications]
    for facts in store.latest(subjects, [_RESULT]).values():
        data = facts[_RESULT].observation.data
        if data["verdict"] == "passed":
            seconds[data["application"]] = max(1, data["duration_ms"] // 1000)
        fetch = next((p for p in data["phases"] if p["phase"] == "fetch"), None)
        if fetch and fetch["verdict"] == "passed" and data["repository"] and data["bytes"]:
            rate = data["bytes"] * 1000 // max(1, fetch["duration_ms"])
            rates.setdefault(data["repository"], []).append(max(1, rate))
    return Measures(
        job_bytes=sizes,
        fetch_bytes_per_second={place: int(median(found)) for place, found in rates.items()},
        test_seconds=seconds,
    )


def problems(plan: Plan, merged: Merged) -> list[ConfigurationProblem]:
    """Return what does not fit, at the keys that bound it."""
    return [merged.located(_trouble(plan, budget)) for budget in plan.budgets if not budget.fits]


def _trouble(plan: Plan, budget: Budget) -> Trouble:
    if budget.unit == "bytes":
        kind, needed, available = "plan-too-many-bytes", _size(budget.needed), budget.available
        text = _size(available)
    else:
        # Rounded so that "more than" stays visible: needed up, available down.
        kind, needed = "plan-too-long", f"{-(-budget.needed // 3600)} h"
        text = f"{budget.available // 3600} h"
    values: dict[str, int | str] = {"needed": needed, "available": text, "days": plan.days}
    path = budget.path
    return Trouble(
        path=path,
        message=Message(id=f"settings.{kind}", values=values),
        remedy=Message(id="remedy.plan"),
    )


def _size(count: int) -> str:
    return f"{-(-count // 10**9)} GB" if count >= 10**9 else f"{-(-count // 10**6)} MB"


def now() -> datetime:
    """Return the time a plan starts at when nobody says otherwise."""
    return datetime.now(UTC)
