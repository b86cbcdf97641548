"""From the rows of msdb to recovery points: what each needs, and how far its log backups reach.

Rules of the log chain: Microsoft, "SQL Server backup and restore: log chains", "Recovery paths" and
the reference of `backupset`. A log backup continues another where its `first_lsn` is that one's
`last_lsn` on the same recovery fork; it carries on a full or differential backup that ends within it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import JobSelector
from backupguard.errors import Misunderstood
from backupguard.model import Json, PointKind, PointState, RecoveryPoint
from backupguard.repositories.local_times import candidates

Row = Mapping[str, Any]

_KINDS = {"D": PointKind.FULL, "I": PointKind.DIFFERENTIAL}
_UNKNOWN_ZONE = 127
_DEVICES = {2: "disk", 102: "disk", 5: "tape", 105: "tape", 7: "virtual", 107: "virtual", 9: "url"}
_TEXT_LIMIT = 300


@dataclass(slots=True, kw_only=True)
class _Run:
    """An unbroken run of log backups, seen from its newest to its oldest."""

    first_lsn: int
    fork: str | None
    begins: datetime
    reaches: datetime


@dataclass(slots=True)
class _Database:
    """What is known of one database while its rows pass, newest first."""

    name: str
    server: str | None
    jobs: Sequence[JobSelector]
    newest_finish: datetime | None = None  # of the row that came before, so later in time
    next_at: datetime | None = None  # of the next newer point, which covers from there on
    run: _Run | None = None
    gap_before: datetime | None = None  # when log backups go on behind the nearest newer gap

    def follow(self, row: Row, started: datetime) -> None:
        """Put a log backup before the run of those that follow it, or begin a run before a gap.

        Copies (COPY_ONLY) stand beside the chain; one that was written to NUL, is damaged or tells
        no LSN is as good as missing.
        """
        if row["copy_only"]:
            return
        run = self.run
        if row["nowhere"] or row["damaged"] or row["first_lsn"] is None or row["last_lsn"] is None:
            self.gap_before = run.begins if run is not None else started
            self.run = None
        elif (
            run is not None
            and int(row["last_lsn"]) >= run.first_lsn
            and _one_fork(row["last_fork"], run.fork)
        ):
            run.first_lsn = min(run.first_lsn, int(row["first_lsn"]))
            run.fork, run.begins = row["first_fork"], started
        else:
            if run is not None:
                self.gap_before = run.begins
            self.run = _Run(
                first_lsn=int(row["first_lsn"]),
                fork=row["first_fork"],
                begins=started,
                reaches=started,
            )

    def covers(self, row: Row, started: datetime) -> tuple[datetime, datetime | None]:
        """Return how far log backups carry a point on, and where they go on behind a gap.

        Neither goes past the next newer point: that one covers from there on, and so a log backup
        that is made today changes one point and not all.
        """
        run, gap, reach = self.run, self.gap_before, started
        if run is not None:
            last = row["last_lsn"]
            if (
                last is not None
                and run.first_lsn <= int(last)
                and _one_fork(row["last_fork"], run.fork)
            ):
                reach = max(started, run.reaches)
            else:
                gap = run.begins
        if self.next_at is not None:
            reach = max(started, min(reach, self.next_at))
            if gap is not None and gap >= self.next_at:
                gap = None
        return reach, gap


class Reader:
    """Turns rows, by database and newest first, into points."""

    def __init__(self, identifier: str, jobs: Sequence[JobSelector], zone: ZoneInfo) -> None:
        self._identifier = identifier
        self._jobs = jobs
        self._zone = zone

    def points(self, rows: Iterator[Row]) -> Iterator[RecoveryPoint]:
        """Yield a point per full or differential backup and job; raise Misunderstood for half a row."""
        database = _Database(name="", server=None, jobs=())
        for row in rows:
            try:
                if row["name"] != database.name or row["server"] != database.server:
                    jobs = [selector for selector in self._jobs if _holds(row, selector)]
                    database = _Database(name=row["name"], server=row["server"], jobs=jobs)
                started, finished = self._times(row, database)
                if row["type"] == "L":
                    database.follow(row, started)
                    continue
                for selector in database.jobs:
                    yield self._point(row, selector, database, started, finished)
                if not row["copy_only"]:
                    database.next_at = started
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise Misunderstood("output_unparsable", repository=self._identifier) from error

    def _times(self, row: Row, database: _Database) -> tuple[datetime, datetime]:
        """Return start and end in UTC.

        In the hour that exists twice the noted offset decides, else the order of the rows: the latest
        time that is not after the next newer row's end.
        """
        finished = self._resolve(row["finished"] or row["started"], row, database.newest_finish)
        started = self._resolve(row["started"] or row["finished"], row, finished)
        database.newest_finish = finished
        return min(started, finished), finished

    def _resolve(self, local: datetime, row: Row, not_after: datetime | None) -> datetime:
        found = candidates(local.replace(microsecond=0), self._zone)
        quarters = row["quarters"]
        if len(found) > 1 and quarters is not None and int(quarters) != _UNKNOWN_ZONE:
            offset = timedelta(minutes=15 * int(quarters))
            for moment in found:
                if moment.astimezone(self._zone).utcoffset() == offset:
                    return moment
        possible = [moment for moment in found if not_after is None or moment <= not_after]
        return possible[-1] if possible else found[0]

    def _point(
        self,
        row: Row,
        selector: JobSelector,
        database: _Database,
        started: datetime,
        finished: datetime,
    ) -> RecoveryPoint:
        kind = _KINDS[row["type"]]
        extra = _extra(row)
        state = PointState.COMPLETE
        if row["damaged"]:
            # "Damage to the database was detected when this backup was created" (backupset)
            state, extra["damaged"] = PointState.FAILED, True
        if row["nowhere"]:
            state, extra["nowhere"] = PointState.FAILED, True  # written to NUL: there is nothing
        needs: tuple[str, ...] = ()
        if kind is PointKind.DIFFERENTIAL:
            needs = (str(row["base_uuid"]).lower(),) if row["base_uuid"] else ()
            if row["base_id"] is None or row["base_damaged"]:
                state, extra["chain"] = PointState.FAILED, "broken"
        covers, gap = database.covers(row, started)
        if gap is not None:
            extra["log_gap_before"] = int(gap.timestamp())
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=str(row["uuid"]).lower(),
            at=started,
            covers_until=covers,
            kind=kind,
            needs=needs,
            state=state,
            started_at=started,
            ended_at=finished,
            bytes=_number(row["bytes"]),
            bytes_added=_number(row["stored"]),
            source_host=row["server"],
            encrypted=bool(row["key_algorithm"]),
            extra=extra,
        )


def _holds(row: Row, selector: JobSelector) -> bool:
    """Tell whether a row is one of this job's: database and server, whatever their case.

    Most servers compare names without regard to case, and two that differ by nothing else are rare.
    """
    return (selector.name is None or _same(row["name"], selector.name)) and (
        selector.host is None or _same(row["server"], selector.host)
    )


def _same(one: str | None, other: str) -> bool:
    return one is not None and one.casefold() == other.casefold()


def _one_fork(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def _extra(row: Row) -> dict[str, Json]:
    kind = row["device_type"]
    found: dict[str, Json] = {
        "device_kind": _DEVICES.get(int(kind), str(kind)) if kind is not None else None,
        "device": masked(row["device"]),
        "families": _number(row["families"]),
        "recovery_model": row["recovery_model"],
        "checksums": bool(row["checksums"]),
    }
    for name in ("copy_only", "snapshot"):
        if row[name]:
            found[name] = True
    return {name: value for name, value in found.items() if value is not None}


def masked(device: Any) -> str | None:
    """Return where a backup was written, without what follows a "?" in a URL: it may open the place.

    A shared access signature does ("SQL Server backup to URL"); user and password before the host
    are left out likewise.
    """
    if device is None:
        return None
    text = str(device)
    if "://" in text:
        scheme, _, rest = text.partition("://")
        place = rest.partition("?")[0].partition("#")[0]
        host, slash, path = place.partition("/")
        text = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return text[:_TEXT_LIMIT] if text.isascii() else text[: _TEXT_LIMIT // 6]


def _number(value: Any) -> int | None:
    return int(value) if value is not None else None
