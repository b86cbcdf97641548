"""Asks for the restore tests that find the last clean point, once a point was found bad.

Where a search is comes from recorded tests alone, so it goes on after any interruption. The tests keep
to the windows and the daily limits as those of the schedule do, one at a time for an application.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from backupguard.assess import clean_points
from backupguard.daemon.requests import BISECTION, request
from backupguard.model import RunState, Subject, application_subject, to_us
from backupguard.settings.schedule import in_window

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.settings import Settings

log = structlog.get_logger(__name__)

#: A point that could not be verified is tried again after so long; after an interruption, sooner.
AGAIN = timedelta(days=1)
AFTER_INTERRUPTION = timedelta(minutes=10)
#: How often it is looked whether a search can go on.
EVERY = timedelta(minutes=1)
_LOOK_BACK = 200
_OPEN = (RunState.WAITING, RunState.RUNNING)


class Bisection:
    """What is known of all applications' tests, and which of them search. Not safe for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seq = 0
        self._tested: dict[Subject, clean_points.TestedPoints] = {}
        self._looked_at: datetime | None = None

    def ask(self, settings: Settings, now: datetime) -> None:
        """Ask for the next test of each search, where one may start now."""
        news = self._learn()
        soon = self._looked_at is not None and timedelta() <= now - self._looked_at < EVERY
        if soon and not news:
            return
        self._looked_at = now
        if not in_window(settings.daemon.windows, now, settings.site.timezone):
            return
        for application in settings.applications:
            tested = self._tested.get(application_subject(application))
            if tested is not None and tested.points:
                self._ask(settings, application, tested, now)

    def _learn(self) -> bool:
        before = self._seq
        for fact in self._store.facts(after=before, kinds=("restore-test.result",)):
            self._seq = fact.seq
            subject = fact.observation.subject
            self._tested.setdefault(subject, clean_points.TestedPoints()).learn(fact)
        return self._seq != before

    def _ask(
        self,
        settings: Settings,
        application: str,
        tested: clean_points.TestedPoints,
        now: datetime,
    ) -> None:
        subject = application_subject(application)
        aside = self._set_aside(subject, now)
        if aside is None:
            return
        aside |= tested.set_aside(to_us(now - AGAIN))
        found = clean_points.of_application(
            self._store, settings, application, tested, now, aside=aside
        )
        # Without a clean point there is nothing to search between: a person decides.
        if found is None or found.clean is None or found.next is None:
            return
        place = settings.repositories[found.next.repository]
        if not in_window(place.limits.windows, now, settings.site.timezone):
            return
        run = self._store.enqueue(
            request(
                "restore-test",
                subject,
                requested_by=BISECTION,
                due_at=now,
                options={"repository": found.next.repository, "point": found.next.point},
            )
        )
        log.info("run.due", run=run.id, task="restore-test", subject=subject, between=found.between)

    def _set_aside(self, subject: Subject, now: datetime) -> set[clean_points.PointKey] | None:
        """Return the points that the diary says were tried in vain; None while a test is to come.

        A run whose process died left no result; one that kills its process each time ends here.
        """
        counts: dict[clean_points.PointKey, int] = {}
        aside: set[clean_points.PointKey] = set()
        for run in self._store.runs(task="restore-test", subject=subject, limit=_LOOK_BACK):
            if run.state in _OPEN:
                return None
            options = run.request.options
            if run.request.requested_by != BISECTION or not isinstance(options, dict):
                continue
            key = (str(options.get("repository")), str(options.get("point")))
            counts[key] = counts.get(key, 0) + 1
            wait = AFTER_INTERRUPTION if run.state is RunState.INTERRUPTED else AGAIN
            if counts[key] >= clean_points.TRIES or timedelta() <= now - run.created_at < wait:
                aside.add(key)
        return aside
