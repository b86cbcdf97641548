"""Makes a restic repository of very many packs quickly: written by hand, and checked by restic.

restic itself would need 80 GB for 20,000 packs (4 MiB is the least), so each pack here holds one small
piece of one large file. `restic init` makes key and configuration; packs, index and snapshot follow
restic's "Repository Format" and `restic check` has to find the result sound.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305
from harness import TOOLS, run

RESTIC = TOOLS / "restic-0.18"
_AT = "2026-03-02T01:00:00Z"
_TYPES = {"data": 0, "tree": 1}


class Sealer:
    """Encrypts as restic does: AES-256-CTR, then Poly1305-AES over the ciphertext."""

    def __init__(self, master: bytes) -> None:
        key = json.loads(master)
        self._key = base64.b64decode(key["encrypt"])
        self._k, self._r = (base64.b64decode(key["mac"][part]) for part in ("k", "r"))

    def seal(self, text: bytes) -> bytes:
        """Return nonce, ciphertext and authentication code."""
        nonce = os.urandom(16)
        cipher = Cipher(algorithms.AES256(self._key), modes.CTR(nonce)).encryptor()
        sealed = cipher.update(text) + cipher.finalize()
        block = Cipher(algorithms.AES128(self._k), modes.ECB()).encryptor()
        return nonce + sealed + Poly1305.generate_tag(self._r + block.update(nonce), sealed)


def make(directory: Path, packs: int) -> Path:
    """Make a repository whose one snapshot needs `packs` packs of data and one of trees."""
    repository, password = directory / "repository", directory / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    asked = [RESTIC, "--repo", repository, "--password-file", password, "--no-cache"]
    run([*asked, "init"])
    sealer = Sealer(run([*asked, "cat", "masterkey"]))
    entries = []
    pieces = []
    for number in range(packs):
        piece = b"%032d" % number
        pieces.append(hashlib.sha256(piece).hexdigest())
        entries.append(_pack(repository, sealer, "data", piece))
    node = {"name": "dpi.dump", "type": "file", "mode": 0o600, "uid": 0, "gid": 0, "links": 1}
    node |= {"size": 32 * packs, "content": pieces, "user": "root", "group": "root"}
    node |= dict.fromkeys(("mtime", "atime", "ctime"), _AT)
    tree = json.dumps({"nodes": [node]}, separators=(",", ":")).encode() + b"\n"
    entries.append(_pack(repository, sealer, "tree", tree))
    _file(repository / "index", sealer, {"packs": entries})
    snapshot = {"time": _AT, "tree": hashlib.sha256(tree).hexdigest(), "paths": ["/"]}
    snapshot |= {"hostname": "srv1", "username": "root"}
    _file(repository / "snapshots", sealer, snapshot)
    run([*asked, "check"])
    return repository


def _pack(repository: Path, sealer: Sealer, kind: str, blob: bytes) -> dict[str, object]:
    sealed, name = sealer.seal(blob), hashlib.sha256(blob)
    header = sealer.seal(struct.pack("<BI", _TYPES[kind], len(sealed)) + name.digest())
    pack = sealed + header + struct.pack("<I", len(header))
    called = hashlib.sha256(pack).hexdigest()
    path = repository / "data" / called[:2] / called
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pack)
    found = {"id": name.hexdigest(), "type": kind, "offset": 0, "length": len(sealed)}
    return {"id": called, "blobs": [found]}


def _file(directory: Path, sealer: Sealer, content: object) -> None:
    sealed = sealer.seal(json.dumps(content).encode())
    (directory / hashlib.sha256(sealed).hexdigest()).write_bytes(sealed)
