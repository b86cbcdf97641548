"""Puts an engine in its place at once or not at all, and takes it away again. Works as root.

Everything happens below one lock, in a directory beside the engines; the last step is a rename. What a
killed call left behind is removed, or moved back, by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.engines import described
from backupguard.engines.described import Description
from backupguard.engines.signed import digest_of
from backupguard.engines.unpacking import full, require_room, unpack
from backupguard.errors import AccessRefused, Busy, Misunderstood, Unreachable, UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_UNFINISHED, _REPLACED = ".unfinished-", ".replaced."
_LOCK = ".lock"
_BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def add(
    file: Path, key: Ed25519PublicKey, root: Path, *, replace: bool = False
) -> tuple[Description, bool]:
    """Unpack an engine archive below `root`; return what it is, and whether it was not there yet.

    The list beside it must be signed with `key` and name the archive's hash. The very same archive
    twice is no error; another one of the same engine and version needs `replace`. Raises
    AccessRefused, Unreachable, Misunderstood, MissingMeans, Busy, UsageError; nothing has changed then.
    """
    digest = digest_of(file, key)
    with _alone(root):
        there = next((d for d in _described(root) if d[1] == digest), None)
        if there is not None:
            return there[0], False
        try:
            with _unfinished(root) as work:
                return _add(file, digest, root, work, replace=replace), True
        except OSError as error:
            if error.errno in _FULL:
                raise full(root) from error
            raise _unreadable(root, error) from error


def remove(engine: str, version: str, root: Path) -> None:
    """Take away an engine that was added; raises UsageError (unknown_subject), AccessRefused, Busy."""
    place = root / engine / version
    with _alone(root):
        if not described.is_name(engine, version) or described.of(place) is None:
            raise UsageError(
                "unknown_subject",
                Message(id="engines.unknown", values={"engine": engine, "version": version}),
                Message(id="engines.do.list", values={}),
            )
        with _unfinished(root) as work:
            place.rename(work / "removed")
        with suppress(OSError):
            place.parent.rmdir()


def _add(file: Path, digest: str, root: Path, work: Path, *, replace: bool) -> Description:
    copy = work / "archive"
    _copy(file, copy, digest)
    with copy.open("rb") as source:
        found = unpack(source, file.name, work / "tree", digest)
    copy.unlink()
    place = root / found.engine / found.version
    if place.exists() and not replace:
        raise UsageError(
            "usage",
            Message(id="engines.exists", values={"engine": found.engine, "version": found.version}),
            Message(id="engines.do.replace", values={}),
        )
    place.parent.mkdir(mode=0o755, exist_ok=True)
    os.sync()  # a rename that survives a power cut, of files that did not, would be an engine in name
    aside = root / f"{_REPLACED}{found.engine}.{found.version}"
    if place.exists():
        place.rename(aside)
    try:
        (work / "tree").rename(place)
    except OSError:
        if aside.exists():
            aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return found


def _copy(file: Path, to: Path, digest: str) -> None:
    """Copy an archive, so that what was verified is what is unpacked; raise where it is another."""
    try:
        source = file.open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error
    hashed = hashlib.sha256()
    with source, to.open("xb") as target:
        require_room(to, os.fstat(source.fileno()).st_size)
        while block := source.read(_BLOCK):
            hashed.update(block)
            target.write(block)
    if hashed.hexdigest() != digest:
        raise Misunderstood(
            "output_unparsable",
            Message(id="engines.damaged", values={"file": str(file)}),
            Message(id="engines.do.copy-again", values={}),
        )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the engines' lock; raises AccessRefused for whom may not write there, Busy."""
    before = os.umask(0o022)  # root's own may hide from the service what it is to run
    try:
        lock = _opened(root)
        try:
            _locked(lock, root)
            _sweep(root)
            yield
        finally:
            os.close(lock)
    finally:
        os.umask(before)


def _opened(root: Path) -> int:
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise AccessRefused(
            "permission",
            Message(id="engines.not-root", values={"path": str(root)}),
            Message(id="engines.do.root", values={}),
        ) from error
    except OSError as error:
        raise _unreadable(root, error) from error


def _locked(lock: int, root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Busy(
            "already_running", Message(id="engines.busy", values={"path": str(root)})
        ) from error


@contextmanager
def _unfinished(root: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what a killed call left; an engine that it had set aside and not replaced comes back."""
    for left in root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in root.glob(f"{_REPLACED}*"):
        engine, _, version = left.name.removeprefix(_REPLACED).partition(".")
        if (root / engine / version).exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(root / engine / version)


def _described(root: Path) -> Iterator[tuple[Description, str | None]]:
    for place in sorted(root.glob("[a-z]*/*")):
        found = described.of(place)
        if found is not None:
            yield found, described.digest(place)


def _unreadable(path: Path, error: OSError) -> Unreachable:
    values: dict[str, int | str] = {"file": str(path), "why": error.strerror or ""}
    return Unreachable("not_found", Message(id="engines.unreadable", values=values))
