"""Brings segments of the log out of Barman's archive, which compresses each as it was told to.

What a segment was packed with is told by its first bytes, as Barman itself does (`wals/xlog.db` is
its list). Sources: Barman's `compression`; PostgreSQL's xlog_internal.h for a bare segment's head.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zlib import error as zlib_error

from backupguard.contracts import Command, Context
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.repositories.barman_catalogue import trouble

_CHUNK = 1 << 20
_BARE = 0xD1  # the second byte of every segment: the upper half of PostgreSQL's page magic
_OPENED: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
_PROGRAMS = ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"))
_LAST_OWN = 125  # a status above it was not the program's to choose
#: What Barman's list calls the compressions that are known here, and none.
KNOWN = frozenset(
    {"None", "gzip", "pigz", "pygzip", "bzip2", "pybzip2", "xz", "zstd", "lz4"},
)


def bring(
    context: Context, repository: str, path: Path, target: Path, size: int, kind: str
) -> None:
    """Write the segment at `path`, unpacked, to `target`; it must have `size` bytes.

    `kind` is what Barman's list calls its compression. Raises BackupDefect (corrupt, truncated,
    missing_object), MissingMeans for a compression of the site's own, AccessRefused, Unreachable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BackupDefect("missing_object", repository=repository, objects=path.name) from error
    except OSError as error:
        raise trouble(error, repository) from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        head = file.read(8)
        file.seek(0)
        written = _unpacked(context, repository, file, path, target, head, size, kind)
    if written != size:
        code = "truncated" if written < size else "corrupt"
        raise BackupDefect(code, repository=repository, objects=path.name)


def _unpacked(
    context: Context,
    repository: str,
    file: BinaryIO,
    path: Path,
    target: Path,
    head: bytes,
    size: int,
    kind: str,
) -> int:
    """Return how many bytes were written."""
    for magic, opened in _OPENED:
        if head.startswith(magic):
            with opened(file) as stream:
                return _copied(context, repository, stream, target, size)
    for magic, program in _PROGRAMS:
        if head.startswith(magic):
            return _by_program(context, repository, program, path, target)
    if head[1:2] == bytes([_BARE]) or kind in KNOWN:
        return _copied(context, repository, file, target, size)
    raise MissingMeans("not_fetchable", repository=repository)


def _copied(context: Context, repository: str, stream: BinaryIO, target: Path, size: int) -> int:
    written = 0
    with target.open("xb") as copy:
        while written <= size:
            context.cancel.raise_if_set()
            try:
                chunk = stream.read(_CHUNK)
            except (EOFError, zlib_error, lzma.LZMAError, gzip.BadGzipFile) as error:
                raise _damaged(repository, target) from error
            except OSError as error:
                if error.errno is None:  # bz2's own word for a broken stream
                    raise _damaged(repository, target) from error
                raise trouble(error, repository) from error
            if not chunk:
                break
            try:
                copy.write(chunk)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise MissingMeans("no_disk", repository=repository) from error
                raise
            written += len(chunk)
    return written


def _damaged(repository: str, target: Path) -> BackupDefect:
    return BackupDefect("corrupt", repository=repository, objects=target.name)


def _by_program(context: Context, repository: str, program: str, path: Path, target: Path) -> int:
    if context.tools.which(program) is None:
        raise MissingMeans("program_missing", program=program, package=program)
    done = context.tools.run(
        Command(argv=(program, "-dcq", "--", str(path)), read=(path,), sink=target, timeout_s=600)
    )
    if done.returncode != 0:
        if done.oom or b"not enough memory" in done.stderr:
            raise MissingMeans("no_memory", repository=repository)
        if b"No space left" in done.stderr:
            raise MissingMeans("no_disk", repository=repository)
        if not 0 < done.returncode <= _LAST_OWN or b"can't open" in done.stderr:
            raise Misunderstood("unknown_exit", program=program, status=done.returncode)
        raise _damaged(repository, target)
    return target.stat().st_size


def compressions(server: Path, repository: str) -> Mapping[str, str]:
    """Return what Barman's list says that each segment is packed with; nothing without a list."""
    try:
        with (server / "wals" / "xlog.db").open(encoding="ascii", errors="replace") as lines:
            fields = (line.split() for line in lines)
            return {one[0]: one[3] for one in fields if len(one) == 4}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise trouble(error, repository) from error
