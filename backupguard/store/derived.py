"""What follows from facts: latest, recovery points, job summaries, tools' runs, coverage.

Each function is called in the transaction that appends the facts, and again by `rebuild`, so that
what is derived can always be thrown away.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, select, update

from backupguard.contracts import JobRun
from backupguard.evidence.records import canonical, sha256
from backupguard.model import (
    Fact,
    Json,
    Observation,
    Origin,
    PointKind,
    PointState,
    RecoveryPoint,
    Verdict,
    from_us,
    repository_subject,
    to_us,
)
from backupguard.store import summaries
from backupguard.store.engine import matching, upsert
from backupguard.store.schema import (
    coverage,
    job_runs,
    job_summaries,
    latest,
    recovery_points,
)
from backupguard.store.summaries import Standing

_POINT_COLUMNS = ("at", "covers_until", "day", "state", "bytes", "data", "digest")
_RUN_COLUMNS = ("started_at", "ended_at", "state", "bytes", "files")
#: Points named in one statement at most.
_AT_ONCE = 500
_VANISH = update(recovery_points).where(
    recovery_points.c.repository == bindparam("its_repository"),
    recovery_points.c.job == bindparam("its_job"),
    recovery_points.c.native_id == bindparam("its_id"),
)

_Touched = dict[str, list[tuple[Standing | None, Standing | None]]]


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
    return sha256(canonical(data))


def is_point(data: Mapping[str, Json], digest: bytes) -> bool:
    """Tell whether a point is the one that was stored with this digest.

    Quicker than `point_digest`, which looks at every value: what was stored passed that look.
    """
    text = json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    quick = sha256(text.encode("utf-8", "surrogatepass"))
    return quick == digest or point_digest(data) == digest


def apply(connection: Connection, facts: Iterable[Fact], now: datetime, zone: tzinfo = UTC) -> None:
    """Bring everything derived up to date with facts that were just appended.

    `zone` is the site's: days are those of its calendar.
    """
    touched: dict[str, _Touched] = {}
    newest: dict[tuple[str, str], int] = {}
    for fact in facts:
        observation = fact.observation
        if not _told_late(observation):
            newest[observation.subject, observation.kind] = fact.seq
        repository = observation.subject.removeprefix(repository_subject(""))
        if observation.data is None:  # pruned
            continue
        if observation.kind == "inventory.listed":
            changes = touched.setdefault(repository, defaultdict(list))
            _apply_listed(connection, repository, fact, changes, zone)
        elif observation.kind == "repository.verified":
            _apply_verified(connection, repository, fact)
        elif observation.kind == "backup.runs":
            _apply_runs(connection, repository, fact)
    upsert(
        connection,
        latest,
        [{"subject": s, "kind": k, "seq": seq} for (s, k), seq in newest.items()],
        keys=("subject", "kind"),
        update=("seq",),
    )
    for repository, changes in touched.items():
        summaries.update(connection, repository, changes, now)


def _told_late(observation: Observation) -> bool:
    """Tell whether a fact says what was done elsewhere, at some time before: never the latest test.

    Whoever asks for the latest restore test compares with it what is restored next.
    """
    return observation.kind == "restore-test.result" and observation.origin is not Origin.OBSERVED


def _apply_listed(
    connection: Connection, repository: str, fact: Fact, changes: _Touched, zone: tzinfo
) -> None:
    """Apply one listing's fact; add to `changes` how each of its points stood and stands."""
    data = fact.observation.data
    for job in data.get("jobs") or ():
        changes[job]  # known from now on, with points or without
    before = _stood(
        connection,
        repository,
        [(p["job"], p["native_id"]) for n in ("appeared", "changed", "vanished") for p in data[n]],
    )
    for name in ("appeared", "changed"):
        rows = [_row(repository, point, fact.seq, zone) for point in data[name]]
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
        for row in rows:
            changes[row["job"]].append((before.get((row["job"], row["native_id"])), _standing(row)))
    if data["vanished"]:
        names = [{"its_job": p["job"], "its_id": p["native_id"]} for p in data["vanished"]]
        connection.execute(_VANISH.values(vanished_seq=fact.seq), _of(repository, names))
    for point in data["vanished"]:
        changes[point["job"]].append((before.get((point["job"], point["native_id"])), None))


def _of(repository: str, names: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [{"its_repository": repository, **name} for name in names]


def _stood(
    connection: Connection, repository: str, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Standing]:
    """Return those of the named points that stand in a repository."""
    point = recovery_points.c
    found: dict[tuple[str, str], Standing] = {}
    for start in range(0, len(names), _AT_ONCE):
        rows = connection.execute(
            select(point.job, point.native_id, point.at, point.day, point.state, point.bytes)
            .select_from(
                matching(connection, recovery_points, repository, names[start : start + _AT_ONCE])
            )
            .where(point.vanished_seq.is_(None))
        ).mappings()
        found |= {
            (row["job"], row["native_id"]): _standing(row)
            for row in rows
            if row["job"] is not None  # none of that name
        }
    return found


def _standing(row: Mapping[str, Any] | RowMapping) -> Standing:
    return Standing(row["native_id"], row["at"], row["day"], row["state"], row["bytes"])


def _row(repository: str, data: Mapping[str, Json], seq: int, zone: tzinfo) -> dict[str, Any]:
    text = canonical(data)
    return {
        "repository": repository,
        "job": data["job"],
        "native_id": data["native_id"],
        "at": data["at"],
        "covers_until": data["covers_until"],
        "day": summaries.day_of(data["at"], zone),
        "state": data["state"],
        "bytes": data["bytes"],
        "data": text.decode("utf-8"),
        "digest": sha256(text),
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


def run_data(run: JobRun) -> dict[str, Json]:
    """Return a tool's run as it stands in `backup.runs`."""
    data = {one.name: getattr(run, one.name) for one in fields(run)}
    data["started_at"] = to_us(run.started_at)
    data["ended_at"] = to_us(run.ended_at) if run.ended_at else None
    data["state"] = str(run.state)
    return data


def stored_run(text: str) -> JobRun:
    """Return the run in the column `data` of a row of `job_runs`."""
    data = json.loads(text)
    data["started_at"] = from_us(data["started_at"])
    if data["ended_at"] is not None:
        data["ended_at"] = from_us(data["ended_at"])
    return JobRun(**data)


def _apply_runs(connection: Connection, repository: str, fact: Fact) -> None:
    rows = {
        (run["job"], run["native_id"]): {
            "repository": repository,
            **{name: run[name] for name in ("job", "native_id", *_RUN_COLUMNS)},
            "data": canonical(run).decode("utf-8"),
            "digest": point_digest(run),
            "seq": fact.seq,
        }
        for run in fact.observation.data["runs"]
    }
    upsert(
        connection,
        job_runs,
        list(rows.values()),
        keys=("repository", "job", "native_id"),
        update=(*_RUN_COLUMNS, "data", "digest", "seq"),
    )


def forget(connection: Connection) -> None:
    """Empty every derived table, to fill it again from the facts."""
    for table in (latest, recovery_points, job_summaries, job_runs, coverage):
        connection.execute(delete(table))


def stored_point(repository: str, text: str) -> RecoveryPoint:
    """Return the recovery point in the column `data` of a row."""
    return point_of(repository, json.loads(text))
