"""What is known of each job's newest backups, read again only where something new was recorded.

A judgement of everything would otherwise read and put together the newest points of every job, every
minute, for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from backupguard.assess import job_known
from backupguard.contracts import Store
from backupguard.model import Json, RecoveryPoint, Subject, repository_subject

_KINDS = ("inventory.listed", "backup.runs")
_CHANGES = ("appeared", "changed", "vanished", "runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """A job's newest standing points, what became of its newest backups, and the same with points gone.

    `exposures` and `samples` go with `remembered`, one by one. `lost`: whether points that are gone
    were asked for; `most`: how many of each were.
    """

    recent: Sequence[RecoveryPoint]
    outcomes: Sequence[job_known.Outcome]
    remembered: Sequence[job_known.Outcome]
    exposures: Sequence[list[int] | None]
    samples: Sequence[dict[str, Json] | None]
    lost: bool
    most: int


class Remembered:
    """`Backups` per job and repository. Not for several threads at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seq: int | None = None
        self._kept: dict[tuple[str, Subject], tuple[str, Backups]] = {}

    def update(self) -> None:
        """Forget the jobs that something was recorded about since the last call."""
        head, _ = self._store.head()
        if self._seq is not None:
            for fact in self._store.facts(after=self._seq, kinds=_KINDS):
                head = max(head, fact.seq)
                data = fact.observation.data
                if data is None:  # pruned: nobody knows what it said
                    self._kept.clear()
                    continue
                for entry in (one for name in _CHANGES for one in data.get(name, ())):
                    self._kept.pop((entry["job"], fact.observation.subject), None)
        self._seq = head

    def of(self, job: str, repository: str, timezone: str, *, lost: bool, most: int) -> Backups:
        """Return what is known of a job's `most` newest; `lost`: with points that are gone."""
        key = (job, repository_subject(repository))
        known_in, kept = self._kept.get(key, (None, None))
        asked = (timezone, lost, most)
        if kept is None or (known_in, kept.lost, kept.most) != asked:
            kept = self._read(job, repository, ZoneInfo(timezone), lost=lost, most=most)
            self._kept[key] = timezone, kept
        return kept

    def _read(self, job: str, repository: str, zone: ZoneInfo, *, lost: bool, most: int) -> Backups:
        recent = self._store.points(job, repository, limit=most)
        gone = self._store.gone_points(job, repository, most) if lost else ()
        runs = self._store.job_runs(job, repository, limit=most)
        outcomes = job_known.outcomes(recent, runs)
        remembered = job_known.outcomes((*recent, *gone), runs) if gone else outcomes
        return Backups(
            recent=recent,
            outcomes=outcomes,
            remembered=remembered,
            exposures=[job_known.exposure_of(one) for one in remembered],
            samples=[job_known.sample_of(one, zone) for one in remembered],
            lost=lost,
            most=most,
        )
