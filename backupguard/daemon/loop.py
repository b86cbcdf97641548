"""The daemon while its event loop runs: beat, watch, start what waits, end in order."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import structlog

from backupguard import __version__, runs
from backupguard.daemon import cadence, configuration, custody, dispatch
from backupguard.daemon.agenda import Agenda
from backupguard.daemon.clock import StepWatch, utc_now
from backupguard.daemon.couriers import couriers
from backupguard.daemon.escrow import HandedKeys
from backupguard.daemon.job_reports import JobReports
from backupguard.daemon.judge import FULL_EVERY_S, Judge
from backupguard.daemon.leftovers import Leftovers, give_up
from backupguard.daemon.notices import Notices
from backupguard.daemon.runner import EXIT_BUSY
from backupguard.daemon.runners import Runners
from backupguard.daemon.systemd import Notifier
from backupguard.daemon.vantage_reports import VantageReports
from backupguard.errors import EXIT_DONE, BackupGuardError, StoreError
from backupguard.model import (
    SITE,
    Json,
    Message,
    Observation,
    Run,
    RunState,
    to_us,
)
from backupguard.resources import shipped
from backupguard.web.published import Outputs, Records
from backupguard.web.server import QuietServer

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.store.sql import SqlStore

events = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two looks at clock, threads and room.
BEAT_S = 5.0

#: An agenda that has not ticked, or a judgement that has not ended, for so long is stuck.
AGENDA_STUCK_S = 60.0
ASSESSMENT_STUCK_S = 300.0

#: Below this no run is started: the store could not record how it ends.
ROOM_BYTES = 64 * 1024 * 1024

#: A run whose process dies before it takes the run up is given up after so many times.
STARTS_LIMIT = 3

COPY_EVERY = timedelta(days=1)


def daemon_fact(kind: str, data: Mapping[str, Json], now: datetime) -> Observation:
    """Return a fact about the daemon itself, of this host and moment."""
    key = f"{kind.replace('.', '/')}/{socket.gethostname()}/{to_us(now)}"
    return Observation(kind=kind, subject=SITE, observed_at=now, data=dict(data), key=key)


def _runbooks() -> Path | None:
    try:
        return shipped("runbooks")
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the daemon stands on before its loop begins."""

    settings_path: Path | None
    effective: configuration.Effective
    store: SqlStore


class Daemon:
    """The daemon while its loop runs. Every method belongs to the main thread.

    The store is only touched by the threads `agenda` and `assess` and by a pool of two: a writer
    that waits for its turn must not stop the beat.
    """

    def __init__(self, place: Place, tells: Notifier) -> None:
        self.path = place.settings_path
        self.effective = place.effective
        self.store = place.store
        self.tells = tells
        self.began_at = utc_now()
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.reason = ""
        self.steps = StepWatch()
        self.outputs = Outputs(
            reports=self.settings.state_directory / "reports",
            runbooks=_runbooks(),
            unhealthy=self.unhealthy,
            unready=self.unready,
            take_report=JobReports(lambda: self.settings, utc_now).take,
            take_vantage=VantageReports(
                lambda: self.settings,
                self.store,
                utc_now,
                lambda work: self._pool.submit(work).result(),
            ).take,
            records=Records(
                store=self.store,
                settings=lambda: self.settings,
                media=lambda: custody.register(self.store, self.settings, utc_now()),
                bundles=self.settings.state_directory / "evidence",
            ),
        )
        self.judge = Judge(
            self.store, self.settings, self.effective.catalogue, self.outputs, utc_now
        )
        self.notices = Notices(
            self.store,
            lambda: self.settings,
            lambda: self.effective.catalogue,
            utc_now,
            self._judging,
        )
        self.judge.heard = self.notices.heard
        self.couriers = couriers(self.store, lambda: self.settings, utc_now)
        self.agenda = Agenda(
            self.store,
            lambda: self.settings,
            self._wake_from_thread,
            utc_now,
            stepped=StepWatch().step,
        )
        self.runners = Runners(self._ended)
        self.keys = HandedKeys()
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="store")
        self.leftovers = Leftovers(lambda: self.settings, self.store, self.runners)
        self._starts: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._copied_at: datetime | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> Settings:
        """The settings that hold now."""
        return self.effective.settings

    async def in_pool(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have a thread of the pool do something with the store."""
        return await self.loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))

    # ------------------------------------------------------------------------------------ life

    async def live(
        self,
        sockets: list[tuple[QuietServer, socket.socket]],
        hung_up: Callable[[], None],
    ) -> None:
        """Work until somebody wants the end; `hung_up` is called for SIGHUP."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        self.loop.add_signal_handler(signal.SIGHUP, hung_up)
        served = [asyncio.create_task(one.serve(sockets=[bound])) for one, bound in sockets]
        # the first judgement comes before READY: a configured subject has its series at once
        await self.in_pool(self.judge.judge)
        while not all(one.started for one, _ in sockets):
            for task in served:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)
        self.judge.start()
        self.notices.start()
        for courier in self.couriers:
            courier.start()
        self.agenda.start()
        self.tells.ready("ready")
        events.info("daemon.ready", version=__version__, listen=self.settings.http.listen)
        chores = [asyncio.create_task(self._beat()), asyncio.create_task(self._dispatch())]
        await self.stopping.wait()
        self.tells.stopping("ending runs")
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        await self.runners.stop()
        await self.in_pool(self.agenda.stop)
        for task in list(self._tasks):
            await asyncio.wait([task], timeout=30)
        await self.in_pool(self._record_stop)
        await self.in_pool(self.judge.stop)
        await self.in_pool(self.notices.stop)
        for courier in self.couriers:
            await self.in_pool(courier.stop)
        for one, _ in sockets:
            one.should_exit = True
        await asyncio.gather(*served, return_exceptions=True)
        self.leftovers.end()
        self._pool.shutdown()

    def stop(self, reason: str) -> None:
        """Begin to end: nothing new is started, what runs is asked to end."""
        if not self.stopping.is_set():
            self.reason = reason
            events.info("daemon.stopping", reason=reason)
            self.stopping.set()
            self.leftovers.cancel.set("by_stop")

    def _record_stop(self) -> None:
        data = {"host": socket.gethostname(), "reason": self.reason}
        with suppress(StoreError):
            self.leftovers.last()
            self.store.append([daemon_fact("daemon.stopped", data, utc_now())])
            runs.seal_or_tell(self.store)

    async def _beat(self) -> None:
        """Watch clock and threads, and tell the service manager that all is well while it is."""
        every = min(BEAT_S, self.tells.watchdog_s or BEAT_S)
        while True:
            await asyncio.sleep(every)
            step = self.steps.step()
            if step is not None:
                self.spawn(self._clock_stepped(step))
            if not self.unhealthy():
                self.tells.beat()
            self._copy_daily()

    async def _clock_stepped(self, step: timedelta) -> None:
        data = {"step_ms": step // timedelta(milliseconds=1)}
        events.warning("clock.stepped", **data)
        await self.in_pool(self.store.append, [daemon_fact("clock.stepped", data, utc_now())])
        await self.in_pool(self.agenda.rebuild)
        self.judge.poke()

    def _copy_daily(self) -> None:
        now = utc_now()
        if self._copied_at is None or abs(now - self._copied_at) >= COPY_EVERY:
            self._copied_at = now
            self.spawn(self.in_pool(self.store.daily_copy))

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something beside the loop's own chores; its failure is logged, and no more."""

        async def watched() -> None:
            try:
                await work
            except BackupGuardError as error:
                events.exception("daemon.chore-failed", code=error.code)
            except Exception:  # noqa: BLE001 - logged; the daemon lives on
                events.exception("daemon.chore-failed", code="bug")

        task = self.loop.create_task(watched())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---------------------------------------------------------------------------------- health

    def unhealthy(self) -> tuple[Message, ...]:
        """Return why the threads do not move."""
        now, found = time.monotonic(), []
        if now - self.agenda.ticked_at >= AGENDA_STUCK_S:
            found.append(Message(id="daemon.agenda-stuck"))
        since = self.judge.since
        stuck = since is not None and now - since > ASSESSMENT_STUCK_S
        if stuck or not self.judge.alive():
            found.append(Message(id="daemon.assessment-stuck"))
        return tuple(found)

    def _judging(self) -> bool:
        """Tell whether judging works and its last conclusion is of now: somebody keeps watch."""
        published = self.outputs.published
        if published is None or self.judge.trouble is not None or self.unhealthy():
            return False
        return abs((utc_now() - published.judged_at).total_seconds()) < 2 * FULL_EVERY_S

    def unready(self) -> tuple[Message, ...]:
        """Return why the daemon cannot do its work."""
        found = []
        if self.stopping.is_set():
            found.append(Message(id="daemon.stopping"))
        if self.outputs.published is None:
            found.append(Message(id="daemon.not-judged"))
        codes = {self.agenda.trouble, self.judge.trouble} - {None}
        found += [Message(id="daemon.trouble", values={"code": str(code)}) for code in codes]
        if not self._has_room():
            found.append(Message(id="daemon.no-room"))
        return tuple(found)

    def figures(self) -> dict[str, float]:
        """Return the metrics that are read at each scrape, for no assessment can tell of itself."""
        ago = time.monotonic() - self.agenda.ticked_at
        return {"scheduler_last_tick_timestamp_seconds": round(time.time() - ago, 3)}

    def _has_room(self) -> bool:
        return shutil.disk_usage(self.settings.state_directory).free >= ROOM_BYTES

    # ------------------------------------------------------------------------------------ runs

    def wake(self) -> None:
        """See what waits, now."""
        self._wake.set()

    def _wake_from_thread(self) -> None:
        with suppress(RuntimeError):  # the loop is gone: the end has come
            self.loop.call_soon_threadsafe(self._wake.set)

    async def _dispatch(self) -> None:
        """Start what waits, whenever the agenda ticked, a run ended, or somebody asked."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._start_waiting()
            except BackupGuardError as error:
                events.exception("dispatch.failed", code=error.code)
            except Exception:  # noqa: BLE001 - logged; the daemon lives on
                events.exception("dispatch.failed", code="bug")

    async def _start_waiting(self) -> None:
        running = await self.in_pool(self.store.runs, states=[RunState.RUNNING])
        self.leftovers.look(running)
        self.spawn(self.leftovers.sweep())
        if not self._has_room():
            events.error("dispatch.no-room")
            return
        waiting = await self.in_pool(self.store.runs, states=[RunState.WAITING])
        if not waiting:
            return
        used = self.runners.used()
        used.update(run.request.resource for run in running if run.id not in self.runners)
        now = utc_now()
        schedules = cadence.schedules(self.settings)
        chosen = dispatch.may_start(
            [run for run in waiting if run.id not in self.runners],
            allowed=dispatch.bounds(self.settings),
            used=used,
            excluded=self.runners.excluded() | {run.request.exclusive for run in running},
            schedules={schedule.key: schedule for schedule in schedules},
            paused=self.agenda.paused is not None,
            now=now,
        )
        for run in chosen:
            if self.stopping.is_set():
                return
            self._starts[run.id] = self._starts.get(run.id, 0) + 1
            within = cadence.deadline(self.settings, run.request.task)
            self.runners.start(run, self.effective.file, within, self.keys.of(run))

    def _ended(self, run: Run, status: int) -> None:
        self.spawn(self._after(run, status))

    async def _after(self, run: Run, status: int) -> None:
        """See that a run whose process is gone is closed, then look for the next."""
        now = await self.in_pool(self.store.run, run.id)
        if now is not None and now.state is RunState.RUNNING:
            await self.in_pool(self.leftovers.close)
        elif now is not None and now.state is RunState.WAITING:
            if status == EXIT_BUSY:
                self._starts.pop(run.id, None)
            elif self._starts.get(run.id, 0) >= STARTS_LIMIT:
                await self.in_pool(give_up, self.store, now, status)
                self.keys.forget(run)
        if now is None or now.state is not RunState.WAITING:
            self._starts.pop(run.id, None)
            self.keys.forget(run)
        self.leftovers.unswept = self.leftovers.unswept or status != EXIT_DONE
        self.spawn(self.leftovers.sweep())
        self.judge.poke()
        if status == EXIT_DONE:
            self._wake.set()
