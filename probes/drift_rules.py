"""Which way a policy became weaker: pure, and decided for each item by what its key stands for.

An item's path is `SOURCE|PLACE|ASPECT.NAME` and, for what is one of many, `|ELEMENT` after it:
`borgmatic|/etc/borgmatic/config.yaml|retention.keep_daily`, `…|job.exclusion|*.tmp`. An absent item is
None. What is one of many is an item each, so that reordering changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

Value = int | str | bool
#: Marks that a place was read, so that an element that appears in it is told from a new place.
READ = "info.read"
UNLIMITED = "unlimited"
#: That nothing is ever dropped: while a place says so, an option of its own may go.
KEEPS_ALL = "retention.all"
#: Sources whose files say together what each place says: one that cannot be read hides them all.
MERGED = frozenset({"pgbackrest", "barman", "bareos"})

_HOURS = {
    "hour": 1,
    "day": 24,
    "week": 7 * 24,
    "month": 31 * 24,
    "year": 366 * 24,
    # A backup that is kept by number stands for a week: full backups are seldom taken more rarely.
    "backup": 7 * 24,
}
_AMOUNT = re.compile(r"(\d+) (hour|day|week|month|year|backup)s?")
_ENDLESS = 2**63
_MODES = {"compliance": 2, "governance": 1}
_OFF = frozenset({"", "none", "off", "false", "no", "suspended", "disabled"})


def path(source: str, place: str, key: str, element: str | None = None) -> str:
    """Return the path of an item."""
    names = [part.replace("|", "¦") for part in (source, place)]
    return "|".join([*names, key] if element is None else [*names, key, element])


def place_of(item: str) -> str:
    """Return the beginning of an item's path that names its place, with its end mark."""
    return "|".join(item.split("|", 2)[:2]) + "|"


def key_of(item: str) -> str:
    """Return what an item stands for: "retention.keep_daily"."""
    parts = item.split("|", 3)
    return parts[2] if len(parts) > 2 else ""


def measure(value: Value | None) -> int:
    """Return how long a retention lasts, in hours where it says a time; only to be compared.

    A bare number is compared with bare numbers; -1 and "unlimited" keep everything.
    """
    if value is None or isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return _ENDLESS if value < 0 else value
    if value == UNLIMITED:
        return _ENDLESS
    match = _AMOUNT.fullmatch(value)
    return int(match[1]) * _HOURS[match[2]] if match else 0


def weakening(key: str, before: Value | None, after: Value | None) -> str | None:
    """Return the code of how an item's change weakens something, None when it does not.

    Of one change and its reverse, at most one is a weakening.
    """
    if before == after:
        return None
    aspect, _, name = key.partition(".")
    if aspect == "retention":
        shorter = before is not None and measure(after) < measure(before)
        return "retention_shortened" if shorter else None
    if aspect == "admin":
        return "admin_added" if before is None else None
    if aspect == "job":
        return _of_job(name, before, after)
    if aspect == "protection":
        return _of_protection(name, before, after)
    if aspect == "access":
        return "authentication_off" if before is True and after is not True else None
    return None


def _of_job(name: str, before: Value | None, after: Value | None) -> str | None:
    if name == "enabled":
        if before is not True:
            return None
        return "job_removed" if after is None else "job_disabled"
    if name == "runs_per_year":
        rarer = before is not None and (after is None or measure(after) < measure(before))
        return "schedule_rarer" if rarer else None
    if name == "exclusion":
        return "exclusion_added" if before is None else None
    codes = {"source": "source_removed", "repository": "repository_removed"}
    return codes.get(name) if after is None else None


def _of_protection(name: str, before: Value | None, after: Value | None) -> str | None:
    if name == "mode":
        lower = _MODES.get(str(after), 0) < _MODES.get(str(before), 0)
        return "lock_weakened" if lower else None
    if name == "weakness":
        return "protection_weakened" if before is None else None
    codes = {
        "mechanism": "lock_removed",
        "append_only": "append_only_dropped",
        "versioning": "versioning_suspended",
        "encryption": "encryption_off",
        "mfa_delete": "lock_weakened",
    }
    code = codes.get(name.partition(".")[0])
    return code if _on(before) and not _on(after) else None


def _on(value: Value | None) -> bool:
    return value is not None and str(value).lower() not in _OFF


def compare(before: Mapping[str, Value], after: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Return what changed between two readings, one entry per item, in the order of their paths.

    Of a place that is gone only its job is a loss; of one that is new nothing is.
    """
    read_before = {place_of(item) for item in before}
    read_after = {place_of(item) for item in after}
    changes: list[dict[str, Any]] = []
    for item in sorted({*before, *after}):
        old, new = before.get(item), after.get(item)
        if item in before and item in after and old == new:
            continue
        place, key = place_of(item), key_of(item)
        code = weakening(key, old, new)
        gone = place not in read_after and key != "job.enabled"
        kept = key.startswith("retention.") and place + KEEPS_ALL in after
        if gone or place not in read_before or kept:
            code = None
        change: dict[str, Any] = {"path": item, "weakening": code}
        if old is not None:
            change["before"] = old
        if new is not None:
            change["after"] = new
        changes.append(change)
    return changes


def undone(change: Mapping[str, Any], now: Mapping[str, Value]) -> bool:
    """Tell whether a weakening stands no more: what stands now is no weaker than what was before."""
    item = str(change["path"])
    before, after = change.get("before"), now.get(item)
    if before is None:  # something was added: it must be gone, and not with everything around it
        return after is None and any(other.startswith(place_of(item)) for other in now)
    kept = key_of(item).startswith("retention.") and place_of(item) + KEEPS_ALL in now
    return kept or weakening(key_of(item), before, after) is None


def standing(
    before: Mapping[str, Value], items: Mapping[str, Value], hidden: Collection[str]
) -> dict[str, Value]:
    """Return what stands: what was read, and of places that could not be read what they said last.

    `hidden` names what could not be read: a source ("systemd|"), a file or directory in one
    ("cron|/etc/cron.d"), a place, or one thing that a place says.
    """
    ends = ("|", " ", "/")
    beginnings = tuple(
        start
        for name in hidden
        for start in ([name] if name.endswith("|") else [name + end for end in ends])
    )
    exactly = set(hidden)
    kept = {
        item: value
        for item, value in before.items()
        if item in exactly or item.startswith(beginnings)
    }
    return {**kept, **items}
