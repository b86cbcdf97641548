"""Which names in a directory are recovery points, and what time they tell.

A pattern is a file glob with strftime dates: `dpi-%Y%m%d-%H%M.dump`. It also matches the compressed
name (`.gz`, `.zst`, `.xz`, `.bz2`) and, where it holds no date, the rotated one (`dpi.dump.1.gz`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from urllib.parse import quote_from_bytes
from zoneinfo import ZoneInfo

from backupguard.repositories.attempting import CANARY

#: strftime directive → what it looks like.
DIRECTIVES: Mapping[str, str] = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d{2})",
    "m": r"(?P<m>0[1-9]|1[0-2])",
    "d": r"(?P<d>0[1-9]|[12]\d|3[01])",
    "j": r"(?P<j>\d{3})",
    "H": r"(?P<H>[01]\d|2[0-3])",
    "M": r"(?P<M>[0-5]\d)",
    "S": r"(?P<S>[0-5]\d|60)",
    "s": r"(?P<s>\d{9,11})",
}
_COMPRESSED = r"(?:\.(?:gz|zst|xz|bz2))?"
_ROTATED = r"(?:\.\d{1,4})?"
#: What copying programs call a file that is not whole yet; never points.
TEMPORARY = (
    ".part",
    ".partial",
    ".tmp",
    ".temp",
    ".filepart",
    ".inprogress",
    ".crdownload",
    ".swp",
)
#: Files beside a dump that describe it; never points themselves.
SIDECARS = (".sha256", ".sha256sum", ".md5", ".md5sum", ".sig", ".asc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a name says: the part that stays when it is rotated or compressed, and its time.

    `again` is the second time that the clocks showed what the name says, in the hour that comes twice.
    """

    stem: str
    at: datetime | None
    day_only: bool
    again: datetime | None = None


@cache
def expression(component: str) -> re.Pattern[str]:
    """Given one component of a pattern, return the expression whose group `stem` it matches.

    Raise ValueError for a directive that is not in `DIRECTIVES`, or one that comes twice.
    """
    parts: list[str] = []
    position = 0
    while position < len(component):
        character = component[position]
        if character == "%":
            directive = component[position + 1 : position + 2]
            if directive == "%":
                parts.append("%")
            elif directive in DIRECTIVES:
                parts.append(DIRECTIVES[directive])
            else:
                raise ValueError(f"%{directive} is no directive that can be read back")
            position += 1
        elif character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        else:
            parts.append(re.escape(character))
        position += 1
    dated = any(part.startswith("(?P<") for part in parts)
    tail = _COMPRESSED if dated else _ROTATED + _COMPRESSED
    try:
        return re.compile(f"(?P<stem>{''.join(parts)}){tail}\\Z", re.DOTALL)
    except re.error as error:
        raise ValueError(f"{component!r} is no pattern: a directive comes twice") from error


def time_of(
    groups: Mapping[str, str | None], zone: ZoneInfo | None, fold: int = 0
) -> tuple[datetime | None, bool]:
    """Given what the directives matched, return the time (UTC) and whether it names only a day.

    A date that does not exist gives None, so that the file's own time is used. In the hour that the
    clocks show twice, `fold` 0 is the first time and 1 the second.
    """
    found = {name: value for name, value in groups.items() if name != "stem" and value is not None}
    try:
        if "s" in found:
            return datetime.fromtimestamp(int(found["s"]), UTC), False
        year = int(found["Y"]) if "Y" in found else 2000 + int(found["y"])
        if "j" in found:
            local = datetime(year, 1, 1) + timedelta(days=int(found["j"]) - 1)  # noqa: DTZ001
        else:
            local = datetime(year, int(found["m"]), int(found["d"]))  # noqa: DTZ001
        local = local.replace(
            hour=int(found.get("H", "0")),
            minute=int(found.get("M", "0")),
            second=min(59, int(found.get("S", "0"))),
            fold=fold,
        )
        aware = local.replace(tzinfo=zone) if zone is not None else local.astimezone()
        return aware.astimezone(UTC), "H" not in found
    except (KeyError, ValueError, OverflowError):
        return None, False


def read_name(
    component: str, name: str, zone: ZoneInfo | None, before: Mapping[str, str | None]
) -> tuple[Named, Mapping[str, str | None]] | None:
    """Given the pattern's component and a name, return what the name says, or None.

    `before` holds what the directories above told (`%Y/%m/dpi-%d.dump`); the second value adds to it.
    """
    match = expression(component).match(name)
    hidden = name.startswith(".") and not component.startswith(".")  # as rsync's unfinished ones
    hidden = hidden or name.startswith(CANARY)  # one of our own
    if match is None or hidden or name.lower().endswith((*SIDECARS, *TEMPORARY)):
        return None
    groups = {**before, **match.groupdict()}
    at, day_only = time_of(groups, zone)
    second, _ = time_of(groups, zone, fold=1)
    again = second if at is not None and second is not None and second > at else None
    return Named(stem=str(match["stem"]), at=at, day_only=day_only, again=again), groups


def percent(name: str) -> str:
    """Given a name that may hold any bytes, return it in ASCII; equal names, equal results."""
    return quote_from_bytes(name.encode("utf-8", "surrogateescape"), safe="/ ()+,=:@")
