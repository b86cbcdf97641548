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
from typing import Protocol

import structlog

from backupguard.daemon import elsewhere
from backupguard.daemon.attendant import INHERITED
from backupguard.model import Run

log = structlog.get_logger(__name__)

#: Seconds a runner has to close its run once it was asked to end.
GRACE_S = 20.0

#: Given (run, exit status) when a runner is gone; a negative status is the signal that ended it.
Ended = Callable[[Run, int], None]


class Process(Protocol):
    """A runner's process, wherever it was started. `pid` is 0 where it is not known."""

    pid: int

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is something to know."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended is left alone."""

    def status(self) -> int | None:
        """Return how it ended, a negative number for a signal; None while it has not."""

    def close(self) -> None:
        """Give the descriptors back."""


class Child:
    """A runner that this process has started itself."""

    def __init__(self, run: str, settings_file: Path, key: int | None) -> None:
        """Start it. It dies with the thread that forks it: that must be the main one."""
        self._process = subprocess.Popen(
            command(run, settings_file),
            stdin=subprocess.DEVNULL if key is None else key,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)

    def fileno(self) -> int:
        """Return the process' pidfd."""
        return self._pidfd

    def send(self, number: signal.Signals) -> None:
        """Send a signal, by pidfd: a process id may belong to somebody else by now."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def status(self) -> int | None:
        """Reap it and return its status."""
        return self._process.wait()

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self._pidfd)


@dataclass(slots=True, kw_only=True)
class Runner:
    """A process that performs a run, and the clocks that run against it."""

    run: Run
    process: Process
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

        `key` is a descriptor from which it may read the one secret it was handed. In a unit of its own
        where the daemon's unit names a socket for that, as a child of this process elsewhere.
        """
        process = self._process(run, settings_file, key)
        runner = Runner(run=run, process=process)
        self._running[run.id] = runner
        self._empty.clear()
        self._loop.add_reader(process.fileno(), self._reap, runner)
        limit = self._loop.call_later(within.total_seconds(), self._limit, runner)
        runner.clocks.append(limit)
        log.info("runner.started", run=run.id, task=run.request.task, pid=process.pid)

    def _process(self, run: Run, settings_file: Path, key: int | None) -> Process:
        place = elsewhere.place()
        if place is not None:
            try:
                return elsewhere.Attended(place, run.id, settings_file, key)
            except OSError as error:
                # What needs no sandbox can be done here as well; the rest says what it lacks.
                log.warning("runner.no-unit", run=run.id, error=error.strerror)
        return Child(run.id, settings_file, key)

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
        runner.process.send(number)
        runner.clocks.append(self._loop.call_later(self.grace_s, self._kill, runner))

    def _kill(self, runner: Runner) -> None:
        log.warning("runner.killed", run=runner.run.id)
        runner.process.send(signal.SIGKILL)

    def _reap(self, runner: Runner) -> None:
        status = runner.process.status()
        if status is None:
            return
        self._loop.remove_reader(runner.process.fileno())
        runner.process.close()
        for clock in runner.clocks:
            clock.cancel()
        del self._running[runner.run.id]
        if not self._running:
            self._empty.set()
        log.info("runner.ended", run=runner.run.id, status=status)
        self.ended(runner.run, status)
