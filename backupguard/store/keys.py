"""The key that seals the chain: made once, in a directory of its own, readable by its owner only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from backupguard.errors import EvidenceError, StoreError
from backupguard.evidence import seals

_PRIVATE = "signing.pem"
_PUBLIC = "signing.pub"


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

    def pem(self) -> bytes:
        """Return the private key's text; raises StoreError (unreadable)."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise StoreError("unreadable", path=str(self.path)) from error


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
