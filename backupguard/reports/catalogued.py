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
    seconds = sum(catalogue.period(CONTROL, criticality, name) or 0 for name in ("period", "grace"))
    return timedelta(seconds=seconds)
