"""A restic repository with hundreds of snapshots, made in a second.

A `restic backup` costs a second each, most of it to derive the key. Snapshots are small encrypted JSON
files, so further ones are written from the first as restic would have written them: same tree, another
time. The format is restic's own, as its design document gives it (doc/design.rst, "Keys, Encryption and
MAC" and "Snapshots").
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.poly1305 import Poly1305


class Key:
    """A key of a repository: AES-256 in counter mode, and Poly1305-AES over the ciphertext."""

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None:
        self._encrypt, self._mac_k, self._mac_r = encrypt, mac_k, mac_r

    def _stream(self, nonce: bytes, content: bytes) -> bytes:
        return Cipher(algorithms.AES(self._encrypt), modes.CTR(nonce)).encryptor().update(content)

    def seal(self, content: bytes) -> bytes:
        nonce = os.urandom(16)
        sealed = self._stream(nonce, content)
        one_time = Cipher(algorithms.AES(self._mac_k), modes.ECB()).encryptor().update(nonce)
        return nonce + sealed + Poly1305.generate_tag(self._mac_r + one_time, sealed)

    def open(self, sealed: bytes) -> bytes:
        return self._stream(sealed[:16], sealed[16:-16])


def master_key(repository: Path, password: str) -> Key:
    """Return the master key, from the repository's only key file."""
    (file,) = (repository / "keys").iterdir()
    known = json.loads(file.read_bytes())
    salt = base64.b64decode(known["salt"])
    derive = Scrypt(salt=salt, length=64, n=known["N"], r=known["r"], p=known["p"])
    user = derive.derive(password.encode())
    opened = json.loads(
        Key(user[:32], user[32:48], user[48:]).open(base64.b64decode(known["data"]))
    )
    mac = opened["mac"]
    parts = (base64.b64decode(part) for part in (opened["encrypt"], mac["k"], mac["r"]))
    return Key(*parts)


def multiply(repository: Path, password: str, first: dict[str, Any], count: int) -> None:
    """Write `count` older snapshots like `first`, which is one as `restic snapshots --json` has it."""
    key = master_key(repository, password)
    at = datetime.fromisoformat(first["time"][:19]).replace(tzinfo=None)
    kept = {name: value for name, value in first.items() if name not in {"id", "short_id"}}
    for number in range(1, count + 1):
        moment = (at - timedelta(days=number)).isoformat() + ".123456789Z"
        sealed = key.seal(json.dumps({**kept, "time": moment}).encode())
        name = hashlib.sha256(sealed).hexdigest()
        (repository / "snapshots" / name).write_bytes(sealed)
