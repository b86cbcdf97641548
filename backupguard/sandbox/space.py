"""Watches the disk a run fills: its own use stays below a cap, the host keeps a reserve."""

from __future__ import annotations

import math
import os
import re
import threading
import time
from pathlib import Path

from backupguard.contracts import Cancel, Command
from backupguard.errors import BackupGuardError, MissingMeans, TimedOut
from backupguard.model import Message
from backupguard.processes import Jail
from backupguard.sandbox.limits import SandboxLimits

#: A measurement by walking is repeated after this long, and costs at most 1/20 of the time.
MEASURE_SECONDS = 3.0
_COST = 20.0
_SOONEST = 1.0
_UNREADABLE = re.compile(rb"ermission denied")


class _Never:
    """A cancel that nobody sets: measuring and disposal go on when the run is cancelled."""

    def is_set(self) -> bool:
        return False

    def raise_if_set(self) -> None:
        return

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


NEVER: Cancel = _Never()


def measure(directory: Path, cancel: Cancel = NEVER) -> tuple[int, bool]:
    """Return the bytes on disk below a directory, and whether all of it could be read.

    `du` in a jail and not a walk of ours: trees 3,000 directories deep are no trouble to it, and it
    can hurt nobody. Files that vanish meanwhile are no trouble either. Raises TimedOut (phase_limit)
    after 10 minutes, Cancelled.
    """
    done = Jail(directory, cancel).run(
        Command(
            argv=("du", "--summarize", "--one-file-system", "--block-size=1", "--", str(directory)),
            read=(directory,),
            timeout_s=600,
        )
    )
    figure = done.stdout.split(b"\t")[0].strip()
    return int(figure) if figure.isdigit() else 0, not _UNREADABLE.search(done.stderr)


class ScratchGuard:
    """Says when a run has filled its share of the disk. Cheap enough to be asked 5 times a second.

    Free space is read each time (one system call); the tree is measured only when it could have
    passed its cap, and now and then. Deleted files that are still open do not show in the tree: the
    reserve stands for them.
    """

    def __init__(self, directory: Path, limits: SandboxLimits, cancel: Cancel = NEVER) -> None:
        self.directory = directory
        self._cancel = cancel
        self.limits = limits
        self._lock = threading.Lock()
        self._used = 0
        self._free_then = self._free()
        self._measured_at = time.monotonic()
        self._pause = _SOONEST

    def _free(self) -> int:
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def reserve(self) -> int:
        """Return the bytes that stay free on the directory's file system."""
        status = os.statvfs(self.directory)
        share = status.f_blocks * status.f_frsize * self.limits.reserve_percent // 100
        return max(share, self.limits.reserve_bytes)

    def check(self) -> None:
        """Raise MissingMeans (no_disk) below the reserve, TimedOut (scratch_limit) above the cap."""
        status = os.statvfs(self.directory)
        if status.f_files and status.f_favail * 100 < status.f_files * self.limits.reserve_percent:
            raise MissingMeans("no_disk", Message(id="error.no_inodes", values={}))
        free, reserve = self._free(), self.reserve()
        if free < reserve:
            raise _no_disk(self.directory, free, reserve)
        with self._lock:
            self._check_use(free)

    def used(self) -> int:
        """Return the bytes below the directory when it was last measured."""
        return self._used

    def look(self) -> None:
        """Do as `check`, and measure whenever it was last done: to explain an error by its cause."""
        with self._lock:
            self._measured_at = -math.inf
        self.check()

    def _check_use(self, free: int) -> None:
        estimate = self._used + max(0, self._free_then - free)
        waited = time.monotonic() - self._measured_at
        over = estimate > self.limits.disk_cap()
        if waited < (self._pause if over else max(self._pause, MEASURE_SECONDS)):
            return
        began = time.monotonic()
        used, complete = measure(self.directory, self._cancel)
        self._measured_at = time.monotonic()
        self._pause = max(_SOONEST, _COST * (self._measured_at - began))
        # what hides itself from measuring is counted as what the disk lost meanwhile
        self._used = used if complete else max(used, estimate)
        self._free_then = self._free()
        if self._used > self.limits.disk_cap():
            raise TimedOut("scratch_limit", used=self._used, limit=self.limits.disk_cap())


def _no_disk(directory: Path, free: int, reserve: int) -> BackupGuardError:
    return MissingMeans(
        "no_disk",
        remedy=Message(id="remedy.no_disk", values={"path": str(directory)}),
        path=str(directory),
        free=free,
        reserve=reserve,
    )
