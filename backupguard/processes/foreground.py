"""Runs somebody's own command in the foreground: its terminal, its environment, its signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

#: What a shell answers for a program that is not there, and for one that may not be run.
NOT_FOUND, NOT_EXECUTABLE = 127, 126

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def run_in_foreground(argv: Sequence[str]) -> int:
    """Run a command to its end and return its exit code; 128 + N when signal N ended it.

    Nothing is added to or taken from it: input, output and environment are the caller's. SIGTERM and
    SIGHUP are passed on; SIGINT and SIGQUIT of a terminal reach it anyway, and are only outlived here.
    """
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if child is not None and number in (signal.SIGTERM, signal.SIGHUP):
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        child = subprocess.Popen(list(argv))
        code = child.wait()
    except OSError:
        # The error may be of a directory on PATH that we may not look into, not of the command.
        is_there = shutil.which(argv[0], os.F_OK) is not None
        return NOT_EXECUTABLE if is_there else NOT_FOUND
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
