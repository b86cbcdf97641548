"""Watches the memory of a sandbox where no control group does it for us."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from backupguard.errors import MissingMeans
from backupguard.sandbox.limits import SandboxLimits


def namespace_of(process: int) -> int:
    """Return the number of a process's PID namespace; raises OSError when it is gone."""
    return os.stat(f"/proc/{process}/ns/pid").st_ino  # noqa: PTH116 - a link that is no path


def members(namespaces: Collection[int]) -> Iterator[int]:
    """Yield the processes in these PID namespaces, as the host counts them.

    By namespace and not by parent: a process tree loses its orphans.
    """
    for name in [entry.name for entry in Path("/proc").iterdir()]:
        if name.isdigit():
            with contextlib.suppress(OSError):
                if namespace_of(int(name)) in namespaces:
                    yield int(name)


def _resident(process: int) -> tuple[int, int]:
    """Return the private and the shared resident memory of a process, bytes."""
    private = shared = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{process}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("RssAnon:"):
                private = int(line.split()[1]) << 10
            elif line.startswith("RssShmem:"):
                shared = int(line.split()[1]) << 10
    return private, shared


def available() -> int:
    """Return the memory the host could still give, bytes."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 1 << 62


def check_memory(namespaces: Collection[int], limits: SandboxLimits) -> None:
    """Raise MissingMeans (no_memory) when these namespaces hold too much, or the host is short.

    Private memory is added up; shared memory counts once, at its largest user, because a database's
    processes all map the same.
    """
    if available() < limits.memory_reserve_bytes:
        raise MissingMeans("no_memory", available=available(), reserve=limits.memory_reserve_bytes)
    sizes = [_resident(process) for process in members(namespaces)]
    used = sum(private for private, _ in sizes) + max((shared for _, shared in sizes), default=0)
    if used > limits.memory_cap():
        raise MissingMeans("no_memory", used=used, limit=limits.memory_cap())
