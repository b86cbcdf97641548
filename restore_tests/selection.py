"""Which recovery point, of which repository, a restore test takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from backupguard.errors import BackupDefect, MissingMeans, UsageError
from backupguard.model import PointState, RecoveryPoint

#: Clocks differ by as much without anybody noticing; a point from later than that is set aside.
FUTURE_TOLERANCE = timedelta(minutes=10)
#: Shortest beginning of a native id that may stand for the whole.
_SHORTEST_ID = 4
_USABLE = frozenset({PointState.COMPLETE, PointState.WARNING})


def usable(points: Iterable[RecoveryPoint], now: datetime) -> list[RecoveryPoint]:
    """Return the points that can be restored from, oldest first; never one dated in the future."""
    standing = [p for p in points if p.state in _USABLE and p.at <= now + FUTURE_TOLERANCE]
    return sorted(standing, key=lambda point: (point.at, point.native_id))


def choose(
    points: Sequence[RecoveryPoint], wanted: str, now: datetime, rotation: int = 0
) -> RecoveryPoint:
    """Return the point that `wanted` means: "latest", "oldest", "rotate", or (the start of) its id.

    "rotate" takes the latest at every other turn and walks through the older ones at the turns between.
    Raises BackupDefect (no_point); MissingMeans (clock_behind) when every point is dated after `now`,
    for then the clock is as likely to be wrong as they are; and, for an id that does not exist,
    UsageError.
    """
    standing = usable(points, now)
    if wanted not in {"latest", "oldest", "rotate"}:
        named = [
            point
            for point in points
            if point.native_id == wanted
            or (len(wanted) >= _SHORTEST_ID and point.native_id.startswith(wanted))
        ]
        if len({point.native_id for point in named}) != 1:
            raise UsageError("unknown_subject", subject=wanted[:80])
        return named[0]
    if not standing:
        if any(point.state in _USABLE for point in points):
            raise MissingMeans("clock_behind")
        raise BackupDefect("no_point")
    if wanted == "oldest":
        return standing[0]
    if wanted == "rotate" and rotation % 2 and len(standing) > 1:
        return standing[(rotation // 2) % (len(standing) - 1)]
    return standing[-1]


def order(repositories: Sequence[str], wanted: str, rotation: int = 0) -> list[str]:
    """Return the repositories in the order in which they are tried: rotated when the test rotates."""
    names = sorted(repositories)
    if wanted != "rotate" or not names:
        return names
    start = rotation % len(names)
    return names[start:] + names[:start]
