"""A listing becomes facts: what appeared, changed and vanished since the one before.

The difference is made by SQL against a temporary table inside the writing transaction, so that two
listings at the same time cannot both see a point as new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    not_,
    select,
)

from backupguard.evidence.records import canonical
from backupguard.model import Fact, Json, Listing, Observation, repository_subject, to_us
from backupguard.store import derived
from backupguard.store.core import Core, check, lock_head
from backupguard.store.schema import facts, job_summaries, latest, recovery_points

#: Points in one fact at most: a record stays small enough to be read and shown.
PER_FACT = 500

_listed = Table(
    "listed_points",
    MetaData(),
    Column("job", Text, primary_key=True),
    Column("native_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    prefixes=["TEMPORARY"],
)

_Points = dict[tuple[str, str], dict[str, Json]]


def merge(core: Core, listing: Listing, *, run: str | None) -> tuple[Fact, ...]:
    """Record how a repository differs from what stood before.

    Where it does not differ nothing is recorded, but for one `inventory.confirmed` a day.
    """
    points: _Points = {}
    for point in listing.points:
        points[point.job, point.native_id] = derived.point_data(point)
    jobs = sorted({*listing.jobs, *(job for job, _ in points)})
    repository = listing.repository
    with core.write() as connection:
        lock_head(connection)
        _fill(connection, points)
        entries = list(_difference(connection, repository, jobs, points))
        fresh_jobs = _unknown_jobs(connection, repository, jobs)
        if entries or fresh_jobs:
            new = _listed_facts(connection, listing, entries, fresh_jobs)
        else:
            _count_again(core, connection, repository)
            new = _confirmation(connection, listing)
        check(new)
        return core.append_in(connection, new, run=run, author=None)


def _fill(connection: Connection, points: _Points) -> None:
    _listed.create(connection, checkfirst=True)
    connection.execute(delete(_listed))
    if points:
        connection.execute(
            insert(_listed),
            [
                {"job": job, "native_id": native_id, "digest": derived.point_digest(data)}
                for (job, native_id), data in points.items()
            ],
        )


def _difference(
    connection: Connection, repository: str, jobs: Sequence[str], points: _Points
) -> Iterator[tuple[str, Json]]:
    """Yield ("appeared" | "changed" | "vanished", point) in a settled order."""
    stands = recovery_points.c
    here = and_(stands.repository == repository, stands.vanished_seq.is_(None))
    same = and_(stands.job == _listed.c.job, stands.native_id == _listed.c.native_id)
    differing = connection.execute(
        select(_listed.c.job, _listed.c.native_id, stands.digest)
        .select_from(_listed.outerjoin(recovery_points, and_(same, here)))
        .where(stands.digest.is_(None) | (stands.digest != _listed.c.digest))
    ).all()
    appeared = [points[job, native] for job, native, digest in differing if digest is None]
    changed = [points[job, native] for job, native, digest in differing if digest is not None]
    vanished = connection.execute(
        select(stands.job, stands.native_id, stands.at).where(
            here, stands.job.in_(jobs), not_(exists(select(1).select_from(_listed).where(same)))
        )
    ).mappings()
    gone = [dict(row) for row in vanished]
    for change, group in (("appeared", appeared), ("changed", changed), ("vanished", gone)):
        for point in sorted(group, key=lambda data: (data["at"], data["job"], data["native_id"])):
            yield change, point


def _unknown_jobs(connection: Connection, repository: str, jobs: Sequence[str]) -> list[str]:
    known = connection.execute(
        select(job_summaries.c.job).where(
            job_summaries.c.repository == repository, job_summaries.c.job.in_(jobs)
        )
    ).scalars()
    return sorted(set(jobs) - set(known))


def _standing(connection: Connection, repository: str) -> int:
    return connection.execute(
        select(func.count())
        .select_from(recovery_points)
        .where(recovery_points.c.repository == repository, recovery_points.c.vanished_seq.is_(None))
    ).scalar_one()


def _listed_facts(
    connection: Connection,
    listing: Listing,
    entries: Sequence[tuple[str, Json]],
    fresh_jobs: Sequence[str],
) -> list[Observation]:
    subject = repository_subject(listing.repository)
    before = connection.execute(
        select(latest.c.seq).where(latest.c.subject == subject, latest.c.kind == "inventory.listed")
    ).scalar()
    counts = {
        name: sum(change == name for change, _ in entries) for name in ("appeared", "vanished")
    }
    standing = _standing(connection, listing.repository) + counts["appeared"] - counts["vanished"]
    chunks = [entries[start : start + PER_FACT] for start in range(0, len(entries), PER_FACT)] or [
        ()
    ]
    new = []
    for part, chunk in enumerate(chunks, start=1):
        data: dict[str, Json] = {"part": part, "parts": len(chunks), "standing": standing}
        for name in ("appeared", "changed", "vanished"):
            data[name] = [point for change, point in chunk if change == name]
        if part == 1 and fresh_jobs:
            data["jobs"] = list(fresh_jobs)
        # Named after the listing it follows: two that follow the same one are the same.
        key = f"inventory/{listing.repository}/{before or 0}/{part}"
        new.append(_observation("inventory.listed", listing, data, key))
    return new


def _confirmation(connection: Connection, listing: Listing) -> list[Observation]:
    key = f"inventory/{listing.repository}/confirmed/{listing.observed_at:%Y-%m-%d}"
    if connection.execute(select(facts.c.seq).where(facts.c.key == key)).first() is not None:
        return []
    stands = recovery_points.c
    rows = connection.execute(
        select(stands.job, stands.native_id, stands.digest).where(
            stands.repository == listing.repository, stands.vanished_seq.is_(None)
        )
    ).all()
    # Sorted here, not by the database, whose order depends on its collation.
    names = sorted([job, native_id, bytes(digest).hex()] for job, native_id, digest in rows)
    data = {"count": len(names), "digest": hashlib.sha256(canonical(names)).hexdigest()}
    return [_observation("inventory.confirmed", listing, data, key)]


def _count_again(core: Core, connection: Connection, repository: str) -> None:
    """Let points that were in the future count once their time has come."""
    now = core.now()
    due = connection.execute(
        select(job_summaries.c.job).where(
            job_summaries.c.repository == repository,
            job_summaries.c.next_at <= to_us(now + derived.FUTURE_TOLERANCE),
        )
    ).scalars()
    if jobs := list(due):
        derived.summarise(connection, repository, jobs, now)


def _observation(kind: str, listing: Listing, data: Mapping[str, Any], key: str) -> Observation:
    return Observation(
        kind=kind,
        subject=repository_subject(listing.repository),
        observed_at=listing.observed_at,
        data=dict(data),
        key=key,
    )
