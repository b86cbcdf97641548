"""What stands per job: counted once, then kept right by what changes, however much there is.

A summary speaks of usable points: those the tool calls complete (or complete with a warning) that are
not in the future, for a source host's wrong clock must not make a stopped backup look fresh.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, select, true

from backupguard.model import PointState, from_us, to_us
from backupguard.store.engine import upsert
from backupguard.store.schema import job_summaries, recovery_points

#: A source host's clock may be ahead by this much before its points count as being in the future.
FUTURE_TOLERANCE = timedelta(minutes=10)
#: With more changes than this to one job, counting all its points again is the cheaper way.
RECOUNT_FROM = 200

_USABLE = (PointState.COMPLETE.value, PointState.WARNING.value)
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_COLUMNS = [column.name for column in job_summaries.c if not column.primary_key]


def day_of(at: int, zone: tzinfo) -> int:
    """Return the day of a time in microseconds, as days since 1970 in the calendar of `zone`."""
    try:
        return from_us(at).astimezone(zone).toordinal() - _EPOCH
    except OverflowError:  # a clock at the end of all calendars
        return at // _DAY_US


def packed(days: Iterable[int]) -> str:
    """Return ascending days as text: "20000-20010,20012"."""
    spans: list[list[int]] = []
    for day in days:
        if spans and spans[-1][1] == day - 1:
            spans[-1][1] = day
        else:
            spans.append([day, day])
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in spans)


@lru_cache(maxsize=4096)
def unpacked(text: str) -> tuple[int, ...]:
    """Return the days that `packed` wrote. Jobs of one rhythm share one tuple."""
    found: list[int] = []
    for span in filter(None, text.split(",")):
        # A day before 1970 has a sign of its own.
        first, _, last = span[1:].partition("-")
        first = span[0] + first
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a summary needs to know of a point that stands."""

    native_id: str
    at: int
    day: int
    state: str
    bytes: int | None

    def counts(self, horizon: int) -> bool:
        """Tell whether it is usable and not in the future."""
        return self.state in _USABLE and self.at <= horizon


#: Per job, each point that was touched: how it stood before and how it stands now.
Changes = Mapping[str, Collection[tuple[Standing | None, Standing | None]]]


def update(connection: Connection, repository: str, changes: Changes, now: datetime) -> None:
    """Bring the summaries of the jobs in `changes` up to date with points already stored."""
    horizon = to_us(now + FUTURE_TOLERANCE)
    before = _summaries(connection, repository, changes)
    again: list[str] = []
    rows: list[dict[str, Any]] = []
    for job, touched in changes.items():
        row = before.get(job)
        if row is None or _must_recount(row, touched, horizon):
            again.append(job)
        else:
            rows.append(_adjusted(connection, row, touched, horizon))
    rows += _counted(connection, repository, again, horizon)
    _write(connection, rows)


def recount(connection: Connection, repository: str, jobs: Collection[str], now: datetime) -> None:
    """Count all standing points of `jobs` in a repository again."""
    _write(connection, _counted(connection, repository, jobs, to_us(now + FUTURE_TOLERANCE)))


def refill(connection: Connection, now: datetime, zone: tzinfo) -> None:
    """Count everything anew, days included: after a migration."""
    point = recovery_points.c
    keys = (point.repository, point.job, point.native_id)
    for row in connection.execute(select(*keys, point.at, point.day)).all():
        day = day_of(row.at, zone)
        if day != row.day:
            same = and_(*(key == value for key, value in zip(keys, row[:3], strict=True)))
            connection.execute(recovery_points.update().where(same).values(day=day))
    known: dict[str, list[str]] = defaultdict(list)
    for repository, job in connection.execute(
        select(job_summaries.c.repository, job_summaries.c.job)
    ):
        known[repository].append(job)
    for repository, jobs in known.items():
        recount(connection, repository, jobs, now)


def due_again(connection: Connection, repository: str, now: datetime) -> list[str]:
    """Return the jobs of which a point that was in the future no longer is, or the reverse."""
    horizon = to_us(now + FUTURE_TOLERANCE)
    summary = job_summaries.c
    turned = (summary.next_at <= horizon) | (summary.newest > horizon)
    statement = select(summary.job).where(summary.repository == repository, turned)
    return list(connection.execute(statement).scalars())


def _summaries(
    connection: Connection, repository: str, jobs: Iterable[str]
) -> dict[str, dict[str, Any]]:
    rows = connection.execute(
        select(job_summaries).where(
            job_summaries.c.repository == repository, job_summaries.c.job.in_(list(jobs))
        )
    ).mappings()
    return {row["job"]: dict(row) for row in rows}


def _must_recount(
    row: Mapping[str, Any],
    touched: Collection[tuple[Standing | None, Standing | None]],
    horizon: int,
) -> bool:
    """Tell whether what was counted then is not what would be counted now, or much has changed."""
    came_due = row["next_at"] is not None and row["next_at"] <= horizon
    went_back = row["newest"] is not None and row["newest"] > horizon  # the clock did
    return came_due or went_back or len(touched) > RECOUNT_FROM


def _adjusted(
    connection: Connection,
    row: dict[str, Any],
    touched: Iterable[tuple[Standing | None, Standing | None]],
    horizon: int,
) -> dict[str, Any]:
    """Return a summary after some of its points appeared, changed or vanished."""
    days, lost, look = set(unpacked(row["point_days"])), set(), False
    row = dict(row)
    for before, after in touched:
        row["standing"] += (after is not None) - (before is not None)
        if before is not None:
            look = True  # the newest, the oldest or the next one may be another now
            if before.counts(horizon):
                row["points"] -= 1
                lost.add(before.day)
        if after is None:
            continue
        if after.counts(horizon):
            row["points"] += 1
            days.add(after.day)
            look |= after.at == row["newest"]
            if row["newest"] is None or after.at > row["newest"]:
                row |= {"newest": after.at, "newest_bytes": after.bytes}
                row["newest_state"] = after.state
            if row["oldest"] is None or after.at < row["oldest"]:
                row["oldest"] = after.at
        elif after.state in _USABLE and (row["next_at"] is None or after.at < row["next_at"]):
            row["next_at"] = after.at
    for day in lost:
        if not _has_day(connection, row, day, horizon):
            days.discard(day)
    if look:
        row |= _ends(connection, row, horizon)
    row |= {"days": len(days), "point_days": packed(sorted(days))}
    return row


def _usable(row: Mapping[str, Any], *columns: Any) -> Select[Any]:
    """Return a selection of the usable points of a summary's job, future ones included."""
    point = recovery_points.c
    return select(*columns).where(
        point.job == row["job"],
        point.repository == row["repository"],
        point.vanished_seq.is_(None),
        point.state.in_(_USABLE),
    )


def _has_day(connection: Connection, row: Mapping[str, Any], day: int, horizon: int) -> bool:
    point = recovery_points.c
    # The index is on times; a day of any calendar lies between these two.
    around = point.at.between((day - 1) * _DAY_US, (day + 2) * _DAY_US)
    statement = _usable(row, true()).where(around, point.day == day, point.at <= horizon).limit(1)
    return connection.execute(statement).first() is not None


def _ends(connection: Connection, row: Mapping[str, Any], horizon: int) -> dict[str, Any]:
    """Return the newest, the oldest and the next point of a job, each by a look at the index."""
    point = recovery_points.c
    newest = connection.execute(
        _usable(row, point.at, point.bytes, point.state)
        .where(point.at <= horizon)
        .order_by(point.at.desc(), point.native_id)
        .limit(1)
    ).first()
    oldest = _usable(row, point.at).where(point.at <= horizon).order_by(point.at).limit(1)
    coming = _usable(row, point.at).where(point.at > horizon).order_by(point.at).limit(1)
    at, size, state = newest if newest is not None else (None, None, None)
    return {
        "newest": at,
        "newest_bytes": size,
        "newest_state": state,
        "oldest": connection.execute(oldest).scalar(),
        "next_at": connection.execute(coming).scalar(),
    }


def _counted(
    connection: Connection, repository: str, jobs: Collection[str], horizon: int
) -> Iterator[dict[str, Any]]:
    """Yield the summaries of jobs by counting all their points."""
    if not jobs:
        return
    point = recovery_points.c
    usable = point.state.in_(_USABLE)
    past = and_(usable, point.at <= horizon)
    here = (
        point.repository == repository,
        point.job.in_(list(jobs)),
        point.vanished_seq.is_(None),
    )
    counted = (
        select(
            point.job,
            func.count().label("standing"),
            func.count(case((past, 1))).label("points"),
            func.max(case((past, point.at))).label("newest"),
            func.min(case((past, point.at))).label("oldest"),
            func.min(case((and_(usable, point.at > horizon), point.at))).label("next_at"),
        )
        .where(*here)
        .group_by(point.job)
    )
    counts = {row["job"]: dict(row) for row in connection.execute(counted).mappings()}
    days: dict[str, list[int]] = defaultdict(list)
    for job, day in connection.execute(
        select(point.job, point.day).where(*here, past).distinct().order_by(point.day)
    ):
        days[job].append(day)
    ends = counted.subquery()
    newest: dict[str, dict[str, Any]] = {}
    for job, size, state in connection.execute(
        select(point.job, point.bytes, point.state)
        .join(ends, and_(ends.c.job == point.job, ends.c.newest == point.at))
        .where(*here, past)
        .order_by(point.native_id)
    ):
        newest.setdefault(job, {"newest_bytes": size, "newest_state": state})
    for job in jobs:
        yield {
            **dict.fromkeys(_COLUMNS),
            "points": 0,
            "standing": 0,
            "job": job,
            "repository": repository,
            **counts.get(job, {}),
            **newest.get(job, {}),
            "days": len(days[job]),
            "point_days": packed(days[job]),
        }


def _write(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    upsert(connection, job_summaries, list(rows), keys=("job", "repository"), update=_COLUMNS)


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name; UTC where this host does not know it."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC
