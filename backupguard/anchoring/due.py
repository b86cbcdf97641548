"""Which places are owed an anchor: once a day, and as soon as a report was issued."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupguard.contracts import Store
from backupguard.model import Origin, RunState, Verdict, to_us

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: After a failure it is tried again after so long, and twice as long each time up to the second.
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=5), timedelta(hours=1)
_LOOK_BACK = 20


class Anchored:
    """When each place got its last anchor, and which record that was; learned fact by fact."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = 0
        self.at: dict[str, int] = {}  # place: microseconds
        self.reported = 0  # number of the newest `report.issued`
        self.seq: dict[str, int] = {}

    def learn(self) -> None:
        """Take in what was recorded since."""
        kinds = ("evidence.anchored", "report.issued")
        for fact in self._store.facts(after=self._seen, kinds=kinds):
            self._seen = fact.seq
            if fact.observation.kind == "report.issued":
                self.reported = fact.seq
            elif fact.observation.data is not None:
                name = str(fact.observation.data["place"])
                if fact.observation.origin is Origin.OBSERVED:
                    self.at[name] = to_us(fact.observation.observed_at)
                    self.seq[name] = int(fact.observation.data["seq"])


def owed(settings: Settings, anchored: Anchored, now: datetime) -> tuple[str, ...]:
    """Return the places that are owed an anchor now.

    An anchor dated in the future counts as never: the clock was ahead when it was made.
    """
    every = settings.evidence.every
    return tuple(
        name
        for name in settings.evidence.anchors
        if not to_us(now - every) < anchored.at.get(name, 0) <= to_us(now)
        or anchored.seq.get(name, 0) < anchored.reported
    )


def may_try(store: Store, now: datetime) -> bool:
    """Tell whether it is time to try: not while a run is open, and less often after each failure."""
    runs = store.runs(task="anchor", limit=_LOOK_BACK)
    if any(run.state in (RunState.WAITING, RunState.RUNNING) for run in runs):
        return False
    failures = 0
    for run in runs:
        if run.verdict is Verdict.PASSED:
            break
        failures += 1
    if failures == 0:
        return True
    ended = runs[0].ended_at or runs[0].created_at
    wait = min(FIRST_WAIT * 2 ** min(failures - 1, 10), LONGEST_WAIT)
    return not timedelta() <= now - ended < wait
