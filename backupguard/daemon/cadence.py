"""What is due: a pure function of the settings, of what was done, and of the time.

Catch-up, coalescing and missed slots follow from here and from the table `runs`, never from the
memory of a scheduler: after a week of downtime the newest missed slot of each schedule is due, once.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backupguard.contracts import Capability
from backupguard.model import (
    SITE,
    Criticality,
    RunState,
    Subject,
    application_subject,
    repository_subject,
)
from backupguard.plugins import capabilities
from backupguard.settings.schedule import in_window, last_slot

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: How long after an interruption a slot is due again: attempt 2, attempt 3, then never.
RETRY_AFTER = (timedelta(minutes=10), timedelta(hours=1))

#: Whatever happens, a slot is not tried more often than this.
ATTEMPTS_LIMIT = 10

Key = tuple[str, Subject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a task is due for a subject.

    `when` is a cron expression in local time or an interval. `windows` holds, per repository that may
    be read, when it may be, and `general` when anything of the kind may start; empty means at any
    time. `since`: slots before it were never meant.
    """

    task: str
    subject: Subject
    when: str | timedelta
    timezone: str
    windows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    general: tuple[str, ...] = ()
    since: datetime | None = None

    @property
    def key(self) -> Key:
        """What the schedule is remembered by."""
        return (self.task, self.subject)

    @property
    def offset(self) -> timedelta:
        """How far an interval's slots lie from whole multiples: a hundred subjects never meet.

        It comes from the subject, in whole hours, so every process finds the same one.
        """
        if isinstance(self.when, str) or self.subject == SITE:
            return timedelta()
        hours = max(1, self.when // timedelta(hours=1))
        return timedelta(hours=zlib.crc32(self.subject.encode()) % hours)

    def last(self, until: datetime) -> datetime:
        """Return the last slot that is not after `until`."""
        return last_slot(self.when, until - self.offset, self.timezone) + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSlot:
    """The slot that was enqueued last for a schedule, and how its newest attempt fares."""

    slot: datetime
    attempt: int
    state: RunState
    ended_at: datetime | None = None
    interruptions: int = 0
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A slot to enqueue. `repository` is set where only some repositories may be read now."""

    schedule: Schedule
    slot: datetime
    attempt: int = 1
    repository: str | None = None


def schedules(settings: Settings, *, began: datetime | None = None) -> tuple[Schedule, ...]:
    """Return every schedule that the settings ask for.

    `began` is when the store began: no report is due for a month before it.
    """
    zone, cadences = settings.site.timezone, settings.daemon.cadences
    general = settings.daemon.windows
    windows = {name: place.limits.windows for name, place in settings.repositories.items()}
    found = []
    if settings.repositories:
        highest = min(
            (app.criticality for app in settings.applications.values()),
            default=Criticality.C3,
            key=lambda criticality: criticality.value,
        )
        every = _probe_every(settings, "inventory") or cadences.inventory.of(highest)
        found.append(Schedule(task="inventory", subject=SITE, when=every, timezone=zone))
    for name, place in settings.repositories.items():
        if Capability.VERIFY not in capabilities(place.type):
            continue
        every = cadences.integrity.of(settings.criticality_of(name))
        found.append(
            Schedule(
                task="integrity",
                subject=repository_subject(name),
                when=_probe_every(settings, "integrity") or every,
                timezone=zone,
                windows={name: windows[name]},
                general=general,
            )
        )
    found += [
        Schedule(
            task="immutability",
            subject=repository_subject(name),
            when=_probe_every(settings, "immutability") or cadences.immutability,
            timezone=zone,
            windows={name: windows[name]},
        )
        for name in settings.repositories
    ]
    for task, wanted, every in (
        ("offline", bool(settings.media), cadences.offline),
        ("isolation", True, cadences.isolation),
        ("drift", True, cadences.drift),
        ("imports", settings.imports_tests, cadences.imports),
    ):
        if wanted:
            when = _probe_every(settings, task) or every
            found.append(Schedule(task=task, subject=SITE, when=when, timezone=zone))
    for name in settings.applications:
        places = settings.fetchable(name) or settings.repositories_of(name)
        if places:
            found.append(
                Schedule(
                    task="restore-test",
                    subject=application_subject(name),
                    when=settings.restore_test_schedule(name),
                    timezone=zone,
                    windows={place: windows[place] for place in places},
                    general=general,
                )
            )
    breakable = {place for name in settings.applications for place in settings.fetchable(name)}
    if breakable:
        found.append(
            Schedule(
                task="self-test",
                subject=SITE,
                when=cadences.self_test,
                timezone=zone,
                windows={place: windows[place] for place in sorted(breakable)},
                general=general,
                since=began,  # before anything was restored there is nothing to break
            )
        )
    if settings.discovery.enabled:
        every = _probe_every(settings, "discovery") or cadences.discovery
        found.append(Schedule(task="discovery", subject=SITE, when=every, timezone=zone))
    found.append(
        Schedule(task="report", subject=SITE, when=cadences.report, timezone=zone, since=began)
    )
    if settings.plan.directory is not None:
        every = settings.plan.every
        found.append(Schedule(task="plan", subject=SITE, when=every, timezone=zone))
    return tuple(found)


def _probe_every(settings: Settings, probe: str) -> timedelta | None:
    asked = settings.probes.get(probe)
    return asked.every if asked is not None else None


def deadline(settings: Settings, task: str) -> timedelta:
    """Return how long a run of a task may take: the sum of its phases' limits."""
    limits = settings.daemon.limits
    if task == "inventory":
        return limits.inventory * max(1, len(settings.repositories))
    if task in {"restore-test", "self-test"}:
        phases = (
            limits.select,
            limits.fetch,
            limits.prepare,
            limits.load,
            limits.open,
            limits.verify,
            limits.discard,
        )
        return sum(phases, timedelta())
    limit: timedelta = getattr(limits, task.replace("-", "_"))
    return limit


def open_repositories(schedule: Schedule, now: datetime) -> tuple[str, ...]:
    """Return the repositories of a schedule that may be read now."""
    if not in_window(schedule.general, now, schedule.timezone):
        return ()
    return tuple(
        name
        for name, windows in schedule.windows.items()
        if in_window(windows, now, schedule.timezone)
    )


def due(
    wanted: Iterable[Schedule], last_slots: Mapping[Key, LastSlot], now: datetime
) -> tuple[Due, ...]:
    """Return what is to be enqueued now: at most one slot per schedule, the newest one missed.

    A last slot in the future counts as never: the clock was set back, and waiting for it to come
    round again would be silence. Nothing is due outside the windows; it stays due until one opens.
    """
    found = []
    for schedule in wanted:
        candidate = _candidate(schedule, last_slots.get(schedule.key), now)
        if candidate is None:
            continue
        if not schedule.windows:
            found.append(candidate)
            continue
        readable = open_repositories(schedule, now)
        if readable:
            found.append(_narrowed(candidate, readable))
    return tuple(found)


def _narrowed(candidate: Due, readable: tuple[str, ...]) -> Due:
    if len(readable) == len(candidate.schedule.windows):
        return candidate
    day = int(candidate.slot.timestamp()) // 86400
    return Due(
        schedule=candidate.schedule,
        slot=candidate.slot,
        attempt=candidate.attempt,
        repository=readable[day % len(readable)],
    )


def _candidate(schedule: Schedule, last: LastSlot | None, now: datetime) -> Due | None:
    if last is not None and last.state in (RunState.WAITING, RunState.RUNNING):
        return None
    slot = schedule.last(now)
    if schedule.since is not None and slot < schedule.since:
        return None
    if last is None or slot > last.slot or last.slot > now:
        return Due(schedule=schedule, slot=slot)
    return _retry(schedule, last, now)


def _another_day(ended: datetime | None, now: datetime, timezone: str) -> bool:
    """Tell whether a day began at the site since; also when the clock was set back."""
    zone = ZoneInfo(timezone)
    return ended is None or ended.astimezone(zone).date() != now.astimezone(zone).date()


def _retry(schedule: Schedule, last: LastSlot, now: datetime) -> Due | None:
    """Return the next attempt of a slot whose process died, or that a stop or a limit took away."""
    if last.attempt >= ATTEMPTS_LIMIT:
        return None
    again = Due(schedule=schedule, slot=last.slot, attempt=last.attempt + 1)
    if last.state is RunState.CANCELLED and last.code == "by_stop":
        return again
    if last.code == "daily_limit":
        return again if _another_day(last.ended_at, now, schedule.timezone) else None
    if last.state is not RunState.INTERRUPTED or not 1 <= last.interruptions <= len(RETRY_AFTER):
        return None
    ended = last.ended_at
    if ended is None or ended > now or now - ended >= RETRY_AFTER[last.interruptions - 1]:
        return again
    return None
