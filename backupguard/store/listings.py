"""A listing becomes facts: what appeared, changed and vanished since the one before.

The difference is made inside the writing transaction, so that two listings at the same time cannot
both see a point as new. It is kept in a file without a name while it grows: a first listing of a
million points must not need the memory for a million points.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, Any

from sqlalchemy import Connection, func, select

from backupguard.evidence.records import canonical
from backupguard.model import (
    Fact,
    Json,
    Listing,
    Observation,
    RecoveryPoint,
    from_us,
    repository_subject,
    to_us,
)
from backupguard.store import derived, sightings, summaries
from backupguard.store.core import Core, check, lock_head
from backupguard.store.engine import matching
from backupguard.store.schema import facts, job_summaries, latest, recovery_points

#: Points in one fact at most: a record stays small enough to be read and shown.
PER_FACT = 500
#: Facts that are appended together, and the number beyond which they are returned without payload.
TOGETHER = 8
#: A difference larger than this goes to the disk.
IN_MEMORY_BYTES = 8 << 20

_CHANGES = ("appeared", "changed", "vanished")
_Entry = tuple[str, Json]


def merge(core: Core, listing: Listing, *, run: str | None) -> tuple[Fact, ...]:
    """Record how a repository differs from what stood before; remember that it was listed.

    Where it does not differ nothing is recorded, but for one `inventory.confirmed` a day. Of a very
    long first listing the later facts are returned without their payload.
    """
    with (
        tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file,
        core.write() as connection,
    ):
        lock_head(connection)
        difference = _Difference(file=file)
        difference.find(connection, listing)
        jobs = sorted({*listing.jobs, *difference.jobs})
        fresh_jobs = _unknown_jobs(connection, listing.repository, jobs)
        recorded: list[Fact] = []
        if difference.entries or fresh_jobs:
            new = _listed_facts(connection, listing, difference, fresh_jobs)
            while batch := list(islice(new, TOGETHER)):
                check(batch)
                appended = core.append_in(connection, batch, run=run, author=None)
                recorded += appended if len(recorded) < TOGETHER else map(_bare, appended)
        elif not listing.partial and not listing.some_jobs:
            new_today = _confirmation(connection, listing)
            check(new_today)
            recorded += core.append_in(connection, new_today, run=run, author=None)
        due = summaries.due_again(connection, listing.repository, core.now())
        summaries.recount(connection, listing.repository, due, core.now())
        _remember(connection, listing)
        return tuple(recorded)


def standing(
    connection: Connection, repository: str, listed: Iterable[RecoveryPoint] = ()
) -> Counter[str]:
    """Return per job how many points stand in a repository once `listed` are counted as well."""
    rows = connection.execute(
        select(job_summaries.c.job, job_summaries.c.standing).where(
            job_summaries.c.repository == repository
        )
    )
    counts: Counter[str] = Counter()
    for job, count in rows:
        counts[job] = count
    for names in _batches(((point.job, point.native_id) for point in listed), PER_FACT):
        known = _digests(connection, repository, names)
        counts.update(job for job, native_id in {*names} if (job, native_id) not in known)
    return counts


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _digests(
    connection: Connection, repository: str, names: Collection[tuple[str, str]]
) -> dict[tuple[str, str], bytes]:
    """Return the digests of those of the named points that stand."""
    point = recovery_points.c
    rows = connection.execute(
        select(point.job, point.native_id, point.digest)
        .select_from(matching(connection, recovery_points, repository, names))
        .where(point.vanished_seq.is_(None))
    )
    return {(job, native_id): bytes(digest) for job, native_id, digest in rows if job is not None}


@dataclass(slots=True, kw_only=True)
class _Difference:
    """What differs between a listing and what stood, in a file of one entry a line."""

    file: IO[bytes]
    counts: Counter[str] = field(default_factory=Counter)
    jobs: set[str] = field(default_factory=set)

    @property
    def entries(self) -> int:
        return self.counts.total()

    def find(self, connection: Connection, listing: Listing) -> None:
        """Compare the listing with what stands, some hundred points at a time."""
        there: Counter[str] = Counter()  # listed points that stood before, per job
        seen: set[bytes] = set()
        for batch in _batches(listing.points, PER_FACT):
            named: dict[tuple[str, str], RecoveryPoint] = {}
            for point in batch:
                mark = _name_digest(point.job, point.native_id)
                if mark not in seen:
                    seen.add(mark)
                    named[point.job, point.native_id] = point
            known = _digests(connection, listing.repository, named)
            self.jobs.update(job for job, _ in named)
            there.update(job for job, _ in known)
            self._compare(named.values(), known)
        if not listing.partial:
            self._find_vanished(connection, listing, there, seen)

    def _compare(
        self, points: Iterable[RecoveryPoint], known: Mapping[tuple[str, str], bytes]
    ) -> None:
        differing: list[_Entry] = []
        for point in points:
            before = known.get((point.job, point.native_id))
            data = derived.point_data(point)
            if before is None:
                differing.append(("appeared", data))
            elif not derived.is_point(data, before):
                differing.append(("changed", data))
        for change, data in sorted(differing, key=_settled):
            self._add(change, data)

    def _find_vanished(
        self, connection: Connection, listing: Listing, there: Counter[str], seen: set[bytes]
    ) -> None:
        """Name what stands and was not listed, looking only at jobs that have more than was listed."""
        stood = standing(connection, listing.repository)
        asked = {*listing.jobs, *self.jobs}
        point = recovery_points.c
        for job in sorted(job for job in asked if stood[job] != there[job]):
            rows = connection.execute(
                select(point.job, point.native_id, point.at)
                .where(
                    point.repository == listing.repository,
                    point.job == job,
                    point.vanished_seq.is_(None),
                )
                .order_by(point.at, point.native_id)
            ).mappings()
            for row in rows:
                if _name_digest(job, row["native_id"]) not in seen:
                    self._add("vanished", dict(row))

    def _add(self, change: str, data: Json) -> None:
        self.counts[change] += 1
        self.file.write(json.dumps([change, data]).encode("ascii") + b"\n")

    def read(self) -> Iterator[_Entry]:
        """Yield the entries in the order in which they were found."""
        self.file.seek(0)
        for line in self.file:
            change, data = json.loads(line)
            yield change, data


def _settled(entry: _Entry) -> tuple[str, int, str, str]:
    change, data = entry
    return change, data["at"], data["job"], data["native_id"]


def _name_digest(job: str, native_id: str) -> bytes:
    name = f"{job}\0{native_id}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=16).digest()


def _unknown_jobs(connection: Connection, repository: str, jobs: Sequence[str]) -> list[str]:
    known = connection.execute(
        select(job_summaries.c.job).where(job_summaries.c.repository == repository)
    ).scalars()
    return sorted(set(jobs) - set(known))


def _listed_facts(
    connection: Connection, listing: Listing, difference: _Difference, fresh_jobs: Sequence[str]
) -> Iterator[Observation]:
    subject = repository_subject(listing.repository)
    before = connection.execute(
        select(latest.c.seq).where(latest.c.subject == subject, latest.c.kind == "inventory.listed")
    ).scalar()
    stood = connection.execute(
        select(func.sum(job_summaries.c.standing)).where(
            job_summaries.c.repository == listing.repository
        )
    ).scalar()
    counts = difference.counts
    stands = int(stood or 0) + counts["appeared"] - counts["vanished"]
    parts = max(1, -(-difference.entries // PER_FACT))
    entries = difference.read()
    for part in range(1, parts + 1):
        chunk = list(islice(entries, PER_FACT))
        data: dict[str, Json] = {"part": part, "parts": parts, "standing": stands}
        for name in _CHANGES:
            data[name] = [point for change, point in chunk if change == name]
        if part == 1 and fresh_jobs:
            data["jobs"] = list(fresh_jobs)
        # Named after the listing it follows: two that follow the same one are the same.
        key = f"inventory/{listing.repository}/{before or 0}/{part}"
        yield _observation("inventory.listed", listing, data, key)


def _confirmation(connection: Connection, listing: Listing) -> list[Observation]:
    key = f"inventory/{listing.repository}/confirmed/{listing.observed_at:%Y-%m-%d}"
    if connection.execute(select(facts.c.seq).where(facts.c.key == key)).first() is not None:
        return []
    since = connection.execute(
        select(func.min(facts.c.observed_at)).where(
            facts.c.subject == repository_subject(listing.repository),
            facts.c.kind == "inventory.listed",
        )
    ).scalar()
    if since is not None and from_us(since).date() == listing.observed_at.date():
        return []  # the day on which it was listed for the first time
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


def _remember(connection: Connection, listing: Listing) -> None:
    """Remember when a repository was listed; a mark only where the counts come out right."""
    at = to_us(listing.observed_at)
    values: dict[str, Any] = {"asked_at": at}
    if not listing.some_jobs:
        stands = standing(connection, listing.repository) if listing.mark is not None else {}
        sound = all(stands.get(job, 0) == count for job, count in listing.standing.items())
        values |= {"listed_at": at, "mark": listing.mark if sound else None}
        if not listing.partial:
            values["listed_fully_at"] = at
    sightings.remember(connection, listing.repository, values)


def _bare(fact: Fact) -> Fact:
    return replace(fact, observation=replace(fact.observation, data=None))


def _observation(kind: str, listing: Listing, data: Mapping[str, Any], key: str) -> Observation:
    return Observation(
        kind=kind,
        subject=repository_subject(listing.repository),
        origin=listing.origin,
        observed_at=listing.observed_at,
        data=dict(data),
        key=key,
    )
