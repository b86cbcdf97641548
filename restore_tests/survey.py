"""What one pass over a restored database counted, whatever its engine: counts and times, no value."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backupguard.contracts import Trial
from backupguard.model import Fingerprint
from restore_tests.settings import DatabaseSettings

#: Times after the recovery point by more than this are appointments and mistakes, not news.
TOLERANCE = timedelta(minutes=10)
#: Nothing that a hospital records today is older.
FLOOR = "1950-01-01 00:00:00+00"
#: Objects of a fingerprint by which columns gone random are counted.
TEXT_COLUMN, RANDOM_TEXT_COLUMN = "text-column", "random-text-column"
#: And those whose letters came through a wrong character set.
DAMAGED_TEXT_COLUMN = "damaged-text-column"


@dataclass(slots=True, kw_only=True)
class Survey:
    """What one pass over the database counted. `relations` are the names that can be required."""

    fingerprint: Fingerprint
    relations: frozenset[str]
    counts: dict[str, int] = field(default_factory=dict)
    newest: dict[str, datetime] = field(default_factory=dict)  # by table, where there is a time
    pointers: int = 0
    dangling: int = 0
    sequences_behind: int = 0


def zone(trial: Trial) -> str:
    """Return the time zone of times without one: the engine's setting, else the site's."""
    return settings_of(trial).timezone or str(trial.memory.get("timezone") or "UTC")


def settings_of(trial: Trial) -> DatabaseSettings:
    """Return what the site says of the content; an application without any has the defaults."""
    settings = trial.settings
    return settings if isinstance(settings, DatabaseSettings) else DatabaseSettings()
