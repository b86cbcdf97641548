"""A control group around a sandbox, where this host has delegated one to us.

systemd's `Delegate=` (version 2) or an administrator (version 1) may have given the service's user a
group to divide. Then the kernel counts memory and processes of all programs of the sandbox together.
Elsewhere there is none, and RLIMIT_DATA, RLIMIT_NPROC and the watcher of `memory` stand in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.sandbox.limits import SandboxLimits

MOUNTS = Path("/sys/fs/cgroup")
_PREFIX = "backupguard-sandbox-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where groups may be made, and the files that limit one."""

    directory: Path
    memory: str | None = None  # "memory.max"
    processes: str | None = None  # "pids.max"


def _own(text: str) -> Iterator[tuple[str, str]]:
    """Yield (controllers, path) of each hierarchy from /proc/self/cgroup; version 2 has none."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def places(text: str, mounts: Path = MOUNTS) -> list[Place]:
    """Given /proc/self/cgroup, return the directories in which we may make groups.

    Version 2 allows controllers only in groups whose parent has no process of its own, so there it
    is the parent of ours that matters as well.
    """
    found: list[Place] = []
    for controllers, path in _own(text):
        relative = path.lstrip("/")
        if controllers == "memory":
            candidate = mounts / "memory" / relative
            found.append(Place(directory=candidate, memory="memory.limit_in_bytes"))
        elif controllers == "pids":
            found.append(Place(directory=mounts / "pids" / relative, processes="pids.max"))
        elif controllers == "":
            found += _version_2(mounts / relative, mounts)
    return [place for place in found if os.access(place.directory, os.W_OK | os.X_OK)]


def _version_2(own: Path, mounts: Path) -> list[Place]:
    for directory in (own, own.parent):
        if directory == mounts.parent:
            break
        with contextlib.suppress(OSError):
            passed_on = (directory / "cgroup.subtree_control").read_text(encoding="ascii").split()
            if "memory" in passed_on and os.access(directory / "cgroup.procs", os.W_OK):
                pids = "pids.max" if "pids" in passed_on else None
                return [Place(directory=directory, memory="memory.max", processes=pids)]
    return []


class Group:
    """One group per hierarchy for one sandbox; without delegation, none, and all calls do nothing."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = tuple(directories)

    @classmethod
    def make(cls, limits: SandboxLimits, where: Sequence[Place]) -> Group:
        """Make the groups; what the kernel refuses is left out."""
        made: list[Path] = []
        name = _PREFIX + secrets.token_hex(8)
        for place in where:
            directory = place.directory / name
            with contextlib.suppress(OSError):
                directory.mkdir(mode=0o700)
                made.append(directory)
                if place.memory is not None:
                    _write(directory / place.memory, limits.memory_cap())
                    if place.memory == "memory.max":
                        # what is over the cap would go to the host's swap first, for hours
                        with contextlib.suppress(OSError):  # a kernel without swap has no such file
                            _write(directory / "memory.swap.max", 0)
                if place.processes is not None:
                    _write(directory / place.processes, 4 * limits.processes)
                with contextlib.suppress(OSError):  # all of it or nothing: half a database is none
                    _write(directory / "memory.oom.group", 1)
        return cls(made)

    def enter(self, process: int) -> None:
        """Put a process, and with it all that it will start, into the groups."""
        for directory in self.directories:
            with contextlib.suppress(OSError):
                _write(directory / "cgroup.procs", process)

    def killed(self) -> int:
        """Return how many processes the kernel has killed in the groups for want of memory."""
        count = 0
        for directory in self.directories:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    for line in (directory / name).read_text(encoding="ascii").splitlines():
                        if line.startswith("oom_kill "):
                            count += int(line.split()[1])
        return count

    def remove(self) -> None:
        """Remove the groups; their processes are gone, the kernel may need a moment to know."""
        for directory in self.directories:
            for _attempt in range(50):
                try:
                    directory.rmdir()
                except OSError:
                    time.sleep(0.02)
                else:
                    break


def delegated() -> list[Place]:
    """Return where this process may make groups now."""
    with contextlib.suppress(OSError):
        return places(Path("/proc/self/cgroup").read_text(encoding="ascii"))
    return []


def _write(path: Path, value: int) -> None:
    path.write_text(str(value), encoding="ascii")
