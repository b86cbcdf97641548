"""How late it was, at the latest, when something was recorded: a clock that shows less was set back.

The last record alone does not tell: the first one that is written after the clock was set back is
dated by that clock too. Nor does the latest date of all records: a clock that ran a year ahead for an
hour, and was put right, would make every age unknown for a year.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backupguard.contracts import Store
from backupguard.model import Fact

#: The kinds of facts around which the clock of the records may have moved.
KINDS = ("clock.stepped", "daemon.started")

#: A step undoes another one that is as large, less what somebody set wrongly by hand.
_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that no other has undone, and what was known when it was made."""

    by: timedelta
    newest: datetime


class RecordClock:
    """The latest time that the clock of the records has shown, as far as nobody took it back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest: datetime | None = None
        self._steps: list[_Step] = []

    def learn(self, fact: Fact) -> None:
        """Take a fact of `KINDS` into account; facts come in order."""
        if fact.observation.kind == "daemon.started":
            # The clock may have been set while no daemon ran: what was recorded last tells.
            before = self._store.fact(fact.seq - 1)
            if before is not None:
                self._saw(before.recorded_at)
            return
        if fact.observation.data is None:  # pruned: how far it went is not known any more
            return
        by = timedelta(milliseconds=int(fact.observation.data["step_ms"]))
        if self._steps and abs(self._steps[-1].by + by) <= _TOLERANCE:
            undone = self._steps.pop()
            if undone.by > timedelta():
                self._newest = undone.newest  # what was recorded in between was dated too late
            return
        newest = self._saw(fact.recorded_at - by)
        self._steps.append(_Step(by=by, newest=newest))

    def newest(self) -> datetime | None:
        """Return how late it was at the newest record; None for an empty store."""
        head = self._store.fact(self._store.head()[0])
        known = [at for at in (self._newest, head.recorded_at if head else None) if at is not None]
        return max(known, default=None)

    def _saw(self, at: datetime) -> datetime:
        self._newest = at if self._newest is None else max(self._newest, at)
        return self._newest
