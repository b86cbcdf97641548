"""Drops bodies of records on purpose: their hashes stay, and a fact that says what went and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from backupguard.evidence.kinds import FIVE_YEARS, KINDS
from backupguard.model import SITE, Fact, Observation, to_us
from backupguard.store.core import Core, check, lock_head
from backupguard.store.schema import facts, latest, recovery_points

#: Bodies without which nobody could verify the chain.
KEPT = frozenset(name for name in KINDS if name.startswith("evidence.")) | {"store.replaced"}
_LISTED = "inventory.listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Bodies past their time: of these kinds, up to this record, and how many there are."""

    kinds: tuple[str, ...]
    last: int
    count: int


def _drop(
    connection: Connection,
    core: Core,
    span: tuple[int, int],
    kinds: Sequence[str],
    reason: str,
    author: str,
    *,
    spare_latest: bool,
) -> Fact:
    first, last = span
    head = lock_head(connection)
    made = Observation(
        kind="evidence.pruned",
        subject=SITE,
        observed_at=core.now(),
        key=f"evidence/pruned/{first}-{last}/{head['seq']}",
        data={"first_seq": first, "last_seq": last, "kinds": sorted(kinds), "reason": reason},
    )
    check([made])
    (recorded,) = core.append_in(connection, [made], run=None, author=author)
    dropping = update(facts).where(
        facts.c.seq.between(first, last),
        facts.c.kind.in_(list(kinds)),
        facts.c.seq < recorded.seq,
    )
    if spare_latest:
        dropping = dropping.where(facts.c.seq.not_in(select(latest.c.seq)))
    connection.execute(dropping.values(body=None))
    return recorded


def erase(
    core: Core, first: int, last: int, kinds: Sequence[str], reason: str, author: str
) -> Fact:
    """Drop every body of these kinds in a range; for what should never have been recorded."""
    with core.write() as connection:
        span = (first, last)
        return _drop(connection, core, span, kinds, reason, author, spare_latest=False)


def past(core: Core, before: datetime, now: datetime) -> tuple[Past, ...]:
    """Return which bodies recorded before a moment are past the time that their kinds are kept."""
    with core.read() as connection:
        return _past(connection, before, now)


def _past(connection: Connection, before: datetime, now: datetime) -> tuple[Past, ...]:
    together: dict[int, list[str]] = {}
    known = connection.execute(select(facts.c.kind).distinct()).scalars()
    for name in sorted(known):
        if name in KEPT:
            continue
        days = KINDS[name].keep_days if name in KINDS else FIVE_YEARS
        limit = to_us(min(before, now - timedelta(days=days)))
        own = facts.c.kind == name
        last = connection.execute(
            select(func.max(facts.c.seq)).where(own, facts.c.recorded_at < limit)
        ).scalar()
        if last is not None and name == _LISTED:
            last = _before_standing(connection, last)
        if last:
            together.setdefault(last, []).append(name)
    found = []
    for last, kinds in sorted(together.items()):
        still = select(func.count()).where(
            facts.c.seq <= last,
            facts.c.kind.in_(kinds),
            facts.c.body.is_not(None),
            facts.c.seq.not_in(select(latest.c.seq)),
        )
        count = connection.execute(still).scalar_one()
        if count:
            found.append(Past(kinds=tuple(kinds), last=last, count=count))
    return tuple(found)


def _before_standing(connection: Connection, last: int) -> int:
    """Return the last record before the oldest listing that names a point that still stands.

    What stands is derived from its listings: dropping all that came before, and no other, leaves it.
    """
    oldest = connection.execute(
        select(func.min(recovery_points.c.appeared_seq)).where(
            recovery_points.c.vanished_seq.is_(None)
        )
    ).scalar()
    return last if oldest is None else min(last, oldest - 1)


def prune(
    core: Core, before: datetime, reason: str, author: str, now: datetime
) -> tuple[tuple[Fact, ...], Mapping[str, int]]:
    """Drop the bodies that are past their time, and return the facts that say so and counts by kind.

    The newest of each subject and kind stays, whatever its age: it says what holds today.
    """
    recorded: list[Fact] = []
    counts: dict[str, int] = {}
    with core.write() as connection:
        lock_head(connection)
        for one in _past(connection, before, now):
            span = (1, one.last)
            recorded.append(
                _drop(connection, core, span, one.kinds, reason, author, spare_latest=True)
            )
            counts[", ".join(one.kinds)] = one.count
    return tuple(recorded), counts
