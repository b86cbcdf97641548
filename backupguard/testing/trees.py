"""A full listing of a directory: the proof that nothing was written."""

from __future__ import annotations

import os
from pathlib import Path


def listing(root: Path) -> dict[bytes, tuple[int, int, int]]:
    """Return each name below `root` (and "" for itself) with mode, size and time of change in ns.

    The change time (ctime) is the one taken: no program can set it back. Locks show as names.
    """
    found: dict[bytes, tuple[int, int, int]] = {}
    base = os.fsencode(root)
    waiting = [b""]
    while waiting:
        relative = waiting.pop()
        path = os.path.join(base, relative) if relative else base  # noqa: PTH118 - any bytes
        status = os.lstat(path)
        found[relative] = (status.st_mode, status.st_size, status.st_ctime_ns)
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            waiting += [os.path.join(relative, name) for name in os.listdir(path)]  # noqa: PTH118, PTH208
    return found
