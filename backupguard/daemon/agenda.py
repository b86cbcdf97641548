"""The thread `agenda`: one tick that enqueues what is due. APScheduler is only the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.interval import IntervalTrigger

from backupguard.contracts import Store
from backupguard.daemon import cadence, pauses
from backupguard.daemon.anchors import Anchors
from backupguard.daemon.bisection import Bisection
from backupguard.daemon.requests import SCHEDULE, request
from backupguard.errors import StoreError
from backupguard.model import RunState

if TYPE_CHECKING:
    from backupguard.settings import Settings

log = structlog.get_logger(__name__)

TICK_S = 10.0

#: A tick that is late is still wanted: the library's own limit is one second.
GRACE_S = 6 * 3600

#: Runs looked at to find a schedule's last slot; manual ones among them have none.
_LOOK_BACK = 200

_OPEN = (RunState.WAITING, RunState.RUNNING)


def last_slot(store: Store, schedule: cadence.Schedule, now: datetime) -> cadence.LastSlot | None:
    """Return the slot of a schedule that was enqueued last, as the diary has it.

    Runs made or due in the future count as never: the clock was ahead when they were. What people
    asked for has no slot.
    """
    runs = store.runs(task=schedule.task, subject=schedule.subject, limit=_LOOK_BACK)
    slots = [
        run
        for run in runs
        if run.request.requested_by == SCHEDULE
        and run.created_at <= now
        and run.request.due_at is not None
        and run.request.due_at <= now
    ]
    if not slots:
        return None
    slot = slots[0].request.due_at
    assert slot is not None
    attempts = [run for run in slots if run.request.due_at == slot]
    newest = max(attempts, key=lambda run: run.request.attempt)
    return cadence.LastSlot(
        slot=slot,
        attempt=newest.request.attempt,
        state=newest.state,
        ended_at=newest.ended_at,
        interruptions=sum(run.state is RunState.INTERRUPTED for run in attempts),
        code=newest.code,
    )


class Agenda:
    """What is due, again and again, in a thread of its own.

    `settings` returns those that hold now; `woken` is called after each tick, from this thread.
    `stepped` returns by how much the clock was set since it was asked last, None when it was not.
    `paused` and `trouble` (an error's code) say why nothing new is asked for; `ticked_at` is the
    monotonic time of the last tick that came to its end.
    """

    def __init__(
        self,
        store: Store,
        settings: Callable[[], Settings],
        woken: Callable[[], None],
        clock: Callable[[], datetime],
        tick_s: float = TICK_S,
        stepped: Callable[[], timedelta | None] = lambda: None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.woken = woken
        self.clock = clock
        self.stepped = stepped
        self.paused: pauses.Pause | None = None
        self.trouble: str | None = None
        self.ticked_at = time.monotonic()
        first = next(iter(store.facts()), None)
        self._began = first.recorded_at if first else clock()
        self._last: dict[cadence.Key, cadence.LastSlot | None] = {}
        self._schedules: tuple[cadence.Schedule, ...] = ()
        self._made_of: Settings | None = None
        self._bisection = Bisection(store)
        self._anchors = Anchors(store)
        self._scheduler = BlockingScheduler(
            timezone=UTC, executors={"default": DebugExecutor()}, daemon=True
        )
        self._scheduler.add_listener(
            _listen, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES
        )
        self._job = self._scheduler.add_job(
            self.tick,
            IntervalTrigger(seconds=tick_s, timezone=UTC),
            id="tick",
            coalesce=True,
            max_instances=1,
            misfire_grace_time=GRACE_S,
            next_run_time=datetime.now(UTC),
        )
        self._thread = threading.Thread(target=self._scheduler.start, name="agenda", daemon=True)

    def start(self) -> None:
        """Begin to tick, at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the tick that may be running."""
        if self._thread.is_alive():
            self._scheduler.shutdown(wait=False)
            self._thread.join(timeout=35)

    def rebuild(self) -> None:
        """Forget what is remembered and tick now: the clock was set, or the settings changed.

        APScheduler waits for a wall-clock time; set back a day, it would wait for that day to pass.
        """
        self._made_of = None
        self._job.modify(next_run_time=datetime.now(UTC))

    def tick(self) -> None:
        """Enqueue what is due now, unless a pause holds."""
        if self.stepped() is not None:
            # what is remembered is the other clock's: by it, slots done long ago would be new
            self._made_of = None
        now = self.clock()
        try:
            self._end_pause_in_time(now)
            if self.paused is None:
                self._enqueue_due(now)
            self.trouble = None
        except StoreError as error:
            self.trouble = error.code
            raise
        finally:
            self.ticked_at = time.monotonic()
            self.woken()

    def _end_pause_in_time(self, now: datetime) -> None:
        pause = pauses.standing(self.store)
        if pause is not None and pause.until is not None and pause.until <= now:
            pauses.end(self.store, reason="until", author=SCHEDULE, now=now)
            pause = None
        if (pause is None) is not (self.paused is None):
            log.info("pause.ended" if pause is None else "pause.started")
        self.paused = pause

    def _enqueue_due(self, now: datetime) -> None:
        settings = self.settings()
        if settings is not self._made_of:
            self._schedules = cadence.schedules(settings, began=self._began)
            self._last.clear()
            self._made_of = settings
        for schedule in self._schedules:
            last = self._last.get(schedule.key)
            if schedule.key not in self._last or (last is not None and last.state in _OPEN):
                self._last[schedule.key] = last_slot(self.store, schedule, now)
        known = {key: last for key, last in self._last.items() if last is not None}
        for wanted in cadence.due(self._schedules, known, now):
            self._last[wanted.schedule.key] = self._enqueue(wanted)
        self._bisection.ask(settings, now)
        self._anchors.ask(settings, now)

    def _enqueue(self, wanted: cadence.Due) -> cadence.LastSlot:
        """Insert the run; where the slot was done before the clock went back, a further attempt.

        Otherwise a day set back would be a day of silence: all its slots have their runs already.
        """
        before = self._last.get(wanted.schedule.key)
        attempt = wanted.attempt
        while True:
            run = self.store.enqueue(
                request(
                    wanted.schedule.task,
                    wanted.schedule.subject,
                    requested_by=SCHEDULE,
                    due_at=wanted.slot,
                    options={"repository": wanted.repository} if wanted.repository else {},
                    attempt=attempt,
                )
            )
            if run.state in _OPEN or attempt >= cadence.ATTEMPTS_LIMIT:
                break
            attempt += 1
        log.info(
            "run.due",
            run=run.id,
            task=wanted.schedule.task,
            subject=wanted.schedule.subject,
            slot=wanted.slot.isoformat(),
            attempt=attempt,
        )
        same = before is not None and before.slot == wanted.slot
        return cadence.LastSlot(
            slot=wanted.slot,
            attempt=attempt,
            state=run.state,
            ended_at=run.ended_at,
            interruptions=before.interruptions if same and before else 0,
            code=run.code,
        )


def _listen(event: Any) -> None:
    """Say in the log what the library would only mutter."""
    if event.code == EVENT_JOB_ERROR:
        error = event.exception
        log.error("agenda.tick-failed", exc_info=(type(error), error, error.__traceback__))
    elif event.code == EVENT_JOB_MISSED:
        log.error("agenda.tick-missed", wanted=event.scheduled_run_time.isoformat())
    else:
        log.error("agenda.tick-overlapped")
