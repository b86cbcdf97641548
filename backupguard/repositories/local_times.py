"""Times that a tool stored as its server's wall clock showed them, without a zone.

One hour of autumn exists twice and one of spring never. Which of two hours is meant is told by what
else is known: an end that cannot precede its start, an offset noted beside it, or the order in which
the rows were made.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backupguard.contracts import refused_setting

HOUR = timedelta(hours=1)


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raise ValueError when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise refused_setting("timezone", "timezone") from error


def candidates(local: datetime, zone: ZoneInfo | None) -> tuple[datetime, ...]:
    """Return the moments, in UTC and in order, at which the clocks of `zone` showed `local`.

    One, or two in the hour that is repeated. A time that never was (spring) counts as if the clock
    had not been put forward. Without a zone the one of this host is taken. Raise ValueError when
    `local` carries a zone already.
    """
    if local.tzinfo is not None:
        raise ValueError(f"a time with a zone where none was expected: {local!r}")
    found = []
    for fold in (0, 1):
        read = local.replace(fold=fold)
        aware = read.replace(tzinfo=zone) if zone is not None else read.astimezone()
        found.append(aware.astimezone(UTC))
    first, second = found
    return (first,) if second <= first else (first, second)


def resolve(
    local: datetime,
    zone: ZoneInfo | None,
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    offset: timedelta | None = None,
) -> datetime:
    """Return the moment that `local` means, in UTC.

    Of two the one with the noted UTC `offset` is meant, else the first within the bounds given; when
    none of them fits, the first.
    """
    found = candidates(local, zone)
    if offset is not None:
        for moment in found:
            if moment + offset == local.replace(tzinfo=UTC):
                return moment
    for moment in found:
        if (not_before is None or moment >= not_before) and (
            not_after is None or moment <= not_after
        ):
            return moment
    return found[0]
