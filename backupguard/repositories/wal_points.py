"""How far each backup of a PostgreSQL cluster can be brought forward by the log in its archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backupguard.model import Json
from backupguard.repositories.wal import Archive, Reach, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Physical:
    """A backup of a whole cluster: consistent at `at`, once `start` to `stop` were replayed."""

    native_id: str
    at: datetime
    start: Segment
    stop: Segment
    usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How far a backup leads.

    `restorable` is False where log that it cannot do without is missing. `gap` names missing
    segments that somebody must look for: `{"first", "last", "segments"}`, the last two None where
    nothing follows. `reach` is what the archive says, for a recovery to a time.
    """

    until: datetime
    restorable: bool
    gap: Json
    reach: Reach


def cover(
    backups: Sequence[Physical],
    archive: Archive,
    *,
    now: datetime,
    settle: timedelta,
    expires: bool,
) -> Mapping[str, Covered]:
    """Return by native id how far each backup leads.

    A backup covers the time up to the next usable one and no further, though its log may lead on: so
    a segment that arrives changes one point and not all of them. Log is pushed by several processes
    at a time: a hole with a segment behind it that arrived less than `settle` ago ends the coverage,
    and is not reported yet. With `expires`, log between two backups may have been dropped on purpose.
    """
    ordered = sorted(backups, key=lambda backup: (backup.at, backup.native_id))
    covered: dict[str, Covered] = {}
    following: Physical | None = None
    starts = {backup.start for backup in ordered}
    for backup in reversed(ordered):
        reach = archive.reach(backup.start, backup.stop)
        until = backup.at
        if reach.complete and reach.until is not None:
            until = max(until, datetime.fromtimestamp(reach.until, UTC))
            if following is not None:
                until = max(backup.at, min(until, following.at))
        leads_on = following is not None and reach.complete and until >= following.at
        covered[backup.native_id] = Covered(
            until=until,
            restorable=reach.complete,
            gap=None
            if leads_on
            else _gap(backup, reach, archive.size, now - settle, starts if expires else set()),
            reach=reach,
        )
        if backup.usable and reach.complete:
            following = backup
    return covered


def _gap(
    backup: Physical, reach: Reach, size: int, settled: datetime, dropped_before: set[Segment]
) -> Json:
    gap = reach.gap
    if gap is None:
        if reach.complete:
            return None
        first = Segment(backup.start.timeline, backup.start.number)
        if reach.last is not None:
            first = Segment(reach.last.timeline, reach.last.number + 1)
        return {"first": first.name(size), "last": None, "segments": None}
    if reach.complete:
        if datetime.fromtimestamp(gap.after_at, UTC) > settled:
            return None
        if gap.first.number == backup.stop.number + 1 and gap.after in dropped_before:
            return None
    return {
        "first": gap.first.name(size),
        "last": gap.last.name(size),
        "segments": gap.missing,
    }
