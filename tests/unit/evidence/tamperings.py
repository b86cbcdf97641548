"""What may be done to a chain, by somebody with the key and without, and what must be said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

from backupguard.evidence import rotation
from backupguard.evidence.records import Record, canonical, chain_hash, genesis, sha256
from backupguard.evidence.seals import Anchor, fingerprint, load_key, make_seal, new_key
from backupguard.model import from_us

from .chains import START, STORE, Chain

KINDS = ("restore-test.result", "finding.changed", "report.issued", "inventory.closed")


@dataclass
class Site:
    """A chain as it was written, the keys that sealed it, and what was put down elsewhere."""

    chain: Chain
    keys: list[Any]  # private keys: the first, and the one after the rotation
    rotated: int  # at which record
    anchors: list[Anchor]

    @property
    def trusted(self) -> str:
        return fingerprint(self.public(0))

    def public(self, number: int) -> bytes:
        return self.keys[number].public_key().public_bytes_raw()

    def copy(self) -> Site:
        chain = Chain(records=list(self.chain.records), seals=list(self.chain.seals))
        return Site(chain, self.keys, self.rotated, self.anchors)

    def signer(self, seq: int) -> Any:
        return self.keys[seq >= self.rotated]

    def reseal(self, start: int, *, key: Any = None, at: dict[int, int] | None = None) -> None:
        """Sign anew every seal from record `start` on, as the holder of the key can."""
        seals = self.chain.seals
        for place, old in enumerate(seals):
            if old.seq < start:
                continue
            head = self.chain.records[old.seq - 1]
            moment = (at or {}).get(old.seq, json.loads(old.document)["sealed_at"])
            seals[place] = make_seal(
                key or self.signer(old.seq),
                store=STORE,
                seq=head.seq,
                digest=head.hash,
                sealed_at=from_us(moment),
                previous=seals[place - 1] if place else None,
            )

    def rewrite(self, start: int, members: dict[int, dict[str, Any]]) -> None:
        """Write records anew, columns included, and every hash from `start` on."""
        records = self.chain.records
        for place in range(start - 1, len(records)):
            old = records[place]
            body, columns = old.body, old.columns
            if place + 1 in members:
                body = canonical(members[place + 1])
                columns = {name: members[place + 1][name] for name in old.columns or {}}
            previous = records[place - 1].hash if place else genesis(STORE)
            body_hash = sha256(body or b"")
            records[place] = Record(
                seq=place + 1,
                body=body,
                body_hash=body_hash,
                hash=chain_hash(previous, body_hash),
                kind=old.kind,
                columns=columns,
            )

    def members(self, seq: int) -> dict[str, Any]:
        return dict(json.loads(self.chain.records[seq - 1].body or b"{}"))

    def next_seal(self, seq: int) -> int:
        return next((one.seq for one in self.chain.seals if one.seq >= seq), 0)

    def next_anchor(self, seq: int) -> int:
        return next(one.seq for one in self.anchors if one.seq >= seq)


@dataclass
class Done:
    """What was done, and what must be said of it.

    `code` and `seq` without anchors; `code` None where only anchors can tell, and then they must.
    """

    code: str | None
    seq: int = 0
    anchored: tuple[str, int] = field(default=("", 0))


def site(rng: Random) -> Site:
    """Return a chain of one or two dozen records with seals, a rotation and anchors."""
    chain = Chain()
    keys = [load_key(new_key()[0]) for _ in range(2)]
    first = keys[0].public_key().public_bytes_raw()
    length = rng.randint(16, 26)
    rotated = rng.randint(6, 10)
    made = Site(chain, keys, rotated, [])
    chain.add("evidence.key-created", {"public_key": first.hex()})
    for seq in range(2, length + 1):
        if seq == rotated:
            if not chain.seals or chain.seals[-1].seq != seq - 1:
                _seal(made)
            chain.add(rotation.KIND, rotation.payload(STORE, keys[0], keys[1], "essai"))
            _seal(made)
            continue
        chain.add(rng.choice(KINDS), {"verdict": "failed", "number": rng.randrange(10**6)})
        if seq % 4 == 0 or seq == length:
            _seal(made)
    places = sorted({*rng.sample(range(3, length), 3), length})
    made.anchors = [chain.anchor(seq) for seq in places]
    return made


def _seal(made: Site) -> None:
    head = made.chain.records[-1]
    made.chain.seals.append(
        make_seal(
            made.signer(head.seq),
            store=STORE,
            seq=head.seq,
            digest=head.hash,
            sealed_at=START + timedelta(minutes=head.seq, seconds=5),
            previous=made.chain.seals[-1] if made.chain.seals else None,
        )
    )


def _some(made: Site, rng: Random, *, besides: int = 0) -> int:
    """Return a record that is neither about keys nor the last."""
    places = range(2, len(made.chain.records))
    return rng.choice([seq for seq in places if seq not in (made.rotated, besides)])


# ---------------------------------------------------------------------------------- without the key


def changed_body(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    body = made.chain.records[seq - 1].body or b""
    made.chain.change(seq, body=body.replace(b'"failed"', b'"passed"'))
    return Done("body_changed", seq)


def changed_hashes(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    made.rewrite(seq, {seq: {**made.members(seq), "data": {"verdict": "passed"}}})
    return Done("seal_mismatch", made.next_seal(seq))


def changed_link(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    made.chain.change(seq, hash=rng.randbytes(32))
    return Done("chain_broken", seq)


def removed_record(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    del made.chain.records[seq - 1]
    return Done("record_missing", seq)


def repeated_record(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    made.chain.records.insert(seq, made.chain.records[seq - 1])
    return Done("record_extra", seq)


def removed_body(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    made.chain.change(seq, body=None)
    return Done("body_removed", seq)


def removed_seal(made: Site, rng: Random) -> Done:
    place = rng.randrange(len(made.chain.seals) - 1)
    del made.chain.seals[place]
    return Done("seal_missing", made.chain.seals[place].seq)


def forged_seal(made: Site, rng: Random) -> Done:
    place = rng.randrange(len(made.chain.seals))
    one = made.chain.seals[place]
    made.chain.seals[place] = replace(one, signature=rng.randbytes(64))
    return Done("seal_wrong", one.seq)


def end_without_seals(made: Site, rng: Random) -> Done:
    """The end written anew, and the seals that would tell taken away."""
    seq = rng.randint(made.rotated + 1, len(made.chain.records))
    made.rewrite(seq, {seq: {**made.members(seq), "data": {"verdict": "passed"}}})
    made.chain.seals = [one for one in made.chain.seals if one.seq < seq]
    return Done(None, 0, ("anchor_mismatch", made.next_anchor(seq)))


# ------------------------------------------------------------------------------------- with the key


def rewritten_suffix(made: Site, rng: Random) -> Done:
    seq = _some(made, rng)
    made.rewrite(seq, {seq: {**made.members(seq), "data": {"verdict": "passed"}}})
    made.reseal(seq)
    return Done(None, 0, ("anchor_mismatch", made.next_anchor(seq)))


def cut_tail(made: Site, rng: Random) -> Done:
    seq = rng.randint(made.rotated, len(made.chain.records) - 1)
    made.chain.seals = [one for one in made.chain.seals if one.seq <= seq]
    del made.chain.records[seq:]
    return Done(None, 0, ("tail_cut", seq + 1))


def regenerated(made: Site, rng: Random) -> Done:
    """Every record anew, some other words in each, all sealed with the right keys."""
    places = [seq for seq in range(2, len(made.chain.records) + 1) if seq != made.rotated]
    more = {seq: {**made.members(seq), "data": {"number": rng.randrange(99)}} for seq in places}
    made.rewrite(1, more)
    made.reseal(1)
    return Done(None, 0, ("anchor_mismatch", made.anchors[0].seq))


def inserted_record(made: Site, rng: Random) -> Done:
    """A test that never was, put between others; what follows is numbered anew."""
    seq = rng.randint(made.rotated + 1, len(made.chain.records) - 1)
    records = made.chain.records
    records.insert(seq - 1, records[seq - 1])
    count = len(records)
    later = {place: {**made.members(place), "seq": place} for place in range(seq, count + 1)}
    later[seq]["data"] = {"verdict": "passed"}
    made.rewrite(seq, later)
    made.reseal(seq)
    return Done(None, 0, ("anchor_mismatch", made.next_anchor(seq)))


def dropped_record(made: Site, rng: Random) -> Done:
    """A bad record taken out, what follows numbered anew and sealed."""
    seq = rng.randint(made.rotated + 1, len(made.chain.records) - 2)
    del made.chain.records[seq - 1]
    count = len(made.chain.records)
    later = {place: {**made.members(place), "seq": place} for place in range(seq, count + 1)}
    made.rewrite(seq, later)
    kept = [one for one in made.chain.seals if one.seq <= count]
    made.chain.seals = kept
    made.reseal(seq)
    anchored = made.next_anchor(seq)
    if anchored > count:
        return Done(None, 0, ("tail_cut", count + 1))
    return Done(None, 0, ("anchor_mismatch", anchored))


def swapped_key(made: Site, rng: Random) -> Done:
    """Sealed from some record on with a key of the attacker's own, which the chain even names."""
    seq = rng.randint(made.rotated + 1, len(made.chain.records) - 1)
    key = load_key(new_key()[0])
    data = {"public_key": key.public_key().public_bytes_raw().hex()}
    made.chain.records[seq - 1] = replace(made.chain.records[seq - 1], kind="evidence.key-created")
    made.rewrite(seq, {seq: {**made.members(seq), "kind": "evidence.key-created", "data": data}})
    made.reseal(seq, key=key)
    return Done("key_swapped", made.next_seal(seq))


def own_key_from_the_start(made: Site, rng: Random) -> Done:
    """The whole chain under another key: what the fingerprint on paper is for."""
    del rng
    fresh = site(Random(made.rotated))
    made.chain, made.keys, made.rotated = fresh.chain, fresh.keys, fresh.rotated
    return Done("wrong_key", made.chain.seals[0].seq)


def forged_rotation(made: Site, rng: Random) -> Done:
    """A hand-over that only the new key signed."""
    mine = load_key(new_key()[0])
    seq = made.rotated
    made.rewrite(
        seq, {seq: {**made.members(seq), "data": rotation.payload(STORE, mine, mine, "x")}}
    )
    made.reseal(seq, key=mine)
    del rng
    return Done("rotation_unsigned", seq)


def replaced_key_used_again(made: Site, rng: Random) -> Done:
    """Sealed with the key that was replaced, found on an old disk."""
    seq = rng.randint(made.rotated + 1, len(made.chain.records))
    made.reseal(seq, key=made.keys[0])
    return Done("key_swapped", made.next_seal(seq))


def clock_set_back(made: Site, rng: Random) -> Done:
    """The end written as if days earlier, on a host whose clock was set back; sealed then."""
    seq = rng.randint(made.rotated + 1, len(made.chain.records))
    back = rng.randint(1, 40) * 86_400 * 1_000_000
    count = len(made.chain.records)
    later = {}
    for place in range(seq, count + 1):
        said = made.members(place)
        later[place] = {**said, "recorded_at": said["recorded_at"] - back}
    times = {one.seq: json.loads(one.document)["sealed_at"] - back for one in made.chain.seals}
    made.rewrite(seq, later)
    made.reseal(seq, at=times)
    return Done("clock", seq)


def edited_columns(made: Site, rng: Random) -> Done:
    """What reports are looked up by, changed beside a record that nobody touched."""
    seq = _some(made, rng)
    columns = dict(made.chain.records[seq - 1].columns or {})
    name = rng.choice(["author", "observed_at", "origin", "recorded_at", "subject", "key", "run"])
    columns[name] = START.year if name.endswith("_at") else "uid/0"
    made.chain.change(seq, columns=columns)
    return Done("column_differs", seq)


Attack = Callable[[Site, Random], Done]
KEYLESS: tuple[Attack, ...] = (
    changed_body,
    changed_hashes,
    changed_link,
    removed_record,
    repeated_record,
    removed_body,
    removed_seal,
    forged_seal,
    end_without_seals,
)
WITH_KEY: tuple[Attack, ...] = (
    rewritten_suffix,
    cut_tail,
    regenerated,
    inserted_record,
    dropped_record,
    swapped_key,
    own_key_from_the_start,
    forged_rotation,
    replaced_key_used_again,
    clock_set_back,
    edited_columns,
)
__all__ = ["KEYLESS", "WITH_KEY", "Done", "Site", "site"]
