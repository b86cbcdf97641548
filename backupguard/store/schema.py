"""The tables, the same on SQLite and PostgreSQL.

Times are integer microseconds. `facts`, `chain_head` and `seals` are evidence; `latest`,
`recovery_points`, `job_summaries`, `job_runs` and `coverage` are derived from facts in the
transaction that appends them; `runs`, `sightings`, `findings` and `outbox` are operational.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: The newest migration in `migrations/versions`; a store that says otherwise is migrated or refused.
SCHEMA = "0002"

metadata = MetaData()

#: Alembic's own table, made here as well, so that a new store needs no Alembic.
alembic_version = Table(
    "alembic_version", metadata, Column("version_num", String(32), primary_key=True)
)

facts = Table(
    "facts",
    metadata,
    Column(
        "seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("subject", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("observed_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("run", Text),
    Column("author", Text),
    Column("body", LargeBinary),
    Column("body_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("facts_subject_kind_seq", "subject", "kind", "seq"),
    Index("facts_kind_seq", "kind", "seq"),
)

chain_head = Table(
    "chain_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

seals = Table(
    "seals",
    metadata,
    Column(
        "seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    Column("document", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
)

latest = Table(
    "latest",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

recovery_points = Table(
    "recovery_points",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("native_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("covers_until", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),  # days since 1970, in the site's calendar
    Column("state", Text, nullable=False),
    Column("bytes", BigInteger),
    Column("data", Text, nullable=False),  # the whole point, as in inventory.listed
    Column("digest", LargeBinary, nullable=False),  # of `data`: equal means unchanged
    Column("appeared_seq", BigInteger, nullable=False),
    Column("vanished_seq", BigInteger),
    Index(
        "recovery_points_standing",
        "job",
        "repository",
        "at",
        sqlite_where=text("vanished_seq IS NULL"),
    ),
    Index(
        "recovery_points_gone",
        "job",
        "repository",
        "at",
        sqlite_where=text("vanished_seq IS NOT NULL"),
    ),
    Index(
        "recovery_points_vanished",
        "vanished_seq",
        sqlite_where=text("vanished_seq IS NOT NULL"),
    ),
)

job_summaries = Table(
    "job_summaries",
    metadata,
    Column("job", Text, primary_key=True),
    Column("repository", Text, primary_key=True),
    Column("newest", BigInteger),
    Column("oldest", BigInteger),
    Column("newest_bytes", BigInteger),
    Column("newest_state", Text),
    Column("points", Integer, nullable=False),
    Column("days", Integer, nullable=False),
    Column("next_at", BigInteger),  # earliest point still in the future: when to count again
    Column("standing", Integer, nullable=False, server_default="0"),  # of any state, future or not
    # Days with a usable point, as "20000-20010,20012".
    Column("point_days", Text, nullable=False, server_default=""),
    Index("job_summaries_repository", "repository"),
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("native_id", Text, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("state", Text, nullable=False),
    Column("bytes", BigInteger),
    Column("files", BigInteger),
    Column("data", Text, nullable=False),  # the whole run, as in backup.runs
    Column("digest", LargeBinary, nullable=False),  # of `data`: equal means unchanged
    Column("seq", BigInteger, nullable=False),
    Index("job_runs_newest", "job", "started_at"),
    Index("job_runs_repository", "repository", "started_at"),
)

sightings = Table(
    "sightings",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("asked_at", BigInteger),
    Column("listed_at", BigInteger),
    Column("listed_fully_at", BigInteger),
    Column("inspected_at", BigInteger),
    Column("mark", Text),
)

coverage = Table(
    "coverage",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("verified_at", BigInteger, nullable=False),
    Column("verified_seq", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("due_at", BigInteger),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("exclusive", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("host", Text),
    Column("verdict", Text),
    Column("code", Text),
    Column("progress", Text),
    Column("cancel_by", Text),
    UniqueConstraint("task", "subject", "due_at", "attempt", name="runs_once"),
    Index(
        "runs_exclusive",
        "exclusive",
        unique=True,
        sqlite_where=text("state = 'running'"),
    ),
    Index("runs_state", "state"),
    Index("runs_task_subject", "task", "subject", "id"),
)

findings = Table(
    "findings",
    metadata,
    Column("control", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("cause", Text),
    Column("severity", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("last_non_compliant", BigInteger),
    Column("waiver", BigInteger),
    Column("change_seq", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("change_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", Text, primary_key=True),
    Column("state", Text, nullable=False),  # waiting, sent, given_up
    Column("attempts", Integer, nullable=False),
    Column("next_try", BigInteger, nullable=False),
    Index("outbox_next", "channel", "state", "next_try"),
)


def for_postgresql() -> None:
    """Give the partial indexes their conditions in PostgreSQL too, before they are made there.

    Not said where they are defined: SQLAlchemy would import that dialect for it, which a daemon on
    SQLite would carry about (1.3 MiB).
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            if where is not None:
                index.dialect_options["postgresql"]["where"] = where
