"""A year of history for the demonstration: restore tests done just now, told again month by month.

What is told again goes the way of everything else (a run, its records, the monthly report, the seal),
with a clock that is set back; only the restore itself is not done again. Every such record bears the
author `model.REPLAYED`, which the report and the pages show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from backupguard import runs
from backupguard.contracts import Cancel
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.model import (
    REPLAYED,
    SITE,
    Criticality,
    Fact,
    Json,
    Run,
    Subject,
    Verdict,
    to_us,
)
from backupguard.runs import Task, TaskContext
from backupguard.settings import Settings
from backupguard.store.sql import SqlStore

#: So many months before this one.
MONTHS = 11
#: Every how many months an application is restored.
_EVERY = {Criticality.C1: 1, Criticality.C2: 3, Criticality.C3: 12}
_RESULT = "restore-test.result"


class SetClock:
    """A clock that shows what it is set to, and the time of day once it is let go."""

    def __init__(self, shown: datetime | None = None) -> None:
        self._shown = shown

    def __call__(self) -> datetime:
        """Return the time."""
        return self._shown or datetime.now(UTC)

    def set(self, moment: datetime) -> None:
        """Show that moment."""
        self._shown = moment

    def let_go(self) -> None:
        """Show the time of day again."""
        self._shown = None


def months(now: datetime, timezone: str, count: int = MONTHS) -> Iterator[tuple[str, datetime]]:
    """Yield the months before this one, oldest first, and when each begins at the site."""
    zone = ZoneInfo(timezone)
    this = now.astimezone(zone).date().replace(day=1)
    for back in range(count, 0, -1):
        number = this.year * 12 + this.month - 1 - back
        first = date(number // 12, number % 12 + 1, 1)
        yield first.strftime("%Y-%m"), datetime.combine(first, time(), zone).astimezone(UTC)


def shifted(data: Json, by_us: int) -> Json:
    """Return a payload with every time in it moved: what ends in `_at`, and what is in `times`."""
    if isinstance(data, Mapping):
        return {
            name: {at: value + by_us for at, value in inner.items()}
            if name == "times"
            else inner + by_us
            if name.endswith("_at") and isinstance(inner, int)
            else shifted(inner, by_us)
            for name, inner in data.items()
        }
    if isinstance(data, list | tuple):
        return [shifted(one, by_us) for one in data]
    return data


def _again(fact: Fact) -> Task:
    """Return the task that records a result again, as of the run's clock."""

    def task(context: TaskContext) -> tuple[Verdict, str | None]:
        now = context.context.now()
        data = shifted(fact.observation.data, to_us(now) - to_us(fact.observation.observed_at))
        key = f"run/{context.run.id}/result"
        context.record(replace(fact.observation, data=data, observed_at=now, key=key))
        return Verdict(data["verdict"]), data["code"]

    return task


def replay(
    store: SqlStore, settings: Settings, results: Sequence[Fact], clock: SetClock, cancel: Cancel
) -> tuple[Run, ...]:
    """Tell results again in each month before this one, write its report; return the runs.

    `clock` is the store's, and is let go at the end, whatever happens.
    """

    ended: list[Run] = []

    def perform(task: str, subject: Subject, tasks: Mapping[str, Task], **options: Json) -> None:
        cancel.raise_if_set()
        asked = request(task, subject, requested_by=REPLAYED, due_at=clock(), options=options)
        run = store.enqueue(asked)
        runs.perform(run, settings, store, cancel, tasks, clock=clock)
        ended.append(store.run(run.id) or run)

    began = datetime.now(UTC)
    try:
        for number, (month, begin) in enumerate(months(began, settings.site.timezone)):
            for place, fact in enumerate(results):
                name = str(fact.observation.data["application"])
                if (number - place) % _EVERY[settings.applications[name].criticality]:
                    continue
                clock.set(begin + timedelta(days=4 + place, hours=9))
                subject = fact.observation.subject
                perform("restore-test", subject, {"restore-test": _again(fact)})
            clock.set(min(begin + timedelta(days=32, hours=6), began))
            perform("report", SITE, TASKS, month=month, formats=["html", "json"])
    finally:
        clock.let_go()
    return tuple(ended)
