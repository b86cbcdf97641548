"""Which copies of an application count for 3-2-1, which do not, and why: pure, and said once.

A copy is what one repository keeps of an application, as the view's `copies` tell it (see
`backupguard.controls.facts`). What is declared can make two copies independent; what was found by
looking can only take that away again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backupguard.controls import facts
from backupguard.model import View, to_us

Copy = Mapping[str, Any]

#: Media that can be taken away. Only declared: whether it was taken away is not proved by this.
OFFLINE_MEDIA = frozenset({"tape", "removable"})
#: What a site may claim of a copy that nobody can reach. A claim, never a fact.
OFFLINE_CLAIMS = frozenset({"offline", "air-gapped", "air-gap"})
#: The words of a device that name a place; others name a record of copies, wherever these are.
PLACES = ("fs:", "disk:", "host:", "bucket:")
#: A copy that was not seen for so long is lost from sight, whatever was seen of it before.
LATELY = facts.LOST_COUNTS


class Why(StrEnum):
    """Why a copy does not count; the worst first."""

    BROKEN = "broken"  # its last restore test or verification failed
    EMPTY = "empty"  # no point of the application
    STALE = "stale"  # no recent point, and somebody looked
    SNAPSHOT = "snapshot"  # a snapshot or replica that shares the fate of production
    PRODUCTION = "production"  # in the failure domain of production
    UNSEEN = "unseen"  # its points ran out while nobody could look
    NEVER_SEEN = "never_seen"
    UNPROVEN = "unproven"  # its type needs a person's confirmation


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What the copies of an application amount to; every text is a repository's id."""

    independent: tuple[tuple[str, ...], ...]  # groups that count once each
    undeclared: tuple[str, ...]  # of those that count: without a failure domain
    contradicted: tuple[str, ...]  # declared apart, found in one place
    offline: tuple[str, ...]  # proved to be away, of those that count
    declared_offline: tuple[str, ...]  # said to be offline, and not proved
    online: tuple[str, ...]  # said to be offline, and found where something reaches it
    immutable: tuple[str, ...]  # where everything that the backup writer tried was refused
    off_site: tuple[str, ...]
    old: tuple[str, ...]  # whose failure domain was not attested within the year
    excluded: Mapping[str, Why]

    def because(self, why: Why) -> tuple[str, ...]:
        """Return the repositories that do not count for this reason."""
        return tuple(name for name, reason in self.excluded.items() if reason is why)


def copies_of(view: View) -> tuple[Copy, ...]:
    """Return the copies in an application's view."""
    found = view.known.get("copies")
    return tuple(copy for copy in found or () if isinstance(copy, Mapping))


def parts(copies: Iterable[Copy]) -> Mapping[str, tuple[Copy, ...]]:
    """Return the copies of each part of an application, one per repository: the most recent.

    A part is a database that jobs say they cover; jobs that say nothing copy the whole, and without
    any that do, the whole ("") is the one part.
    """
    every = list(copies)
    names = sorted({str(name) for copy in every for name in copy.get("covers") or ()}) or [""]
    found: dict[str, tuple[Copy, ...]] = {}
    for name in names:
        best: dict[str, Copy] = {}
        for copy in every:
            if copy.get("covers") and name not in copy["covers"]:
                continue
            repository = str(copy.get("repository"))
            if repository not in best or _newest(copy) > _newest(best[repository]):
                best[repository] = copy
        found[name] = tuple(best.values())
    return found


def _newest(copy: Copy) -> int:
    newest = facts.number(copy.get("newest_at"))
    return -1 if newest is None else newest


def lapse(copy: Copy) -> int | None:
    """Return until when what was seen of a copy is enough, in microseconds; None: never."""
    newest, seen = facts.number(copy.get("newest_at")), facts.number(copy.get("seen_at"))
    if newest is None or seen is None:
        return None
    until = newest + (facts.number(copy.get("allowed_s")) or 0) * facts.SECOND
    if _can_leave(copy):  # it is meant to be away
        return until
    return min(until, seen + LATELY)


def why_not(copy: Copy, production: object, now: datetime) -> Why | None:
    """Return why a copy does not count, None when it does."""
    domain = copy.get("domain")
    shares = production is not None and domain == production
    lapses = lapse(copy)
    newest, seen = facts.number(copy.get("newest_at")), facts.number(copy.get("seen_at"))
    until = (newest or 0) + (facts.number(copy.get("allowed_s")) or 0) * facts.SECOND
    known_apart = production is not None and domain is not None and not shares
    for applies, why in (
        (copy.get("broken"), Why.BROKEN),
        (copy.get("unproven"), Why.UNPROVEN),
        (copy.get("kind") in {"snapshot", "replica"} and not known_apart, Why.SNAPSHOT),
        (shares, Why.PRODUCTION),
        (seen is None, Why.NEVER_SEEN),
        (newest is None, Why.EMPTY),
        (to_us(now) > until and (seen or 0) > until, Why.STALE),
        (lapses is not None and to_us(now) > lapses, Why.UNSEEN),
    ):
        if applies:
            return why
    return None


def count(
    copies: Iterable[Copy],
    production: object,
    now: datetime,
    *,
    attested_s: int,
    forgiven: Collection[Why] = (),
) -> Count:
    """Count the copies of an application whose production lives in that failure domain.

    `attested_s` is how long the declaration of a failure domain holds; `forgiven` are reasons that
    are set aside, to ask what the count would be without them.
    """
    every = list(copies)
    excluded = {
        str(copy.get("repository")): why
        for copy in every
        if (why := why_not(copy, production, now)) is not None and why not in forgiven
    }
    # All copies tell what lies together, also those that do not count.
    groups, contradicted = _groups(every)
    counting = [copy for copy in every if str(copy.get("repository")) not in excluded]
    independent = [
        kept
        for group in groups
        if (kept := tuple(name for name in _names(group) if name not in excluded))
    ]
    oldest = to_us(now) - attested_s * facts.SECOND
    return Count(
        independent=tuple(independent),
        undeclared=tuple(
            name
            for group in groups
            if not any(copy.get("domain") for copy in group)
            for name in _names(group)
            if name not in excluded
        ),
        contradicted=tuple(name for name in contradicted if name not in excluded),
        offline=_names(copy for copy in counting if _proved_offline(copy)),
        declared_offline=_names(
            copy
            for copy in counting
            if _declared_offline(copy) and not _proved_offline(copy) and not copy.get("online")
        ),
        online=_names(copy for copy in counting if _declared_offline(copy) and copy.get("online")),
        immutable=_names(copy for copy in counting if copy.get("immutable") == "proved"),
        # One that shares a place with a copy on site is on site.
        off_site=tuple(
            name
            for group in groups
            if all(copy.get("off_site") for copy in group)
            for name in _names(group)
            if name not in excluded
        ),
        old=_names(
            copy
            for copy in counting
            if copy.get("domain")
            and ((at := facts.number(copy.get("declared_at"))) is None or at < oldest)
        ),
        excluded=excluded,
    )


def _names(copies: Iterable[Copy]) -> tuple[str, ...]:
    return tuple(str(copy.get("repository")) for copy in copies)


def _can_leave(copy: Copy) -> bool:
    """Tell whether a copy lies on something that can be taken away. A virtual library never does."""
    if copy.get("medium") == "vtl":
        return False
    return copy.get("medium") in OFFLINE_MEDIA or copy.get("medium_id") is not None


def _declared_offline(copy: Copy) -> bool:
    """Tell whether a copy is declared to be offline: words only."""
    claims = {str(claim) for claim in copy.get("claims") or ()}
    claimed = bool(claims & OFFLINE_CLAIMS) and copy.get("medium") != "vtl"
    return _can_leave(copy) or claimed


def _proved_offline(copy: Copy) -> bool:
    """Tell whether a copy lies on a medium that is proved away, and nothing says otherwise."""
    known = facts.number(copy.get("offline_at")) is not None
    return known and _can_leave(copy) and not copy.get("online")


def one_place(one: Copy, other: Copy) -> bool:
    """Tell whether two copies were found in one place: file system, disk, host, bucket, repository."""
    devices = {str(word) for word in one.get("device") or () if str(word).startswith(PLACES)}
    same = one.get("repository_id") is not None and one.get("repository_id") == other.get(
        "repository_id"
    )
    return same or bool(devices & {str(word) for word in other.get("device") or ()})


def _groups(copies: Sequence[Copy]) -> tuple[list[list[Copy]], tuple[str, ...]]:
    """Return copies grouped by what fails together, and those that were declared apart wrongly."""
    groups: list[list[Copy]] = []
    contradicted: dict[str, None] = {}
    for copy in copies:
        joined, apart = [copy], []
        for group in groups:
            declared = [o for o in group if o.get("domain") and o["domain"] == copy.get("domain")]
            found = [other for other in group if one_place(copy, other)]
            if not declared and found:
                contradicted |= dict.fromkeys(_names([*found, copy]))
            if declared or found:
                joined += group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups, tuple(contradicted)
