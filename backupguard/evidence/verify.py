"""Verification of a chain: whether every record is the one that was written, in its place.

Pure: records and seals come in as iterables, in order, and are looked at once, in constant memory.
What nobody but the site can supply, the key's fingerprint and the anchors kept elsewhere, decides
between "proved" and "coherent": whoever holds the key could have written the whole chain anew, and
could have cut off its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from backupguard.errors import EvidenceError
from backupguard.evidence import rotation
from backupguard.evidence.records import Record, chain_hash, genesis, parse_body, sha256
from backupguard.evidence.seals import Anchor, Seal, fingerprint, key_id, signature_is_right
from backupguard.model import Json, Message, from_us

#: How the kinds of facts end that close a run; a seal follows each.
CLOSED = ".closed"
#: Clocks may go back by so much, in microseconds, before it is told: two hosts never agree entirely.
CLOCK_BACK = 60 * 1_000_000
#: A clock that is set is told by a `clock.stepped` among so many records.
_TOLD_WITHIN = 100


#: Kinds whose records name the documents of a bundle by their hashes, or excuse a clock that goes back.
_IN_EVERY_SLICE = frozenset(
    {"clock.stepped", "commissioning.issued", "plan.issued", "report.issued"}
)


def in_every_slice(kind: str) -> bool:
    """Tell whether a bundle holds such records even where it leaves out the beginning."""
    return kind.startswith("evidence.") or kind in _IN_EVERY_SLICE


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
    missing: str | None = None  # SHA-256 over the lines of all bodies missing once it was done

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
    unproved: tuple[str, ...]  # of "origin", "seal", "time", "completeness"
    unsealed_runs: int  # that ended after the last seal: each should have made one
    clock_back: int | None = None  # the first record that is dated well before the one before it
    left_out: int = 0  # records of which a bundle holds the hashes only, by its own account
    left_out_to: int = 0  # the last of them: up to there nothing is proved complete


def missing_line(seq: int, kind: str) -> bytes:
    """Return what a missing body adds to the SHA-256 that `evidence.pruned` carries.

    The kind of a record whose body is gone is in no other hash.
    """
    return f"{seq}\t{kind}\n".encode()


def prunings(records: Iterable[Record]) -> Iterator[Pruning]:
    """Yield what the `evidence.pruned` facts among `records` say; for `verify`'s `pruned`."""
    for record in records:
        if record.kind == "evidence.pruned" and record.body is not None:
            found = _pruning(record.seq, parse_body(record.body))
            if found is not None:
                yield found


def _pruning(seq: int, members: Mapping[str, Json]) -> Pruning | None:
    data = members["data"]
    if members["kind"] != "evidence.pruned":
        return None
    try:
        first, last, kinds = int(data["first_seq"]), int(data["last_seq"]), frozenset(data["kinds"])
    except (KeyError, TypeError, ValueError):
        return None  # what cannot be read excuses nothing
    missing = data.get("missing_sha256")
    return Pruning(seq=seq, first=first, last=last, kinds=kinds, missing=missing)


class _Wrong(Exception):
    def __init__(self, code: str, seq: int, **values: int | str) -> None:
        self.problem = Problem(code=code, seq=seq, values=values)
        super().__init__(code)


class _Keys:
    """Which keys are known, which one signs at this place of the chain, and which ones are trusted."""

    def __init__(self, store: str, keys: Iterable[bytes], trusted: Collection[str]) -> None:
        self.store = store
        self.given = bool(trusted)
        self._known = {key_id(key): key for key in keys}
        self._trusted = set(trusted)
        self._current: bytes | None = None
        self._vouching: bytes | None = None  # a trusted key that is said to have followed another
        self.distrusted: tuple[int, str] | None = None  # first record sealed with such a key

    def learn(self, seq: int, kind: str, data: Json) -> None:
        """Take in a fact about keys; raise for one whose two signatures are not both right."""
        if kind == "evidence.key-created":
            try:
                key = bytes.fromhex(data["public_key"])
            except (KeyError, ValueError, TypeError):
                return  # what makes a key trusted is its fingerprint, never this fact
            self._known.setdefault(key_id(key), key)
            self._current = self._current or key
        elif kind == rotation.KIND:
            self._follow(seq, data)

    def _follow(self, seq: int, data: Json) -> None:
        new = rotation.successor(self.store, self._current, data) if self._current else None
        if self._current is None or new is None:
            raise _Wrong("rotation_unsigned", seq)
        old, self._current = self._current, new
        self._known[key_id(new)] = new
        if fingerprint(old) in self._trusted:
            self._trusted.add(fingerprint(new))
        elif fingerprint(new) in self._trusted:
            # It vouches for what was before by a seal of its own that follows. Its signature in this
            # record can be copied into any chain that the old key made.
            self._vouching = new

    def sealed(self, key: bytes) -> None:
        """Take in that a seal of this key is right."""
        if key == self._vouching:
            self._vouching = self.distrusted = None

    def of(self, seal: Seal) -> bytes:
        """Return the key that must have made a seal; raise when it is not the one that signs here."""
        key = self._known.get(seal.key_id)
        if key is None:
            raise _Wrong("seal_key_unknown", seal.seq, key=seal.key_id)
        self._current = self._current or key
        if key != self._current:
            raise _Wrong("key_swapped", seal.seq, fingerprint=fingerprint(key))
        if self.given and fingerprint(key) not in self._trusted:
            self.distrusted = self.distrusted or (seal.seq, fingerprint(key))
        return key


class _Clock:
    """Whether the records are dated in their order, but for steps that are told as such."""

    def __init__(self) -> None:
        self._newest = 0
        self._untold: int | None = None
        self.back: int | None = None  # the first record that nothing excuses

    def see(self, seq: int, kind: str, members: Mapping[str, Json]) -> None:
        """Take in the next record."""
        at = members["recorded_at"]
        if at < self._newest - CLOCK_BACK:
            self._untold = self._untold or seq
        self._newest = at
        if self._untold is None:
            return
        if kind == "clock.stepped" and members["data"]["step_ms"] < 0:
            self._untold = None
        elif seq - self._untold > _TOLD_WITHIN:
            self.end()

    def sealed(self, seq: int, at: int) -> None:
        """Take in when the newest record was sealed."""
        if at < self._newest - CLOCK_BACK:
            self._untold = self._untold or seq

    def end(self) -> None:
        """Nothing follows that could excuse what was seen."""
        self.back, self._untold = self.back or self._untold, None


class _Chain:
    """What is known after the records seen so far."""

    def __init__(
        self,
        store: str,
        seals: Iterable[Seal],
        keys: _Keys,
        anchors: Iterable[Anchor],
        pruned: Sequence[Pruning],
        omitted: int,
    ) -> None:
        self.store = store
        self.seq = 0
        self.hash = genesis(store)
        self.pruned = 0
        self.left_out = 0
        self.sealed_to = 0
        self.sealed_at: datetime | None = None
        self.anchored_to = 0
        self.unsealed_runs = 0
        self.fingerprints: dict[str, None] = {}
        self.keys = keys
        self.clock = _Clock()
        self._omitted = omitted
        self._seals = iter(seals)
        self._seal = next(self._seals, None)
        self._last_seal: Seal | None = None
        ours = sorted((a for a in anchors if a.store == store), key=lambda anchor: anchor.seq)
        self._anchors = list(reversed(ours))
        self._prunings = {pruning.seq: pruning for pruning in pruned}
        # A later pruning takes more away: only the newest says what is missing now.
        self._newest = max(self._prunings, default=0)
        self._missing = hashlib.sha256()
        self._excused: dict[int, int] = {}  # seq of a pruning that was relied on: first record

    def add(self, record: Record) -> None:
        """Check the next record, then the seals and anchors that speak of it."""
        seq = self.seq + 1
        if record.seq != seq:
            if record.seq > seq:
                raise _Wrong("record_missing", seq, found=record.seq)
            raise _Wrong("record_extra", record.seq)
        if record.body is None:
            self._excuse(record)
        else:
            self._check_body(record, record.body)
        digest = chain_hash(self.hash, record.body_hash)
        if record.hash != digest:
            raise _Wrong("chain_broken", seq)
        self.seq, self.hash = seq, digest
        if self._seal is not None and self._seal.seq <= seq:
            self._check_seals()
        if self._anchors and self._anchors[-1].seq <= seq:
            self._check_anchors()

    def _excuse(self, record: Record) -> None:
        if record.seq <= self._omitted:
            self.left_out += 1
            self.unsealed_runs += record.kind.endswith(CLOSED)
            return
        for pruning in self._prunings.values():
            if pruning.covers(record.seq, record.kind):
                self._excused.setdefault(pruning.seq, record.seq)
                self.pruned += 1
                self._missing.update(missing_line(record.seq, record.kind))
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
        if record.columns and not record.columns.items() <= members.items():
            wrong = next(n for n, value in record.columns.items() if members[n] != value)
            raise _Wrong("column_differs", record.seq, column=wrong)
        if record.seq in self._excused and _pruning(record.seq, members) != self._prunings.get(
            record.seq
        ):
            raise _Wrong("body_removed", self._excused[record.seq])
        self._excused.pop(record.seq, None)
        if record.seq == self._newest and not self._omitted:
            stated = self._prunings[record.seq].missing
            if stated is not None and stated != self._missing.hexdigest():
                raise _Wrong("pruned_otherwise", record.seq)
        kind = str(members["kind"])
        if record.seq <= self._omitted and not in_every_slice(kind):
            # Only a beginning may be left out, in one piece, never one record that displeases.
            raise _Wrong("slice_gap", record.seq, to=self._omitted)
        self.unsealed_runs += kind.endswith(CLOSED)
        self.clock.see(record.seq, kind, members)
        self.keys.learn(record.seq, kind, members["data"])

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
        key = self.keys.of(seal)
        if not signature_is_right(seal, key) or members["key_id"] != seal.key_id:
            raise _Wrong("seal_wrong", seal.seq)
        if members["store"] != self.store:
            raise _Wrong("store_differs", seal.seq, store=str(members["store"]))
        before = self._last_seal.digest() if self._last_seal else None
        if members["previous"] != before:
            raise _Wrong("seal_missing", seal.seq)
        if seal.seq != self.seq or members["seq"] != self.seq or members["hash"] != self.hash.hex():
            raise _Wrong("seal_mismatch", seal.seq)
        self.keys.sealed(key)
        self.sealed_to = self.seq
        self.unsealed_runs = 0
        self.sealed_at = from_us(members["sealed_at"])
        self.clock.sealed(self.seq, members["sealed_at"])
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
    omitted: int = 0,
) -> Verification:
    """Verify a chain from its first record to its last.

    `records` and `seals` in order; `store` the id the chain begins with; `keys` public keys (those in
    the chain's own `evidence.key-created` facts are known without); `trusted` the fingerprints the
    site knows from elsewhere; `anchors` heads kept elsewhere; `pruned` what `prunings` found in the
    same records; `head` what the store believes to be its newest record; `omitted` up to which record
    a bundle says that it holds hashes only.
    """
    known = _Keys(store, keys, trusted)
    chain = _Chain(store, seals, known, anchors, pruned, omitted)
    problem: Problem | None = None
    try:
        for record in records:
            chain.add(record)
        chain.end(head)
    except _Wrong as wrong:
        problem = wrong.problem
    except (
        KeyError,
        TypeError,
        AttributeError,
    ):  # a well-chained record of another shape than ours
        problem = Problem(code="body_unreadable", seq=chain.seq + 1)
    if known.distrusted and (problem is None or known.distrusted[0] <= problem.seq):
        seq, wrong_key = known.distrusted
        problem = Problem(code="wrong_key", seq=seq, values={"fingerprint": wrong_key})
    chain.clock.end()
    unproved = []
    if not (trusted and chain.sealed_to):
        unproved.append("origin")
    if chain.unsealed_runs:
        # Every run seals the chain when it ends. Whoever takes the last seals away could have written
        # all that follows the ones left, without the key.
        unproved.append("seal")
    if chain.clock.back is not None:
        unproved.append("time")
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
        clock_back=chain.clock.back,
        left_out=chain.left_out,
        left_out_to=min(omitted, chain.seq) if chain.left_out else 0,
    )
