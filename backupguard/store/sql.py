"""`contracts.Store` on SQLAlchemy Core: one class, both databases."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select, text

from backupguard.contracts import FindingChange, JobRun, JobRuns, Store
from backupguard.errors import Busy
from backupguard.evidence.records import Record
from backupguard.evidence.seals import Anchor, Seal
from backupguard.model import (
    Closing,
    Fact,
    Finding,
    JobSummary,
    Json,
    Listing,
    Observation,
    PointsLost,
    PointState,
    RecoveryPoint,
    Run,
    RunRequest,
    RunState,
    Sighting,
    Subject,
    VerifiedCoverage,
    from_us,
)
from backupguard.store import (
    derived,
    diary,
    judgements,
    listings,
    losses,
    outbox,
    pruning,
    safekeeping,
    sealing,
    sightings,
    summaries,
    toolruns,
)
from backupguard.store.core import (
    Core,
    fact_from_row,
    lock_head,
    record_from_row,
)
from backupguard.store.engine import translated
from backupguard.store.keys import SigningKey, settled
from backupguard.store.schema import (
    chain_head,
    coverage,
    facts,
    job_summaries,
    latest,
    recovery_points,
    seals,
)

_PAGE = 500


class SqlStore(Store):
    """The store. May be used from several threads; made by `backupguard.store.open_store`."""

    def __init__(
        self,
        *,
        core: Core,
        store_id: str,
        key: SigningKey,
        directory: Path,
        files: safekeeping.Files | None,
        users: int | None,
    ) -> None:
        self.store_id = store_id
        self.key = key
        self._core = core
        self._directory = directory
        self._files = files
        self._users = users

    # -- evidence

    def append(
        self,
        new: Sequence[Observation],
        *,
        run: str | None = None,
        author: str | None = None,
        closing: Closing | None = None,
    ) -> tuple[Fact, ...]:
        """Record observations (a key that exists returns its first fact) and close a run with them.

        Raises EvidenceError for a payload of the wrong shape, before anything is written.
        """
        return self._core.append(new, run=run, author=author, closing=closing)

    def merge_listing(self, listing: Listing, *, run: str | None) -> tuple[Fact, ...]:
        """Record what appeared, changed and vanished; one fact a day when nothing did."""
        return listings.merge(self._core, listing, run=run)

    def merge_runs(self, seen: JobRuns, *, run: str | None) -> tuple[Fact, ...]:
        """Record the tool's runs that are new or have changed; nothing at all when none has."""
        return toolruns.merge(self._core, seen, run=run)

    def record_inspection(
        self, inspected: Observation, *, run: str | None, author: str | None
    ) -> tuple[Fact, ...]:
        """Record a `repository.inspected` that differs from the last one, or the first of a day."""
        return sightings.record_inspection(self._core, inspected, run=run, author=author)

    def seal(self) -> None:
        """Seal the chain's head with the key the chain names, unless it is sealed already.

        Raises StoreError (unreadable) or EvidenceError (bad_key) when the key is gone or another.
        """
        used = sealing.seal(self._core, self.key, self.store_id)
        if used is not None and used != self.key.public:  # rotated by another process
            self.key = settled(self.key, used)

    def rotate_key(self, reason: str, author: str) -> Fact:
        """Let a new key sign from here on; return the fact that both keys signed.

        Raises Busy while another process does the same.
        """
        fact = sealing.rotate(self._core, self.key, self.store_id, reason, author)
        self.key = settled(self.key, bytes.fromhex(fact.observation.data["public_key"]))
        return fact

    def head(self) -> tuple[int, bytes]:
        """Return sequence number and hash of the newest record; 0 and the genesis of an empty chain."""
        with self._core.read() as connection:
            seq, digest = connection.execute(select(chain_head.c.seq, chain_head.c.hash)).one()
        return seq, bytes(digest)

    def extent(self) -> tuple[tuple[int, bytes], int]:
        """Return the head and the highest number any record has; they differ only after tampering."""
        last = select(func.max(facts.c.seq)).scalar_subquery()
        statement = select(chain_head.c.seq, chain_head.c.hash, last)  # one statement, one picture
        with self._core.read() as connection:
            seq, digest, highest = connection.execute(statement).one()
        return (seq, bytes(digest)), highest or 0

    def anchor(self) -> Anchor:
        """Return the head as it is to be put down off this host."""
        seq, digest = self.head()
        return Anchor(store=self.store_id, seq=seq, hash=digest)

    def records(self, *, to: int | None = None, kinds: Collection[str] = ()) -> Iterator[Record]:
        """Yield records as stored, for verification and export, in constant memory.

        All of them, or those up to `to`, or those that the column `kind` puts among `kinds`.
        """
        statement = select(facts)
        if to is not None:
            statement = statement.where(facts.c.seq <= to)
        if kinds:
            statement = statement.where(facts.c.kind.in_(list(kinds)))
        return map(record_from_row, self._core.rows(statement))

    def record(self, identifier: str) -> Record | None:
        """Return the record with this sequence number or key, as stored."""
        column = facts.c.seq if identifier.isascii() and identifier.isdigit() else facts.c.key
        wanted = int(identifier) if column is facts.c.seq else identifier
        with self._core.read() as connection:
            row = connection.execute(select(facts).where(column == wanted)).mappings().first()
        return record_from_row(row) if row is not None else None

    def seals(self) -> tuple[Seal, ...]:
        """Return every seal, oldest first."""
        with self._core.read() as connection:
            rows = connection.execute(select(seals).order_by(seals.c.seq)).mappings()
            return tuple(
                Seal(
                    seq=row["seq"],
                    document=bytes(row["document"]),
                    signature=bytes(row["signature"]),
                    key_id=row["key_id"],
                )
                for row in rows
            )

    def sealed(self) -> tuple[int, datetime] | None:
        """Return up to which record the chain is sealed, and since when; None without any seal."""
        with self._core.read() as connection:
            statement = select(seals.c.document).order_by(seals.c.seq.desc()).limit(1)
            document = connection.execute(statement).scalar()
        if document is None:
            return None
        members = json.loads(bytes(document))
        return members["seq"], from_us(members["sealed_at"])

    def erase(self, first: int, last: int, kinds: Sequence[str], reason: str, author: str) -> Fact:
        """Drop the bodies of records in a range, on purpose: hashes and a fact that says so remain.

        For a value that should never have been recorded.
        """
        return pruning.erase(self._core, first, last, kinds, reason, author)

    def past(self, before: datetime) -> tuple[pruning.Past, ...]:
        """Return which bodies recorded before a moment are past the time that their kinds are kept."""
        return pruning.past(self._core, before, self._core.now())

    def prune(
        self, before: datetime, reason: str, author: str
    ) -> tuple[tuple[Fact, ...], Mapping[str, int]]:
        """Drop those bodies; return the facts that say so, and how many bodies of which kinds."""
        return pruning.prune(self._core, before, reason, author, self._core.now())

    # -- reading facts and what follows from them

    def facts(
        self, *, after: int = 0, kinds: Collection[str] = (), subject: Subject | None = None
    ) -> Iterator[Fact]:
        """Yield facts in order."""
        statement = select(facts)
        if kinds:
            statement = statement.where(facts.c.kind.in_(list(kinds)))
        if subject is not None:
            statement = statement.where(facts.c.subject == subject)
        return map(fact_from_row, self._core.rows(statement, after))

    def newest(
        self,
        kinds: Collection[str],
        subject: Subject | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> tuple[Fact, ...]:
        """Return facts, newest first: those of one page, for a reader who turns back.

        Those recorded before the number `before`, at most `limit` of them.
        """
        statement = select(facts).where(facts.c.kind.in_(list(kinds)))
        if subject is not None:
            statement = statement.where(facts.c.subject == subject)
        if before is not None:
            statement = statement.where(facts.c.seq < before)
        with self._core.read() as connection:
            found = connection.execute(statement.order_by(facts.c.seq.desc()).limit(limit))
            rows = found.mappings().all()
        return tuple(map(fact_from_row, rows))

    def fact(self, seq: int) -> Fact | None:
        """Return one fact."""
        with self._core.read() as connection:
            row = connection.execute(select(facts).where(facts.c.seq == seq)).mappings().first()
        return fact_from_row(row) if row is not None else None

    def latest(
        self, subjects: Collection[Subject] | None = None, kinds: Collection[str] = ()
    ) -> Mapping[Subject, Mapping[str, Fact]]:
        """Return the newest fact per subject and kind."""
        statement = select(facts).join(latest, latest.c.seq == facts.c.seq)
        if subjects is not None:
            statement = statement.where(latest.c.subject.in_(list(subjects)))
        if kinds:
            statement = statement.where(latest.c.kind.in_(list(kinds)))
        found: dict[Subject, dict[str, Fact]] = {}
        with self._core.read() as connection:
            rows = connection.execute(statement).mappings().all()
        for fact in map(fact_from_row, rows):
            found.setdefault(fact.observation.subject, {})[fact.observation.kind] = fact
        return found

    def summaries(self, jobs: Collection[str] | None = None) -> tuple[JobSummary, ...]:
        """Return what stands per job and repository: usable points, none of them in the future.

        `newest_state` is the state of the newest usable point: complete or warning.
        """
        statement = select(job_summaries).order_by(job_summaries.c.job, job_summaries.c.repository)
        if jobs is not None:
            statement = statement.where(job_summaries.c.job.in_(list(jobs)))
        with self._core.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return tuple(
            JobSummary(
                job=row["job"],
                repository=row["repository"],
                newest=from_us(row["newest"]) if row["newest"] is not None else None,
                oldest=from_us(row["oldest"]) if row["oldest"] is not None else None,
                newest_bytes=row["newest_bytes"],
                newest_state=PointState(row["newest_state"]) if row["newest_state"] else None,
                points=row["points"],
                days=row["days"],
                standing=row["standing"],
                point_days=summaries.unpacked(row["point_days"]),
            )
            for row in rows
        )

    def points(
        self, job: str, repository: str | None = None, limit: int | None = None
    ) -> tuple[RecoveryPoint, ...]:
        """Return standing points of any state, newest first."""
        point = recovery_points.c
        statement = (
            select(point.repository, point.data)
            .where(point.job == job, point.vanished_seq.is_(None))
            .order_by(point.at.desc(), point.repository, point.native_id)
            .limit(limit)
        )
        if repository is not None:
            statement = statement.where(point.repository == repository)
        with self._core.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(derived.stored_point(place, data) for place, data in rows)

    def gone_points(self, job: str, repository: str, limit: int) -> tuple[RecoveryPoint, ...]:
        """Return the newest points that stood once and do not any more, newest first."""
        return losses.gone_points(self._core, job, repository, limit)

    def losses(self, after: int) -> tuple[PointsLost, ...]:
        """Return the usable points that vanished by facts newer than `after`, listing by listing."""
        return losses.since(self._core, after)

    def sightings(self) -> Mapping[str, Sighting]:
        """Return when each repository was last asked and what came of it, by id."""
        return sightings.standing(self._core)

    def standing(self, repository: str, listed: Iterable[RecoveryPoint] = ()) -> Mapping[str, int]:
        """Return per job how many points stand in a repository once `listed` are counted as well."""
        with self._core.read() as connection:
            return listings.standing(connection, repository, listed)

    def job_runs(
        self, job: str, repository: str | None = None, limit: int | None = None
    ) -> tuple[JobRun, ...]:
        """Return what the tools recorded of a job's runs, newest first."""
        return toolruns.newest_first(self._core, job, repository, limit)

    def runs_since(self, repository: str) -> datetime | None:
        """Return from when on a tool's runs may be new or may have ended; None: none are known."""
        return toolruns.since(self._core, repository)

    def coverage(self, repository: str) -> Mapping[str, VerifiedCoverage]:
        """Return the verified units of a repository, by unit."""
        statement = select(coverage).where(coverage.c.repository == repository)
        with self._core.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return {
            row["unit"]: VerifiedCoverage(
                repository=repository,
                unit=row["unit"],
                verified_at=from_us(row["verified_at"]),
                seq=row["verified_seq"],
            )
            for row in rows
        }

    def changed_since(self, seq: int) -> tuple[int, frozenset[Subject]]:
        """Return the head and the subjects that have facts newer than `seq`."""
        with self._core.read() as connection:
            head = connection.execute(select(chain_head.c.seq)).scalar_one()
            subjects = connection.execute(
                select(facts.c.subject).where(facts.c.seq > seq).distinct()
            ).scalars()
            return head, frozenset(subjects)

    def rebuild_derived(self) -> None:
        """Throw away everything derived and make it again from the facts."""
        after = 0
        with self._core.write() as connection:
            lock_head(connection)
            derived.forget(connection)
            while True:
                page = select(facts).where(facts.c.seq > after).order_by(facts.c.seq).limit(_PAGE)
                rows = connection.execute(page).mappings().all()
                if not rows:
                    return
                after = rows[-1]["seq"]
                derived.apply(
                    connection, map(fact_from_row, rows), self._core.now(), self._core.zone
                )

    # -- findings

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that stand."""
        return judgements.standing(self._core)

    def record_findings(self, changes: Sequence[FindingChange]) -> tuple[Fact, ...]:
        """Append one `finding.changed` fact per change and update the findings, together."""
        return judgements.record(self._core, changes)

    # -- notifications

    def listen(self, channels: Sequence[str]) -> int:
        """Have these channels told of new facts from now on, and no other; return what was dropped.

        What is still owed to a channel that is not among them is dropped.
        """
        self._core.channels = tuple(channels)
        return outbox.keep_only(self._core, channels)

    def waiting(self, channel: str, limit: int = 100) -> tuple[outbox.Waiting, ...]:
        """Return what a channel has to be told next, in order; nothing while it has to wait."""
        return outbox.waiting(self._core, channel, limit)

    def sent(self, channel: str, seqs: Collection[int]) -> None:
        """Note that a channel was told of these facts."""
        outbox.sent(self._core, channel, seqs)

    def postpone(self, channel: str, seqs: Collection[int], until: datetime) -> None:
        """Note that telling a channel of these facts failed, and when to try again."""
        outbox.postpone(self._core, channel, seqs, until)

    def line(self, channel: str) -> outbox.Line:
        """Return how much is owed to a channel, and since when."""
        return outbox.line(self._core, channel)

    # -- locks

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a named lock while the context lasts; raises Busy at once when another holds it."""
        if self._files is None:
            with self._advisory_lock(name):
                yield
            return
        handle = safekeeping.hold(self._files.lock_path(name), name)
        try:
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _advisory_lock(self, name: str) -> Iterator[None]:
        digest = hashlib.sha256(f"{self.store_id}/{name}".encode()).digest()
        number = {"n": int.from_bytes(digest[:8], signed=True)}
        engine = self._core.engine.execution_options(isolation_level="AUTOCOMMIT")
        with translated(self._core.place), engine.connect() as connection:
            taken = connection.execute(text("SELECT pg_try_advisory_lock(:n)"), number).scalar()
            if not taken:
                raise Busy("already_running", run=name)
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:n)"), number)

    # -- the diary of runs

    def enqueue(self, request: RunRequest) -> Run:
        """Insert a waiting run, or return the one with the same task, subject, due_at, attempt."""
        return diary.enqueue(self._core, request)

    def claim(self, host: str, free: Mapping[str, int]) -> tuple[Run, ...]:
        """Turn waiting runs into this host's running ones, at most `free` per resource."""
        return diary.claim(self._core, host, free)

    def start_run(self, run: str, host: str) -> bool:
        """Turn one waiting run into a running one; False when somebody else did or it is blocked."""
        return diary.start_run(self._core, run, host)

    def cancel(self, run: str, by: str) -> bool:
        """Mark a run for cancelling (a waiting one is closed); False when it has ended already."""
        return diary.cancel(self._core, run, by)

    def cancel_requested_by(self, run: str) -> str | None:
        """Return who wants a running run to end, if anybody does."""
        return diary.cancel_requested_by(self._core, run)

    def report_progress(self, run: str, progress: Json) -> None:
        """Remember how far a run is. Not evidence."""
        diary.report_progress(self._core, run, progress)

    def run(self, run: str) -> Run | None:
        """Return one run."""
        return diary.get(self._core, run)

    def runs(
        self,
        *,
        states: Collection[RunState] = (),
        task: str | None = None,
        subject: Subject | None = None,
        limit: int = 1000,
    ) -> tuple[Run, ...]:
        """Return runs, newest first."""
        return diary.find(self._core, states=states, task=task, subject=subject, limit=limit)

    # -- the file

    def daily_copy(self) -> Path | None:
        """Copy an SQLite store beside itself, once a day; return the copy that was made, if any.

        PostgreSQL has its own backups.
        """
        if self._files is None:
            return None
        return safekeeping.daily_copy(self._files, self._core.now())

    def close(self) -> None:
        """Release files and connections."""
        self._core.engine.dispose()
        if self._users is not None:
            fcntl.flock(self._users, fcntl.LOCK_UN)
            os.close(self._users)
            self._users = None
