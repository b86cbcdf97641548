"""The register of offline media: where each one is, who has it, what is on it, when it is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backupguard.model import from_us
from backupguard.web.pages.rendering import Mark, View

#: Where a medium is safe, where nobody can tell, and where it is not.
_SAFE = frozenset({"away"})
_UNKNOWN = frozenset({"never_seen", "unlooked", "undeclared"})
_HERE = frozenset({"attached"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """One medium as a line."""

    name: str
    kind: str
    mark: Mark
    since: str
    holder: str
    place: str
    seal: str
    author: str
    newest: str
    holds: str
    copy: str
    due: str
    overdue: bool


def page(view: View) -> str | None:
    """Return the register."""
    records = view.outputs.records
    if records is None:
        return None
    shown, turned = view.turned([_medium(view, row) for row in records.media()])
    return view.render("media.html", media=shown, turned=turned)


def _medium(view: View, row: Mapping[str, Any]) -> Medium:
    moved = row["moved"] or {}
    since = row["attached_since_at"] if row["attached"] else moved.get("at")
    newest = max((one["newest_at"] or 0 for one in row["copies"]), default=0)
    holds = sorted({name for one in row["copies"] for name in one["applications"]})
    due = row["due_at"]
    return Medium(
        name=str(row["medium"]),
        kind=view.text(f"web.medium.{row['kind']}"),
        mark=_mark(view, row),
        since=_time(view, since),
        holder=moved.get("holder") or "—",
        place=moved.get("place") or "—",
        seal=moved.get("seal") or "—",
        author=moved.get("author") or "",
        newest=_time(view, newest or None),
        holds=", ".join(map(view.application, holds)) or "—",
        copy=_copy(view, row),
        due=_time(view, due),
        overdue=due is not None and from_us(due) < view.published.judged_at,
    )


def _mark(view: View, row: Mapping[str, Any]) -> Mark:
    where = row["where"]
    look, sign = ("bad", "✕")
    if where in _SAFE:
        look, sign = ("good", "✓")
    elif where in _UNKNOWN:
        look, sign = ("none", "?")
    elif where in _HERE:
        look, sign = ("due", "!")
    slot = f" ({row['slot']})" if row["slot"] is not None else ""
    return Mark(look=look, sign=sign, label=view.text(f"media.where.{where}") + slot)


def _copy(view: View, row: Mapping[str, Any]) -> str:
    """Return what is known of the copy: read right and good to go, read wrong, or not read."""
    if not row["copies"]:
        return view.text("media.copy.none")
    wrong = next((one for one in row["copies"] if one["verdict"] != "passed"), None)
    if wrong is not None:
        return view.text(f"code.{wrong['code'] or 'none'}")
    if row["attached"]:
        return view.text("media.copy.may-leave" if row["may_leave"] else "media.copy.may-not-leave")
    return view.text("media.copy.read")


def _time(view: View, microseconds: int | None) -> str:
    return view.words.time(from_us(microseconds) if microseconds is not None else None)
