"""Runs one of our own modules in a process of its own, whose memory is gone with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from backupguard.contracts import Cancel, Completed
from backupguard.errors import TimedOut
from backupguard.model import Message

TICK_SECONDS = 0.1
#: Of what the child said last: enough for the line that names the cause.
_SAID_LIMIT = 16 * 1024


def run_module(
    module: str,
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    cancel: Cancel | None = None,
) -> Completed:
    """Run `python -m MODULE ARGUMENTS` to its end and return how it ended; it is gone whatever happens.

    It finds `environment` and nothing else of ours, reads nothing, and what it prints to standard
    error is returned, cut. Raises TimedOut (phase_limit), and what `cancel` raises.
    """
    argv = [sys.executable, "-P", "-m", module, *(str(part) for part in arguments)]
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
        try:
            _wait(process, module, started + timeout_s, timeout_s, cancel)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        size = said.seek(0, 2)
        said.seek(max(0, size - _SAID_LIMIT))
        stderr = said.read()
    return Completed(
        returncode=process.returncode,
        stdout=b"",
        stderr=stderr,
        truncated=size > _SAID_LIMIT,
        duration_ms=round((time.monotonic() - started) * 1000),
    )


def _wait(
    process: subprocess.Popen[bytes],
    module: str,
    deadline: float,
    timeout_s: float,
    cancel: Cancel | None,
) -> None:
    while True:
        try:
            process.wait(TICK_SECONDS)
        except subprocess.TimeoutExpired:
            if cancel is not None:
                cancel.raise_if_set()
            if time.monotonic() > deadline:
                values: dict[str, int | str] = {"program": module, "seconds": round(timeout_s)}
                message = Message(id="processes.phase_limit", values=values)
                raise TimedOut("phase_limit", message) from None
        else:
            return
