"""What happens to the file itself: who has it open, daily copies, what to do when it is damaged.

A damaged store is set aside and never repaired: a repaired chain of evidence proves nothing. The new
one says in its first record what it replaced.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupguard.errors import Busy, StoreError
from backupguard.evidence.kinds import StoreReplaced
from backupguard.evidence.records import parse_body
from backupguard.model import Message
from backupguard.store.engine import FILE_NAME, translated

COPIES_KEPT = 2
_SIDE_FILES = ("-wal", "-shm")
#: How much SQLite does between two words that it is at work: about 50 ms.
_STEPS = 1_000_000

Progress = Callable[[], None]


def silent() -> None:
    """Tell nobody that the work goes on."""


@dataclass(slots=True, kw_only=True)
class Files:
    """The files of an SQLite store in its state directory."""

    directory: Path

    @property
    def database(self) -> Path:
        """The database itself."""
        return self.directory / FILE_NAME

    @property
    def suspect(self) -> Path:
        """Left by a process that was told the file is damaged."""
        return self.directory / f"{FILE_NAME}.suspect"

    @property
    def half_imported(self) -> Path:
        """There while an import puts a state in place: until then it is neither the old nor the new."""
        return self.directory / "import-unfinished"

    @property
    def copies(self) -> Path:
        """Where the daily copies lie."""
        return self.directory / "copies"

    def lock_path(self, name: str) -> Path:
        """Return the file that a named lock is held on."""
        safe = "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
        return self.directory / "locks" / safe


def refuse_half_imported(files: Files) -> None:
    """Raise StoreError where an import was killed while it moved files: a new store would hide that."""
    # access(2) never raises: who may not look into the directory is told so by what opens the store.
    if os.access(files.half_imported, os.F_OK):
        raise StoreError(
            "unreadable",
            Message(id="state.half-imported", values={"path": str(files.directory)}),
            remedy=Message(id="state.import-again"),
        )


def lock_file(path: Path) -> int:
    """Open a lock file (0600), making it and its directory (0700); return the descriptor."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_exclusive(handle: int) -> bool:
    """Take an exclusive lock on a descriptor if nobody holds any."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(path: Path, name: str) -> int:
    """Hold a lock until the descriptor is closed; raises Busy when another process holds it."""
    handle = lock_file(path)
    if not try_exclusive(handle):
        os.close(handle)
        raise Busy("already_running", run=name)
    return handle


def stopped_uncleanly(files: Files) -> bool:
    """Tell whether the last process that used the store died: a clean close removes the WAL.

    To be asked only while nobody else has the store open.
    """
    wal = files.database.with_name(f"{FILE_NAME}-wal")
    return files.suspect.exists() or (wal.exists() and wal.stat().st_size > 0)


def tell_progress(connection: sqlite3.Connection, progress: Progress) -> None:
    """Have `progress` called again and again while this connection works."""
    connection.set_progress_handler(
        progress, _STEPS
    )  # its answer None goes on: sqlite3_progress_handler


def is_sound(file: Path, progress: Progress = silent) -> bool:
    """Ask SQLite whether the file is well formed."""
    try:
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            tell_progress(connection, progress)
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        raise  # busy, full, unreadable: says nothing about the content
    except sqlite3.DatabaseError:
        return False


def set_aside(files: Files, now: datetime) -> StoreReplaced:
    """Move a damaged store out of the way and return what the new one's first fact says about it."""
    anchor = _last_anchor(files.database)
    with files.database.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stem = f"store.corrupt-{now:%Y%m%dT%H%M%SZ}"
    aside = files.directory / f"{stem}.sqlite3"
    number = 1
    while aside.exists():
        number += 1
        aside = files.directory / f"{stem}-{number}.sqlite3"
    for ending in _SIDE_FILES:
        with suppress(FileNotFoundError):
            files.database.with_name(FILE_NAME + ending).rename(
                aside.with_name(aside.name + ending)
            )
    files.database.rename(aside)
    files.suspect.unlink(missing_ok=True)
    return {
        "old_file": aside.name,
        "old_sha256": digest,
        "last_anchored_seq": anchor[0] if anchor else None,
        "last_anchored_hash": anchor[1] if anchor else None,
    }


def _last_anchor(file: Path) -> tuple[int, str] | None:
    """Read the newest anchor out of a damaged file, if that part of it can still be read."""
    query = "SELECT body FROM facts WHERE kind = 'evidence.anchored' ORDER BY seq DESC LIMIT 1"
    with (
        suppress(sqlite3.Error, ValueError, KeyError, TypeError),
        closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection,
    ):
        row = connection.execute(query).fetchone()
        data = parse_body(row[0])["data"]
        return int(data["seq"]), str(data["hash"])
    return None


def daily_copy(files: Files, now: datetime) -> Path | None:
    """Copy the store by SQLite's own backup interface, once a day; keep two; return a new copy."""
    target = files.copies / f"store-{now:%Y-%m-%d}.sqlite3"
    if target.exists():
        return None
    _copied(files, target)
    for old in sorted(files.copies.glob("store-*.sqlite3"))[:-COPIES_KEPT]:
        old.unlink()
    return target


def copy_before(files: Files, schema: str, progress: Progress = silent) -> Path:
    """Copy the store before it is migrated to a schema, for who goes back to the older version.

    One such copy is kept, and no time takes it away but the next migration. Raises StoreError; then
    nothing is to be migrated.
    """
    target = files.copies / f"before-{schema}.sqlite3"
    _copied(files, target, progress)
    for old in files.copies.glob("before-*.sqlite3"):
        if old != target:
            old.unlink()
    return target


def _copied(files: Files, target: Path, progress: Progress = silent) -> None:
    """Put a copy of the store in place, whole or not at all; raises StoreError.

    One process copies at a time: the daemon daily, whoever holds the writers' lock before it migrates.
    """
    unfinished = target.with_suffix(f".{os.getpid()}.unfinished")
    try:
        files.copies.mkdir(mode=0o700, exist_ok=True)
        # Of attempts that were killed: as large as the store each, and they would fill the disk.
        for left in files.copies.glob(f"{target.name.partition('-')[0]}-*.unfinished"):
            left.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with (
            translated(str(target)),
            closing(sqlite3.connect(files.database, timeout=30)) as source,
            closing(sqlite3.connect(unfinished)) as copy,
        ):
            source.backup(copy, pages=256, sleep=0.01, progress=lambda *_: progress())
            # One file without a WAL beside it, which can be moved about as it is.
            copy.execute("PRAGMA journal_mode = DELETE")
        unfinished.rename(target)
    except OSError as error:
        raise StoreError("unreadable", path=str(target)) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
