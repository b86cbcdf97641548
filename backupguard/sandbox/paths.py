"""Opening what restored data may have prepared: no link is ever followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from backupguard.errors import Misunderstood

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def parent_of(root: Path, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Yield a descriptor of the directory that holds `parts`, below `root`, no link followed.

    With `create`, missing directories are made (0700). Raises ValueError for ".." and OSError.
    """
    if not parts or any(part in ("", ".", "..") or "/" in part for part in parts):
        raise ValueError(f"{'/'.join(parts)!r} is no path below the sandbox's directories")
    descriptor = os.open(root, _DIRECTORY)
    try:
        for part in parts[:-1]:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=descriptor)
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(root: Path, parts: Sequence[str]) -> int:
    """Return a descriptor for reading the regular file `parts` below `root`. The caller closes it.

    Raises FileNotFoundError when there is none, Misunderstood (output_unparsable) when it, or a
    directory on the way, is a link or something else that no program of ours leaves there.
    """
    try:
        with parent_of(root, parts) as directory:
            # O_NONBLOCK: a pipe without a writer would hold us for ever
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(parts[-1], flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Misunderstood("output_unparsable", program="sandbox") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Misunderstood("output_unparsable", program="sandbox")
    return descriptor


def read_regular(root: Path, parts: Sequence[str], limit: int, *, tail: bool = False) -> bytes:
    """Return at most `limit` bytes of a regular file, from its start or, with `tail`, its end."""
    with os.fdopen(open_regular(root, parts), "rb") as file:
        if tail:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def write_new(root: Path, parts: Sequence[str], content: bytes) -> None:
    """Put a file (0600) at `parts` below `root` in place of what is there, no link followed."""
    with parent_of(root, parts, create=True) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(parts[-1], dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, 0o600, dir_fd=directory)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def move(root: Path, parts: Sequence[str], target: Path, below: Sequence[str]) -> bool:
    """Rename `parts` below `root` to `below` below `target`, no link followed; tell whether it was.

    Raises Misunderstood (output_unparsable) when a directory on the way is a link.
    """
    if not parts:
        return False  # the artifact's own directory is shown in every sandbox
    try:
        with parent_of(root, parts) as old, parent_of(target, below, create=True) as new:
            os.rename(parts[-1], below[-1], src_dir_fd=old, dst_dir_fd=new)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EACCES, errno.EPERM):
            return False
        raise Misunderstood("output_unparsable", program="sandbox") from error
    return True
