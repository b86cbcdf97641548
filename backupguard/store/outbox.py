"""Notifications that wait to be sent: rows made in the transaction that records their fact.

A row is a promise that a channel will be told of a fact. It goes when the channel has kept it, so what
lies here is what is still owed; nothing is lost while the far end is down.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update

from backupguard.evidence.announced import COMPARED
from backupguard.model import Fact, from_us, to_us
from backupguard.store.core import Core, fact_from_row
from backupguard.store.schema import facts, outbox

#: Nobody may wait longer than this between two attempts.
LONGEST_WAIT = timedelta(hours=1)

_OWN = outbox.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A fact that a channel has still to be told of.

    `before` is the fact of the same kind and subject before it, for kinds that say how something
    stands; None where there is none. `attempts` were made in vain.
    """

    fact: Fact
    before: Fact | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is owed to a channel: how many facts, and since when the oldest waits."""

    count: int
    oldest: datetime | None


def waiting(core: Core, channel: str, limit: int) -> tuple[Waiting, ...]:
    """Return what a channel has to be told next, in the order of the facts.

    Nothing while the first of them may not be tried yet: order is kept. A time to try again that lies
    further ahead than any that is ever set was set by a clock that has since been put back.
    """
    statement = (
        select(facts, _OWN.attempts, _OWN.next_try)
        .join(outbox, _OWN.change_seq == facts.c.seq)
        .where(_OWN.channel == channel, _OWN.state == "waiting")
        .order_by(facts.c.seq)
        .limit(limit)
    )
    now = core.now()
    with core.read() as connection:
        rows = connection.execute(statement).mappings().all()
        if not rows or to_us(now) < rows[0]["next_try"] <= to_us(now + LONGEST_WAIT):
            return ()
        found = [(fact_from_row(row), row["attempts"]) for row in rows]
        return tuple(
            Waiting(fact=fact, before=_before(connection, fact), attempts=attempts)
            for fact, attempts in found
        )


def _before(connection: Connection, fact: Fact) -> Fact | None:
    if fact.observation.kind not in COMPARED:
        return None
    statement = (
        select(facts)
        .where(
            facts.c.subject == fact.observation.subject,
            facts.c.kind == fact.observation.kind,
            facts.c.seq < fact.seq,
        )
        .order_by(facts.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().first()
    return fact_from_row(row) if row is not None else None


def sent(core: Core, channel: str, seqs: Collection[int]) -> None:
    """Note that a channel was told of these facts: nothing is owed for them any more."""
    with core.write() as connection:
        connection.execute(
            delete(outbox).where(_OWN.channel == channel, _OWN.change_seq.in_(list(seqs)))
        )


def postpone(core: Core, channel: str, seqs: Collection[int], until: datetime) -> None:
    """Note that telling a channel of these facts failed, and when to try again."""
    with core.write() as connection:
        connection.execute(
            update(outbox)
            .where(_OWN.channel == channel, _OWN.change_seq.in_(list(seqs)))
            .values(attempts=_OWN.attempts + 1, next_try=to_us(until))
        )


def line(core: Core, channel: str) -> Line:
    """Return how much is owed to a channel."""
    statement = (
        select(func.count(), func.min(facts.c.recorded_at))
        .select_from(outbox)
        .join(facts, facts.c.seq == _OWN.change_seq)
        .where(_OWN.channel == channel, _OWN.state == "waiting")
    )
    with core.read() as connection:
        count, oldest = connection.execute(statement).one()
    return Line(count=count, oldest=from_us(oldest) if oldest is not None else None)


def keep_only(core: Core, channels: Collection[str]) -> int:
    """Drop what is owed to channels that are not configured any more; return how much that was."""
    with core.write() as connection:
        return connection.execute(
            delete(outbox).where(_OWN.channel.not_in(list(channels)))
        ).rowcount
