"""Restore tests of copies on media that come and go: a copy can only be restored while it is here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from backupguard.daemon.requests import MEDIUM, SCHEDULE, request
from backupguard.media import lies_on_medium
from backupguard.model import (
    Subject,
    application_subject,
    from_us,
    medium_subject,
    to_us,
)
from backupguard.settings.model import COPIES_WITHIN_DAYS
from backupguard.settings.schedule import in_window
from restore_tests import selection

if TYPE_CHECKING:
    from backupguard.runs import TaskContext
    from backupguard.settings import Settings

log = structlog.get_logger(__name__)


def leaving(
    settings: Settings, application: str, tested: selection.Tested, now: datetime
) -> frozenset[str]:
    """Return the repositories that go away with their medium and were not restored from for long.

    Long is half of the time within which every copy is restored: who waits for the end of it may find
    the medium in the safe again.
    """
    criticality = settings.applications[application].criticality
    since = to_us(now - timedelta(days=COPIES_WITHIN_DAYS[criticality]) / 2)
    return frozenset(
        name
        for name in settings.fetchable(application)
        if lies_on_medium(settings, name) and tested.repositories.get(name, 0) < since
    )


def ask(task: TaskContext) -> None:
    """Ask for the restore tests that the media which are attached now make possible, once each.

    Only for what the daemon looks at by itself, and inside the windows; the next look finds it again.
    """
    if task.run.request.requested_by != SCHEDULE:
        return
    settings, now = task.settings, task.context.now()
    attached = _attached(task)
    if not attached or not in_window(settings.daemon.windows, now, settings.site.timezone):
        return
    for application in settings.applications:
        subject = application_subject(application)
        held = [name for name in attached if name in settings.fetchable(application)]
        if not held:
            continue
        results = task.store.facts(kinds=["restore-test.result"], subject=subject)
        due = leaving(settings, application, selection.tested(results), now)
        for name in sorted(due.intersection(held)):
            _ask(task, subject, name, attached[name], now)


def _ask(task: TaskContext, subject: Subject, name: str, since: datetime, now: datetime) -> None:
    windows = task.settings.repositories[name].limits.windows
    if not in_window(windows, now, task.settings.site.timezone):
        return
    options = {"repository": name}
    wanted = request("restore-test", subject, requested_by=MEDIUM, due_at=since, options=options)
    run = task.store.enqueue(wanted)  # the one that there is already, where it was attached before
    log.info("run.due", run=run.id, task="restore-test", subject=subject, repository=name)


def _attached(task: TaskContext) -> dict[str, datetime]:
    """Return the repositories whose media are attached, and since when."""
    found: dict[str, datetime] = {}
    for name, place in task.settings.repositories.items():
        if place.medium is None or not lies_on_medium(task.settings, name):
            continue
        seen = task.context.known.latest("medium.seen", medium_subject(place.medium))
        data = seen.observation.data if seen is not None else None
        if isinstance(data, Mapping) and data.get("attached") and data.get("attached_since_at"):
            found[name] = from_us(data["attached_since_at"])
    return found
