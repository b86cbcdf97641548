"""A hospital's backups over months, made up: what its tools would list at any moment.

Nothing is really backed up. Every job has a calendar, noise, growth and a retention of its own, and
its runs come from a seeded generator, so that two simulations that are asked the same agree.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zlib import crc32
from zoneinfo import ZoneInfo

from backupguard.assess import Assessor, EvidenceState
from backupguard.controls import load_catalogue
from backupguard.model import (
    Finding,
    Listing,
    Observation,
    PointKind,
    RecoveryPoint,
    repository_subject,
)
from backupguard.settings import load
from backupguard.store import open_store

PARIS = ZoneInfo("Europe/Paris")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
#: How long the tools had been at work when they were listed for the first time.
HISTORY_DAYS = 200


@dataclass(frozen=True, kw_only=True)
class Job:
    """A backup job. `at` is local, `every` counts in UTC; `weekdays` are ISO, `day` of the month."""

    application: str
    name: str
    repository: str
    calendar: str  # as the configuration says it
    at: time | None = None
    every: timedelta | None = None
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    day: int | None = None
    lasts: timedelta = timedelta(minutes=40)
    keep: tuple[int, int, int, int] = (0, 40, 10, 14)  # last, daily, weekly, monthly
    size: int = 40_000_000_000
    noise: float = 0.03
    logs: bool = False
    full_on: int | None = None  # this weekday is a full backup, the others are incremental

    @property
    def id(self) -> str:
        return f"{self.application}.{self.name}"

    def starts(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield when runs begin. A local time that the spring night leaves out is left out."""
        if self.every is not None:
            epoch = datetime(1970, 1, 1, tzinfo=UTC)
            slot = epoch + (-((epoch - first) // self.every)) * self.every
            while slot < last:
                yield slot
                slot += self.every
            return
        assert self.at is not None
        day = first.astimezone(PARIS).date()
        while day <= last.astimezone(PARIS).date():
            local = datetime.combine(day, self.at, tzinfo=PARIS)
            begins = local.astimezone(UTC)
            exists = begins.astimezone(PARIS).time() == self.at
            wanted = day.isoweekday() in self.weekdays and self.day in {None, day.day}
            if exists and wanted and first <= begins < last:
                yield begins
            day += DAY

    def run(self, begins: datetime) -> RecoveryPoint:
        """Return the point that a run leaves: the same whenever it is asked for."""
        chance = random.Random(crc32(f"{self.id}{begins.isoformat()}".encode()))
        local = begins.astimezone(PARIS)
        begins += timedelta(seconds=chance.uniform(1, 90))
        ends = begins + self.lasts * chance.lognormvariate(0, 0.12)
        grown = self.size * (1 + begins.timestamp() % 10**8 / 10**9)
        changed = grown * 0.02 * chance.lognormvariate(0, 0.5) * (0.3 if local.weekday() > 4 else 1)
        kind = PointKind.SNAPSHOT
        whole = grown * (1 + chance.gauss(0, self.noise))
        if self.full_on is not None:
            kind = PointKind.FULL
            if local.isoweekday() != self.full_on:
                kind, whole = PointKind.INCREMENTAL, changed
        return RecoveryPoint(
            repository=self.repository,
            job=self.id,
            native_id=f"{begins:%Y%m%dT%H%M%S}",
            at=begins,
            covers_until=begins,
            kind=kind,
            started_at=begins,
            ended_at=ends,
            bytes=int(whole),
            bytes_added=int(changed),
            files=max(1, int(whole / 2_000_000)),
        )


def _jobs() -> tuple[Job, ...]:
    nightly = {"at": time(22), "calendar": 'schedule = "0 22 * * *"'}
    tape = {"repository": "bande", "at": time(4), "weekdays": (6,), "lasts": 2 * HOUR}
    weekly = {**tape, "calendar": 'schedule = "0 4 * * 6"', "keep": (0, 0, 20, 14)}
    hourly = {"every": HOUR, "calendar": 'every = "1h"', "keep": (48, 40, 10, 14)}
    return (
        Job(application="dpi", name="nuit", repository="nas", lasts=3 * HOUR, **nightly),  # type: ignore[arg-type]
        Job(application="dpi", name="bande", **weekly),  # type: ignore[arg-type]
        Job(
            application="labo", name="heure", repository="nas", logs=True,
            lasts=timedelta(minutes=4), **hourly,  # type: ignore[arg-type]
        ),
        Job(application="labo", name="bande", **weekly),  # type: ignore[arg-type]
        Job(
            application="pacs", name="quart", repository="site", every=4 * HOUR,
            calendar='every = "4h"', lasts=timedelta(minutes=25), keep=(30, 40, 10, 14),
        ),
        Job(application="pacs", name="bande", **weekly),  # type: ignore[arg-type]
        Job(
            application="paie", name="ouvres", repository="nas", at=time(20, 30),
            weekdays=(1, 2, 3, 4, 5), calendar='schedule = "30 20 * * 1-5"',
        ),
        Job(
            application="paie", name="mois", repository="bande", at=time(3), day=1,
            calendar='schedule = "0 3 1 * *"', keep=(0, 0, 0, 24),
        ),
        # The hour that one night of spring leaves out and one of autumn has twice.
        Job(
            application="urgences", name="nuit", repository="site", at=time(2, 30),
            calendar='schedule = "30 2 * * *"', noise=0.01, lasts=timedelta(minutes=75),
        ),
        Job(
            application="urgences", name="dimanche", repository="bande", at=time(2, 30),
            weekdays=(7,), calendar='schedule = "30 2 * * 0"', keep=(0, 0, 20, 14),
        ),
        Job(
            application="fichiers", name="nuit", repository="nas", at=time(0),
            calendar='schedule = "0 0 * * *"', full_on=7, size=900_000_000_000,
            lasts=2 * HOUR,
        ),
        Job(
            application="fichiers", name="bande", repository="bande", every=7 * DAY,
            calendar='every = "7d"', keep=(0, 0, 20, 14),
        ),
        Job(
            application="annuaire", name="soir", repository="site", at=time(23, 55),
            calendar='every = "24h"', size=3_000_000, lasts=timedelta(minutes=2),
        ),
        Job(application="annuaire", name="bande", **weekly),  # type: ignore[arg-type]
    )  # fmt: skip


JOBS = _jobs()
_CRITICALITY = {"dpi": ("C1", "24h"), "labo": ("C1", "2h"), "pacs": ("C2", "24h")}
_CRITICALITY |= {"paie": ("C3", "72h"), "urgences": ("C1", "24h")}
_CRITICALITY |= {"fichiers": ("C2", "24h"), "annuaire": ("C1", "24h")}


def configuration(root: Path, declared: date) -> str:
    """Return the configuration of the site, its store below `root`."""
    lines = [
        f'[site]\nname = "CH"\ntimezone = "Europe/Paris"\n[store]\ndirectory = "{root}/state"',
    ]
    for name, extra in (
        ("nas", ""),
        ("site", "off-site = true"),
        ("bande", 'off-site = true\nmedium-kind = "tape"'),
    ):
        lines.append(
            f'[repositories.{name}]\ntype = "directory"\npath = "{root}/{name}"\n'
            f'failure-domain = "{name}"\ndeclared-by = "RSSI"\ndeclared-on = {declared}\n{extra}'
        )
    for application, (criticality, rpo) in _CRITICALITY.items():
        lines.append(
            f'[applications.{application}]\nname = "{application}"\ncriticality = "{criticality}"\n'
            f'rpo = "{rpo}"\nrto = "8h"\ndeclared-by = "direction"\ndeclared-on = {declared}\n'
            f'failure-domain = "salle-1"\nretention = {{ yearly = 1 }}'
        )
    lines += [
        f"[applications.{job.application}.backups.{job.name}]\n"
        f'repository = "{job.repository}"\n{job.calendar}\n'
        f'select.pattern = "{job.application}-%Y%m%d%H%M%S.dump"'
        for job in JOBS
    ]
    return "\n".join(lines) + "\n"


def kept(points: Sequence[RecoveryPoint], keep: tuple[int, int, int, int]) -> list[RecoveryPoint]:
    """Return the points that a grandfather-father-son retention leaves, oldest first."""
    newest_first = sorted(points, key=lambda point: point.at, reverse=True)
    left = set(newest_first[: keep[0]])
    for count, form in zip(keep[1:], ("%Y-%m-%d", "%G-%V", "%Y-%m"), strict=True):
        periods: set[str] = set()
        for point in newest_first:
            period = point.at.astimezone(PARIS).strftime(form)
            if period not in periods and len(periods) < count:
                periods.add(period)
                left.add(point)
    return sorted(left, key=lambda point: point.at)


#: What is done to a run of the job under test: another point, or none.
Breaker = Callable[[RecoveryPoint], RecoveryPoint | None]


@dataclass(kw_only=True)
class Quarter:
    """A site as it stands at `now`; `judge` lets time pass, lists everything and judges.

    From `broken_from` on, `breaker` is done to each run of the job `broken`, and `lose` to its points.
    """

    root: Path
    now: datetime
    standing: dict[str, list[RecoveryPoint]] = field(default_factory=dict)
    known_until: datetime | None = None
    broken: str | None = None
    broken_from: datetime | None = None
    breaker: Breaker = lambda point: point
    lose: Callable[[list[RecoveryPoint]], list[RecoveryPoint]] = lambda points: points
    down: Mapping[str, tuple[datetime, datetime]] = field(default_factory=dict)
    #: What ordinary life does to a run of any job: another point, or none.
    disturb: Callable[[Job, RecoveryPoint], RecoveryPoint | None] = lambda _, point: point

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "state").mkdir(mode=0o700, exist_ok=True)
        file = self.root / "backupguard.toml"
        declared = self.now.date().replace(month=1, day=5)
        file.write_text(configuration(self.root, declared), encoding="utf-8")
        self.settings = load(file, environ={})
        self.store = open_store(self.settings.state_directory, now=lambda: self.now)
        self.assessor = Assessor(
            self.store, self.settings, load_catalogue(), evidence=lambda _now: EvidenceState()
        )

    def judge(self, at: datetime) -> dict[tuple[str, str], Finding]:
        """Let it be `at`; return the findings by control and subject."""
        listed = at - timedelta(minutes=3)
        self._work(listed)
        self.now = at
        for name in self.settings.repositories:
            if not self._is_down(name, at):
                self._list(name, listed)
        self.store.append([self._inspected(name) for name in self.settings.repositories])
        found = self.assessor.assess(at).findings
        return {(one.control, one.subject): one for one in found}

    def _is_down(self, repository: str, at: datetime) -> bool:
        first, last = self.down.get(repository, (at, at))
        return first <= at < last

    def _work(self, until: datetime) -> None:
        """Let the tools work: runs end, and what is too old is dropped."""
        since = self.known_until or until - HISTORY_DAYS * DAY
        for job in JOBS:
            stand = self.standing.get(job.id, [])
            breaks = job.id == self.broken and self.broken_from is not None
            for begins in job.starts(since - DAY, until):
                made = self.disturb(job, job.run(begins))
                if made is not None and breaks and begins >= (self.broken_from or until):
                    made = self.breaker(made)
                ended = made and (made.ended_at or made.at)
                if made is not None and ended is not None and since < ended <= until:
                    stand = [*stand, made]
            stand = kept(stand, job.keep)
            self.standing[job.id] = self.lose(stand) if breaks else stand
        self.known_until = until

    def _list(self, repository: str, at: datetime) -> None:
        points: list[RecoveryPoint] = []
        jobs = [job for job in JOBS if job.repository == repository]
        for job in jobs:
            points += self.standing[job.id]
            if job.logs:
                points[-1] = replace(points[-1], covers_until=at - timedelta(minutes=1))
        listing = Listing(
            repository=repository,
            jobs=tuple(job.id for job in jobs),
            points=tuple(points),
            observed_at=at,
        )
        self.store.merge_listing(listing, run=None)

    def _inspected(self, repository: str) -> Observation:
        down = self._is_down(repository, self.now)
        nothing = ("tool", "tool_version", "repository_id", "format_version", "encrypted", "device")
        return Observation(
            kind="repository.inspected",
            subject=repository_subject(repository),
            observed_at=self.now,
            data={
                **dict.fromkeys(nothing),
                "type": "directory",
                "reachable": not down,
                "code": "timeout" if down else None,
                "locks": [],
            },
            key=f"test/{repository}/{self.now.isoformat()}",
        )

    def copy(self, root: Path) -> Quarter:
        """Return this site as it stands, with a store of its own; this one is to be closed."""
        shutil.copytree(self.root / "state", root / "state")
        return Quarter(
            root=root,
            now=self.now,
            standing=dict(self.standing),
            known_until=self.known_until,
            down=self.down,
            disturb=self.disturb,
        )

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def moments(start: datetime, days: int) -> list[datetime]:
    """Return one moment for each of so many days, at another hour each day."""
    return [
        start + day * DAY + timedelta(hours=day * 7 % 24, minutes=day % 60) for day in range(days)
    ]
