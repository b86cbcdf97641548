"""Getting rid of what a restore left: hostile trees, dead runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from backupguard.contracts import Command, Tools
from backupguard.errors import AccessRefused, BackupGuardError
from backupguard.processes import Jail
from backupguard.sandbox.space import NEVER

LOCK = "lock"
_HOURS = 6 * 3600


def discard(directory: Path, tools: Tools | None = None) -> None:
    """Remove a directory and all below it, whatever a restore put there; nothing is no error.

    `rm` in a jail that can write to this directory only: it follows no link, crosses into no other
    file system, and is at home in trees thousands of directories deep. The jail is made here, or is
    the one of `tools`. Raises AccessRefused (permission) when something stays.
    """
    if directory.is_symlink():
        directory.unlink()
        return
    if not directory.exists():
        return
    directory = directory.absolute()
    jail = Jail(directory.parent, NEVER) if tools is None else tools
    remove = ("rm", "--recursive", "--force", "--one-file-system", "--", str(directory))
    # directories without permissions cannot be emptied: they are ours, so we may give them some
    permit = ("chmod", "--recursive", "--silent", "u+rwx", "--", str(directory))
    for argv in (remove, permit, remove):
        jail.run(Command(argv=argv, write=(directory,), timeout_s=_HOURS))
        # inside, the directory is a mount and stays; what was in it is gone
        with contextlib.suppress(OSError):
            directory.rmdir()
        if not directory.exists():
            return
    raise AccessRefused("permission", path=str(directory))


def sweep(
    runs_directory: Path, is_alive: Callable[[str], bool], tools: Tools | None = None
) -> tuple[str, ...]:
    """Remove what killed runs left below `runs_directory`; return the ids of the runs removed.

    A run is dead when nobody holds its `lock` file and `is_alive(id)` says no. Its processes that
    are still there are killed first. What cannot be removed, or not now, stays for the next sweep.
    """
    removed: list[str] = []
    directories = sorted(runs_directory.iterdir()) if runs_directory.is_dir() else []
    for directory in directories:
        if directory.is_symlink() or not directory.is_dir() or is_alive(directory.name):
            continue
        with _free_lock(directory) as free:
            if not free:
                continue
            _kill_leftovers(directory.name)
            with contextlib.suppress(BackupGuardError):
                discard(directory, tools)
                removed.append(directory.name)
    return tuple(removed)


@contextlib.contextmanager
def _free_lock(directory: Path) -> Iterator[bool]:
    """Yield whether nobody held the run's lock; we hold it meanwhile. No lock file: nobody did."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    except OSError:  # a link, a directory: no runner of ours made it
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _kill_leftovers(run: str) -> None:
    """Kill our processes that still have a mount of this run: ids are unique, so a name suffices.

    Jail and sandbox die with their runner; this is for the moment between a fork and that promise.
    """
    sought = re.compile(b"/" + re.escape(run.encode()) + b"[/ ]")
    for name in [entry.name for entry in Path("/proc").iterdir()]:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if sought.search(Path("/proc", name, "mountinfo").read_bytes()):
                os.kill(int(name), signal.SIGKILL)
