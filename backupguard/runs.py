"""Performs one run, whatever it is, and records it: the same for daemon, command line and worker.

A run holds the lock of its directory `runs/ULID/lock` from before it is `running` until after its
closing fact is stored, so that whoever finds a `running` run with a free lock knows that its process
died, and exactly one closing fact is recorded for it. Tasks are looked up by name in a table that the
caller hands in, so this module knows none of them.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psutil
import structlog

from backupguard import media
from backupguard.contracts import (
    Attacker,
    Cancel,
    Context,
    Http,
    JobRuns,
    JobSelector,
    Known,
    Repository,
    Secret,
    SecretReference,
    Store,
    Tools,
)
from backupguard.errors import Busy, Cancelled, EvidenceError, TimedOut, verdict_of
from backupguard.http import BoundedHttp
from backupguard.model import (
    Closing,
    Fact,
    Listing,
    Observation,
    Origin,
    RecoveryPoint,
    Run,
    RunState,
    Sighting,
    Subject,
    Verdict,
    VerifiedCoverage,
    repository_subject,
)
from backupguard.plugins import origin, repository_type
from backupguard.processes import Jail
from backupguard.sandbox import SandboxLimits, ScratchGuard, discard, sweep
from backupguard.settings.secrets import read_secret
from backupguard.store.diary import close_interrupted, closing_observation

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.settings.model import Scratch

log = structlog.get_logger(__name__)

#: Called with (done, total, unit) while a run works.
ProgressSink = Callable[[int, int | None, str], None]
Clock = Callable[[], datetime]

_LOCK_TRIES = 5
#: Seconds between two writes of a run's progress to the store.
PROGRESS_EVERY_S = 1.0


def utc_now() -> datetime:
    """Return the time of the wall clock, aware and in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreKnown(Known):
    """`contracts.Known` answered by the store."""

    store: Store

    def points(self, job: str, repository: str) -> Sequence[RecoveryPoint]:
        """Return the job's standing points in that repository, newest first."""
        return self.store.points(job, repository)

    def latest(self, kind: str, subject: Subject) -> Fact | None:
        """Return the newest fact of that kind about that subject."""
        return self.store.latest([subject], [kind]).get(subject, {}).get(kind)

    def since(self, kind: str, subject: Subject, seq: int) -> Sequence[Fact]:
        """Return the facts of that kind about that subject newer than number `seq`, oldest first."""
        return tuple(self.store.facts(after=seq, kinds=(kind,), subject=subject))

    def coverage(self, repository: str) -> Mapping[str, VerifiedCoverage]:
        """Return the verified units of a repository."""
        return self.store.coverage(repository)

    def sighting(self, repository: str) -> Sighting | None:
        """Return when a repository was last asked; None when it never was."""
        return self.store.sightings().get(repository)

    def standing(self, repository: str, listed: Iterable[RecoveryPoint] = ()) -> Mapping[str, int]:
        """Return per job how many points stand in a repository once `listed` are counted as well."""
        return self.store.standing(repository, listed)

    def runs_since(self, repository: str) -> datetime | None:
        """Return from when on a tool's runs may be new or may have ended; None: none are known."""
        return self.store.runs_since(repository)


@dataclass(slots=True, kw_only=True)
class RunContext(Context):
    """`contracts.Context` of one run."""

    tools: Tools
    http: Http
    cancel: Cancel
    known: Known
    work: Path
    cache: Path
    clock: Clock
    report: ProgressSink

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self.clock()

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Say how far the work is."""
        self.report(done, total, unit)

    def secret(self, reference: SecretReference) -> Secret:
        """Read a secret now, so that a rotated one needs no restart."""
        return read_secret(reference)

    def remember(self, name: str) -> Path:
        """Return a private directory that outlives the run."""
        directory = self.cache / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredRepositories:
    """`contracts.Repositories` over the settings: those of `only`, or all."""

    settings: Settings
    context: Context
    only: tuple[str, ...] | None = None
    store: Store | None = None  # knows what was read today

    def identifiers(self) -> Sequence[str]:
        """Return the ids that are asked for."""
        return self.only if self.only is not None else tuple(self.settings.repositories)

    def jobs(self, identifier: str) -> Sequence[JobSelector]:
        """Return the backup jobs kept in that repository."""
        return self.settings.jobs_in(identifier)

    def type_of(self, identifier: str) -> str:
        """Return the type of a repository, as its settings name it."""
        return self.settings.repositories[identifier].type

    def open(self, identifier: str) -> AbstractContextManager[Repository]:
        """Open one repository with its reader's credentials, on its medium where it lies on one."""
        chosen = self.settings.repositories[identifier]
        if chosen.medium is not None:
            return media.opened(self.settings, identifier, self.context)
        return repository_type(chosen.type).open(identifier, chosen, self.context)

    def attack(self, identifier: str) -> AbstractContextManager[Attacker] | None:
        """Open one repository with its writer's credentials; None where nothing can be tried.

        On a medium that is taken away nothing is tried: while it is here, it is read and no more.
        """
        if media.lies_on_medium(self.settings, identifier):
            return None
        chosen = self.settings.repositories[identifier]
        return repository_type(chosen.type).attack(identifier, chosen, self.context)

    def parallelism(self) -> int:
        """Return how many repositories may be open together."""
        return max(2, os.cpu_count() or 2)

    def host_of(self, identifier: str) -> str:
        """Return the host that reading a repository loads."""
        return self.settings.repositories[identifier].talks_to

    def origin_of(self, identifier: str) -> Origin:
        """Return whose word a repository's points are."""
        return origin(self.settings.repositories[identifier].type)

    def parallelism_per_host(self) -> int:
        """Return how many repositories of one host may be open together."""
        return self.settings.daemon.parallel_per_host

    def allowance(self, identifier: str) -> int | None:
        """Return how many bytes may still be read from a repository on this day of the site."""
        limit = self.settings.repositories[identifier].limits.max_bytes_per_day
        if limit is None or self.store is None:
            return limit
        now = self.context.now().astimezone(ZoneInfo(self.settings.site.timezone))
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return max(0, limit - bytes_read(self.store, identifier, midnight))


def bytes_read(store: Store, repository: str, since: datetime) -> int:
    """Return how much integrity probes and restore tests read from a repository since then."""
    head, _ = store.head()

    def recorded(seq: int) -> datetime:
        fact = store.fact(seq)
        return fact.recorded_at if fact is not None else since

    before = bisect_left(range(1, head + 1), since, key=recorded)
    total = 0
    for fact in store.facts(after=before, kinds=("repository.verified", "restore-test.result")):
        data = fact.observation.data
        if data is None:
            continue
        if fact.observation.subject == repository_subject(repository):
            total += sum(unit["bytes"] for unit in data["units"])
        elif data.get("repository") == repository:
            total += data["bytes"]
    return total


@dataclass(slots=True, kw_only=True)
class TaskContext:
    """What a task is handed. `tools_used` ends up in the closing fact.

    `recorded` counts what its probe found that was new; a task that is `quiet` found nothing new.
    """

    run: Run
    settings: Settings
    store: Store
    context: RunContext
    tools_used: dict[str, str] = field(default_factory=dict)
    recorded: int = 0
    quiet: bool = False

    def keep(self, item: Observation | Listing | JobRuns) -> tuple[Fact, ...]:
        """Store what a probe saw; return what was new of it."""
        if isinstance(item, Listing):
            return self.store.merge_listing(item, run=self.run.id)
        if isinstance(item, JobRuns):
            return self.store.merge_runs(item, run=self.run.id)
        if item.kind == "repository.inspected":
            device = media.device_of(self.settings, repository_of(item.subject))
            if device is not None and item.data["device"] is not None:
                item = replace(item, data={**item.data, "device": device})
            author = self.run.request.requested_by
            return self.store.record_inspection(item, run=self.run.id, author=author)
        return self.record(item)

    def record(self, *observations: Observation) -> tuple[Fact, ...]:
        """Append observations as facts of this run."""
        return self.store.append(
            observations, run=self.run.id, author=self.run.request.requested_by
        )

    def repositories(self, *identifiers: str) -> ConfiguredRepositories:
        """Return the repositories a task may open; without ids all of them."""
        return ConfiguredRepositories(
            settings=self.settings,
            context=self.context,
            store=self.store,
            only=identifiers or None,
        )


#: Performs one run and says how it ended; errors of `backupguard.errors` say it as well.
Task = Callable[[TaskContext], tuple[Verdict, str | None]]


@contextmanager
def run_directory(settings: Settings, run: str) -> Iterator[Path]:
    """Hold the directory of a run (0700) and its lock; it is discarded at the end.

    Raises Busy (already_running) when another process holds the lock.
    """
    directory = settings.runs_directory / run
    handle = _lock_file(directory)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("already_running", run=run) from error
        try:
            yield directory
        finally:
            discard(directory)
    finally:
        os.close(handle)


def _lock_file(directory: Path) -> int:
    """Make the directory of a run and open its lock; another process' sweep may come in between."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    for _ in range(_LOCK_TRIES):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return os.open(directory / "lock", flags, 0o600)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(directory / "lock", flags, 0o600)


def sandbox_limits(scratch: Scratch) -> SandboxLimits:
    """Return the limits the settings ask for; a restore test takes half of the memory at most."""
    return SandboxLimits(
        disk_bytes=scratch.max_bytes,
        reserve_percent=scratch.reserve_percent,
        reserve_bytes=scratch.reserve,
        memory_bytes=scratch.max_memory or psutil.virtual_memory().total // 2,
        processes=scratch.max_processes,
    )


def _progress_sink(store: Store, run: str, follower: ProgressSink | None) -> ProgressSink:
    last = 0.0

    def report(done: int, total: int | None, unit: str) -> None:
        nonlocal last
        if follower is not None:
            follower(done, total, unit)
        if time.monotonic() - last >= PROGRESS_EVERY_S:
            last = time.monotonic()
            store.report_progress(run, {"done": done, "total": total, "unit": unit})

    return report


def limited(task: Task, expired: Callable[[], bool]) -> Task:
    """Return the task, whose end by the deadline is told as such: a limit of ours, nobody's wish."""

    def perform(context: TaskContext) -> tuple[Verdict, str | None]:
        try:
            return task(context)
        except Cancelled as error:
            if expired():
                raise TimedOut("run_limit") from error
            raise

    return perform


def perform(
    run: Run,
    settings: Settings,
    store: Store,
    cancel: Cancel,
    tasks: Mapping[str, Task],
    *,
    clock: Clock = utc_now,
    follower: ProgressSink | None = None,
) -> Verdict:
    """Perform a waiting run to its closing fact and return its verdict.

    Whatever goes wrong becomes the run's verdict and code; an unexpected exception
    is logged with its traceback and leaves the code `bug`. Raises Busy when the run is not waiting any
    more or another run holds its `exclusive`, StoreError when nothing can be recorded.
    """
    with run_directory(settings, run.id) as work:
        if not store.start_run(run.id, socket.gethostname()):
            raise Busy("already_running", run=run.id)
        started = store.run(run.id) or run
        events = log.bind(run=run.id, task=run.request.task, subject=run.request.subject)
        events.info("run.started")
        limits = sandbox_limits(settings.scratch)
        context = RunContext(
            # What a tool fetches is bounded as a restore is: neither may fill the disk.
            tools=Jail(
                work,
                cancel,
                watch=ScratchGuard(work, limits).check,
                private=settings.private_files,
            ),
            http=BoundedHttp(cancel=cancel),
            cancel=cancel,
            known=StoreKnown(store=store),
            work=work,
            cache=settings.state_directory / "cache",
            clock=clock,
            report=_progress_sink(store, run.id, follower),
        )
        task = TaskContext(run=started, settings=settings, store=store, context=context)
        state = RunState.FINISHED
        try:
            verdict, code = tasks[run.request.task](task)
        except Exception as error:  # noqa: BLE001 - the run's verdict is where every error ends
            verdict, code = verdict_of(error)
            if isinstance(error, Cancelled):
                state = RunState.CANCELLED
            if code == "bug":
                events.exception("run.bug")
        closing = closing_observation(
            started,
            state=state,
            verdict=verdict,
            code=code,
            now=clock(),
            tools=task.tools_used,
        )
        store.append(
            [] if task.quiet and _said_today(store, closing) else [closing],
            run=run.id,
            author=run.request.requested_by,
            closing=Closing(run=run.id, state=state, verdict=verdict, code=code),
        )
        seal_or_tell(store)
        events.info("run.finished", verdict=verdict.value, code=code)
    return verdict


def seal_or_tell(store: Store) -> None:
    """Seal the chain; where its key is gone, or another lies there, the log says so and work goes on.

    What was recorded stays recorded; the missing seals break PRV-01 until the key is back.
    """
    try:
        store.seal()
    except EvidenceError as error:
        log.error("evidence.not-sealed", code=error.code, **error.message.values)


def _said_today(store: Store, closing: Observation) -> bool:
    """Tell whether a closing that passed would say again what the last one of this day said."""
    newest = store.latest([closing.subject], [closing.kind]).get(closing.subject, {})
    last = newest.get(closing.kind)
    if last is None or last.observation.data is None:
        return False
    return (
        closing.data["verdict"] == last.observation.data["verdict"] == Verdict.PASSED
        and closing.observed_at.date() == last.observation.observed_at.date()
    )


def close_dead(
    settings: Settings,
    store: Store,
    *,
    clock: Clock = utc_now,
    is_alive: Callable[[str], bool] = lambda _run: False,
) -> tuple[str, ...]:
    """Close the runs of this host whose process died; return their ids. What they left is not touched.

    `is_alive` speaks for runs whose process has just been started and may hold no lock yet, or holds
    it where the scratch directory was before a reload.
    """
    host = socket.gethostname()
    closed = []
    for run in store.runs(states=[RunState.RUNNING]):
        if run.host != host or is_alive(run.id):
            continue
        if not _lock_is_free(settings.runs_directory / run.id / "lock"):
            continue
        close_interrupted(store, run, clock())
        log.warning("run.interrupted", run=run.id, task=run.request.task)
        closed.append(run.id)
    if closed:
        seal_or_tell(store)
    return tuple(closed)


def recover(
    settings: Settings,
    store: Store,
    *,
    clock: Clock = utc_now,
    is_alive: Callable[[str], bool] = lambda _run: False,
    tools: Tools | None = None,
) -> tuple[str, ...]:
    """Do as `close_dead`, then remove what dead runs left, which can take hours; return the ids."""
    closed = close_dead(settings, store, clock=clock, is_alive=is_alive)
    host = socket.gethostname()

    def is_kept(name: str) -> bool:
        # Who removes a directory holds its lock: a run that dies meanwhile is to be closed first.
        if is_alive(name):
            return True
        run = store.run(name)
        return run is not None and run.state is RunState.RUNNING and run.host == host

    # A directory whose lock is free is nobody's: the sweep itself looks at the locks.
    sweep(settings.runs_directory, is_kept, tools)
    return closed


def _lock_is_free(path: Path) -> bool:
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
    return True


def repository_of(subject: Subject) -> str:
    """Return the id in a repository's subject."""
    return subject.removeprefix(repository_subject(""))
