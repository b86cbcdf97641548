"""The processes of a run that can be killed, and what they are."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: It tells what was said while a dump was loaded; after that nobody asks it.
LOGGER = "logger"


def hit(pid: int) -> bool:
    """Kill a process; tell whether there was one that had not ended, and could not end, by itself.

    It is stopped first: one that is about to end is none that was killed. Neither is bubblewrap's own
    process once the program in it has ended, for its status was told by then.
    """
    with suppress(OSError):
        os.kill(pid, signal.SIGSTOP)
        for _ in range(500):
            state = state_of(pid)
            if state in "tT":
                idle = name_of(pid) == "bwrap" and not _at_work(pid)
                os.kill(pid, signal.SIGCONT if idle else signal.SIGKILL)
                return not idle
            if state in "ZX":
                return False
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)  # waits for the kernel: it cannot end by itself either
        return True
    return False


def _at_work(pid: int) -> bool:
    """Tell whether a process of bubblewrap's has a program below it that has not ended."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for child in map(int, children):
            with suppress(OSError):
                if name_of(child) == "bwrap":
                    if _at_work(child):
                        return True
                elif state_of(child) not in "ZX":
                    return True
    return False


def state_of(pid: int) -> str:
    """Return the letter of a process's state; raises OSError when it is gone."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()[0]


def name_of(pid: int) -> str:
    """Return a process's program; of PostgreSQL's the one that only writes the log has its own name."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        writes = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"postgres: logger")
        return LOGGER if writes else name
    return "gone"


def in_sandbox(pid: int) -> bool:
    """Tell whether a process is in a sandbox, and not in the jail of a backup tool."""
    with suppress(OSError):
        return b" /in " in Path(f"/proc/{pid}/mountinfo").read_bytes()
    return False


def runner_of(run: str) -> list[int]:
    """Return the process that performs a run."""
    wanted = f"backupguard.daemon.runner\0{run}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def locked() -> Iterator[str]:
    """Yield the files of this user on which some process holds a lock."""
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        found = re.search(r" (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ", line)
        if not found:
            continue
        with suppress(OSError):
            for link in Path(f"/proc/{found[1]}/fd").iterdir():
                with suppress(OSError):
                    if link.stat().st_ino == int(found[2]):
                        yield os.readlink(link)  # noqa: PTH115 - it may be deleted
