"""Starts, ends and reaps runners: one process per run, from the main thread only."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from backupguard.model import Run

log = structlog.get_logger(__name__)

#: Seconds a runner has to close its run once it was asked to end.
GRACE_S = 20.0

#: What a runner inherits: where things are, how text is written. No secret is among them.
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "CREDENTIALS_DIRECTORY",
    "JOURNAL_STREAM",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)

#: Given (run, exit status) when a runner is gone; a negative status is the signal that ended it.
Ended = Callable[[Run, int], None]


@dataclass(slots=True, kw_only=True)
class Runner:
    """A process that performs a run, and the clocks that run against it."""

    run: Run
    process: subprocess.Popen[bytes]
    pidfd: int
    asked_to_end: bool = False
    clocks: list[asyncio.TimerHandle] = field(default_factory=list)


def command(run: str, settings_file: Path) -> list[str]:
    """Return the argv that performs a run."""
    module = ["-P", "-m", "backupguard.daemon.runner"]
    return [
        sys.executable,
        *module,
        run,
        "--settings",
        str(settings_file),
        "--parent",
        str(os.getpid()),
    ]


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a runner finds in its environment."""
    values = os.environ if environ is None else environ
    return {name: values[name] for name in INHERITED if name in values}


class Runners:
    """The runners of this daemon. Every method belongs to the event loop's thread."""

    def __init__(self, ended: Ended, *, grace_s: float = GRACE_S) -> None:
        self.ended = ended
        self.grace_s = grace_s
        self._running: dict[str, Runner] = {}
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, run: object) -> bool:
        return run in self._running

    def used(self) -> Counter[str]:
        """Return how many runners count against each resource."""
        return Counter(runner.run.request.resource for runner in self._running.values())

    def excluded(self) -> frozenset[str]:
        """Return what no other run may share now."""
        return frozenset(runner.run.request.exclusive for runner in self._running.values())

    def start(
        self, run: Run, settings_file: Path, within: timedelta, key: int | None = None
    ) -> None:
        """Start the process of a waiting run; it is ended when it takes longer than `within`.

        `key` is a descriptor from which it may read the one secret it was handed. The child dies with
        the thread that forks it, so that must be the main one: no executor here.
        """
        process = subprocess.Popen(
            command(run.id, settings_file),
            stdin=subprocess.DEVNULL if key is None else key,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )
        runner = Runner(run=run, process=process, pidfd=os.pidfd_open(process.pid))
        self._running[run.id] = runner
        self._empty.clear()
        self._loop.add_reader(runner.pidfd, self._reap, runner)
        limit = self._loop.call_later(within.total_seconds(), self._limit, runner)
        runner.clocks.append(limit)
        log.info("runner.started", run=run.id, task=run.request.task, pid=process.pid)

    def cancel(self, run: str) -> bool:
        """Ask a runner to end because an operator wants it; False when there is none."""
        runner = self._running.get(run)
        if runner is not None:
            self._ask(runner, signal.SIGUSR1)
        return runner is not None

    async def stop(self) -> None:
        """Ask all runners to end, and wait until the last is gone, by force at the end."""
        for runner in list(self._running.values()):
            self._ask(runner, signal.SIGTERM)
        await self._empty.wait()

    def _limit(self, runner: Runner) -> None:
        log.warning("runner.deadline", run=runner.run.id)
        self._ask(runner, signal.SIGUSR2)

    def _ask(self, runner: Runner, number: signal.Signals) -> None:
        if runner.asked_to_end:
            return
        runner.asked_to_end = True
        self._signal(runner, number)
        runner.clocks.append(self._loop.call_later(self.grace_s, self._kill, runner))

    def _kill(self, runner: Runner) -> None:
        log.warning("runner.killed", run=runner.run.id)
        self._signal(runner, signal.SIGKILL)

    def _signal(self, runner: Runner, number: signal.Signals) -> None:
        # by pidfd: a process id may belong to somebody else by now
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(runner.pidfd, number)

    def _reap(self, runner: Runner) -> None:
        status = runner.process.wait()
        self._loop.remove_reader(runner.pidfd)
        os.close(runner.pidfd)
        for clock in runner.clocks:
            clock.cancel()
        del self._running[runner.run.id]
        if not self._running:
            self._empty.set()
        log.info("runner.ended", run=runner.run.id, status=status)
        self.ended(runner.run, status)
