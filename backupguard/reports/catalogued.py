"""What the catalogue says to a report: how long a restore test stays valid, what is aligned on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupguard.assess.overrides import Overrides
from backupguard.model import SITE, Criticality, Status, application_subject
from backupguard.reports.model import Alignment, ControlRow, FindingRow, ReferenceRow

if TYPE_CHECKING:
    from backupguard.controls import Catalogue

CONTROL = "RST-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """The catalogue with what people changed of it, at a moment."""

    catalogue: Catalogue
    overrides: Overrides
    as_of: datetime

    def period(self, application: str, criticality: Criticality) -> timedelta:
        """Return how old a conclusive restore test may be: the control's period and its grace."""
        return self._sum(application, criticality, "period")

    def copy_period(self, application: str, criticality: Criticality) -> timedelta:
        """Return within what each repository must be restored from, the control's grace included."""
        return self._sum(application, criticality, "repository-period")

    def anchor_age(self) -> timedelta:
        """Return how old the newest anchor off this host may be; it is the same for every site."""
        policy, _ = self.overrides.policy(
            self.catalogue, "PRV-01", Criticality.C1, SITE, self.as_of
        )
        return timedelta(seconds=int(policy.thresholds.get("anchor-age", 0)))

    def _sum(self, application: str, criticality: Criticality, name: str) -> timedelta:
        subject = application_subject(application)
        policy, _ = self.overrides.policy(self.catalogue, CONTROL, criticality, subject, self.as_of)
        seconds = sum(int(policy.thresholds.get(one, 0)) for one in (name, "grace"))
        return timedelta(seconds=seconds)


def alignment(catalogue: Catalogue, findings: Iterable[FindingRow], language: str) -> Alignment:
    """Return the annex on controls: how each stands, and which clauses it is aligned on."""
    counts: dict[str, Counter[Status]] = {}
    for row in findings:
        counts.setdefault(row.control, Counter())[row.status] += 1
    return Alignment(
        name=catalogue.name.of(language),
        controls=tuple(
            ControlRow(
                control=control,
                title=catalogue.title(control, language),
                counts=counts.get(control, Counter()),
                references=tuple(
                    ReferenceRow(
                        reference=one.id,
                        identifier=row.identifier,
                        text=row.text,
                        confidence=row.confidence.value,
                    )
                    for one, row in catalogue.references(control)
                ),
            )
            for control in catalogue.entries
        ),
        notes=tuple((one.id, one.version, one.note.of(language)) for one in catalogue.maps),
        unverified=tuple(one.id for one in catalogue.maps if not one.verified),
    )
