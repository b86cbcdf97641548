"""Drops bodies of records on purpose: their hashes stay, and a fact that says what went and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from backupguard.evidence.kinds import FIVE_YEARS, KINDS
from backupguard.evidence.verify import missing_line
from backupguard.model import SITE, Fact, Json, Observation, to_us
from backupguard.store.core import Core, check, lock_head
from backupguard.store.schema import facts, latest, recovery_points

#: Bodies without which nobody could verify the chain; `clock.stepped` excuses a clock that goes back.
KEPT = frozenset(name for name in KINDS if name.startswith("evidence.")) | {
    "clock.stepped",
    "store.replaced",
}
_LISTED = "inventory.listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Bodies past their time: of these kinds, up to this record, and how many there are."""

    kinds: tuple[str, ...]
    last: int
    limit: int  # all of these were recorded before, in microseconds
    count: int


def _drop(
    connection: Connection,
    core: Core,
    span: tuple[int, int],
    kinds: Sequence[str],
    reason: str,
    author: str,
    *,
    limit: int | None = None,
    newest: bool = True,
) -> Fact:
    first, last = span
    head = lock_head(connection)
    going = [
        facts.c.seq.between(first, last),
        facts.c.kind.in_(list(kinds)),
        facts.c.seq <= head["seq"],
    ]
    if limit is not None:  # what is past its time, and not what says how things stand
        going += [facts.c.recorded_at < limit, facts.c.seq.not_in(select(latest.c.seq))]
    # Chosen before the fact is appended, which says what is missing once they are gone.
    data: dict[str, Json] = {
        "first_seq": first,
        "last_seq": last,
        "kinds": sorted(kinds),
        "reason": reason,
    }
    if newest:  # it alone is asked
        data["missing_sha256"] = _missing(connection, and_(*going))
    made = Observation(
        kind="evidence.pruned",
        subject=SITE,
        observed_at=core.now(),
        key=f"evidence/pruned/{first}-{last}/{head['seq']}",
        data=data,
    )
    check([made])
    (recorded,) = core.append_in(connection, [made], run=None, author=author)
    connection.execute(update(facts).where(*going).values(body=None))
    return recorded


def _missing(connection: Connection, going: ColumnElement[bool]) -> str:
    """Return the SHA-256 over every body that is missing, or is going now."""
    missing = hashlib.sha256()
    gone = select(facts.c.seq, facts.c.kind).where(or_(facts.c.body.is_(None), going))
    for seq, kind in connection.execute(gone.order_by(facts.c.seq)):
        missing.update(missing_line(seq, kind))
    return missing.hexdigest()


def erase(
    core: Core, first: int, last: int, kinds: Sequence[str], reason: str, author: str
) -> Fact:
    """Drop every body of these kinds in a range; for what should never have been recorded."""
    with core.write() as connection:
        span = (first, last)
        return _drop(connection, core, span, kinds, reason, author)


def past(core: Core, before: datetime, now: datetime) -> tuple[Past, ...]:
    """Return which bodies recorded before a moment are past the time that their kinds are kept."""
    with core.read() as connection:
        return _past(connection, before, now)


def _past(connection: Connection, before: datetime, now: datetime) -> tuple[Past, ...]:
    together: dict[tuple[int, int], list[str]] = {}
    known = connection.execute(select(facts.c.kind).distinct()).scalars()
    for name in sorted(known):
        if name in KEPT:
            continue
        days = KINDS[name].keep_days if name in KINDS else FIVE_YEARS
        limit = to_us(min(before, now - timedelta(days=days)))
        own = facts.c.kind == name
        # What stands before the first that is young, never "up to the last that is old": one record
        # that a dead clock dated 1970 would take all that came before it along.
        young, newest = connection.execute(
            select(
                func.min(facts.c.seq).filter(facts.c.recorded_at >= limit), func.max(facts.c.seq)
            ).where(own)
        ).one()
        last = newest if young is None else young - 1
        if name == _LISTED:
            last = _before_standing(connection, last)
        if last:
            together.setdefault((last, limit), []).append(name)
    found = []
    for (last, limit), kinds in sorted(together.items()):
        still = select(func.count()).where(
            facts.c.seq <= last,
            facts.c.kind.in_(kinds),
            facts.c.recorded_at < limit,
            facts.c.body.is_not(None),
            facts.c.seq.not_in(select(latest.c.seq)),
        )
        count = connection.execute(still).scalar_one()
        if count:
            found.append(Past(kinds=tuple(kinds), last=last, limit=limit, count=count))
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
        found = _past(connection, before, now)
        for number, one in enumerate(found, 1):
            newest, span = number == len(found), (1, one.last)
            recorded.append(
                _drop(
                    *(connection, core, span, one.kinds, reason, author),
                    limit=one.limit,
                    newest=newest,
                )
            )
            counts[", ".join(one.kinds)] = one.count
    return tuple(recorded), counts
