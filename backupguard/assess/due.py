"""What restore tests are due, of every application, now: one list for all who show it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from backupguard.assess.history import History
from backupguard.assess.picture import DuePicture
from backupguard.assess.views import Views
from backupguard.contracts import Store
from backupguard.controls import Catalogue
from backupguard.controls.rotation import due_tests
from backupguard.model import application_subject
from backupguard.settings import Settings


def pictures(
    views: Views, settings: Settings, catalogue: Catalogue, history: History, now: datetime
) -> Iterator[DuePicture]:
    """Yield what every application can be restored from, and when it is due again."""
    for name, owner in settings.applications.items():
        subject = application_subject(name)
        policy, _ = history.overrides.policy(catalogue, "RST-01", owner.criticality, subject, now)
        for one in due_tests(views.of(subject), policy, now):
            yield DuePicture(
                application=name,
                of=one.of.value,
                name=one.name,
                last_at=one.last_at,
                due_at=one.due_at,
                why=one.why,
                overdue=one.overdue(now),
            )


def of_store(
    store: Store, settings: Settings, catalogue: Catalogue, now: datetime
) -> tuple[DuePicture, ...]:
    """Return the same, read from a store."""
    history = History(store)
    history.update()
    return tuple(pictures(Views(store, settings, history, now), settings, catalogue, history, now))
