"""Whether every chunk a borg repository knows of has its segment: names and sizes, no content read.

borg's committed index (`index.N`, "Internals: Data structures" in its documentation) is a hash table
of chunk id → segment and offset. A segment that is gone or ends before an offset has lost chunks.
borg's own `check` cannot tell that here: it writes, even when it repairs nothing.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from backupguard.errors import AccessRefused, BackupDefect, Changing, Misunderstood

_MAGIC = b"BORG_IDX"
_HEADER = struct.Struct("<8siibb")
_BUCKET = struct.Struct("<32xII")
_UNUSED = 0xFFFFFFFE  # this and the one above: a bucket that was emptied, or never used
_ENTRY_HEADER = 41  # checksum, size, tag and id before the content of a chunk
_AT_ONCE = 1 << 14  # buckets


def index_name(path: Path) -> str:
    """Return the name of the committed index, `index.N` with the highest N.

    Raises Changing when there is none: borg is writing it, or will rebuild it at its next write.
    """
    numbers = [
        int(name[6:])
        for name in os.listdir(path)  # noqa: PTH208
        if name.startswith("index.") and name[6:].isdigit()
    ]
    if not numbers:
        raise Changing("repository_changed", repository=path.name)
    return f"index.{max(numbers)}"


def check_index(path: Path, identifier: str) -> tuple[str, BackupDefect | None]:
    """Return the index's name, and what is missing of the segments it names, None when nothing is.

    Raises Changing (the index was replaced meanwhile), AccessRefused, Misunderstood.
    """
    try:
        name = index_name(path)
        ends = _ends(path / name, identifier)
        sizes = _sizes(path)
    except FileNotFoundError as error:
        raise Changing("repository_changed", repository=identifier) from error
    except PermissionError as error:
        raise AccessRefused("permission", repository=identifier) from error
    missing = [one for one, end in sorted(ends.items()) if sizes.get(one, 0) < end]
    if not missing:
        return name, None
    code = "missing_object" if missing[0] not in sizes else "corrupt"
    objects = " ".join(f"segment-{segment}" for segment in missing[:5])
    return name, BackupDefect(code, repository=identifier, objects=objects)


def _ends(index: Path, identifier: str) -> dict[int, int]:
    """Return, for each segment that the index names, how long it must be at least."""
    ends: dict[int, int] = {}
    with index.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise Misunderstood("output_unparsable", repository=identifier)
        magic, _, buckets, key, value = _HEADER.unpack(head)
        if magic != _MAGIC or (key, value) != (32, 8):
            raise Misunderstood("output_unparsable", repository=identifier)
        left = buckets
        while left > 0:
            block = file.read(_BUCKET.size * min(left, _AT_ONCE))
            if len(block) != _BUCKET.size * min(left, _AT_ONCE):
                raise Misunderstood("output_unparsable", repository=identifier)
            left -= _AT_ONCE
            for segment, offset in _BUCKET.iter_unpack(block):
                if segment < _UNUSED and ends.get(segment, 0) < offset + _ENTRY_HEADER:
                    ends[segment] = offset + _ENTRY_HEADER
    return ends


def _sizes(path: Path) -> dict[int, int]:
    """Return the size in bytes of each segment that is there."""
    return {
        int(name): os.lstat(os.path.join(directory, name)).st_size  # noqa: PTH118
        for directory, _, names in os.walk(path / "data")
        for name in names
        if name.isdigit()
    }
