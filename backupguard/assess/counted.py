"""The copies of every application, counted now as control 321-01 counts them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from backupguard.assess.history import History
from backupguard.assess.views import Views
from backupguard.contracts import Store
from backupguard.controls import catalogue_of
from backupguard.controls.copies import Copy, Count, count, parts
from backupguard.controls.copies import copies_of as copies_in
from backupguard.model import application_subject
from backupguard.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesOf:
    """The copies of an application, or of one database of it that jobs say they cover."""

    application: str
    part: str  # "" for the whole
    needed: int
    copies: tuple[Copy, ...]
    count: Count


def copies_of(store: Store, settings: Settings) -> list[CopiesOf]:
    """Return the copies of every application as control 321-01 counts them now."""
    now = datetime.now(UTC)
    history = History(store)
    history.update()
    views, catalogue = Views(store, settings, history, now), catalogue_of(settings)
    found = []
    for name, owner in settings.applications.items():
        subject = application_subject(name)
        policy, _ = history.overrides.policy(catalogue, "321-01", owner.criticality, subject, now)
        demanded = policy.thresholds
        for part, copies in parts(copies_in(views.of(subject))).items():
            counted = count(
                copies, owner.failure_domain, now, attested_s=int(demanded["attestation"])
            )
            needed = int(demanded["copies"])
            found.append(
                CopiesOf(application=name, part=part, needed=needed, copies=copies, count=counted)
            )
    return found
