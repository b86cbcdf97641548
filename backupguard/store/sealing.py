"""Seals the chain with the key that the chain itself names, and hands over from one key to the next."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from backupguard.evidence import rotation
from backupguard.evidence.records import parse_body
from backupguard.evidence.seals import Seal, make_seal
from backupguard.model import SITE, Fact, Json, Observation
from backupguard.store.core import Core, check, lock_head
from backupguard.store.keys import SigningKey, held, in_place
from backupguard.store.schema import facts, seals

_CREATED = "evidence.key-created"


def named(connection: Connection) -> Json:
    """Return what the chain says of the key that signs: the newest rotation, else the first key.

    No other key that says to have been created counts: nobody signed that it follows the first.
    """
    for kind, order in ((rotation.KIND, facts.c.seq.desc()), (_CREATED, facts.c.seq)):
        there = (facts.c.kind == kind, facts.c.body.is_not(None))
        body = connection.execute(select(facts.c.body).where(*there).order_by(order).limit(1))
        found = body.scalar()
        if found is not None:
            return parse_body(bytes(found))["data"]
    return None


def public_half(data: Json) -> bytes | None:
    """Return the public key in what `named` returns; None where it is not there, or amiss."""
    try:
        return bytes.fromhex(data["public_key"])
    except (KeyError, ValueError, TypeError):
        return None


def signing(connection: Connection) -> str | None:
    """Return the short name of the key that signs by the chain's own account."""
    data = named(connection)
    return str(data["key_id"]) if data is not None else None


def seal(core: Core, key: SigningKey, store_id: str) -> bytes | None:
    """Seal the chain's head, unless it is sealed already; return the public half of the key that did.

    Raises StoreError (unreadable) or EvidenceError (bad_key) when the key is gone or another.
    """
    with core.write() as connection:
        head = lock_head(connection)
        previous = _last(connection)
        if head["seq"] == (previous.seq if previous else 0):
            return None
        private = key.private(signing(connection) or key.key_id)
        _seal(connection, core, store_id, previous, private)
    return private.public_key().public_bytes_raw()


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
    whoever seals finds the new key beside the old one. Raises as `seal` does, and Busy while another
    process rotates.
    """
    with held(key.directory):
        with core.read() as connection:
            public = public_half(named(connection))
        if public is not None:  # of a rotation that was cut short
            key = in_place(key, public)
        return _rotate(core, key, store_id, reason, author)


def _rotate(core: Core, key: SigningKey, store_id: str, reason: str, author: str) -> Fact:
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
