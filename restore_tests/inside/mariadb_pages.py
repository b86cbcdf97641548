"""Checks every page of InnoDB's files with MariaDB's own innochecksum, inside the sandbox.

Started as `python3 -I -S -c TEXT INNOCHECKSUM DATA SYSTEM...`; SYSTEM are the names of the system
tablespace's files, in order. Prints counts: files, damaged ones, short ones, and those that could not
be looked at.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Where a first page says how many pages there are, and of what size (FSP_SIZE, FSP_SPACE_FLAGS).
_SIZE_AT, _FLAGS_AT = 46, 54
_HEAD = 64
_FULL_CRC32 = 0x10
_EXTENT = 64
_DEFAULT = 16384
_ENDED = 126  # and above: ended by somebody else


def page_bytes(flags: int) -> int:
    """Return the bytes of a page on disk, by a tablespace's flags."""
    if flags & _FULL_CRC32:
        return 512 << (flags & 0xF)
    packed, logical = flags >> 1 & 0xF, flags >> 6 & 0xF
    if packed:
        return 512 << packed
    return 512 << logical if logical else _DEFAULT


def flags_of(file: Path) -> int:
    """Return the flags of the tablespace that begins with a file; 0 where it has none."""
    with file.open("rb") as opened:
        return int.from_bytes(opened.read(_HEAD)[_FLAGS_AT : _FLAGS_AT + 4], "big")


def short(files: Sequence[Path]) -> bool:
    """Tell whether a tablespace is shorter than its first page says."""
    with files[0].open("rb") as file:
        head = file.read(_HEAD)
    size = sum(path.stat().st_size for path in files)
    pages = int.from_bytes(head[_SIZE_AT : _SIZE_AT + 4], "big")
    return len(head) < _HEAD or size < pages * page_bytes(flags_of(files[0]))


def judged(program: str, files: Sequence[Path], system: bool) -> str:
    """Return what is wrong with a tablespace: "short", "damaged", "unknown", or "" for nothing.

    Of the system tablespace two extents are left out: what lies there are pages of other files, on
    their way to their own places; of its further files innochecksum can read none.
    """
    if short(files):
        return "short"
    extent = max(_EXTENT, (1 << 20) // page_bytes(flags_of(files[0])))
    parts = [[f"--end-page={extent - 1}"], [f"--start-page={3 * extent}"]] if system else [[]]
    for options in parts:
        status = _status(program, options, files[0])
        if status:
            aborted = status == -signal.SIGABRT
            return "unknown" if (status < 0 and not aborted) or status >= _ENDED else "damaged"
    return ""


def _status(program: str, options: Sequence[str], file: Path) -> int:
    command, null = [program, *options, str(file)], subprocess.DEVNULL
    return subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False).returncode


def tablespaces(data: Path, system: Sequence[str]) -> Iterator[list[Path]]:
    """Yield the files of each tablespace, the system's first."""
    yield [data / name for name in system if (data / name).is_file()]
    yield from ([path] for path in data.glob("undo[0-9][0-9][0-9]"))
    for directory, _, names in os.walk(data):
        yield from ([Path(directory, name)] for name in names if name.endswith(".ibd"))


def main(program: str, data: Path, system: Sequence[str]) -> None:
    """Check all of them, as many at once as there are processors."""
    found = list(tablespaces(data, system))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        others = pool.map(lambda files: judged(program, files, False), found[1:])
        said = [judged(program, found[0], True) if found[0] else "short", *others]
    counts = {word: said.count(word) for word in ("damaged", "short", "unknown")}
    for name, count in {"files": len(found), **counts}.items():
        print(name, count)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
