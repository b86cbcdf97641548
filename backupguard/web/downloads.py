"""Files that may be taken away: which, how they are listed, and how they are read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

#: What may be served from the reports' directory, and as what.
REPORT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".pdf": "application/pdf",
    ".json": "application/json",
}
REPORT_LIMIT = 64 * 1024 * 1024

#: Bundles of evidence are one file each.
BUNDLE_ENDS = (".tar.gz", ".tgz")
BUNDLE_TYPE = "application/gzip"

_CHUNK = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that is offered."""

    name: str
    bytes: int
    written: datetime


def report_like(name: str) -> bool:
    """Tell whether a file of this name may be served as a report."""
    return bool(_NAME.match(name)) and Path(name).suffix in REPORT_TYPES


def bundle_like(name: str) -> bool:
    """Tell whether a file of this name may be served as a bundle of evidence."""
    return bool(_NAME.match(name)) and name.endswith(BUNDLE_ENDS)


def files(directory: Path, offered: Callable[[str], bool]) -> list[File]:
    """Return the regular files of a directory that are offered, the last name first; no links."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if offered(entry.name) and entry.is_file(follow_symlinks=False):
                    seen = entry.stat(follow_symlinks=False)
                    written = datetime.fromtimestamp(seen.st_mtime, UTC)
                    found.append(File(name=entry.name, bytes=seen.st_size, written=written))
    except OSError:
        return []
    return sorted(found, key=lambda file: file.name, reverse=True)


def _opened(path: Path) -> tuple[int, int] | None:
    """Return descriptor and size of a regular file; None when it is none, or is a link."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    seen = os.fstat(handle)
    if not stat.S_ISREG(seen.st_mode):
        os.close(handle)
        return None
    return handle, seen.st_size


def read(path: Path, limit: int) -> bytes | None:
    """Return a regular file's bytes; None when it is none, is too large, or is a link."""
    opened = _opened(path)
    if opened is None:
        return None
    handle, size = opened
    with os.fdopen(handle, "rb") as file:
        return file.read(limit) if size <= limit else None


def streamed(path: Path) -> tuple[int, Iterator[bytes]] | None:
    """Return a regular file's size and its bytes piece by piece, however large; None as `read`."""
    opened = _opened(path)
    if opened is None:
        return None
    handle, size = opened
    file = os.fdopen(handle, "rb")  # closed with the last reference where nobody begins to read

    def pieces() -> Iterator[bytes]:
        left = size  # what is added meanwhile was not announced
        with file:
            while left > 0 and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece

    return size, pieces()
