"""The process that performs one run: `backupguard perform RUN --settings FILE`.

It is started by the daemon's main thread, in a session of its own, and ends with the daemon: the
kernel sends SIGTERM when that thread dies. Signals say who wants the run to end: SIGTERM a stop,
SIGUSR1 an operator, SIGUSR2 the run's deadline.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from backupguard.daemon.memory import without_ornaments
from backupguard.errors import (
    EXIT_DONE,
    EXIT_NOT_PROVED,
    BackupGuardError,
    Busy,
)
from backupguard.undumped import forbid_dumps

if TYPE_CHECKING:
    from backupguard.runs import Task

PR_SET_PDEATHSIG = 1

#: sysexits' EX_TEMPFAIL: somebody else performs the run, or what excludes it.
EXIT_BUSY = 75

DEADLINE = signal.SIGUSR2

REASONS = {
    signal.SIGTERM: "by_stop",
    signal.SIGINT: "by_stop",
    signal.SIGUSR1: "by_operator",
    DEADLINE: "by_stop",
}


def die_with(parent: int) -> bool:
    """Have the kernel send SIGTERM when the parent's thread dies; False when it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    return os.getppid() == parent


def perform_run(run: str, settings_file: Path, *, parent: int | None = None) -> int:
    """Perform a waiting run with the settings of a file the daemon wrote; return the exit status.

    What the run concluded is in the store; the status only says whether it was performed. With
    `parent`, the run ends when that process does.
    """
    if parent is not None and not die_with(parent):
        return EXIT_NOT_PROVED
    forbid_dumps()
    # signals first: a run that is cancelled while it imports must not end without a word
    from backupguard.processes import Cancellation

    cancel = Cancellation()
    heard: list[int] = []

    def wanted(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        cancel.set(REASONS[signal.Signals(number)])

    for number in REASONS:
        signal.signal(number, wanted)

    import structlog

    from backupguard import runs
    from backupguard import settings as configuration
    from backupguard.daemon.escrow import read_key
    from backupguard.daemon.log import configure
    from backupguard.daemon.tasks import TASKS, restore_test
    from backupguard.processes.owner import become_owner
    from backupguard.store import open_store

    configure()
    log = structlog.get_logger(__name__).bind(run=run)
    try:
        settings = configuration.from_file(settings_file)
        become_owner(settings.state_directory)
        store = open_store(
            settings.state_directory,
            settings.store.url,
            site=settings.site.name,
            timezone=settings.site.timezone,
            channels=settings.channels,
        )
        try:
            found = store.run(run)
            if found is None:
                log.error("run.unknown")
                return EXIT_NOT_PROVED
            known: dict[str, Task] = {
                **TASKS,
                "restore-test": partial(restore_test, handed=partial(read_key, 0)),
            }
            tasks = {
                name: runs.limited(task, lambda: heard[:1] == [DEADLINE])
                for name, task in known.items()
            }
            runs.perform(found, settings, store, cancel, tasks)
        finally:
            store.close()
    except Busy as error:
        log.info("run.busy", code=error.code)
        return EXIT_BUSY
    except BackupGuardError as error:
        log.exception("run.not-performed", code=error.code)
        return EXIT_NOT_PROVED
    return EXIT_DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as `python -m backupguard.daemon.runner`; without the weight of the command line."""
    parser = argparse.ArgumentParser(prog="backupguard perform")
    parser.add_argument("run")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--parent", type=int)
    chosen = parser.parse_args(arguments)
    without_ornaments()
    return perform_run(chosen.run, chosen.settings, parent=chosen.parent)


if __name__ == "__main__":
    sys.exit(main())
