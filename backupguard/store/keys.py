"""The key that seals the chain: made once, in a directory of its own, readable by its owner only."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

from backupguard.errors import Busy, EvidenceError, StoreError
from backupguard.evidence import seals
from backupguard.model import Message

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

    def private(self, identifier: str) -> Ed25519PrivateKey:
        """Return the private key of that short name: the one in use, or the one about to be.

        Raises StoreError (unreadable) and EvidenceError (bad_key) when it is neither.
        """
        for path in (self.path, self.directory / _NEXT):
            try:
                key = seals.load_key(path.read_bytes())
            except (FileNotFoundError, EvidenceError):
                continue
            except OSError as error:
                raise StoreError("unreadable", path=str(path)) from error
            if seals.key_id(key.public_key().public_bytes_raw()) == identifier:
                return key
        remedy = Message(id="remedy.restore-keys", values={"path": str(self.directory)})
        raise EvidenceError("bad_key", remedy=remedy, path=str(self.path))

    def next(self) -> Ed25519PrivateKey:
        """Make the key that is to follow this one, beside it; raises StoreError (unreadable).

        To be called in `held`, after `in_place`: one that the chain names already is never removed.
        """
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


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Be the only one who changes the keys there; raises Busy when another does, StoreError."""
    handle = _opened(directory)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("already_running", run="keys") from error
        yield
    finally:
        os.close(handle)


def _opened(directory: Path) -> int:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError("unreadable", path=str(directory)) from error


def in_place(key: SigningKey, public: bytes) -> SigningKey:
    """Return the key that the chain names; put the one of a rotation into its place, if that is it.

    To be called in `held`. Raises as `settled` does.
    """
    following, place = key.directory / _NEXT, key.directory / _PUBLIC
    try:
        fresh = seals.load_key(following.read_bytes()).public_key().public_bytes_raw()
        if fresh == public:
            # The public half first: it is made anew from whichever private key lies there.
            place.unlink(missing_ok=True)
            following.replace(key.path)
            _write(place, public.hex().encode("ascii") + b"\n")
    except (FileNotFoundError, EvidenceError):
        pass
    except OSError as error:
        raise StoreError("unreadable", path=str(following)) from error
    return SigningKey(path=key.path, public=public)


def settled(key: SigningKey, public: bytes) -> SigningKey:
    """Return the key that the chain names, as `in_place` does, once nobody else changes the keys.

    The old private key is gone afterwards: whoever finds it later can sign nothing. Where another key
    than the chain's lies there, or none, nothing is touched: what only looks needs the public half
    alone, and what seals is told. Raises StoreError (unreadable).
    """
    try:
        (key.directory / _NEXT).lstat()
    except FileNotFoundError:
        return SigningKey(path=key.path, public=public)
    except OSError as error:
        raise StoreError("unreadable", path=str(key.directory)) from error
    handle = _opened(key.directory)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return in_place(key, public)
    finally:
        os.close(handle)


def key_of(directory: Path, public: bytes) -> SigningKey:
    """Return the key that the chain names, as `settled` does; none is ever made here."""
    return settled(SigningKey(path=directory / _PRIVATE, public=public), public)
