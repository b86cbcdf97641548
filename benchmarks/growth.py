"""Growth: what a refresh with 100 new points and a judgement cost as points pile up.

2,000 jobs in 200 applications and 10 repositories; three SQLite stores of 10,000, 100,000 and
1,000,000 points, refreshed and judged in turn, so that a busy machine is as busy for each. A refresh is
a whole run as the daemon's runner performs it, from the waiting run to its sealed closing fact. The
repositories are lists in memory that can tell what is new, so that only our own cost is measured; the
first listing of each store names every point.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from harness import alternate, finish, timed

from backupguard import runs
from backupguard.assess import Assessor
from backupguard.contracts import Changes, JobSelector, RepositoryState
from backupguard.controls import load_catalogue
from backupguard.daemon.tasks import TASKS
from backupguard.model import RecoveryPoint, RunRequest
from backupguard.processes import Cancellation
from backupguard.settings import Settings, load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore

REPOSITORIES, APPLICATIONS, JOBS_EACH = 10, 200, 10
JOBS = APPLICATIONS * JOBS_EACH
SIZES = (10_000, 100_000, 1_000_000)
NEW = 100
ROUNDS = 9
JUDGEMENTS = 3
REFRESH_GOAL, JUDGE_GOAL = 1.5, 2.0


class Catalogue:
    """A repository type whose points are counted, not kept: point N of a job is N days old."""

    name = "catalogue"

    def __init__(self, began: datetime) -> None:
        self.began = began
        self.old: Counter[str] = Counter()  # per job: points of the first listing
        self.new: list[tuple[str, int]] = []  # (job, number), in the order of their coming

    @contextmanager
    def open(self, identifier: str, _settings: Any, _context: Any) -> Iterator[Opened]:
        yield Opened(self, identifier)

    def point(self, repository: str, job: str, days: int, number: int = 0) -> RecoveryPoint:
        at = self.began - timedelta(days=days) + timedelta(seconds=number)
        return RecoveryPoint(
            repository=repository,
            job=job,
            native_id=f"{job}:{days}:{number}",
            at=at,
            covers_until=at,
            started_at=at - timedelta(minutes=20),
            ended_at=at,
            bytes=50_000_000 + days,
            files=1,
            source_host="srv-app",
        )


class Opened:
    """One of its repositories, opened."""

    capabilities: frozenset[Any] = frozenset()

    def __init__(self, kind: Catalogue, identifier: str) -> None:
        self.kind, self.identifier = kind, identifier

    def inspect(self) -> RepositoryState:
        return RepositoryState(tool="catalogue", tool_version="1")

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        for selector in jobs:
            for days in range(1, self.kind.old[selector.job] + 1):
                yield self.kind.point(self.identifier, selector.job, days)
        yield from self._new(jobs, 0)

    def _new(self, jobs: Sequence[JobSelector], after: int) -> Iterator[RecoveryPoint]:
        names = {selector.job for selector in jobs}
        for job, number in self.kind.new[after:]:
            if job in names:
                yield self.kind.point(self.identifier, job, 0, number)

    def changes(self, jobs: Sequence[JobSelector], mark: str | None) -> Changes:
        new = Counter(job for job, _ in self.kind.new)
        return Changes(
            points=self.points(jobs) if mark is None else self._new(jobs, int(mark)),
            standing={one.job: self.kind.old[one.job] + new[one.job] for one in jobs},
            mark=str(len(self.kind.new)),
            complete=mark is None,
        )


def configured(directory: Path) -> Settings:
    """Write and load a configuration with that many repositories, applications and jobs."""
    (directory / "held").mkdir()
    lines = [
        '[site]\nname = "Banc"\ntimezone = "Europe/Paris"\n',
        f'[store]\ndirectory = "{directory / "state"}"\n',
    ]
    lines += [
        f'[repositories.r{number}]\ntype = "directory"\npath = "{directory / "held"}"\n'
        for number in range(REPOSITORIES)
    ]
    for number in range(APPLICATIONS):
        lines.append(
            f'[applications.a{number}]\nname = "Application {number}"\ncriticality = "C2"\n'
            'rpo = "24h"\nrto = "8h"\n'
        )
        lines += [
            f'[applications.a{number}.backups.j{job}]\nrepository = "r{number % REPOSITORIES}"\n'
            'select.pattern = "dump-%Y%m%d"\nevery = "24h"\n'
            for job in range(JOBS_EACH)
        ]
    path = directory / "backupguard.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return load(path)


class Bench:
    """One store of a size."""

    def __init__(self, directory: Path, size: int) -> None:
        directory.mkdir()
        self.settings = configured(directory)
        self.kind = Catalogue(datetime.now(UTC) - timedelta(hours=1))
        self.size = size
        self.store: SqlStore = open_store(self.settings.state_directory, timezone="Europe/Paris")
        self.file = self.settings.state_directory / "store.sqlite3"
        self.jobs = [f"a{a}.j{j}" for a in range(APPLICATIONS) for j in range(JOBS_EACH)]
        for job in self.jobs:
            self.kind.old[job] = size // JOBS
        self.assessor = Assessor(self.store, self.settings, load_catalogue())

    def list_everything(self) -> None:
        request = RunRequest(
            task="inventory",
            subject="site",
            due_at=datetime.now(UTC),
            exclusive="inventory",
            resource="probe",
            requested_by="benchmark",
        )
        runs.repository_type = lambda _type: self.kind  # type: ignore[assignment,return-value]
        run = self.store.enqueue(request)
        verdict = runs.perform(run, self.settings, self.store, Cancellation(), TASKS)
        if verdict.value != "passed":
            raise SystemExit(f"the refresh ended {verdict.value}")

    def refresh(self) -> None:
        """Let 100 points arrive, each for another job, and refresh."""
        arrived = len(self.kind.new)
        for number in range(arrived, arrived + NEW):
            self.kind.new.append((self.jobs[number * 7 % JOBS], number))
        self.list_everything()

    def judge(self) -> None:
        self.assessor.assess(datetime.now(UTC))

    def check(self) -> None:
        """Make sure that everything arrived."""
        stands = sum(one.standing for one in self.store.summaries())
        if stands != self.size + len(self.kind.new):
            raise SystemExit(f"{stands} points stand, not {self.size + len(self.kind.new)}")


def main() -> int:
    """Fill, measure in turn, print the curve and the ratios."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        benches = [Bench(Path(name) / str(size), size) for size in SIZES]
        listed = [timed(bench.list_everything) for bench in benches]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        os.sync()
        refreshes = alternate(ROUNDS, **{f"refresh {one.size}": one.refresh for one in benches})
        judgements = alternate(JUDGEMENTS, **{f"judging {one.size}": one.judge for one in benches})
        print("     points  first listing  refresh, 100 new   judging     store")
        for one, first, refresh, judged in zip(
            benches, listed, refreshes.values(), judgements.values(), strict=True
        ):
            one.check()
            size = one.file.stat().st_size / 1e6
            one.store.close()
            print(
                f"  {one.size:9d} {first:12.1f} s {refresh:15.3f} s {judged:7.2f} s {size:6.0f} MB"
            )
    print(f"  peak memory while listing {peak} MiB")
    costs, judging = list(refreshes.values()), list(judgements.values())
    status = finish("growth-judging", judging[-1] / judging[0], JUDGE_GOAL)
    return finish("growth", costs[-1] / costs[0], REFRESH_GOAL) or status


if __name__ == "__main__":
    sys.exit(main())
