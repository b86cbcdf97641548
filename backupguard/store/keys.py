"""The key that seals the chain: made once, in a directory of its own, readable by its owner only."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

from backupguard.errors import EvidenceError, StoreError
from backupguard.evidence import seals

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIVATE = "signing.pem"
_PUBLIC = "signing.pub"
_NEXT = "signing-next.pem"  # of a rotation that the chain may name already


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """Where the private key lies, and its public half. The private one is read only to seal."""

    path: Path
    public: bytes

    @property
    def key_id(self) -> str:
        """The key's short name."""
        return seals.key_id(self.public)

    @property
    def fingerprint(self) -> str:
        """What a commissioning record prints."""
        return seals.fingerprint(self.public)

    @property
    def directory(self) -> Path:
        """Where the keys lie."""
        return self.path.parent

    def pem(self) -> bytes:
        """Return the private key's text; raises StoreError (unreadable)."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise StoreError("unreadable", path=str(self.path)) from error

    def private(self, identifier: str) -> Ed25519PrivateKey:
        """Return the private key of that short name: the one in use, or the one about to be.

        Raises StoreError (unreadable) and EvidenceError (bad_key) when it is neither.
        """
        texts = [self.pem()]
        with suppress(FileNotFoundError):
            texts.append((self.directory / _NEXT).read_bytes())
        for text in texts:
            key = seals.load_key(text)
            if seals.key_id(key.public_key().public_bytes_raw()) == identifier:
                return key
        raise EvidenceError("bad_key", path=str(self.path))

    def next(self) -> Ed25519PrivateKey:
        """Make the key that is to follow this one, beside it; raises StoreError (unreadable)."""
        pem, _ = seals.new_key()
        path = self.directory / _NEXT
        try:
            path.unlink(missing_ok=True)  # of a rotation that came to nothing
            _write(path, pem)
        except OSError as error:
            raise StoreError("unreadable", path=str(path)) from error
        return seals.load_key(pem)


def _write(path: Path, content: bytes) -> bool:
    """Put a file of mode 0600 in place unless there is one; tell whether it was put there."""
    handle, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link, unlike a rename, never replaces the key that another process just made.
            os.link(temporary, path)
        except FileExistsError:
            return False
        return True
    finally:
        temporary.unlink()


def signing_key(directory: Path) -> SigningKey:
    """Return the key in `directory`; make directory (0700) and key (0600) when there is none."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        private, public = directory / _PRIVATE, directory / _PUBLIC
        if not private.exists():
            pem, _ = seals.new_key()
            public.unlink(missing_ok=True)  # of a private key that is gone
            _write(private, pem)
        if not public.exists():
            raw = seals.load_key(private.read_bytes()).public_key().public_bytes_raw()
            _write(public, raw.hex().encode("ascii") + b"\n")
        raw = bytes.fromhex(public.read_text(encoding="ascii"))
    except OSError as error:
        raise StoreError("unreadable", path=str(directory)) from error
    except ValueError as error:
        raise EvidenceError("bad_key", path=str(public)) from error
    return SigningKey(path=private, public=raw)


def settled(key: SigningKey, identifier: str) -> SigningKey:
    """Return the key that the chain names; put the one of a rotation into its place, if that is it.

    The old private key is gone afterwards: whoever finds it later can sign nothing. Another key than
    the chain's stays where it is, and cannot seal. Raises StoreError (unreadable).
    """
    if key.key_id == identifier:
        return key
    following = key.directory / _NEXT
    try:
        fresh = seals.load_key(following.read_bytes()).public_key().public_bytes_raw()
        if seals.key_id(fresh) == identifier:
            # The public half first: it is made anew from whichever private key lies there.
            (key.directory / _PUBLIC).unlink(missing_ok=True)
            following.replace(key.path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError("unreadable", path=str(following)) from error
    return signing_key(key.directory)
