"""The thread `assess`: judges, renders, publishes; also validates a reload, off the event loop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import structlog

from backupguard import metrics
from backupguard.assess import Assessment, Assessor
from backupguard.assess.alerting import alerts_of
from backupguard.assess.published import status_json
from backupguard.contracts import Store
from backupguard.daemon.memory import give_back
from backupguard.errors import BackupGuardError
from backupguard.evidence.statements import attestation_told, override_told, waiver_told
from backupguard.model import Message, application_subject, from_us
from backupguard.web.published import Outputs, Published, compress

if TYPE_CHECKING:
    from backupguard.assess import Assessment
    from backupguard.controls import Catalogue
    from backupguard.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds after which everything is judged again: ageing is news too.
FULL_EVERY_S = 300.0

#: Seconds between two looks for facts that other processes added.
LOOK_EVERY_S = 5.0

T = TypeVar("T")


class Judge:
    """Judges when facts are new, and at least every `FULL_EVERY_S`.

    `since` is the monotonic time at which a judgement began that has not ended; `trouble` the code of
    the error that the last one ended with; `heard` is called with what each one concluded.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        catalogue: Catalogue,
        outputs: Outputs,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.outputs = outputs
        self.clock = clock
        self.catalogue = catalogue
        self.since: float | None = None
        self.trouble: str | None = None
        self.heard: Callable[[Assessment], None] = lambda _assessment: None
        self._settings = settings
        self._assessor = Assessor(store, settings, catalogue)
        self._judged_head = -1
        self._full_at = -FULL_EVERY_S
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._loop, name="assess", daemon=True)

    def start(self) -> None:
        """Begin to judge."""
        self._thread.start()

    def stop(self) -> None:
        """End after the judgement that may be running."""
        self._ended = True
        self._work.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=35)

    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def poke(self) -> None:
        """Look for new facts now."""
        self._work.put(None)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have this thread do something between two judgements."""
        future: Future[T] = Future()

        def do() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)

        self._work.put(do)
        return future

    def use(self, settings: Settings, catalogue: Catalogue) -> None:
        """Judge by other settings from now on. Only in this thread: through `submit`."""
        self._settings, self.catalogue = settings, catalogue
        self._assessor = Assessor(self.store, settings, catalogue)
        self._judged_head = -1

    def judge(self) -> None:
        """Judge everything that changed or aged, and publish it."""
        began = self.since = time.monotonic()
        try:
            full = began - self._full_at >= FULL_EVERY_S or self._judged_head < 0
            assessment = self._assessor.assess(self.clock(), full=full)
            self.outputs.published = self._published(assessment)
            self._judged_head = self.store.head()[0]
            if full:
                self._full_at = began
                give_back()
            self.trouble = None
            self.heard(assessment)
        except BackupGuardError as error:
            self.trouble = error.code
            log.exception("assessment.failed", code=error.code)
        except Exception:  # a bug in one judgement must not end all later ones
            self.trouble = "bug"
            log.exception("assessment.bug")
        finally:
            self.since = None

    def _published(self, assessment: Assessment) -> Published:
        text = metrics.render(assessment)
        until = assessment.paused_until
        return Published(
            site=assessment.site,
            language=assessment.language,
            timezone=assessment.timezone,
            judged_at=assessment.judged_at,
            findings=assessment.findings,
            names=assessment.names,
            text=text,
            compressed=compress(text),
            paused=assessment.paused,
            paused_until=from_us(until) if until is not None else None,
            titles={
                control: titles.get(assessment.language, control)
                for control, titles in assessment.titles.items()
            },
            alerts=alerts_of(assessment),
            applications={
                name: self._settings.repositories_of(name) for name in self._settings.applications
            },
            statements={
                "waivers": tuple(waiver_told(asdict(one)) for one in assessment.waivers),
                "overrides": tuple(override_told(asdict(one)) for one in assessment.overrides),
                "attestations": tuple(
                    attestation_told(asdict(one)) for one in assessment.attestations
                ),
                "recovery": recovery_told(assessment),
            },
            document=status_json(assessment, self._settings),
            assessment=assessment,
        )

    def _loop(self) -> None:
        while not self._ended:
            try:
                work = self._work.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                work = None
            if self._ended:
                return
            if work is not None:
                work()
            if self._due():
                self.judge()

    def _due(self) -> bool:
        if time.monotonic() - self._full_at >= FULL_EVERY_S:
            return True
        try:
            return self.store.head()[0] != self._judged_head
        except BackupGuardError as error:
            self.trouble = error.code
            return False


def recovery_told(assessment: Assessment) -> tuple[Message, ...]:
    """Return the order of a recovery, a line per application, and which one misses its target."""
    told = []
    returns = assessment.forecast.returns if assessment.forecast is not None else ()
    for rank, one in enumerate(returns, 1):
        subject = application_subject(one.application)
        name = assessment.names.get(subject, one.application)
        line = "late" if one.late else "back" if one.measured else "unknown"
        values: dict[str, int | str] = {"rank": rank, "name": name, "end_ms": one.end_ms}
        if one.late and one.rto_ms is not None:
            values["rto_ms"] = one.rto_ms
        told.append(Message(id=f"plan.line.{line}", values=values))
    return tuple(told)
