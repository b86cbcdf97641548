"""Locks that programs hold on files of this host, seen without touching them.

pgBackRest and Barman lock a file with flock(2) and write their process number into it. Trying the
lock would hold it for a moment, so the kernel's own list is read instead (proc(5), /proc/locks).
"""

from __future__ import annotations

import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

from backupguard.contracts import LockSeen

_LOCKS = Path("/proc/locks")
_PID = re.compile(rb'\A\s*(\d{1,10})\b|"pid":\s*(\d{1,10})')


def lock_of(path: Path) -> LockSeen | None:
    """Return what a lock file says of its holder; None where there is no such file to be read.

    `alive` is True while somebody holds the lock, False where the file was only left behind.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        content = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    match = _PID.search(content)
    return LockSeen(
        holder_host=socket.gethostname(),
        holder_pid=int(match[1] or match[2]) if match else None,
        since=datetime.fromtimestamp(int(status.st_mtime), UTC),
        exclusive=True,
        alive=_is_held(status),
    )


def _is_held(status: os.stat_result) -> bool | None:
    number = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return any(number in line.split() for line in lines)
