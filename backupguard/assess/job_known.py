"""What a job's points and runs say, in the few numbers that controls judge by.

Everything that depends on a calendar or a time zone is worked out here, so that controls need neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from backupguard.contracts import JobRun
from backupguard.model import (
    JobSummary,
    Json,
    PointKind,
    PointsLost,
    PointState,
    RecoveryPoint,
    to_us,
)
from backupguard.settings.schedule import asked_between, due_after, expected, met_by

#: A source host's clock may be ahead by this much before its points count as being in the future.
FUTURE_TOLERANCE = timedelta(minutes=10)
#: How many days of a calendar are looked at, at least.
ASKED_DAYS = 40
#: How many of a job's newest points, gone points and runs are looked at; of one that runs many times
#: a day as many as a month has, up to the second number.
RECENT, MOST = 40, 800
#: How far back runs are counted, the worst exposure is sought, and how long a loss is shown.
WEEK, MONTH, LOSS_SHOWN = timedelta(days=7), timedelta(days=31), timedelta(days=7)
#: How far back a backup is compared with the ones before it, where these are many; and with how many.
SAMPLED, SAMPLES = timedelta(days=10), 240
#: Within this long one listing after the other is one loss.
LOSS_WINDOW = timedelta(days=1)
#: A run and a point belong together when the one was begun during the other, or nearly.
_NEAR = timedelta(minutes=5)
_EPOCH = date(1970, 1, 1).toordinal()
_RESTORABLE = frozenset({PointState.COMPLETE, PointState.WARNING})
#: The numbers of a run that can stray; durations are in milliseconds.
NUMBERS = (
    "bytes",
    "bytes_added",
    "bytes_stored",
    "files",
    "files_new",
    "files_changed",
    "files_removed",
    "duration_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one backup ended, put together from its point and from its tool's record of the run."""

    at: datetime
    state: PointState
    started: datetime | None
    ended: datetime | None
    kind: str | None
    numbers: Mapping[str, int]

    @property
    def empty(self) -> bool:
        """Whether nothing at all was backed up, however well that went.

        What comes on top of another point may be nothing on a quiet day.
        """
        if self.kind in {PointKind.INCREMENTAL, PointKind.DIFFERENTIAL}:
            return False
        return 0 in (self.numbers.get("bytes"), self.numbers.get("files"))


def day_of(moment: datetime, timezone: str) -> int:
    """Return the day of a time in the calendar of a time zone, as days since 1970."""
    return moment.astimezone(ZoneInfo(timezone)).toordinal() - _EPOCH


# ------------------------------------------------------------------------------- runs and points


def how_many(interval_s: int | None) -> int:
    """Return how many of a job's newest backups tell of its month."""
    month_s = int(MONTH.total_seconds())
    return min(max(RECENT, month_s // interval_s + 1 if interval_s else 0), MOST)


def outcomes(points: Iterable[RecoveryPoint], runs: Iterable[JobRun]) -> list[Outcome]:
    """Return what is known of a job's backups, newest first; a run and its point are one."""
    waiting = {run.native_id: run for run in runs}
    by_start = sorted(waiting.values(), key=lambda run: run.started_at)
    found = []
    for point in points:
        run = waiting.pop(point.native_id, None) or _run_of(point, by_start, waiting)
        if run is not None:
            waiting.pop(run.native_id, None)
        found.append(_outcome(point, run))
    found += [_of_run(run) for run in waiting.values() if run.state in set(PointState)]
    return sorted(found, key=lambda one: one.at, reverse=True)


def _run_of(
    point: RecoveryPoint, by_start: Sequence[JobRun], waiting: Mapping[str, JobRun]
) -> JobRun | None:
    for run in reversed(by_start):
        if run.started_at - _NEAR <= point.at and run.native_id in waiting:
            ended = run.ended_at or run.started_at
            return run if point.at <= ended + _NEAR else None
    return None


def _outcome(point: RecoveryPoint, run: JobRun | None) -> Outcome:
    started = point.started_at or (run.started_at if run else None)
    ended = point.ended_at or (run.ended_at if run else None)
    numbers = {} if run is None else _numbers(run)
    numbers |= _numbers(point)
    _with_duration(numbers, started, ended)
    # The run may know of a warning or a failure that the point does not show.
    states = [
        point.state,
        *([PointState(run.state)] if run and run.state in set(PointState) else []),
    ]
    worst = next((s for s in (PointState.FAILED, PointState.WARNING) if s in states), point.state)
    return Outcome(
        at=point.at, state=worst, started=started, ended=ended, kind=point.kind.value,
        numbers=numbers,
    )  # fmt: skip


def _of_run(run: JobRun) -> Outcome:
    numbers = _numbers(run)
    _with_duration(numbers, run.started_at, run.ended_at)
    return Outcome(
        at=run.started_at, state=PointState(run.state), started=run.started_at, ended=run.ended_at,
        kind=None, numbers=numbers,
    )  # fmt: skip


def _numbers(seen: RecoveryPoint | JobRun) -> dict[str, int]:
    return {name: value for name in NUMBERS if isinstance(value := getattr(seen, name, None), int)}


def _with_duration(
    numbers: dict[str, int], started: datetime | None, ended: datetime | None
) -> None:
    if started is not None and ended is not None and ended >= started:
        numbers.setdefault("duration_ms", (ended - started) // timedelta(milliseconds=1))


def longest_s(seen: Iterable[Outcome]) -> int:
    """Return how long the longest of these backups took, in seconds; 0 when none of them tells."""
    return max((one.numbers.get("duration_ms", 0) for one in seen), default=0) // 1000


# ------------------------------------------------------------------------------------- what it says


def of_points(
    points: Sequence[RecoveryPoint], summary: JobSummary | None, now: datetime
) -> dict[str, Json]:
    """Return what a job's standing points say. Points dated in the future are set aside."""
    horizon = now + FUTURE_TOLERANCE
    past = [point for point in points if point.at <= horizon]
    restorable = [point for point in past if point.state in _RESTORABLE]
    newest = restorable[0].at if restorable else None
    if newest is None and summary is not None and summary.newest is not None:
        newest = summary.newest if summary.newest <= horizon else None
    covered = [point.covers_until for point in restorable if point.covers_until > point.at]
    return {
        "restorable_at": to_us(min(newest, now)) if newest is not None else None,
        "covers_until": to_us(min(max(covered), now)) if covered else None,
        "points": summary.points if summary is not None else 0,
        "days": summary.point_days if summary is not None else (),
        "future": len(points) - len(past),
    }


def of_encryption(points: Sequence[RecoveryPoint]) -> dict[str, int]:
    """Return how many of a job's newest points are encrypted, clear, and of which nobody knows."""
    said = Counter(point.encrypted for point in points)
    return {"encrypted": said[True], "clear": said[False], "unknown": said[None]}


def of_runs(seen: Sequence[Outcome], now: datetime) -> dict[str, Json]:
    """Return how a job's newest backups ended, and what the tool is doing now."""
    past = [one for one in seen if one.at <= now + FUTURE_TOLERANCE]
    ended = [one for one in past if one.state is not PointState.RUNNING]
    failures = next(
        (n for n, one in enumerate(ended) if one.state is not PointState.FAILED), len(ended)
    )
    running = past[0] if past and past[0].state is PointState.RUNNING else None
    usual = sorted(
        one.numbers["duration_ms"]
        for one in ended
        if one.state in _RESTORABLE and "duration_ms" in one.numbers
    )
    week = [one for one in ended if one.at > now - WEEK]
    newest = ended[0] if ended else None
    return {
        "newest_state": newest.state.value if newest else None,
        "newest_kind": newest.kind if newest else None,
        "newest_bytes": newest.numbers.get("bytes") if newest else None,
        "newest_files": newest.numbers.get("files") if newest else None,
        "failures": failures,
        "running_since": to_us(running.started or running.at) if running else None,
        "usual_ms": usual[len(usual) // 2] if len(usual) >= 3 else None,
        "week_runs": len(week),
        "week_done": sum(one.state is PointState.COMPLETE and not one.empty for one in week),
    }


def unthinned(
    seen: Sequence[Outcome], first_seen: datetime | None, interval_s: int | None
) -> Sequence[Outcome]:
    """Return the newest backups, as far back as it can be told that none is missing among them.

    What came since a job was first seen is remembered, also when it is gone from the repository. Of
    what was there before, a tool may have thinned out any number: it counts as long as one follows the
    other at the job's own pace.
    """
    pace = timedelta(seconds=interval_s or 0) * 3 / 2
    for number, (later, earlier) in enumerate(pairwise(seen), start=1):
        watched = first_seen is not None and later.at >= first_seen
        if not watched and later.at - earlier.at > pace:
            return seen[:number]
    return seen


def of_calendar(
    schedule: str | timedelta | None,
    seen: Sequence[Outcome],
    since: datetime | None,
    now: datetime,
    watched_until: datetime | None,
    timezone: str,
) -> dict[str, Json]:
    """Return which run of a job's calendar is due, and how many of the week's never came.

    `since` is the newest restorable point, or when the job was first seen; what was due after
    `watched_until` may still come to light. Nothing for an interval.
    """
    if not isinstance(schedule, str) or since is None:
        return {"due_at": None, "doubtful_at": None, "week_missed": 0}
    slot, doubtful = due_after(schedule, min(since, now), timezone)
    missed = 0
    if watched_until is not None:
        missed = _missed(schedule, seen, min(now, watched_until), timezone)
    return {
        "due_at": to_us(slot.last),
        "doubtful_at": to_us(doubtful[0].last) if doubtful else None,
        "week_missed": missed,
    }


def _missed(schedule: str, seen: Sequence[Outcome], until: datetime, timezone: str) -> int:
    """Count the runs of the last week that nothing at all stands for."""
    past = [one.at for one in seen if one.at <= until + WEEK]
    if not past:
        return 0
    # Nothing is known of what was before the oldest one that is remembered.
    start = max(until - WEEK, min(past))
    asked = [slot for slot in asked_between(schedule, start, until, timezone) if slot.exists]
    zone = ZoneInfo(timezone)
    days = (start.astimezone(zone).date(), until.astimezone(zone).date())
    around = expected(schedule, days[0] - timedelta(days=2), days[1] + timedelta(days=2), timezone)
    met = {around[index] for at in past if (index := met_by(around, at, timezone)) is not None}
    return sum(slot not in met for slot in asked)


def asked_days(
    schedule: str | timedelta | None, now: datetime, count: int, timezone: str
) -> tuple[int, ...] | None:
    """Return the last `count` days on which a calendar asks for a run; None without a calendar."""
    if not isinstance(schedule, str):
        return None
    today = now.astimezone(ZoneInfo(timezone)).date()
    return _asked_days(schedule, today, count, timezone)


@lru_cache(maxsize=1024)
def _asked_days(schedule: str, today: date, count: int, timezone: str) -> tuple[int, ...]:
    asked = expected(schedule, today - timedelta(days=count), today, timezone)
    return tuple(sorted({day_of(slot.last, timezone) for slot in asked if slot.exists}))


def exposure_of(one: Outcome) -> list[int] | None:
    """Return what a restorable point holds reaches to, and when it was there; None for others.

    Just before a point is there, everything since the one before it would be lost.
    """
    if one.state not in _RESTORABLE:
        return None
    return [to_us(one.at), to_us(max(one.at, one.ended or one.at))]


def of_exposure(exposures: Sequence[list[int] | None], now: datetime) -> list[list[int]]:
    """Return the exposures of the month's points, oldest first; `exposures` are newest first."""
    first, last = to_us(now - MONTH), to_us(now)
    return [one for one in reversed(exposures) if one is not None and first <= one[0] <= last]


def sample_of(one: Outcome, zone: ZoneInfo) -> dict[str, Json] | None:
    """Return the numbers of a completed backup with its weekday; None for any other."""
    if one.state not in _RESTORABLE:
        return None
    weekday = one.at.astimezone(zone).isoweekday()
    return {"at": to_us(one.at), "weekday": weekday, "kind": one.kind} | dict(one.numbers)


def samples(found: Sequence[dict[str, Json] | None], now: datetime) -> list[dict[str, Json]]:
    """Return the newest completed backups' numbers, those of the future left out.

    Where `RECENT` of them do not reach back over two weekends, those that do, evenly thinned out.
    """
    first, last = to_us(now - SAMPLED), to_us(now)
    past = [one for one in found if one is not None and one["at"] <= last]
    wanted = [one for number, one in enumerate(past) if number < RECENT or one["at"] >= first]
    return wanted[:1] + wanted[1 :: -(-len(wanted) // SAMPLES) or 1]


# ------------------------------------------------------------------------------------------- losses


def of_losses(
    lost: Sequence[PointsLost], summary: JobSummary | None, now: datetime
) -> dict[str, Json]:
    """Return the worst sudden loss of points that stands, and how soon the tool drops the oldest.

    A prune takes away what came since the one before it, and leaves as many as that one left: that is
    no loss. What counts is how far a listing falls below what the one of a day before had left. A loss
    stands until as many points are there again, for a week at most.
    """
    worst: dict[str, Json] | None = None
    kept_us: int | None = None
    for number, one in enumerate(lost):
        if one.standing_oldest is not None and one.oldest < one.standing_oldest:
            age = to_us(one.seen_at) - to_us(one.standing_oldest)
            kept_us = age if kept_us is None else max(kept_us, age)
        earlier = [before for before in lost[:number] if before.seen_at > one.seen_at - LOSS_WINDOW]
        first = earlier[0] if earlier else one
        index = number - len(earlier)
        floor = lost[index - 1].after if index else one.at_first
        reference = min(first.before, floor)
        fallen = reference - one.after
        if fallen <= 0 or one.seen_at <= now - LOSS_SHOWN:
            continue
        if summary is not None and summary.points >= reference:
            continue
        if worst is None or fallen * int(worst["before"]) > int(worst["lost"]) * reference:
            worst = {
                "seen_at": to_us(one.seen_at),
                "lost": fallen,
                "before": reference,
                "after": one.after,
            }
    return {"loss": worst, "kept_us": kept_us}


def midnight_of(day: date | None, timezone: str) -> int | None:
    """Return when a day began at the site, in microseconds."""
    if day is None:
        return None
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return to_us(start.astimezone(UTC))
