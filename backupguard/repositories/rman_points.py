"""From RMAN's own records to recovery points: what each needs, and how far archived logs carry it on.

A backup of an open database is consistent only with the archived logs of its own duration; a level 1
stands on the last level 0, which a plain full backup is not (Oracle, "Backup and Recovery User's
Guide": "Incremental backups", "About restore and recovery").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import JobSelector
from backupguard.errors import Misunderstood
from backupguard.model import Json, PointKind, PointState, RecoveryPoint
from backupguard.repositories.local_times import resolve

Row = Mapping[str, Any]

_STATES = {
    "COMPLETED": PointState.COMPLETE,
    "COMPLETED WITH WARNINGS": PointState.WARNING,
    "COMPLETED WITH ERRORS": PointState.FAILED,
    "FAILED": PointState.FAILED,
}
#: Beside the clocks of two threads of a cluster.
_TOLERANCE = timedelta(seconds=1)


@dataclass(slots=True, kw_only=True)
class Run:
    """Archived logs of one thread, backed up without a gap."""

    incarnation: int
    thread: int
    last: int
    begins: datetime
    reaches: datetime


def runs_of_logs(rows: Iterator[Row], zone: ZoneInfo) -> Mapping[Any, Sequence[Run]]:
    """Return by database the unbroken runs of backed up logs, oldest first: few, whatever the logs."""
    found: dict[Any, list[Run]] = {}
    for row in rows:
        runs = found.setdefault(row["db_key"], [])
        key = (int(row["incarnation"] or 0), int(row["thread_no"]))
        run = runs[-1] if runs and (runs[-1].incarnation, runs[-1].thread) == key else None
        after = run.reaches if run is not None else None
        begins = resolve(_seconds(row["first_time"]), zone, not_before=after)
        reaches = resolve(_seconds(row["next_time"] or row["first_time"]), zone, not_before=begins)
        if run is not None and int(row["seq"]) <= run.last + 1:
            run.last = max(run.last, int(row["seq"]))
            run.reaches = max(run.reaches, reaches)
        else:
            runs.append(
                Run(
                    incarnation=key[0],
                    thread=key[1],
                    last=int(row["seq"]),
                    begins=begins,
                    reaches=reaches,
                )
            )
    return found


def reach(runs: Sequence[Run], at: datetime) -> tuple[datetime | None, datetime | None]:
    """Return how far logs carry a database on from `at`, and when they go on behind a gap.

    Each thread that was written to since then must go on without a gap; the shortest decides. None
    when a thread has no log at that time.
    """
    threads = {run.thread for run in runs if run.reaches > at}
    carried: list[datetime] = []
    gaps: list[datetime] = []
    for thread in threads:
        own = [run for run in runs if run.thread == thread]
        holding = [run for run in own if run.begins - _TOLERANCE <= at < run.reaches]
        later = [run.begins for run in own if run.begins > at and run not in holding]
        if not holding:
            return None, min(later, default=None)
        end = max(run.reaches for run in holding)
        carried.append(end)
        gaps += [begin for begin in later if begin >= end - _TOLERANCE][:1]
    return min(carried, default=None), min(gaps, default=None)


@dataclass(slots=True)
class _Chain:
    base: str | None = None
    increments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database whose backups are told."""

    name: str
    unique_name: str
    dbid: int
    archives: bool
    host: str | None

    def is_meant(self, selector: JobSelector) -> bool:
        """Tell whether a job's `select.name` and `select.host` mean it, whatever their case."""
        names = {self.name.upper(), self.unique_name.upper()}
        return (selector.name is None or selector.name.upper() in names) and (
            selector.host is None or (self.host or "").casefold() == selector.host.casefold()
        )


class Reader:
    """Turns rows, by database and oldest first, into points."""

    def __init__(
        self,
        identifier: str,
        jobs: Sequence[JobSelector],
        zone: ZoneInfo,
        databases: Mapping[Any, Database],
        logs: Mapping[Any, Sequence[Run]],
    ) -> None:
        self._identifier = identifier
        self._jobs = jobs
        self._zone = zone
        self._databases = databases
        self._logs = logs
        self._chains: dict[Any, _Chain] = {}
        self._clock: dict[Any, datetime] = {}

    def points(self, rows: Iterator[Row]) -> Iterator[RecoveryPoint]:
        """Yield a point per job of RMAN's and of ours; raise Misunderstood for half a row."""
        waiting: dict[Any, list[RecoveryPoint]] = {}
        for row in rows:
            try:
                made = list(self._made(row))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise Misunderstood("output_unparsable", repository=self._identifier) from error
            if not made:
                continue
            if made[0].state in {PointState.COMPLETE, PointState.WARNING}:
                # What stood before is carried on by logs up to here, and by this one from here on.
                for point in waiting.pop(row["db_key"], ()):
                    yield self._carried(point, row["db_key"], made[0].at)
                waiting[row["db_key"]] = made
            else:
                yield from made
        for key, points in waiting.items():
            for point in points:
                yield self._carried(point, key, None)

    def _made(self, row: Row) -> Iterator[RecoveryPoint]:
        database = self._databases.get(row["db_key"])
        state = _STATES.get(row["status"], PointState.RUNNING)
        whole, sets = int(row["sets_whole"] or 0), int(row["sets"] or 0)
        done = state in {PointState.COMPLETE, PointState.WARNING}
        if database is None or (done and whole == 0):
            return  # deleted: the job is remembered longer than what it wrote
        native_id = f"{int(row['stamp'])}-{int(row['recid'])}"
        extra = _extra(row)
        if done and whole < sets:
            state, extra["pieces_missing"] = PointState.FAILED, sets - whole
        kind, needs = self._needs(row, native_id, state)
        if needs is None:
            needs = ()
            if state in {PointState.COMPLETE, PointState.WARNING}:
                state, extra["chain"] = PointState.FAILED, "broken"
        started, finished = self._times(row)
        for selector in self._jobs:
            if database.is_meant(selector):
                yield RecoveryPoint(
                    repository=self._identifier,
                    job=selector.job,
                    native_id=native_id,
                    at=started,
                    covers_until=started,
                    kind=kind,
                    needs=needs,
                    state=state,
                    started_at=started,
                    ended_at=finished,
                    bytes=_number(row["input_bytes"]),
                    bytes_added=_number(row["output_bytes"]),
                    source_host=database.host,
                    encrypted=int(row["encrypted"] or 0) == sets if sets else None,
                    extra=extra,
                )

    def _needs(
        self, row: Row, native_id: str, state: PointState
    ) -> tuple[PointKind, tuple[str, ...] | None]:
        """Return a job's kind and what it needs, None when that is not there; take note of it."""
        chain = self._chains.setdefault(row["db_key"], _Chain())
        usable = state in {PointState.COMPLETE, PointState.WARNING}
        level = row["inc_level"]
        if row["input_type"] == "DB FULL" or level is None:
            return PointKind.FULL, ()
        if int(level) == 0:
            if usable:
                chain.base, chain.increments = native_id, []
            return PointKind.FULL, ()
        if chain.base is None:
            return PointKind.INCREMENTAL, None
        needs = (chain.base, *chain.increments)
        if usable:
            chain.increments.append(native_id)
        return PointKind.INCREMENTAL, needs

    def _times(self, row: Row) -> tuple[datetime, datetime | None]:
        started = resolve(
            _seconds(row["started"]), self._zone, not_before=self._clock.get(row["db_key"])
        )
        self._clock[row["db_key"]] = started
        if row["finished"] is None or row["status"].startswith("RUNNING"):
            return started, None
        return started, resolve(_seconds(row["finished"]), self._zone, not_before=started)

    def _carried(self, point: RecoveryPoint, key: Any, until: datetime | None) -> RecoveryPoint:
        """Return a point with how far logs carry it; a warning where not even its own are there."""
        database = self._databases[key]
        if not database.archives:
            return point
        end, gap = reach(self._logs.get(key, ()), point.at)
        changed: dict[str, Any] = {}
        extra = dict(point.extra)
        if end is None or (point.ended_at is not None and end < point.ended_at):
            changed["state"] = PointState.WARNING
            extra["logs"] = "missing"
        else:
            changed["covers_until"] = max(point.at, min(end, until) if until is not None else end)
        if gap is not None and (until is None or gap < until):
            extra["log_gap_before"] = int(gap.timestamp())
        values = {name: getattr(point, name) for name in point.__slots__}
        return RecoveryPoint(**{**values, **changed, "extra": extra})


def _seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _number(value: Any) -> int | None:
    return int(value) if value is not None else None


def _extra(row: Row) -> dict[str, Json]:
    found: dict[str, Json] = {
        "status": row["status"],
        "input_type": row["input_type"],
        "level": _number(row["inc_level"]),
        "device": row["device"],
        "controlfile": row["autobackup"] == "YES" or bool(row["controlfile"]),
    }
    return {name: value for name, value in found.items() if value is not None}
