"""Takes the state out of its directory, and puts it into one; never while anybody works with it."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from backupguard import __version__
from backupguard.errors import Busy, MissingMeans, StoreError, UsageError
from backupguard.evidence.verify import Standing, prunings, verify
from backupguard.model import Message
from backupguard.state import archive
from backupguard.state.archive import Manifest, unusable
from backupguard.store import open_store, safekeeping
from backupguard.store.engine import FILE_NAME, translated
from backupguard.store.schema import SCHEMA

_COPIES = "copies"
#: What is made anew by whoever needs it: scratch of runs, caches, locks, daily copies, status; and
#: what a file system of its own has at its top.
_PASSING = frozenset(
    {"runs", "locks", "cache", _COPIES, "settings", "status.json", "lost+found"}
    | {"import-unfinished"}
)
_PASSING_PREFIXES = (".", FILE_NAME, "replaced-", "brought-")
_KEYS = "keys"


def export_state(directory: Path, url: str | None, target: BinaryIO, now: datetime) -> Manifest:
    """Write the state of a directory to a file, and return what the file says of itself.

    Raises Busy while anybody works with the store, StoreError for one that is absent, damaged or
    whose chain is broken, MissingMeans where the store is in PostgreSQL.
    """
    _refuse_server(url)
    safekeeping.refuse_half_imported(safekeeping.Files(directory=directory))
    with ExitStack() as held, _told(directory):
        if not (directory / FILE_NAME).is_file():
            raise StoreError(
                "unreadable", Message(id="state.nothing", values={"path": str(directory)})
            )
        held.enter_context(_alone(directory))
        made = Path(held.enter_context(TemporaryDirectory(prefix=".export-", dir=directory)))
        _copy(directory / FILE_NAME, made / FILE_NAME)
        shutil.copytree(directory / _KEYS, made / _KEYS)
        store, seq, head = _examined(made)
        paths = [FILE_NAME, *sorted(_belonging(directory))]
        places = [made / FILE_NAME, *(directory / path for path in paths[1:])]
        manifest = Manifest(
            format=archive.FORMAT,
            program_version=__version__,
            exported_at=now.isoformat(timespec="seconds"),
            host=socket.gethostname(),
            schema=SCHEMA,
            store=store,
            head_seq=seq,
            head_hash=head,
            files=(*archive.listed(made, paths[:1]), *archive.listed(directory, paths[1:])),
        )
        archive.write(target, manifest, places)
        target.flush()
        os.fsync(target.fileno())
    return manifest


def import_state(
    directory: Path, url: str | None, source: BinaryIO, now: datetime, *, replace: bool = False
) -> tuple[Manifest, Path | None]:
    """Put an exported state into a directory; return its manifest and where the old one lies now.

    Nothing is in place before everything was checked. A state that exists is refused, or, with
    `replace`, set aside in the same directory, and moved back when that fails. After a kill among
    the moves no store is opened there until an import was done. Raises Busy, StoreError, UsageError,
    MissingMeans.
    """
    _refuse_server(url)
    with ExitStack() as held, _told(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        held.enter_context(_alone(directory))
        old = _standing(directory)
        if old and not replace:
            raise UsageError(
                "usage",
                Message(id="state.exists", values={"path": str(directory)}),
                remedy=Message(id="state.replace"),
            )
        if (
            old and (directory / _COPIES).exists()
        ):  # of the old state, and daily ones would displace them
            old.add(_COPIES)
        for left in directory.glob(".import-*"):  # of one that was killed: a key is in it
            shutil.rmtree(left)
        made = Path(held.enter_context(TemporaryDirectory(prefix=".import-", dir=directory)))
        with archive.reading(source) as (manifest, members):
            _refuse_newer(manifest, directory)
            for entry, content in members:
                archive.unpack(entry, content, made)
        if not {FILE_NAME, f"{_KEYS}/signing.pem"} <= {entry.path for entry in manifest.files}:
            raise unusable("state.other-files")
        if _examined(made) != (manifest.store, manifest.head_seq, manifest.head_hash):
            raise unusable("state.other-head")
        half = safekeeping.Files(directory=directory).half_imported
        with ExitStack() as back:  # what was moved, should a later move fail
            if not half.exists():  # one that was killed before us stays half done if we fail, too
                back.callback(half.unlink)
            half.touch(mode=0o600)
            _sync(directory)
            aside = _set_aside(directory, old, now, back) if old else None
            for name in sorted(_standing(made)):
                _move(made / name, directory / name, back)
            back.pop_all()
        _sync(directory)
        half.unlink()
    return manifest, aside


def _refuse_server(url: str | None) -> None:
    if url is not None and not url.startswith("sqlite"):
        raise MissingMeans("program_missing", Message(id="state.on-a-server"))


def _refuse_newer(manifest: Manifest, directory: Path) -> None:
    if manifest.schema > SCHEMA:
        values: dict[str, int | str] = {"version": manifest.program_version, "ours": __version__}
        message = Message(id="state.newer", values=values)
        raise StoreError("newer_schema", message, path=str(directory))


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Be the only one who works with the store: no daemon, no run, no command."""
    files = safekeeping.Files(directory=directory)
    busy = Busy(
        "second_daemon",
        Message(id="state.in-use", values={"path": str(directory)}),
        remedy=Message(id="state.stop-first"),
    )
    handles = []
    try:
        for place in (files.lock_path("daemon"), directory / f"{FILE_NAME}.users"):
            handles.append(safekeeping.lock_file(place))
            if not safekeeping.try_exclusive(handles[-1]):
                raise busy
        yield
    finally:
        for handle in handles:
            os.close(handle)


def _copy(source: Path, target: Path) -> None:
    """Copy the store by SQLite's own interface: its log is in the copy as well."""
    with (
        translated(str(source)),
        closing(sqlite3.connect(source, timeout=30)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)


def _examined(directory: Path) -> tuple[str, int, str]:
    """Check a store and its chain; return its id, the number and the hash of its newest record."""
    database = directory / FILE_NAME
    if not safekeeping.is_sound(database):
        raise StoreError("corrupt_store", path=str(database))
    # It is only looked at: nothing is appended that would have to name its site.
    store = open_store(directory, site="", replace_corrupt=False)
    with closing(store):
        head, last = store.extent()
        found = verify(
            store.records(to=last),
            store.seals(),
            store=store.store_id,
            keys=[store.key.public],
            pruned=tuple(prunings(store.records(to=last, kinds=["evidence.pruned"]))),
            head=head,
        )
        if found.standing is Standing.BROKEN and found.problem is not None:
            raise StoreError("corrupt_store", found.problem.message(), path=str(database))
        identity = (store.store_id, head[0], head[1].hex())
    with translated(str(database)), closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    for left in directory.glob(f"{FILE_NAME}.*"):
        left.unlink()
    return identity


def _passes(name: str) -> bool:
    return name in _PASSING or name.startswith(_PASSING_PREFIXES)


def _belonging(directory: Path) -> Iterator[str]:
    """Yield the files of the state but the store itself: keys, reports, what else lies there."""
    for entry in directory.iterdir():
        if _passes(entry.name):
            continue
        for file in [entry] if entry.is_file() else entry.rglob("*"):
            if file.is_file() and not file.is_symlink():
                yield file.relative_to(directory).as_posix()


def _standing(directory: Path) -> set[str]:
    """Return the names in a directory that are a state's, the store's own files included."""
    return {
        entry.name
        for entry in directory.iterdir()
        if not _passes(entry.name)
        or entry.name in {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}.suspect"}
    }


def _set_aside(directory: Path, names: set[str], now: datetime, back: ExitStack) -> Path:
    aside = directory / f"replaced-{now:%Y%m%dT%H%M%SZ}"
    number = 1
    while aside.exists():
        number += 1
        aside = directory / f"replaced-{now:%Y%m%dT%H%M%SZ}-{number}"
    aside.mkdir(mode=0o700)
    back.callback(aside.rmdir)
    for name in sorted(names):
        _move(directory / name, aside / name, back)
    return aside


def _move(source: Path, target: Path, back: ExitStack) -> None:
    source.rename(target)
    back.callback(target.rename, source)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    """Turn what the disk refuses into errors of ours."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreError("full" if full else "unreadable", path=str(directory)) from error
