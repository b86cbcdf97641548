"""Seals the chain with the key that the chain itself names, and hands over from one key to the next."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from backupguard.evidence import rotation
from backupguard.evidence.records import parse_body
from backupguard.evidence.seals import Seal, make_seal
from backupguard.model import SITE, Fact, Observation
from backupguard.store.core import Core, check, lock_head
from backupguard.store.keys import SigningKey
from backupguard.store.schema import facts, seals

#: The kinds of facts that say which key signs from there on.
KEYS = ("evidence.key-created", rotation.KIND)


def signing(connection: Connection) -> str | None:
    """Return the short name of the key that signs by the chain's own account."""
    statement = (
        select(facts.c.body)
        .where(facts.c.kind.in_(KEYS), facts.c.body.is_not(None))
        .order_by(facts.c.seq.desc())
        .limit(1)
    )
    body = connection.execute(statement).scalar()
    return str(parse_body(bytes(body))["data"]["key_id"]) if body is not None else None


def seal(core: Core, key: SigningKey, store_id: str) -> str | None:
    """Seal the chain's head, unless it is sealed already; return the short name of the key that did.

    Raises StoreError (unreadable) or EvidenceError (bad_key) when the key is gone or another.
    """
    with core.write() as connection:
        head = lock_head(connection)
        previous = _last(connection)
        if head["seq"] == (previous.seq if previous else 0):
            return None
        identifier = signing(connection) or key.key_id
        _seal(connection, core, store_id, previous, key.private(identifier))
    return identifier


def _last(connection: Connection) -> Seal | None:
    last = connection.execute(select(seals).order_by(seals.c.seq.desc()).limit(1)).mappings()
    row = last.first()
    return Seal(**row) if row is not None else None


def _seal(
    connection: Connection,
    core: Core,
    store_id: str,
    previous: Seal | None,
    private: Any,
) -> Seal:
    head = lock_head(connection)
    made = make_seal(
        private,
        store=store_id,
        seq=head["seq"],
        digest=bytes(head["hash"]),
        sealed_at=core.now(),
        previous=previous,
    )
    connection.execute(
        insert(seals).values(
            seq=made.seq,
            document=made.document,
            signature=made.signature,
            key_id=made.key_id,
        )
    )
    return made


def rotate(core: Core, key: SigningKey, store_id: str, reason: str, author: str) -> Fact:
    """Let a new key sign from here on: both keys sign the fact that says so, each seals around it.

    One transaction; the files follow when the store is opened, or `keys.settled` is called. Until then
    whoever seals finds the new key beside the old one. Raises as `seal` does.
    """
    after = key.next()
    with core.write() as connection:
        head = lock_head(connection)
        before = key.private(signing(connection) or key.key_id)
        previous = _last(connection)
        if head["seq"] != (previous.seq if previous else 0):
            previous = _seal(connection, core, store_id, previous, before)
        data = rotation.payload(store_id, before, after, reason)
        observation = Observation(
            kind=rotation.KIND,
            subject=SITE,
            observed_at=core.now(),
            key=f"evidence/key/{data['key_id']}",
            data=data,
        )
        check([observation])
        (fact,) = core.append_in(connection, [observation], run=None, author=author)
        _seal(connection, core, store_id, previous, after)
    return fact
