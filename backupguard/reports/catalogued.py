"""What the control catalogue says to a report: how long a restore test stays valid."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backupguard.model import Criticality

if TYPE_CHECKING:
    from backupguard.controls import Catalogue

CONTROL = "RST-01"


def period(catalogue: Catalogue, criticality: Criticality) -> timedelta:
    """Return how old a conclusive restore test may be: the control's period and its grace."""
    return _sum(catalogue, criticality, "period")


def copy_period(catalogue: Catalogue, criticality: Criticality) -> timedelta:
    """Return within what each repository must be restored from: the control's period and its grace."""
    return _sum(catalogue, criticality, "repository-period")


def _sum(catalogue: Catalogue, criticality: Criticality, name: str) -> timedelta:
    seconds = sum(catalogue.period(CONTROL, criticality, one) or 0 for one in (name, "grace"))
    return timedelta(seconds=seconds)
