"""What operators ask of a living daemon, done: runs, pauses, reloads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import structlog

from backupguard import __version__
from backupguard.contracts import Tools
from backupguard.daemon import configuration, elsewhere, escrow, pauses, requests
from backupguard.daemon.clock import utc_now
from backupguard.daemon.loop import Daemon
from backupguard.daemon.statements import Statements
from backupguard.errors import Busy, ConfigurationError, Unreachable, UsageError
from backupguard.model import (
    SITE,
    Json,
    Message,
    Run,
    RunState,
    application_subject,
    repository_subject,
)
from backupguard.settings import Settings

T = TypeVar("T")

events = structlog.get_logger(__name__)


class DaemonOperations:
    """`control.Operations` over the daemon of this process."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._reloading = asyncio.Lock()

    def about(self) -> Mapping[str, Json]:
        """Return what the daemon is and what it does now."""
        pause = self.daemon.agenda.paused
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": self.daemon.began_at.isoformat(),
            "settings_sha256": self.daemon.settings.sha256,
            "running": len(self.daemon.runners),
            "paused": pause is not None,
            "paused_until": pause.until.isoformat() if pause and pause.until else None,
            "stopping": self.daemon.stopping.is_set(),
        }

    async def enqueue(
        self, task: str, subject: str, options: Json, author: str, key: bytes | None = None
    ) -> Run:
        """Insert a run, with the key a person brought for it.

        Raises UsageError for an unknown subject, Busy (already_running) for a second restore test of
        an application.
        """
        of_the_site = (
            *("inventory", "discovery", "offline", "isolation", "drift", "imports"),
            *("report", "plan", "anchor", "self-test"),
        )
        known = {name: [SITE] for name in of_the_site}
        known["integrity"] = known["immutability"] = [
            repository_subject(name) for name in self.daemon.settings.repositories
        ]
        known["restore-test"] = [
            application_subject(name) for name in self.daemon.settings.applications
        ]
        if subject not in known[task]:
            raise UsageError("unknown_subject", subject=subject)
        if self.daemon.stopping.is_set():
            raise Unreachable("refused")
        if task == "restore-test":
            await self._refuse_second(subject)
        options = {name: value for name, value in options.items() if name != escrow.HANDED}
        if key is not None:  # kept before the run exists, which may start at once
            options[escrow.HANDED] = self.daemon.keys.put(key)
        asked = requests.request(task, subject, requested_by=author, options=options)
        run = await self.daemon.in_pool(self.daemon.store.enqueue, asked)
        events.info("run.asked", run=run.id, task=task, subject=subject, author=author)
        self.daemon.wake()
        return run

    async def _refuse_second(self, subject: str) -> None:
        """Raise Busy (already_running) while a restore test of the application is performed.

        It would wait for that test's end and then say the same of the same copy.
        """
        running = await self.daemon.in_pool(self.daemon.store.runs, states=[RunState.RUNNING])
        for one in running:
            if (one.request.task, one.request.subject) == ("restore-test", subject):
                raise Busy(
                    "already_running", Message(id="error.test_running", values={"run": one.id})
                )

    async def run(self, run: str) -> Run | None:
        """Return a run."""
        return await self.daemon.in_pool(self.daemon.store.run, run)

    async def runs(self) -> tuple[Run, ...]:
        """Return the runs that wait or run."""
        return await self.daemon.in_pool(
            self.daemon.store.runs, states=[RunState.WAITING, RunState.RUNNING]
        )

    async def cancel(self, run: str, author: str) -> bool:
        """End a run; False when it has ended already."""
        marked = await self.daemon.in_pool(self.daemon.store.cancel, run, author)
        events.info("run.cancel", run=run, author=author, marked=marked)
        if not self.daemon.runners.cancel(run):
            ended = await self.run(run)
            if ended is not None and ended.state is not RunState.WAITING:
                self.daemon.keys.forget(ended)
        self.daemon.judge.poke()
        return marked

    async def pause(self, until: datetime | None, reason: str, author: str) -> None:
        """Start nothing by itself until then."""
        now = utc_now()
        await self.daemon.in_pool(
            pauses.start, self.daemon.store, until=until, reason=reason, author=author, now=now
        )
        await self._pause_changed()

    async def end_pause(self, reason: str, author: str) -> bool:
        """End the pause; False when there is none."""
        ended = await self.daemon.in_pool(
            pauses.end, self.daemon.store, reason=reason, author=author, now=utc_now()
        )
        await self._pause_changed()
        return ended

    async def _pause_changed(self) -> None:
        # at once, not at the next tick: "paused" must be true when the operator reads it
        self.daemon.agenda.paused = await self.daemon.in_pool(pauses.standing, self.daemon.store)
        await self.daemon.in_pool(self.daemon.agenda.rebuild)
        self.daemon.judge.poke()

    async def state(self, work: Callable[[Statements], T]) -> T:
        """Have what people state and accept done or told, then judge what changed."""
        effective = self.daemon.effective
        statements = Statements(self.daemon.store, effective.settings, effective.catalogue)
        done = await self.daemon.in_pool(work, statements)
        self.daemon.judge.poke()
        return done

    def tools(self) -> Tools:
        """Return what verifies signatures: a jail whose calls end with the daemon."""
        return elsewhere.tools(self.daemon.settings.state_directory, self.daemon.leftovers.cancel)

    def settings(self) -> Settings:
        """Return the settings that hold."""
        return self.daemon.settings

    def reload_soon(self) -> None:
        """Load the settings again, for SIGHUP: what is wrong with them is recorded and logged."""

        async def quietly() -> None:
            with suppress(ConfigurationError):
                await self.reload("signal/SIGHUP")

        self.daemon.spawn(quietly())

    async def reload(self, author: str) -> None:
        """Load the settings again; raises ConfigurationError, and the old ones stay."""
        async with self._reloading:
            self.daemon.tells.reloading()
            status = "ready; the last configuration was rejected"
            try:
                await asyncio.wrap_future(
                    self.daemon.judge.submit(lambda: self._load_again(author))
                )
                await self.daemon.in_pool(self.daemon.agenda.rebuild)
                status = "ready"
            finally:
                self.daemon.tells.ready(status)

    def _load_again(self, author: str) -> None:
        """Validate, record and swap; in the thread `assess`, which judges by it right after."""
        before = self.daemon.effective
        try:
            settings, catalogue = configuration.load(self.daemon.path, holding=before.settings)
        except ConfigurationError as error:
            configuration.reject(self.daemon.store, error, author=author, now=utc_now())
            raise
        after = configuration.accept(
            self.daemon.store, settings, catalogue, author=author, now=utc_now(), keep=before.file
        )
        self.daemon.store.listen(settings.channels)
        self.daemon.judge.use(settings, catalogue)
        self.daemon.effective = after
