"""Which files below a directory some process of this host has open for writing, as far as seen."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def open_for_writing(root: Path) -> frozenset[str]:
    """Return the absolute paths below `root` that a process writes to.

    Processes of other users are seen only with their rights; one that is not seen says nothing.
    """
    inside = f"{root.resolve()}/"
    found: set[str] = set()
    for process in _PROC.iterdir():
        if not process.name.isdigit():
            continue
        try:
            descriptors = os.listdir(process / "fd")  # noqa: PTH208
        except OSError:
            continue  # ended, or another user's
        for descriptor in descriptors:
            try:
                path = os.readlink(process / "fd" / descriptor)  # noqa: PTH115
                if path.startswith(inside) and _writes(process / "fdinfo" / descriptor):
                    found.add(path)
            except OSError:
                continue
    return frozenset(found)


def _writes(info: Path) -> bool:
    for line in info.read_text(encoding="ascii").splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
