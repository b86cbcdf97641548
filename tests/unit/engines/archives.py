"""Small engine archives and their signed lists, right and wrong in every way."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backupguard.engines.described import this_architecture

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PROGRAM = b"#!/bin/sh\necho 'postgres (PostgreSQL) 17.6'\n"


def member(
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    mode: int = 0o644,
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.size = kind, link, mode, len(content)
    return made, content


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.DIRTYPE, mode=0o755)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, link=target)


#: What a right archive holds beside its description.
SOUND = (
    directory("usr"),
    directory("usr/bin"),
    member("usr/bin/postgres", PROGRAM, mode=0o755),
    link("bin", "usr/bin"),
)


def archive(
    place: Path,
    members: Sequence[tuple[tarfile.TarInfo, bytes]] = SOUND,
    *,
    name: str = "postgresql-17.tar.xz",
    **changed: object,
) -> Path:
    """Write an archive, its list and the list's signature into a directory; return the archive."""
    described = {
        "format": "backupguard-engine-1",
        "engine": "postgresql",
        "version": "17",
        "architecture": this_architecture(),
        "release": "trixie",
        "bytes": sum(len(content) for _, content in members),
        "packages": {"postgresql-17": "17.6-0+deb13u1"},
    } | changed
    text = json.dumps(described).encode()
    place.mkdir(parents=True, exist_ok=True)
    file = place / name
    with tarfile.open(file, "w:xz", preset=0) as packed:
        for one, content in [member("engine.json", text), *members]:
            packed.addfile(one, io.BytesIO(content))
    listed(file)
    return file


def listed(file: Path, key: Ed25519PrivateKey = KEY) -> None:
    """Write and sign the list beside an archive."""
    sums = f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n".encode()
    file.with_name("SHA256SUMS").write_bytes(sums)
    file.with_name("SHA256SUMS.sig").write_bytes(key.sign(sums))
