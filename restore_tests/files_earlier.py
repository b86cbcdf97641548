"""What a later test of a tree needs, so that a file that changed in silence is seen.

Who lists files takes one of the same place, size and time for unchanged: an encryption that puts times
back, a tampering or a disk that rots is seen by nobody who does not read contents. A test hashes the
files whose turn it is, one of `TURNS` shares each time, and compares them with what an earlier test
saw, whichever repository that one restored from. What is kept are records of two keyed hashes, without
a name.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from backupguard.contracts import Trial
from backupguard.errors import BackupGuardError

#: Each file is compared once in so many tests: reading all of them again each time would cost a fifth.
TURNS = 8
#: Records of one turn, of 16 bytes; more files than these of one turn are not remembered.
_MOST = 500_000
_LIMIT = _MOST * 16
_RECORDS = PurePosixPath("/scratch/earlier")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The share whose turn it is, the key of its hashes, and where its records are kept."""

    number: int
    key: bytes
    kept: Path


def begin(trial: Trial) -> Turn | None:
    """Return whose turn it is, its records handed to the sandbox; None where nothing can be kept.

    The turn is that of the share that was compared longest ago, one that never was before all others.
    """
    application = str(trial.memory.get("application") or "")
    if not _NAME.match(application):
        return None
    try:
        place = trial.context.remember(f"files-{application}")
        turn = _turn(place)
        if turn.kept.is_file():
            trial.sandbox.write(_named("known"), turn.kept.read_bytes()[:_LIMIT])
    except (OSError, BackupGuardError):
        return None  # it only serves the comparison, and a test without it is a test
    return turn


def request(turn: Turn | None) -> Mapping[str, Any]:
    """Return what the program inside is told."""
    return {
        "turn": turn.number if turn else None,
        "turns": TURNS,
        "key": turn.key.hex() if turn else "",
        "most": _MOST,
        "records": str(_RECORDS),
    }


def keep(trial: Trial, turn: Turn | None) -> None:
    """Take back what the program inside saw; a full disk costs the next test the comparison."""
    if turn is None:
        return
    with suppress(OSError, BackupGuardError):
        _put(turn.kept, trial.sandbox.read(_named("seen"), _LIMIT))


def _named(suffix: str) -> PurePosixPath:
    return PurePosixPath(f"{_RECORDS}.{suffix}")


def _turn(place: Path) -> Turn:
    shares = [place / f"share-{number}" for number in range(TURNS)]
    times = [path.stat().st_mtime_ns if path.is_file() else 0 for path in shares]
    number = times.index(min(times))
    return Turn(number=number, key=_key(place / "key"), kept=shares[number])


def _key(path: Path) -> bytes:
    if not path.is_file() or len(key := path.read_bytes()) != 32:
        key = secrets.token_bytes(32)
        _put(path, key)
    return key


def _put(path: Path, content: bytes) -> None:
    """Put a file in place at once or not at all, for its owner alone."""
    unfinished = path.with_name(f"{uuid4().hex}.part")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(content)
        os.replace(unfinished, path)  # noqa: PTH105
    finally:
        unfinished.unlink(missing_ok=True)
