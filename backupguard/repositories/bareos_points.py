"""From rows of a catalogue to recovery points and runs.

Letters of states, types and levels: Bacula's Developer's Guide ("Job" table), `src/jcr.h` of 9.6, and
Bareos' manual, appendix "Catalog Tables". Times stand in the director's local time but for JobTDate,
which is the end in seconds since 1970 and settles which of two equal hours of autumn is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import JobRun, JobSelector
from backupguard.errors import Misunderstood
from backupguard.model import Json, PointKind, PointState, RecoveryPoint
from backupguard.repositories.local_times import HOUR, candidates, resolve

_FAILED = frozenset("EefAI")  # error, non-fatal error, fatal, cancelled, incomplete
_KINDS = {
    "F": PointKind.FULL,
    "f": PointKind.FULL,
    "B": PointKind.FULL,
    "D": PointKind.DIFFERENTIAL,
    "I": PointKind.INCREMENTAL,
}
_OLDEST = datetime(1980, 1, 1)  # noqa: DTZ001 - before it a "time" is a zero
_TEXT_LIMIT = 500

Row = Mapping[str, Any]


def state_of(row: Row) -> PointState:
    """Return what a job's letter says; a "T" with errors is what Bacula prints "with warnings".

    Everything that is no ending (queued, waiting, running, committing), a letter of a later version
    included, counts as under way: neither a point to rely on nor a failure to report.
    """
    status = row["status"]
    if status == "W" or (status == "T" and (row["errors"] or 0) > 0):
        return PointState.WARNING
    if status == "T":
        return PointState.COMPLETE
    return PointState.FAILED if status in _FAILED else PointState.RUNNING


class Choice:
    """Which jobs a row belongs to: by name first, so that many jobs cost no more than few."""

    def __init__(self, jobs: Sequence[JobSelector]) -> None:
        self._named: dict[str | None, list[JobSelector]] = {}
        for selector in jobs:
            self._named.setdefault(selector.name, []).append(selector)
        self._any = self._named.pop(None, [])

    def of(self, row: Row) -> Iterator[JobSelector]:
        """Yield the jobs whose name, client and (among the tags) pool are the row's."""
        for selector in (*self._named.get(row["name"], ()), *self._any):
            if (selector.host is None or row["client"] == selector.host) and (
                not selector.tags or row["pool"] in selector.tags
            ):
                yield selector


@dataclass(slots=True)
class _Chain:
    """What the next incremental of a job, client and file set stands on."""

    full: tuple[str, ...] = ()
    differential: tuple[str, ...] = ()
    incrementals: list[str] = field(default_factory=list)

    def needs(self, kind: PointKind) -> tuple[str, ...] | None:
        """Return what a backup of that kind needs; None when what it needs is not there."""
        if kind is PointKind.FULL:
            return ()
        if not self.full:
            return None
        if kind is PointKind.DIFFERENTIAL:
            return self.full
        return (*self.full, *self.differential, *self.incrementals)

    def add(self, kind: PointKind, native_id: str) -> None:
        """Take note of a good backup."""
        if kind is PointKind.FULL:
            self.full = (native_id,)
            self.differential = ()
        if kind is PointKind.DIFFERENTIAL:
            self.differential = (native_id,)
        if kind is PointKind.INCREMENTAL:
            self.incrementals.append(native_id)
        else:
            self.incrementals = []


class Reader:
    """Turns rows, in the order of their starts, into points."""

    def __init__(self, identifier: str, jobs: Sequence[JobSelector], zone: ZoneInfo | None) -> None:
        self._identifier = identifier
        self._choice = Choice(jobs)
        self._zone = zone
        self._chains: dict[tuple[Any, ...], _Chain] = {}

    def points(self, rows: Iterator[Row]) -> Iterator[RecoveryPoint]:
        """Yield a point for each job that a row belongs to; raise Misunderstood for half a row."""
        for row in rows:
            try:
                needs = self._follow(row)
                for selector in self._choice.of(row):
                    yield self._point(row, selector, needs)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise Misunderstood("output_unparsable", repository=self._identifier) from error

    def _follow(self, row: Row) -> tuple[str, ...] | None:
        """Return what a row's backup needs, and let the next of its chain know of it."""
        kind = _KINDS.get(row["level"])
        if kind is None:
            return ()
        line = (row["name"], row["client_id"], row["fileset_id"])
        chain = self._chains.setdefault((*line, row["type"]), _Chain())
        needs = chain.needs(kind)
        if needs is None and row["type"] != "B":
            # A copy of an incremental whose full backup was never copied stands on the original.
            original = self._chains.get((*line, "B"))
            needs = original.needs(kind) if original is not None else None
            if needs is not None:
                needs = tuple(each for each in needs if each != str(row["prior"]))
        if state_of(row) in {PointState.COMPLETE, PointState.WARNING} and needs is not None:
            chain.add(kind, str(int(row["id"])))
        return needs

    def _point(
        self, row: Row, selector: JobSelector, needs: tuple[str, ...] | None
    ) -> RecoveryPoint:
        started, ended = times_of(row, self._zone)
        state, extra = state_of(row), _extra(row, self._zone)
        if needs is None and state is not PointState.RUNNING:
            # What it was made on top of is no longer there: it brings nothing back any more.
            state, extra = PointState.FAILED, {**extra, "chain": "broken"}
        native_id = str(int(row["id"]))
        copied = row["type"] == "C" or row["prior_type"] == "M"
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=native_id,
            at=started,
            covers_until=started,
            kind=_KINDS.get(row["level"], PointKind.SNAPSHOT),
            needs=needs or (),
            state=state,
            started_at=started,
            ended_at=ended,
            bytes=_number(row["bytes"]),
            files=_number(row["files"]),
            content_id=f"job/{int(row['prior'])}" if copied else f"job/{native_id}",
            source_host=row["client"],
            extra=extra,
        )


def times_of(row: Row, zone: ZoneInfo | None) -> tuple[datetime, datetime | None]:
    """Return when a job began (or was to begin) and ended, in UTC.

    Where JobTDate and the local end are not apart by an offset of `zone`, the director lives in
    another zone: the offset found is then taken for both. Raise ValueError without any time.
    """
    local_start = _local(row["started"]) or _local(row["scheduled"])
    local_end, seconds = _local(row["ended"]), int(row["ended_utc"] or 0)
    ended = datetime.fromtimestamp(seconds, UTC) if local_end is not None and seconds > 0 else None
    if local_start is None:
        if ended is None:
            raise ValueError("a job without any time")
        return ended, ended
    if ended is None or local_end is None:
        end = resolve(local_end, zone) if local_end is not None else None
        return resolve(local_start, zone, not_after=end), end
    if ended not in candidates(local_end, zone):
        offset = local_end.replace(tzinfo=UTC) - ended
        if abs(offset) <= 15 * HOUR:
            return min(local_start.replace(tzinfo=UTC) - offset, ended), ended
    possible = [moment for moment in candidates(local_start, zone) if moment <= ended]
    return (possible[-1] if possible else ended), ended


def _local(text: Any) -> datetime | None:
    """Return a local time as the databases write it; None for none and for all kinds of zero."""
    if not text or str(text).startswith("0000"):
        return None
    moment = datetime.fromisoformat(str(text)).replace(microsecond=0)
    return moment if moment >= _OLDEST else None


def _number(value: Any) -> int | None:
    return int(value) if value is not None else None


def _extra(row: Row, zone: ZoneInfo | None) -> dict[str, Json]:
    """Return what else is known, below 2 KiB; nothing in it changes by what others write."""
    found: dict[str, Json] = {
        "level": row["level"],
        "status": row["status"],
        "pool": _cut(row["pool"]),
        "fileset": _cut(row["fileset"]),
        "media": _cut(row["media"]),
        "volumes": _number(row["volumes"]),
        "volume_names": _cut(row["volume_names"]),
    }
    if row["type"] != "B":
        found["type"] = row["type"]
    if row["files_pruned"]:
        found["files_pruned"] = True  # whole jobs can be restored, single files no longer be chosen
    if row["volumes_broken"]:
        found["volumes_broken"] = int(row["volumes_broken"])
    if row["expires"]:
        local = datetime.fromtimestamp(int(row["expires"]), UTC).replace(tzinfo=None)
        found["expires"] = int(resolve(local, zone).timestamp())
    return {name: value for name, value in found.items() if value is not None}


def _cut(text: Any) -> str | None:
    """Return a text short enough to be kept, however many bytes its characters take in JSON."""
    if text is None:
        return None
    short = str(text)[:_TEXT_LIMIT]
    return short if short.isascii() else short[: _TEXT_LIMIT // 6]


def runs_of(
    rows: Iterator[Row], jobs: Sequence[JobSelector], since: datetime, zone: ZoneInfo | None
) -> Iterator[JobRun]:
    """Yield the runs of these jobs that began at or after `since`."""
    choice = Choice(jobs)
    for row in rows:
        for selector in choice.of(row):
            started, ended = times_of(row, zone)
            state = state_of(row)
            if started < since:
                continue
            yield JobRun(
                job=selector.job,
                native_id=str(int(row["id"])),
                started_at=started,
                ended_at=None if state is PointState.RUNNING else ended,
                state=state.value,
                bytes=_number(row["bytes"]),
                files=_number(row["files"]),
            )


def local_text(moment: datetime, zone: ZoneInfo | None) -> str:
    """Return a moment as the director's clock showed it, a day earlier: for a first, coarse choice."""
    return f"{(moment - timedelta(days=1)).astimezone(zone):%Y-%m-%d %H:%M:%S}"
