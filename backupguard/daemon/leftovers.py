"""Closes the runs whose process died and removes what they left, beside all else that the daemon does.

A restored tree can take hours to remove: neither the start nor the next run nor the stop waits for it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from backupguard import runs
from backupguard.contracts import Store, Tools
from backupguard.daemon import elsewhere
from backupguard.daemon.clock import utc_now
from backupguard.model import Closing, Run, RunState, Verdict
from backupguard.processes import Cancellation, Jail
from backupguard.store.diary import closing_observation

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: At the end it goes on for so long; the next start does the rest.
LAST_S = 5.0

events = structlog.get_logger(__name__)


def give_up(store: Store, run: Run, status: int) -> None:
    """Close a run that no process could take up: a fact, not a silence.

    An end without a word, where runs have a unit of their own, is a unit that does not start.
    """
    where: dict[str, str] = {}
    code, verdict, state = "bug", Verdict.COULD_NOT_VERIFY, RunState.FINISHED
    if elsewhere.place() is not None and status == -signal.SIGKILL:
        code, where = "sandbox_unavailable", {"see": "systemctl status 'backupguard-runner@*'"}
    fact = closing_observation(run, state=state, verdict=verdict, code=code, now=utc_now())
    closing = Closing(run=run.id, state=state, verdict=verdict, code=code)
    store.append([fact], run=run.id, author=run.request.requested_by, closing=closing)
    runs.seal_or_tell(store)
    events.error("run.given-up", run=run.id, task=run.request.task, code=code, **where)


class Leftovers:
    """What dead runs of this host left. Sweeps go on in one thread of their own, one at a time."""

    def __init__(
        self, settings: Callable[[], Settings], store: Store, living: Container[str]
    ) -> None:
        """`living` are the runs whose process is known to be there, as it changes."""
        self.unswept = True
        self.cancel = Cancellation()  # ends what goes on
        self._settings = settings
        self._store = store
        self._living = living
        self._sweeping = False
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sweep")

    def look(self, running: Sequence[Run]) -> None:
        """Have runs of this host that nobody performs looked at again: a lock can be held long."""
        host = socket.gethostname()
        if any(run.host == host and run.id not in self._living for run in running):
            self.unswept = True

    def wanted(self) -> bool:
        """Tell whether there is something to sweep, and nobody does it."""
        return self.unswept and not self._sweeping and not self.cancel.is_set()

    async def sweep(self) -> None:
        """Close what died and remove what it left; what fails is wanted again. Not twice at a time."""
        if not self.wanted():
            return
        self._sweeping, self.unswept, done = True, False, False
        try:
            tools = elsewhere.tools(self._settings().runs_directory, self.cancel)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._pool, self._recover, tools)
            done = not self.cancel.is_set()
        finally:
            self._sweeping = False
            self.unswept = self.unswept or not done

    def close(self) -> None:
        """Close the runs whose process died, and leave what they left to the next sweep."""
        runs.close_dead(self._settings(), self._store, is_alive=self._living.__contains__)

    def last(self) -> None:
        """Sweep at the daemon's end: by no other unit, for this one is being stopped, nor for long."""
        enough = Cancellation()
        clock = threading.Timer(LAST_S, enough.set, ["by_stop"])
        clock.start()
        try:
            self._recover(Jail(self._settings().runs_directory, enough))
        finally:
            clock.cancel()

    def end(self) -> None:
        """Wait for the thread; `cancel` was set before."""
        self._pool.shutdown()

    def _recover(self, tools: Tools) -> None:
        runs.recover(self._settings(), self._store, is_alive=self._living.__contains__, tools=tools)
