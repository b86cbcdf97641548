"""What a fetched cluster looks like on disk, whichever tool kept it, and which log it needs.

Below `into` a directory `cluster` holds the data directory, the log's segments and histories in `wal`
(with a time to recover to also `covered-until`, the time up to which the archive says that it holds
all), and `tablespaces`. Everything in it is named relatively, so the whole can be moved.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from backupguard.errors import BackupDefect, MissingMeans
from backupguard.repositories.wal import Archive, Segment
from backupguard.repositories.wal_points import Covered

ARTIFACT = PurePosixPath("cluster")
LOG, TABLESPACES = "wal", "tablespaces"


def needed_segments(
    repository: str,
    archive: Archive,
    covered: Covered,
    ends: tuple[Segment, Segment],
    consistent_at: datetime,
    at: datetime | None,
    lag: timedelta,
) -> tuple[Segment, ...]:
    """Return the log that brings a backup to `at`, to its own end without.

    Archiving is taken to lag behind by `lag` at most.

    Raises BackupDefect: wal_gap where segments are missing on the way, no_point where the time lies
    before the backup's end or after all there is.
    """
    if not covered.restorable:
        raise BackupDefect("wal_gap", repository=repository)
    if at is None:
        return archive.segments(*ends, 0)
    if at < consistent_at:
        raise BackupDefect("no_point", repository=repository)
    if covered.reach.until is None or at.timestamp() > covered.reach.until:
        raise BackupDefect("wal_gap" if covered.reach.gap else "no_point", repository=repository)
    # What was done until `at` may lie in a segment closed later, and archived later still.
    return archive.segments(*ends, math.ceil((at + lag).timestamp()))


def require_room(into: Path, needed: int) -> None:
    """Raise MissingMeans (no_disk) where `needed` bytes do not fit below `into`."""
    numbers = os.statvfs(into)
    available = numbers.f_bavail * numbers.f_frsize
    if needed > available:
        raise MissingMeans("no_disk", needed=needed, available=available)


def tell_covered(place: Path, at: datetime | None, covered: Covered | None) -> None:
    """Leave word until when the archive holds all log, for a recovery to the time `at`.

    Whoever replays it to its end may find no transaction after `at`, for none was made.
    """
    until = covered.reach.until if covered is not None else None
    if at is not None and until is not None:
        said = datetime.fromtimestamp(until, UTC).isoformat()
        (place / LOG / "covered-until").write_text(said, encoding="ascii")
