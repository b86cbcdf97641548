"""Puts anchors down: asks for the run when a place is owed one, and performs it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from backupguard import anchoring
from backupguard.anchoring.due import Anchored, may_try
from backupguard.contracts import Store
from backupguard.daemon.requests import SCHEDULE, request
from backupguard.errors import BackupGuardError, MissingMeans, verdict_of
from backupguard.evidence.seals import Anchor
from backupguard.model import SITE, Verdict
from backupguard.runs import TaskContext

if TYPE_CHECKING:
    from backupguard.settings import Settings

log = structlog.get_logger(__name__)

#: How often it is looked whether a place is owed an anchor.
EVERY = timedelta(minutes=1)


class Anchors:
    """Asks for a run when a place is owed an anchor. Not safe for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._anchored = Anchored(store)
        self._looked_at: datetime | None = None

    def ask(self, settings: Settings, now: datetime) -> None:
        """Ask for the run that puts anchors down, where one is owed and may be tried."""
        if not settings.evidence.anchors:
            return
        if self._looked_at is not None and timedelta() <= now - self._looked_at < EVERY:
            return
        self._looked_at = now
        self._anchored.learn()
        places = anchoring.owed(settings, self._anchored, now)
        if not places or not may_try(self._store, now):
            return
        run = self._store.enqueue(
            request(
                "anchor",
                SITE,
                requested_by=SCHEDULE,
                due_at=now,
                options={"places": list(places)},
            )
        )
        log.info("run.due", run=run.id, task="anchor", subject=SITE, places=list(places))


def anchor(task: TaskContext) -> tuple[Verdict, str | None]:
    """Put the chain's head down at the places asked for, all of the settings by default.

    A place that fails takes nothing from the others, and is tried again by the agenda.
    """
    asked = task.run.request.options.get("places")
    places = [str(name) for name in asked] if asked else list(task.settings.evidence.anchors)
    if not places:
        raise MissingMeans("no_anchor_place")
    for name in places:
        anchoring.place(task.settings, name)
    task.store.seal()
    seq, digest = task.store.head()
    head = Anchor(store=task.store.store_id, seq=seq, hash=digest)
    failed: str | None = None
    for name in places:
        task.context.cancel.raise_if_set()
        try:
            put = anchoring.put_down(task.settings, name, head, task.context)
        except BackupGuardError as error:
            log.warning("evidence.anchor-failed", place=name, code=error.code, why=error.message.id)
            failed = failed or error.code
        except OSError as error:  # of a place's own: the others can still be reached
            _, code = verdict_of(error)
            log.exception("evidence.anchor-failed", place=name, code=code)
            failed = failed or code
        else:
            task.record(put.observation())
    return (Verdict.COULD_NOT_VERIFY if failed else Verdict.PASSED), failed
