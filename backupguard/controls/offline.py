"""Where an offline medium stands, and what that proves: pure, and said once.

A medium is proved away when its copy was read right on this host, it was seen detached since, and a
person said that it went out, not before it was read. Nothing of that alone is enough: a disk that is
absent may be in a drawer or plugged in elsewhere, one declared out may still be attached.
The entries are those of `known["media"]` (see `backupguard.controls.facts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from backupguard.controls import facts
from backupguard.model import Verdict, to_us

Medium = Mapping[str, Any]

#: A person declares an exit a little before or after the disk is unplugged.
EXIT_GRACE = 3600 * facts.SECOND
#: A medium is looked for every quarter of an hour, and what is seen is recorded every day.
LOOKED_LATELY = 2 * facts.DAY


class Where(StrEnum):
    """Where a medium stands."""

    VTL = "vtl"  # a virtual library: never offline
    NEVER_SEEN = "never_seen"
    SWAPPED = "swapped"  # another disk is in its place
    CONTRADICTED = "contradicted"  # declared out, and seen attached since
    LEFT_ATTACHED = "left_attached"  # for longer than it may stay
    ATTACHED = "attached"
    UNLOOKED = "unlooked"  # nobody can tell: a library that does not answer
    UNDECLARED = "undeclared"  # absent, and nobody said where it went
    AWAY = "away"


def where(medium: Medium, now: datetime) -> Where:
    """Return where a medium stands at `now`."""
    if medium.get("kind") == "vtl":
        return Where.VTL
    seen = facts.number(medium.get("seen_at"))
    if seen is None:
        return Where.NEVER_SEEN
    if medium.get("mismatch") is not None:
        return Where.SWAPPED
    if medium.get("code") is not None:
        return Where.UNLOOKED
    if medium.get("attached"):
        return _attached(medium, seen, now)
    out = out_at(medium)
    here = facts.number(medium.get("here_at"))
    if out is None or (here is not None and out < here - EXIT_GRACE):
        return Where.UNDECLARED
    return Where.AWAY


def _attached(medium: Medium, seen: int, now: datetime) -> Where:
    since = facts.number(medium.get("attached_since_at")) or seen
    out = out_at(medium)
    if out is not None and out > since and seen > out + EXIT_GRACE:
        return Where.CONTRADICTED
    may_stay = (facts.number(medium.get("may_stay_s")) or 0) * facts.SECOND
    return Where.LEFT_ATTACHED if to_us(now) - since > may_stay else Where.ATTACHED


def out_at(medium: Medium) -> int | None:
    """Return since when a medium is declared to be out; None when it is not."""
    moved = medium.get("moved")
    if not isinstance(moved, Mapping) or moved.get("direction") != "out":
        return None
    return facts.number(moved.get("at"))


def proved(medium: Medium, repository: str, now: datetime) -> int | None:
    """Return the newest point of a repository's copy on a medium that is proved away; else None."""
    copy = copy_on(medium, repository)
    if copy is None or where(medium, now) is not Where.AWAY:
        return None
    return facts.number(copy.get("newest_at")) if copy.get("verdict") == Verdict.PASSED else None


def copy_on(medium: Medium, repository: str) -> Mapping[str, Any] | None:
    """Return what was seen of a repository on a medium when it was here."""
    copies = medium.get("copies") or ()
    return next((one for one in copies if one.get("repository") == repository), None)
