"""Verification of a chain: whether every record is the one that was written, in its place.

Pure: records and seals come in as iterables, in order, and are looked at once, in constant memory.
What nobody but the site can supply, the key's fingerprint and the anchors kept elsewhere, decides
between "proved" and "coherent": whoever holds the key could have written the whole chain anew, and
could have cut off its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from backupguard.errors import EvidenceError
from backupguard.evidence.records import Record, chain_hash, genesis, parse_body, sha256
from backupguard.evidence.seals import Anchor, Seal, fingerprint, key_id, signature_is_right
from backupguard.model import Json, Message, from_us

#: How the kinds of facts end that close a run; a seal follows each.
CLOSED = ".closed"


class Standing(StrEnum):
    """What can be said of a chain."""

    PROVED = "proved"
    COHERENT = "coherent"  # origin or completeness not proved
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The first thing that is wrong, and at which record."""

    code: str
    seq: int
    values: Mapping[str, int | str] = field(default_factory=dict)

    def message(self) -> Message:
        """Return the sentence to be said."""
        return Message(id=f"evidence.problem.{self.code}", values={"seq": self.seq, **self.values})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What an `evidence.pruned` fact at `seq` allows to be missing."""

    seq: int
    first: int
    last: int
    kinds: frozenset[str]

    def covers(self, seq: int, kind: str) -> bool:
        """Tell whether the body of this record may be missing."""
        return self.first <= seq <= self.last and seq < self.seq and kind in self.kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The verdict on a chain, and how far each proof reaches (0: nowhere)."""

    standing: Standing
    store: str
    records: int
    pruned: int
    head: bytes
    sealed_to: int
    sealed_at: datetime | None
    anchored_to: int
    fingerprints: tuple[str, ...]
    problem: Problem | None
    unproved: tuple[str, ...]  # of "origin", "seal", "completeness"
    unsealed_runs: int  # that ended after the last seal: each should have made one


def prunings(records: Iterable[Record]) -> Iterator[Pruning]:
    """Yield what the `evidence.pruned` facts among `records` say; for `verify`'s `pruned`."""
    for record in records:
        if record.kind == "evidence.pruned" and record.body is not None:
            found = _pruning(record.seq, parse_body(record.body))
            if found is not None:
                yield found


def _pruning(seq: int, members: Mapping[str, Json]) -> Pruning | None:
    data = members["data"]
    if members["kind"] != "evidence.pruned" or not isinstance(data, dict):
        return None
    return Pruning(
        seq=seq, first=data["first_seq"], last=data["last_seq"], kinds=frozenset(data["kinds"])
    )


class _Wrong(Exception):
    def __init__(self, code: str, seq: int, **values: int | str) -> None:
        self.problem = Problem(code=code, seq=seq, values=values)
        super().__init__(code)


class _Chain:
    """What is known after the records seen so far."""

    def __init__(
        self,
        store: str,
        seals: Iterable[Seal],
        keys: Iterable[bytes],
        trusted: Collection[str],
        anchors: Iterable[Anchor],
        pruned: Sequence[Pruning],
    ) -> None:
        self.store = store
        self.seq = 0
        self.hash = genesis(store)
        self.pruned = 0
        self.sealed_to = 0
        self.sealed_at: datetime | None = None
        self.anchored_to = 0
        self.unsealed_runs = 0
        self.fingerprints: dict[str, None] = {}
        self._seals = iter(seals)
        self._seal = next(self._seals, None)
        self._last_seal: Seal | None = None
        self._keys = {key_id(key): key for key in keys}
        self._trusted = frozenset(trusted)
        ours = sorted((a for a in anchors if a.store == store), key=lambda anchor: anchor.seq)
        self._anchors = list(reversed(ours))
        self._prunings = {pruning.seq: pruning for pruning in pruned}
        self._excused: dict[int, int] = {}  # seq of a pruning that was relied on: first record

    def add(self, record: Record) -> None:
        """Check the next record, then the seals and anchors that speak of it."""
        expected = self.seq + 1
        if record.seq > expected:
            raise _Wrong("record_missing", expected, found=record.seq)
        if record.seq < expected:
            raise _Wrong("record_extra", record.seq)
        if record.body is None:
            self._excuse(record)
        else:
            self._check_body(record, record.body)
        if record.hash != chain_hash(self.hash, record.body_hash):
            raise _Wrong("chain_broken", record.seq)
        self.seq, self.hash = record.seq, record.hash
        self._check_seals()
        self._check_anchors()

    def _excuse(self, record: Record) -> None:
        for pruning in self._prunings.values():
            if pruning.covers(record.seq, record.kind):
                self._excused.setdefault(pruning.seq, record.seq)
                self.pruned += 1
                self.unsealed_runs += record.kind.endswith(CLOSED)
                return
        raise _Wrong("body_removed", record.seq)

    def _check_body(self, record: Record, body: bytes) -> None:
        if sha256(body) != record.body_hash:
            raise _Wrong("body_changed", record.seq)
        try:
            members = parse_body(body)
        except EvidenceError as error:
            raise _Wrong("body_unreadable", record.seq) from error
        if members["seq"] != record.seq:
            raise _Wrong("record_extra", record.seq)
        for name, value in (record.columns or {}).items():
            if members[name] != value:
                raise _Wrong("column_differs", record.seq, column=name)
        if record.seq in self._excused and _pruning(record.seq, members) != self._prunings.get(
            record.seq
        ):
            raise _Wrong("body_removed", self._excused[record.seq])
        self._excused.pop(record.seq, None)
        self.unsealed_runs += str(members["kind"]).endswith(CLOSED)
        if members["kind"] == "evidence.key-created":
            self._learn(members["data"])

    def _learn(self, data: Json) -> None:
        """Remember a public key from the chain; what makes it trusted is its fingerprint."""
        try:
            key = bytes.fromhex(data["public_key"])
        except (KeyError, ValueError, TypeError):
            return
        self._keys.setdefault(key_id(key), key)

    def _check_seals(self) -> None:
        while (seal := self._seal) is not None and seal.seq <= self.seq:
            self._check_seal(seal)
            self._last_seal = seal
            self._seal = next(self._seals, None)

    def _check_seal(self, seal: Seal) -> None:
        try:
            members = seal.members()
        except EvidenceError as error:
            raise _Wrong("seal_wrong", seal.seq) from error
        key = self._keys.get(seal.key_id)
        if key is None:
            raise _Wrong("seal_key_unknown", seal.seq, key=seal.key_id)
        if self._trusted and fingerprint(key) not in self._trusted:
            raise _Wrong("wrong_key", seal.seq, fingerprint=fingerprint(key))
        if not signature_is_right(seal, key) or members["key_id"] != seal.key_id:
            raise _Wrong("seal_wrong", seal.seq)
        if members["store"] != self.store:
            raise _Wrong("store_differs", seal.seq, store=str(members["store"]))
        before = self._last_seal.digest() if self._last_seal else None
        if members["previous"] != before:
            raise _Wrong("seal_missing", seal.seq)
        if seal.seq != self.seq or members["seq"] != self.seq or members["hash"] != self.hash.hex():
            raise _Wrong("seal_mismatch", seal.seq)
        self.sealed_to = self.seq
        self.unsealed_runs = 0
        self.sealed_at = from_us(members["sealed_at"])
        self.fingerprints[fingerprint(key)] = None

    def _check_anchors(self) -> None:
        while self._anchors and self._anchors[-1].seq <= self.seq:
            anchor = self._anchors.pop()
            if anchor.seq != self.seq or anchor.hash != self.hash:
                raise _Wrong("anchor_mismatch", anchor.seq)
            self.anchored_to = self.seq
            self.unsealed_runs = 0  # what stands elsewhere needs no signature

    def end(self, head: tuple[int, bytes] | None) -> None:
        """Check that nothing speaks of records beyond the last one."""
        if self._excused:
            raise _Wrong("body_removed", min(self._excused.values()))
        if self._seal is not None:
            raise _Wrong("tail_cut", self.seq + 1, known_to=self._seal.seq)
        if self._anchors:
            raise _Wrong("tail_cut", self.seq + 1, known_to=self._anchors[0].seq)
        if head is not None and head[0] > self.seq:
            raise _Wrong("tail_cut", self.seq + 1, known_to=head[0])
        if head is not None and head[0] < self.seq:
            raise _Wrong("record_extra", head[0] + 1)
        if head is not None and head[1] != self.hash:
            raise _Wrong("head_differs", self.seq)


def verify(
    records: Iterable[Record],
    seals: Iterable[Seal],
    *,
    store: str,
    keys: Iterable[bytes] = (),
    trusted: Collection[str] = (),
    anchors: Iterable[Anchor] = (),
    pruned: Sequence[Pruning] = (),
    head: tuple[int, bytes] | None = None,
) -> Verification:
    """Verify a chain from its first record to its last.

    `records` and `seals` in order; `store` the id the chain begins with; `keys` public keys (those in
    the chain's own `evidence.key-created` facts are known without); `trusted` the fingerprints the
    site knows from elsewhere; `anchors` heads kept elsewhere; `pruned` what `prunings` found in the
    same records; `head` what the store believes to be its newest record.
    """
    chain = _Chain(store, seals, keys, trusted, anchors, pruned)
    problem: Problem | None = None
    try:
        for record in records:
            chain.add(record)
        chain.end(head)
    except _Wrong as wrong:
        problem = wrong.problem
    unproved = []
    if not (trusted and chain.sealed_to):
        unproved.append("origin")
    if chain.unsealed_runs:
        # Every run seals the chain when it ends. Whoever takes the last seals away could have written
        # all that follows the ones left, without the key.
        unproved.append("seal")
    if not chain.anchored_to:
        unproved.append("completeness")
    if problem is not None:
        standing = Standing.BROKEN
    else:
        standing = Standing.COHERENT if unproved else Standing.PROVED
    return Verification(
        standing=standing,
        store=store,
        records=chain.seq,
        pruned=chain.pruned,
        head=chain.hash,
        sealed_to=chain.sealed_to,
        sealed_at=chain.sealed_at,
        anchored_to=chain.anchored_to,
        fingerprints=tuple(chain.fingerprints),
        problem=problem,
        unproved=tuple(unproved),
        unsealed_runs=chain.unsealed_runs,
    )
