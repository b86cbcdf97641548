"""The one place where facts enter the chain, and the transactions everything else runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Select,
    bindparam,
    insert,
    select,
    update,
)

from backupguard.errors import StoreError
from backupguard.evidence.announced import wants
from backupguard.evidence.kinds import check_payload
from backupguard.evidence.records import Record, chain_hash, fact_of, record_body, sha256
from backupguard.model import Closing, Fact, Observation, Origin, from_us, to_us
from backupguard.store import derived
from backupguard.store.engine import translated
from backupguard.store.prepared import Prepared
from backupguard.store.schema import chain_head, facts, outbox, runs

_CHUNK = 500
_PAGE = 500
_ENDABLE = ("waiting", "running")
_HEAD = Prepared(lambda _: select(chain_head.c.seq, chain_head.c.hash).with_for_update())
_KNOWN = Prepared(lambda _: select(facts.c.seq).where(facts.c.key == bindparam("wanted")))
_INSERT = Prepared(lambda _: insert(facts), [column.name for column in facts.c])
_ADVANCE = Prepared(
    lambda _: update(chain_head).values(seq=bindparam("to_seq"), hash=bindparam("to_hash"))
)
_OWED = Prepared(lambda _: insert(outbox), [column.name for column in outbox.c])
_WAITING = {"state": "waiting", "attempts": 0, "next_try": 0}  # of a new notification: at once
_COLUMNS = (
    "author",
    "key",
    "kind",
    "observed_at",
    "origin",
    "recorded_at",
    "run",
    "subject",
    "version",
)


def fact_from_row(row: RowMapping) -> Fact:
    """Return the fact in a row of `facts`: from its hashed bytes, or without data where pruned."""
    if row["body"] is not None:
        return fact_of(bytes(row["body"]), bytes(row["hash"]))
    return Fact(
        seq=row["seq"],
        recorded_at=from_us(row["recorded_at"]),
        run=row["run"],
        author=row["author"],
        hash=bytes(row["hash"]),
        observation=Observation(
            kind=row["kind"],
            kind_version=row["version"],
            subject=row["subject"],
            origin=Origin(row["origin"]),
            observed_at=from_us(row["observed_at"]),
            data=None,
            key=row["key"],
        ),
    )


def record_from_row(row: RowMapping) -> Record:
    """Return a row of `facts` as verification wants it: bytes, hashes and the columns beside them."""
    return Record(
        seq=row["seq"],
        body=None if row["body"] is None else bytes(row["body"]),
        body_hash=bytes(row["body_hash"]),
        hash=bytes(row["hash"]),
        kind=row["kind"],
        columns={name: row[name] for name in _COLUMNS},
    )


@dataclass(slots=True, kw_only=True)
class Core:
    """An engine with its clock; hands out transactions and appends records in them."""

    engine: Engine
    place: str
    now: Callable[[], datetime]
    site: str
    zone: tzinfo = UTC  # the site's: days are counted in its calendar
    suspect: Path | None = None  # where to note that the file turned out to be damaged
    channels: tuple[str, ...] = ()  # who is told of new facts; each has its own line

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run one writing transaction; on SQLite it waits for its turn before it reads anything."""
        with self._noted(), translated(self.place), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run one reading transaction: a steady picture that blocks nobody."""
        with (
            self._noted(),
            translated(self.place),
            self.engine.connect().execution_options(only_reads=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            if error.code == "corrupt_store" and self.suspect is not None:
                self.suspect.touch(mode=0o600)
            raise

    def rows(self, statement: Select[Any], after: int = 0) -> Iterator[RowMapping]:
        """Yield rows of a selection from `facts` in order, page by page, in constant memory.

        No transaction stays open between pages: facts are only ever added.
        """
        while True:
            page = statement.where(facts.c.seq > after).order_by(facts.c.seq).limit(_PAGE)
            with self.read() as connection:
                found = connection.execute(page).mappings().all()
            yield from found
            if len(found) < _PAGE:
                return
            after = found[-1]["seq"]

    def append_in(
        self,
        connection: Connection,
        new: Sequence[Observation],
        *,
        run: str | None,
        author: str | None,
    ) -> tuple[Fact, ...]:
        """Append observations inside a writing transaction; a key that exists keeps its first fact."""
        ((seq, head),) = _HEAD.run(connection, {})
        known = _existing(connection, [observation.key for observation in new])
        recorded_at = self.now()
        digest = bytes(head)
        rows: list[dict[str, Any]] = []
        fresh: list[Fact] = []
        for observation in new:
            if observation.key in known:
                continue
            seq += 1
            body = record_body(
                observation,
                seq=seq,
                recorded_at=recorded_at,
                run=run,
                author=author,
                site=self.site,
            )
            body_hash = sha256(body)
            digest = chain_hash(digest, body_hash)
            fact = fact_of(body, digest)
            known[observation.key] = fact
            fresh.append(fact)
            rows.append(_row(fact, body, body_hash))
        if rows:
            _INSERT.run(connection, *rows)
            _ADVANCE.run(connection, {"to_seq": seq, "to_hash": digest})
            derived.apply(connection, fresh, recorded_at, self.zone)
            self._enqueue(connection, fresh)
        return tuple(known[observation.key] for observation in new)

    def _enqueue(self, connection: Connection, fresh: Sequence[Fact]) -> None:
        """Put new facts that have something to tell in line for every channel."""
        rows = [
            {"change_seq": fact.seq, "channel": channel, **_WAITING}
            for fact in fresh
            for channel in self.channels
            if wants(channel, fact.observation)
        ]
        if rows:
            _OWED.run(connection, *rows)

    def append(
        self,
        new: Sequence[Observation],
        *,
        run: str | None = None,
        author: str | None = None,
        closing: Closing | None = None,
    ) -> tuple[Fact, ...]:
        """Check, then record observations and close a run with them, all or nothing."""
        check(new)
        with self.write() as connection:
            recorded = self.append_in(connection, new, run=run, author=author)
            if closing is not None:
                end_run(connection, closing, self.now())
        return recorded


def check(new: Iterable[Observation]) -> None:
    """Raise EvidenceError unless every payload has the shape its kind declares."""
    for observation in new:
        check_payload(observation.kind, observation.kind_version, observation.data)


def lock_head(connection: Connection) -> RowMapping:
    """Return the chain's head and keep every other writer away until the transaction ends."""
    return connection.execute(select(chain_head).with_for_update()).mappings().one()


def end_run(connection: Connection, closing: Closing, now: datetime) -> None:
    """Put the end of a run into the diary, unless somebody else has already."""
    connection.execute(
        update(runs)
        .where(runs.c.id == closing.run, runs.c.state.in_(_ENDABLE))
        .values(
            state=closing.state.value,
            verdict=closing.verdict.value,
            code=closing.code,
            ended_at=to_us(now),
        )
    )


def _existing(connection: Connection, keys: Sequence[str]) -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    if len(keys) == 1 and not _KNOWN.run(connection, {"wanted": keys[0]}):
        return found
    for start in range(0, len(keys), _CHUNK):
        statement = select(facts).where(facts.c.key.in_(keys[start : start + _CHUNK]))
        for row in connection.execute(statement).mappings():
            found[row["key"]] = fact_from_row(row)
    return found


def _row(fact: Fact, body: bytes, body_hash: bytes) -> dict[str, Any]:
    observation = fact.observation
    return {
        "seq": fact.seq,
        "key": observation.key,
        "kind": observation.kind,
        "version": observation.kind_version,
        "subject": observation.subject,
        "origin": observation.origin.value,
        "observed_at": to_us(observation.observed_at),
        "recorded_at": to_us(fact.recorded_at),
        "run": fact.run,
        "author": fact.author,
        "body": body,
        "body_hash": body_hash,
        "hash": fact.hash,
    }
