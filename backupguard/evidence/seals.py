"""Seals: an Ed25519 signature over the chain's head, each seal chained to the one before.

The public key's fingerprint, printed once in a commissioning record, is what ties a chain to a site:
without it, a seal proves only that one key made them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backupguard.errors import EvidenceError
from backupguard.evidence.records import canonical, sha256
from backupguard.model import Json, to_us

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_FORMAT = "backupguard-seal-1"
_MEMBERS = {"format", "hash", "key_id", "previous", "sealed_at", "seq", "store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A signed statement that the chain's record `seq` has a certain hash: `document` says which."""

    seq: int
    document: bytes
    signature: bytes
    key_id: str

    def digest(self) -> str:
        """Return what the next seal names as the one before it."""
        return sha256(self.document + self.signature).hex()

    def members(self) -> dict[str, Json]:
        """Return what the document says; raises EvidenceError (bad_seal) when it is no seal."""
        try:
            members = json.loads(self.document)
        except ValueError as error:
            raise EvidenceError("bad_seal", seq=self.seq) from error
        if (
            not isinstance(members, dict)
            or set(members) != _MEMBERS
            or members["format"] != _FORMAT
            or canonical(members) != self.document
        ):
            raise EvidenceError("bad_seal", seq=self.seq)
        return members


def fingerprint(public_key: bytes) -> str:
    """Return a public key's fingerprint: SHA-256 of its 32 raw bytes, in hexadecimal."""
    return sha256(public_key).hex()


def key_id(public_key: bytes) -> str:
    """Return the short name of a key, 16 hexadecimal digits of its fingerprint."""
    return fingerprint(public_key)[:16]


def plain_fingerprint(text: str) -> str:
    """Return a fingerprint as typed by a person in its plain form: "SHA256:AB:cd 12…" → "abcd12…".

    Raises EvidenceError (bad_key) unless it has 64 hexadecimal digits.
    """
    digits = re.sub(r"[\s:]", "", text.strip().lower().removeprefix("sha256:"))
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        raise EvidenceError("bad_key")
    return digits


def new_key() -> tuple[bytes, bytes]:
    """Return a fresh private key as PEM (PKCS #8) and its public key as 32 raw bytes."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, private.public_key().public_bytes_raw()


def load_key(pem: bytes) -> Ed25519PrivateKey:
    """Return the private key in a PEM text; raises EvidenceError (bad_key)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise EvidenceError("bad_key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EvidenceError("bad_key")
    return key


def make_seal(
    key: Ed25519PrivateKey,
    *,
    store: str,
    seq: int,
    digest: bytes,
    sealed_at: datetime,
    previous: Seal | None,
) -> Seal:
    """Return a seal of the head `seq` with hash `digest`, chained to `previous`."""
    identifier = key_id(key.public_key().public_bytes_raw())
    document = canonical(
        {
            "format": _FORMAT,
            "hash": digest.hex(),
            "key_id": identifier,
            "previous": previous.digest() if previous else None,
            "sealed_at": to_us(sealed_at),
            "seq": seq,
            "store": store,
        }
    )
    return Seal(seq=seq, document=document, signature=key.sign(document), key_id=identifier)


def signature_is_right(seal: Seal, public_key: bytes) -> bool:
    """Tell whether `public_key` made the seal's signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(seal.signature, seal.document)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A head of the chain as it was put down off this host."""

    store: str
    seq: int
    hash: bytes


_ANCHOR = re.compile(r"backupguard-anchor-1 ([0-9A-Za-z]{26}) (\d{1,16}) ([0-9a-f]{64})\b")


def anchor_line(anchor: Anchor) -> str:
    """Return the line that anchors a head: short enough for syslog, a mail or a sheet of paper."""
    return f"backupguard-anchor-1 {anchor.store} {anchor.seq} {anchor.hash.hex()}"


def read_anchors(lines: Iterable[str]) -> Iterator[Anchor]:
    """Yield every anchor found in lines of text, whatever stands around it (a syslog file will do)."""
    for line in lines:
        for store, seq, digest in _ANCHOR.findall(line):
            yield Anchor(store=store, seq=int(seq), hash=bytes.fromhex(digest))
