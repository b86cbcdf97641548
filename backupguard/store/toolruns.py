"""The backup tools' own records of their runs: those that are new or have changed become facts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, func, select

from backupguard.contracts import JobRun, JobRuns
from backupguard.evidence.records import canonical
from backupguard.model import Fact, Json, Observation, PointState, from_us, repository_subject
from backupguard.store import derived
from backupguard.store.core import Core, check, lock_head
from backupguard.store.engine import matching
from backupguard.store.schema import job_runs, latest

#: Runs in one fact at most.
PER_FACT = 500
#: A tool may write down a run, or how it ended, this much later than the run that followed it.
OVERLAP = timedelta(days=2)
#: A run that has not ended for longer than this never will.
ENDLESS = timedelta(days=30)

_KIND = "backup.runs"


def merge(core: Core, seen: JobRuns, *, run: str | None) -> tuple[Fact, ...]:
    """Record the runs that are new or have changed; nothing at all when none has."""
    recorded: list[Fact] = []
    runs = iter(seen.runs)
    with core.write() as connection:
        lock_head(connection)
        while batch := list(islice(runs, PER_FACT)):
            new = list(_differing(connection, seen.repository, batch))
            if not new:
                continue
            observation = _observation(connection, seen, new)
            check([observation])
            recorded += core.append_in(connection, [observation], run=run, author=None)
    return tuple(recorded)


def _differing(connection: Connection, repository: str, batch: list[JobRun]) -> Iterator[Json]:
    column = job_runs.c
    named = {(one.job, one.native_id): derived.run_data(one) for one in batch}
    rows = connection.execute(
        select(column.job, column.native_id, column.digest).select_from(
            matching(connection, job_runs, repository, named)
        )
    )
    known = {(job, native_id): bytes(digest) for job, native_id, digest in rows if job is not None}
    for name, data in sorted(named.items()):
        if known.get(name) != derived.point_digest(data):
            yield data


def _observation(connection: Connection, seen: JobRuns, new: list[Json]) -> Observation:
    subject = repository_subject(seen.repository)
    before = connection.execute(
        select(latest.c.seq).where(latest.c.subject == subject, latest.c.kind == _KIND)
    ).scalar()
    # Named after what it says and what it follows: a run may become again what it once was.
    digest = hashlib.sha256(canonical(new)).hexdigest()[:32]
    return Observation(
        kind=_KIND,
        subject=subject,
        observed_at=seen.observed_at,
        data={"runs": new},
        key=f"runs/{seen.repository}/{before or 0}/{digest}",
    )


def newest_first(
    core: Core, job: str, repository: str | None, limit: int | None
) -> tuple[JobRun, ...]:
    """Return what the tools recorded of a job's runs, newest first."""
    column = job_runs.c
    statement = (
        select(column.data)
        .where(column.job == job)
        .order_by(column.started_at.desc(), column.repository, column.native_id)
        .limit(limit)
    )
    if repository is not None:
        statement = statement.where(column.repository == repository)
    with core.read() as connection:
        return tuple(map(derived.stored_run, connection.execute(statement).scalars()))


def since(core: Core, repository: str) -> datetime | None:
    """Return from when on a tool's runs may be new or may have ended; None: none are known."""
    column = job_runs.c
    now = core.now()
    with core.read() as connection:
        newest = connection.execute(
            select(func.max(column.started_at)).where(column.repository == repository)
        ).scalar()
        if newest is None:
            return None
        # One dated in the future must not hide those that come before it.
        begin = min(from_us(newest), now) - OVERLAP
        running = connection.execute(
            select(func.min(column.started_at)).where(
                column.repository == repository,
                column.state == PointState.RUNNING.value,
            )
        ).scalar()
    if running is not None and now - ENDLESS < from_us(running) < begin:
        return from_us(running)
    return begin
