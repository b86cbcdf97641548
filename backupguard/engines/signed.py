"""The list of hashes beside engine archives, and its signature.

`SHA256SUMS` is what sha256sum(1) writes; `SHA256SUMS.sig` is the Ed25519 signature (RFC 8032) over
its bytes, as `openssl pkeyutl -sign -rawin` makes it. The list is signed and not each archive, so that
the signature can be verified by hand, before anything big is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.errors import AccessRefused, Misunderstood, Unreachable
from backupguard.model import Message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
_LARGEST = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?([^/\0]+)")


def public_key(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM file; raises Unreachable (not_found), AccessRefused."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        text = _content(path)
    except Unreachable as error:
        raise Unreachable(
            "not_found",
            Message(id="engines.no-key", values={"file": str(path)}),
            Message(id="engines.do.key", values={}),
        ) from error
    try:
        key = load_pem_public_key(text)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise AccessRefused(
            "wrong_key",
            Message(id="engines.bad-key", values={"file": str(path)}),
            Message(id="engines.do.key", values={}),
        )
    return key


def digest_of(file: Path, key: Ed25519PublicKey) -> str:
    """Return the SHA-256 that the signed list beside an archive names for it.

    Raises Unreachable (not_found) where list or signature is missing, AccessRefused (wrong_key) for
    a list that this key has not signed, Misunderstood (output_unparsable) where it does not name the
    file.
    """
    from cryptography.exceptions import InvalidSignature

    sums = _content(file.with_name(SUMS))
    signature = _content(file.with_name(SIGNATURE))
    try:
        key.verify(signature, sums)
    except InvalidSignature as error:
        raise AccessRefused(
            "wrong_key",
            Message(id="engines.bad-signature", values={"file": str(file.with_name(SUMS))}),
            Message(id="engines.do.signature", values={}),
        ) from error
    for line in sums.decode("utf-8", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is not None and found[2] == file.name:
            return found[1]
    raise Misunderstood(
        "output_unparsable",
        Message(
            id="engines.unlisted", values={"file": file.name, "list": str(file.with_name(SUMS))}
        ),
        Message(id="engines.do.together", values={}),
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise Unreachable(
            "not_found",
            Message(
                id="engines.unreadable", values={"file": str(path), "why": error.strerror or ""}
            ),
            Message(id="engines.do.together", values={}),
        ) from error
