"""What a tool brought to disk: counted and removed without following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


def measure(directory: Path, alive: Callable[[], None]) -> tuple[int, int]:
    """Return how many regular files lie below `directory` and their bytes; follows no link."""
    files = size = 0
    waiting = [os.fsencode(directory)]
    while waiting:
        alive()
        current = waiting.pop()
        os.chmod(current, 0o700)  # noqa: PTH101 - what was restored may forbid its owner to look
        with os.scandir(current) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(entry.path)
                elif stat.S_ISREG(status.st_mode):
                    files += 1
                    size += status.st_size
    return files, size


def empty(directory: Path) -> None:
    """Remove what a first attempt left; a tree nobody read yet, so no link is followed."""
    waiting, directories = [os.fsencode(directory)], []
    while waiting:
        current = waiting.pop()
        directories.append(current)
        os.chmod(current, 0o700)  # noqa: PTH101
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108
    for path in reversed(directories[1:]):
        os.rmdir(path)  # noqa: PTH106
