"""The diary of runs: who may start what, and how each run ends exactly once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, RowMapping, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from backupguard.contracts import Store
from backupguard.errors import Cancelled, Interrupted
from backupguard.evidence.kinds import closed_kind
from backupguard.evidence.records import canonical
from backupguard.model import (
    Closing,
    Json,
    Observation,
    Run,
    RunRequest,
    RunState,
    Subject,
    Verdict,
    from_us,
    to_us,
)
from backupguard.store.core import Core, check, end_run, lock_head
from backupguard.store.schema import runs


def closing_key(run: str) -> str:
    """Return the key of a run's closing fact: the same whoever writes it."""
    return f"run/{run}/closed"


def closing_observation(
    run: Run,
    *,
    state: RunState,
    verdict: Verdict,
    code: str | None,
    now: datetime,
    tools: Mapping[str, str] | None = None,
) -> Observation:
    """Return the closing fact of a run."""
    request = run.request
    return Observation(
        kind=closed_kind(request.task),
        subject=request.subject,
        observed_at=now,
        key=closing_key(run.id),
        data={
            "task": request.task,
            "verdict": verdict.value,
            "code": code,
            "state": state.value,
            "started_at": to_us(run.started_at) if run.started_at else None,
            "ended_at": to_us(now),
            "attempt": request.attempt,
            "due_at": to_us(request.due_at) if request.due_at else None,
            "requested_by": request.requested_by,
            "tools": dict(tools or {}),
        },
    )


def close_interrupted(store: Store, run: Run, now: datetime) -> None:
    """Close a run whose process died: its fact and its state, unless it closed itself before dying.

    The caller has found the lock of the run's directory free.
    """
    error = Interrupted("daemon_died")
    store.append(
        [
            closing_observation(
                run,
                state=RunState.INTERRUPTED,
                verdict=error.verdict,
                code=error.code,
                now=now,
            )
        ],
        run=run.id,
        author=run.request.requested_by,
        closing=Closing(
            run=run.id, state=RunState.INTERRUPTED, verdict=error.verdict, code=error.code
        ),
    )


def run_from_row(row: RowMapping) -> Run:
    """Return the run in a row of `runs`."""

    def moment(name: str) -> datetime | None:
        return from_us(row[name]) if row[name] is not None else None

    return Run(
        id=row["id"],
        request=RunRequest(
            task=row["task"],
            subject=row["subject"],
            due_at=moment("due_at"),
            exclusive=row["exclusive"],
            resource=row["resource"],
            requested_by=row["requested_by"],
            options=json.loads(row["options"]),
            attempt=row["attempt"],
        ),
        state=RunState(row["state"]),
        created_at=from_us(row["created_at"]),
        started_at=moment("started_at"),
        ended_at=moment("ended_at"),
        host=row["host"],
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        code=row["code"],
        progress=json.loads(row["progress"]) if row["progress"] else None,
    )


def enqueue(core: Core, request: RunRequest) -> Run:
    """Insert a waiting run, or return the one that this slot and attempt already have."""
    now = core.now()
    with core.write() as connection:
        if request.due_at is not None:
            if connection.dialect.name != "sqlite":
                lock_head(connection)
            same = connection.execute(
                select(runs).where(
                    runs.c.task == request.task,
                    runs.c.subject == request.subject,
                    runs.c.due_at == to_us(request.due_at),
                    runs.c.attempt == request.attempt,
                )
            )
            if (row := same.mappings().first()) is not None:
                return run_from_row(row)
        identifier = str(ULID())
        connection.execute(
            insert(runs).values(
                id=identifier,
                task=request.task,
                subject=request.subject,
                due_at=to_us(request.due_at) if request.due_at else None,
                attempt=request.attempt,
                state=RunState.WAITING.value,
                exclusive=request.exclusive,
                resource=request.resource,
                requested_by=request.requested_by,
                options=canonical(request.options).decode("utf-8"),
                created_at=to_us(now),
            )
        )
    return Run(id=identifier, request=request, state=RunState.WAITING, created_at=now)


def _start(connection: Connection, run: str, host: str, now: datetime) -> bool:
    """Turn one waiting run into a running one, if it still waits and nothing holds its exclusive."""
    other = runs.alias("other")
    statement = (
        update(runs)
        .where(
            runs.c.id == run,
            runs.c.state == RunState.WAITING.value,
            ~exists(
                select(other.c.id).where(
                    other.c.exclusive == runs.c.exclusive,
                    other.c.state == RunState.RUNNING.value,
                )
            ),
        )
        .values(state=RunState.RUNNING.value, host=host, started_at=to_us(now))
    )
    try:
        with connection.begin_nested():
            return connection.execute(statement).rowcount == 1
    except IntegrityError:  # PostgreSQL: two at once; the partial unique index let one through
        return False


def start_run(core: Core, run: str, host: str) -> bool:
    """Turn one waiting run into a running one; False when it is too late or something blocks it."""
    with core.write() as connection:
        return _start(connection, run, host, core.now())


def claim(core: Core, host: str, free: Mapping[str, int]) -> tuple[Run, ...]:
    """Turn the longest-waiting runs into this host's running ones, at most `free` per resource."""
    claimed: list[str] = []
    with core.write() as connection:
        for resource, room in free.items():
            waiting = connection.execute(
                select(runs.c.id)
                .where(runs.c.state == RunState.WAITING.value, runs.c.resource == resource)
                .order_by(func.coalesce(runs.c.due_at, runs.c.created_at), runs.c.id)
            ).scalars()
            left = room
            for run in list(waiting):
                if left <= 0:
                    break
                if _start(connection, run, host, core.now()):
                    claimed.append(run)
                    left -= 1
        found = connection.execute(select(runs).where(runs.c.id.in_(claimed))).mappings()
        by_id = {row["id"]: run_from_row(row) for row in found}
    return tuple(by_id[run] for run in claimed)


def cancel(core: Core, run: str, by: str) -> bool:
    """Close a waiting run, or remember who wants a running one to end; False when it has ended."""
    error = Cancelled("by_operator")
    with core.write() as connection:
        lock_head(connection)
        row = connection.execute(select(runs).where(runs.c.id == run)).mappings().first()
        if row is None:
            return False
        found = run_from_row(row)
        if found.state is RunState.RUNNING:
            connection.execute(update(runs).where(runs.c.id == run).values(cancel_by=by))
            return True
        if found.state is not RunState.WAITING:
            return False
        fact = closing_observation(
            found,
            state=RunState.CANCELLED,
            verdict=error.verdict,
            code=error.code,
            now=core.now(),
        )
        check([fact])
        core.append_in(connection, [fact], run=run, author=by)
        end_run(
            connection,
            Closing(run=run, state=RunState.CANCELLED, verdict=error.verdict, code=error.code),
            core.now(),
        )
    return True


def cancel_requested_by(core: Core, run: str) -> str | None:
    """Return who wants a running run to end, if anybody does."""
    with core.read() as connection:
        return connection.execute(select(runs.c.cancel_by).where(runs.c.id == run)).scalar()


def report_progress(core: Core, run: str, progress: Json) -> None:
    """Remember how far a run is."""
    with core.write() as connection:
        connection.execute(
            update(runs)
            .where(runs.c.id == run)
            .values(progress=canonical(progress).decode("utf-8"))
        )


def get(core: Core, run: str) -> Run | None:
    """Return one run."""
    with core.read() as connection:
        row = connection.execute(select(runs).where(runs.c.id == run)).mappings().first()
    return run_from_row(row) if row is not None else None


def find(
    core: Core,
    *,
    states: Collection[RunState],
    task: str | None,
    subject: Subject | None,
    limit: int,
) -> tuple[Run, ...]:
    """Return runs, newest first."""
    statement = select(runs).order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)
    if states:
        statement = statement.where(runs.c.state.in_([state.value for state in states]))
    if task is not None:
        statement = statement.where(runs.c.task == task)
    if subject is not None:
        statement = statement.where(runs.c.subject == subject)
    with core.read() as connection:
        return tuple(run_from_row(row) for row in connection.execute(statement).mappings())
