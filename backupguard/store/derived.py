"""What follows from facts: latest, recovery points, job summaries, coverage.

Each function is called in the transaction that appends the facts, and again by `rebuild`, so that
what is derived can always be thrown away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, select, update

from backupguard.evidence.records import canonical
from backupguard.model import (
    Fact,
    Json,
    PointKind,
    PointState,
    RecoveryPoint,
    Verdict,
    from_us,
    repository_subject,
    to_us,
)
from backupguard.store.engine import upsert
from backupguard.store.schema import coverage, job_summaries, latest, recovery_points

#: A source host's clock may be ahead by this much before its points count as being in the future.
FUTURE_TOLERANCE = timedelta(minutes=10)

_USABLE = (PointState.COMPLETE.value, PointState.WARNING.value)
_DAY_US = 86_400_000_000
_POINT_COLUMNS = ("at", "covers_until", "day", "state", "bytes", "data", "digest")


def point_data(point: RecoveryPoint) -> dict[str, Json]:
    """Return a recovery point as it stands in `inventory.listed`."""
    return {
        "job": point.job,
        "native_id": point.native_id,
        "at": to_us(point.at),
        "covers_until": to_us(point.covers_until),
        "kind": point.kind.value,
        "needs": list(point.needs),
        "state": point.state.value,
        "started_at": to_us(point.started_at) if point.started_at else None,
        "ended_at": to_us(point.ended_at) if point.ended_at else None,
        "bytes": point.bytes,
        "bytes_added": point.bytes_added,
        "files": point.files,
        "content_id": point.content_id,
        "source_host": point.source_host,
        "encrypted": point.encrypted,
        "extra": point.extra,
    }


def point_of(repository: str, data: Mapping[str, Json]) -> RecoveryPoint:
    """Return the recovery point that `point_data` wrote."""

    def moment(name: str) -> datetime | None:
        return from_us(data[name]) if data[name] is not None else None

    return RecoveryPoint(
        repository=repository,
        job=data["job"],
        native_id=data["native_id"],
        at=from_us(data["at"]),
        covers_until=from_us(data["covers_until"]),
        kind=PointKind(data["kind"]),
        needs=tuple(data["needs"]),
        state=PointState(data["state"]),
        started_at=moment("started_at"),
        ended_at=moment("ended_at"),
        bytes=data["bytes"],
        bytes_added=data["bytes_added"],
        files=data["files"],
        content_id=data["content_id"],
        source_host=data["source_host"],
        encrypted=data["encrypted"],
        extra=data["extra"],
    )


def point_digest(data: Mapping[str, Json]) -> bytes:
    """Return what tells whether a point changed between two listings."""
    return hashlib.sha256(canonical(data)).digest()


def apply(connection: Connection, facts: Iterable[Fact], now: datetime) -> None:
    """Bring everything derived up to date with facts that were just appended."""
    touched: dict[str, set[str]] = {}
    newest: dict[tuple[str, str], int] = {}
    for fact in facts:
        newest[fact.observation.subject, fact.observation.kind] = fact.seq
        repository, jobs = _apply_one(connection, fact)
        if jobs:
            touched.setdefault(repository, set()).update(jobs)
    upsert(
        connection,
        latest,
        [{"subject": s, "kind": k, "seq": seq} for (s, k), seq in newest.items()],
        keys=("subject", "kind"),
        update=("seq",),
    )
    for repository, jobs in touched.items():
        summarise(connection, repository, jobs, now)


def _apply_one(connection: Connection, fact: Fact) -> tuple[str, Collection[str]]:
    """Apply one fact; return the repository and the jobs whose summaries are to be made anew."""
    observation = fact.observation
    repository = observation.subject.removeprefix(repository_subject(""))
    if observation.data is None:  # pruned
        return repository, ()
    if observation.kind == "inventory.listed":
        return repository, _apply_listed(connection, repository, fact)
    if observation.kind == "repository.verified":
        _apply_verified(connection, repository, fact)
    return repository, ()


def _apply_listed(connection: Connection, repository: str, fact: Fact) -> set[str]:
    data = fact.observation.data
    jobs = set(data.get("jobs") or ())
    for name in ("appeared", "changed"):
        rows = [_row(repository, point, fact.seq) for point in data[name]]
        jobs.update(point["job"] for point in data[name])
        # A point that comes back appears anew; one that changed appeared when it first did.
        columns = [*_POINT_COLUMNS, "vanished_seq"]
        if name == "appeared":
            columns.append("appeared_seq")
        upsert(
            connection,
            recovery_points,
            rows,
            keys=("repository", "job", "native_id"),
            update=columns,
        )
    for point in data["vanished"]:
        jobs.add(point["job"])
        connection.execute(
            update(recovery_points)
            .where(
                recovery_points.c.repository == repository,
                recovery_points.c.job == point["job"],
                recovery_points.c.native_id == point["native_id"],
            )
            .values(vanished_seq=fact.seq)
        )
    return jobs


def _row(repository: str, data: Mapping[str, Json], seq: int) -> dict[str, Any]:
    return {
        "repository": repository,
        "job": data["job"],
        "native_id": data["native_id"],
        "at": data["at"],
        "covers_until": data["covers_until"],
        "day": data["at"] // _DAY_US,
        "state": data["state"],
        "bytes": data["bytes"],
        "data": canonical(data).decode("utf-8"),
        "digest": point_digest(data),
        "appeared_seq": seq,
        "vanished_seq": None,
    }


def _apply_verified(connection: Connection, repository: str, fact: Fact) -> None:
    at = to_us(fact.observation.observed_at)
    rows = {
        unit["unit"]: {
            "repository": repository,
            "unit": unit["unit"],
            "verified_at": at,
            "verified_seq": fact.seq,
        }
        for unit in fact.observation.data["units"]
        if unit["verdict"] == Verdict.PASSED.value
    }
    upsert(
        connection,
        coverage,
        list(rows.values()),
        keys=("repository", "unit"),
        update=("verified_at", "verified_seq"),
    )


def summarise(
    connection: Connection, repository: str, jobs: Collection[str], now: datetime
) -> None:
    """Count the standing points of `jobs` in a repository again.

    Only points the tool calls complete (or complete with a warning) count, and only those that are
    not in the future: a source host's wrong clock must not make a stopped backup look fresh.
    """
    horizon = to_us(now + FUTURE_TOLERANCE)
    point = recovery_points.c
    past = point.at <= horizon
    standing = and_(
        point.repository == repository,
        point.job.in_(list(jobs)),
        point.vanished_seq.is_(None),
        point.state.in_(_USABLE),
    )
    counted = connection.execute(
        select(
            point.job,
            func.max(case((past, point.at))).label("newest"),
            func.min(case((past, point.at))).label("oldest"),
            func.count(case((past, 1))).label("points"),
            func.count(case((past, point.day)).distinct()).label("days"),
            func.min(case((past, None), else_=point.at)).label("next_at"),
        )
        .where(standing)
        .group_by(point.job)
    ).mappings()
    rows: dict[str, dict[str, Any]] = {
        job: {
            "job": job,
            "repository": repository,
            "newest": None,
            "oldest": None,
            "newest_bytes": None,
            "newest_state": None,
            "points": 0,
            "days": 0,
            "next_at": None,
        }
        for job in jobs
    }
    for counts in counted:
        rows[counts["job"]].update(counts)
    for job, row in rows.items():
        if row["newest"] is None:
            continue
        found = connection.execute(
            select(point.bytes, point.state)
            .where(standing, point.job == job, point.at == row["newest"])
            .order_by(point.native_id)
            .limit(1)
        ).one()
        row["newest_bytes"], row["newest_state"] = found
    columns = [c.name for c in job_summaries.c if not c.primary_key]
    upsert(
        connection,
        job_summaries,
        list(rows.values()),
        keys=("job", "repository"),
        update=columns,
    )


def forget(connection: Connection) -> None:
    """Empty every derived table, to fill it again from the facts."""
    for table in (latest, recovery_points, job_summaries, coverage):
        connection.execute(delete(table))


def stored_point(repository: str, text: str) -> RecoveryPoint:
    """Return the recovery point in the column `data` of a row."""
    return point_of(repository, json.loads(text))
