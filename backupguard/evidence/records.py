"""The bytes of a record and the hashes that chain them.

A record is stored as the exact bytes that were hashed: JSON with sorted keys, no spaces, no
floats, integers below 2^53. Within these limits the standard library writes what RFC 8785 asks for,
so that anybody can recompute every hash with an ordinary JSON library.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from backupguard.errors import EvidenceError
from backupguard.evidence.kinds import upgraded
from backupguard.model import Fact, Json, Observation, Origin, from_us, to_us

_RECORD = b"backupguard-record-1\0"
_GENESIS = b"backupguard-genesis-1\0"
_LARGEST = 2**53 - 1

#: The members of a record's body, beside which the columns of a store are only an index.
FIELDS = (
    "author",
    "data",
    "key",
    "kind",
    "observed_at",
    "origin",
    "recorded_at",
    "run",
    "seq",
    "site",
    "subject",
    "version",
)


def _check(value: Json, depth: int = 0) -> bool:
    """Raise unless `value` can be a record; tell whether code points sort its names (RFC 8785)."""
    if depth > 64:
        raise EvidenceError("not_canonical", why="depth")
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            raise EvidenceError("not_canonical", why="integer")
    elif isinstance(value, dict):
        return _check_members(value, depth)
    elif isinstance(value, list | tuple):
        # Every member is looked at: `all` of a generator would stop at the first odd one.
        return all(tuple(_check(member, depth + 1) for member in value))
    else:
        raise EvidenceError("not_canonical", why=type(value).__name__)
    return True


def _check_members(value: dict[Json, Json], depth: int) -> bool:
    ordinary = True
    for name, member in value.items():
        if not isinstance(name, str):
            raise EvidenceError("not_canonical", why="key")
        if not name.isascii():
            _check_text(name)
            # Above U+D7FF code points and UTF-16 units, by which RFC 8785 sorts, may disagree.
            ordinary &= max(name) < "\ud800"
        # A listing has a million of these: plain text and nothing need no further look.
        if member is None or (type(member) is str and member.isascii()):
            continue
        ordinary &= _check(member, depth + 1)
    return ordinary


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EvidenceError("not_canonical", why="surrogate") from error


def _sorted_by_utf16(value: Json) -> Json:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return {name: _sorted_by_utf16(value[name]) for name in names}
    if isinstance(value, list | tuple):
        return [_sorted_by_utf16(member) for member in value]
    return value


def canonical(value: Json) -> bytes:
    """Return the canonical bytes of a JSON value (RFC 8785).

    Raises EvidenceError (not_canonical) for floats, integers of 2^53 and more, and anything that is
    not JSON.
    """
    ordinary = _check(value)
    if not ordinary:
        value = _sorted_by_utf16(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=ordinary, separators=(",", ":"))
    return text.encode("utf-8")


def sha256(content: bytes) -> bytes:
    """Return the SHA-256 of `content`, 32 bytes."""
    return hashlib.sha256(content).digest()


def genesis(store_id: str) -> bytes:
    """Return what stands for the previous hash of a store's first record."""
    return sha256(_GENESIS + store_id.encode("ascii"))


def chain_hash(previous: bytes, body_hash: bytes) -> bytes:
    """Return a record's hash from the hash of the record before and the hash of its own body."""
    return sha256(_RECORD + previous + body_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it is stored: the hashed bytes, and the columns kept beside them.

    `body` is None where it was pruned. In a bundle there are no columns beside the bytes, and
    `columns` is None.
    """

    seq: int
    body: bytes | None
    body_hash: bytes
    hash: bytes
    kind: str
    columns: dict[str, Json] | None = None


def record_body(
    observation: Observation,
    *,
    seq: int,
    recorded_at: datetime,
    run: str | None,
    author: str | None,
    site: str,
) -> bytes:
    """Return the bytes to be hashed and kept for an observation that takes place `seq`."""
    return canonical(
        {
            "author": author,
            "data": observation.data,
            "key": observation.key,
            "kind": observation.kind,
            "observed_at": to_us(observation.observed_at),
            "origin": observation.origin.value,
            "recorded_at": to_us(recorded_at),
            "run": run,
            "seq": seq,
            "site": site,
            "subject": observation.subject,
            "version": observation.kind_version,
        }
    )


def parse_body(body: bytes) -> dict[str, Json]:
    """Return the members of a record's body; raises EvidenceError (bad_record) for anything else."""
    try:
        members = json.loads(body)
    except ValueError as error:
        raise EvidenceError("bad_record", why="json") from error
    if not isinstance(members, dict) or set(members) != set(FIELDS):
        raise EvidenceError("bad_record", why="members")
    return members


def fact_of(body: bytes, digest: bytes) -> Fact:
    """Return the fact that a body states; its payload is upgraded to the newest version of its kind."""
    members = parse_body(body)
    kind = members["kind"]
    return Fact(
        seq=members["seq"],
        recorded_at=from_us(members["recorded_at"]),
        run=members["run"],
        author=members["author"],
        hash=digest,
        observation=Observation(
            kind=kind,
            kind_version=members["version"],
            subject=members["subject"],
            origin=Origin(members["origin"]),
            observed_at=from_us(members["observed_at"]),
            data=upgraded(kind, members["version"], members["data"]),
            key=members["key"],
        ),
    )
