"""A new signing key that the old one vouches for, and that vouches for the old one.

Both sign the same statement, which stands in the chain: whoever trusts the first key's fingerprint can
follow to the newest. A key that appears without both signatures is nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backupguard.evidence.records import canonical
from backupguard.evidence.seals import fingerprint, key_id
from backupguard.model import Json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIND = "evidence.key-rotated"
_FORMAT = "backupguard-key-rotation-1"


def statement(store: str, old: bytes, new: bytes, reason: str) -> bytes:
    """Return the bytes that both keys sign: from which public key to which, of which store, why."""
    return canonical(
        {
            "format": _FORMAT,
            "new": new.hex(),
            "old": old.hex(),
            "reason": reason,
            "store": store,
        }
    )


def payload(
    store: str, old: Ed25519PrivateKey, new: Ed25519PrivateKey, reason: str
) -> dict[str, Json]:
    """Return the data of the `evidence.key-rotated` fact that leads from one key to the other."""
    before, after = (key.public_key().public_bytes_raw() for key in (old, new))
    signed = statement(store, before, after, reason)
    return {
        "key_id": key_id(after),
        "fingerprint": fingerprint(after),
        "public_key": after.hex(),
        "previous_key_id": key_id(before),
        "previous_fingerprint": fingerprint(before),
        "signed_by_previous": old.sign(signed).hex(),
        "signed_by_new": new.sign(signed).hex(),
        "reason": reason,
    }


def successor(store: str, current: bytes, data: Mapping[str, Json]) -> bytes | None:
    """Return the public key that follows `current` by such a fact; None unless both have signed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        new = bytes.fromhex(data["public_key"])
        signed = statement(store, current, new, data["reason"])
        for key, name in ((current, "signed_by_previous"), (new, "signed_by_new")):
            signature = bytes.fromhex(data[name])
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (KeyError, ValueError, TypeError, InvalidSignature):
        return None
    return new
