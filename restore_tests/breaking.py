"""Breaks what was fetched, on purpose, so that a restore test of it must fail: who watches the watcher.

Only the copy in a run's own directory is touched, and never in place: what is broken is written beside
it and takes its name, so that a file that shares its blocks with a backup would keep them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from backupguard.contracts import Capability, Fetched, FetchRequest, JobSelector, Repositories
from backupguard.errors import MissingMeans
from backupguard.model import RecoveryPoint

_CHUNK = 1 << 20
#: The last line of a dump says that it ended; it lies in these bytes.
_TRAILER = 400
_HEAD = 4096
#: gzip, Zstandard, xz, bzip2: what is flipped below their checksums cannot go unnoticed.
_SUMMED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh")


class Harm(StrEnum):
    """What is done to a copy."""

    TRUNCATED = "truncated"  # its second half is gone
    FLIPPED = "flipped"  # one byte in the middle is another
    TRAILER = "trailer"  # the line that says that it is complete is gone
    OVERWRITTEN = "overwritten"  # the beginning of every file is noise


def harms_of(engine: str, artifact: Path) -> tuple[Harm, ...]:
    """Return what may be done to an artifact of an engine: only what nobody could overlook."""
    if engine == "files" or (engine == "mariadb-physical" and artifact.is_dir()):
        # The largest file may be one that no test opens: of a copy that nothing builds on.
        return (Harm.OVERWRITTEN,)
    found = [Harm.TRUNCATED]
    if artifact.is_file():
        with artifact.open("rb") as file:
            head = file.read(16)
        if head.startswith(_SUMMED):
            found.append(Harm.FLIPPED)
        elif engine in {"postgresql", "mariadb"} and head.startswith((b"--", b"/*")):
            found.append(Harm.TRAILER)
    return tuple(found)


def break_artifact(artifact: Path, harm: Harm) -> None:
    """Do that to the largest file of an artifact, or to all. Raises MissingMeans without any."""
    files = [artifact] if artifact.is_file() and not artifact.is_symlink() else _files(artifact)
    files = [file for file in files if file.stat().st_size]
    if not files:
        raise MissingMeans("nothing_to_break")
    if harm is Harm.OVERWRITTEN:
        for file in files:
            _rewrite(file, harm)
    else:
        _rewrite(max(files, key=lambda file: (file.stat().st_size, str(file))), harm)


def _files(directory: Path) -> list[Path]:
    return [one for one in directory.rglob("*") if one.is_file() and not one.is_symlink()]


def _rewrite(file: Path, harm: Harm) -> None:
    size = file.stat().st_size
    kept = {Harm.TRUNCATED: size // 2, Harm.TRAILER: max(0, size - _TRAILER)}.get(harm, size)
    broken = file.with_name(".broken-by-backupguard")
    at = 0
    with file.open("rb") as source, broken.open("xb") as target:
        while at < kept:
            piece = source.read(min(_CHUNK, kept - at))
            if not piece:
                break
            target.write(_changed(piece, at, size, harm))
            at += len(piece)
    broken.replace(file)


def _changed(piece: bytes, at: int, size: int, harm: Harm) -> bytes:
    if harm is Harm.FLIPPED and at <= size // 2 < at + len(piece):
        changed = bytearray(piece)
        changed[size // 2 - at] ^= 0xFF
        return bytes(changed)
    if harm is Harm.OVERWRITTEN and at == 0:
        noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(_HEAD // 32))
        return noise[: len(piece)] + piece[_HEAD:]
    return piece


@dataclass(slots=True)
class Breaking:
    """Repositories whose fetched artifacts are broken before anybody looks at them.

    `turn` chooses among what may be done; `done` says afterwards what was.
    """

    inner: Repositories
    engine: str
    turn: int = 0
    done: list[Harm] = field(default_factory=list)

    def allowance(self, identifier: str) -> int | None:
        """Return how many bytes may still be read of that repository today."""
        return self.inner.allowance(identifier)

    @contextmanager
    def open(self, identifier: str) -> Iterator[Any]:
        """Open one."""
        with self.inner.open(identifier) as repository:
            yield _Breaking(repository, self)


@dataclass(slots=True)
class _Breaking:
    inner: Any
    plan: Breaking

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(self.inner.capabilities)

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        yield from self.inner.points(jobs)

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        fetched: Fetched = self.inner.fetch(request, into)
        artifact = into / fetched.artifact
        possible = harms_of(self.plan.engine, artifact)
        harm = possible[self.plan.turn % len(possible)]
        break_artifact(artifact, harm)
        self.plan.done.append(harm)
        return fetched
