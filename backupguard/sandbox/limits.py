"""How much a restore may take of this host."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass

_GIB = 1 << 30
_BOUNDLESS = 1 << 62
#: Databases write pages of 4 to 64 KiB: at a multiple, none is cut in two by the limit on a file.
_PAGES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """The limits of one sandbox. Sizes are bytes.

    `disk_bytes` is the cap of everything below the sandbox's directory, None for what the reserve
    leaves; `reserve_percent` and `reserve_bytes` (the larger counts) stay free on its file system.
    `memory_bytes` is the cap of all its programs together, None for three quarters of the host's
    memory; `processes` that of each program with its children. `shared_memory_bytes`
    sizes /dev/shm, `tmp_bytes` /tmp, both per program and both memory.
    """

    disk_bytes: int | None = None
    reserve_percent: int = 10
    reserve_bytes: int = 2 * _GIB
    memory_bytes: int | None = None
    memory_reserve_bytes: int = _GIB // 4
    processes: int = 512
    open_files: int = 8192
    tmp_bytes: int = _GIB // 4
    shared_memory_bytes: int = _GIB // 2
    niceness: int = 5

    def disk_cap(self) -> int:
        """Return the bytes the sandbox's directory may hold."""
        return _BOUNDLESS if self.disk_bytes is None else self.disk_bytes

    def memory_cap(self) -> int:
        """Return the bytes of memory that all programs may hold together."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4

    def rlimits(self) -> Mapping[int, int]:
        """Return the kernel limits of every program.

        RLIMIT_NPROC counts in the program's own user namespace when it is set inside it (Linux 5.14
        and later), so it bounds this program's processes and not the host user's. RLIMIT_DATA bounds
        each process's private memory; RLIMIT_AS would count a database's shared memory once per
        process and reserved address space too, so it is left alone.
        """
        return {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NPROC: self.processes,
            resource.RLIMIT_NOFILE: self.open_files,
            resource.RLIMIT_FSIZE: -(-self.disk_cap() // _PAGES) * _PAGES,
            resource.RLIMIT_DATA: self.memory_cap(),
            resource.RLIMIT_MEMLOCK: 64 << 10,
            resource.RLIMIT_MSGQUEUE: 0,
        }
