"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "facts",
        sa.Column("seq", SEQ, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("observed_at", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("run", sa.Text),
        sa.Column("author", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_index("facts_subject_kind_seq", "facts", ["subject", "kind", "seq"])
    op.create_index("facts_kind_seq", "facts", ["kind", "seq"])
    op.create_table(
        "chain_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("store_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "seals",
        sa.Column("seq", SEQ, primary_key=True, autoincrement=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
    )
    op.create_table(
        "latest",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "recovery_points",
        sa.Column("repository", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("native_id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("covers_until", sa.BigInteger, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("appeared_seq", sa.BigInteger, nullable=False),
        sa.Column("vanished_seq", sa.BigInteger),
    )
    standing = sa.text("vanished_seq IS NULL")
    op.create_index(
        "recovery_points_standing",
        "recovery_points",
        ["job", "repository", "at"],
        sqlite_where=standing,
        postgresql_where=standing,
    )
    op.create_table(
        "job_summaries",
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("repository", sa.Text, primary_key=True),
        sa.Column("newest", sa.BigInteger),
        sa.Column("oldest", sa.BigInteger),
        sa.Column("newest_bytes", sa.BigInteger),
        sa.Column("newest_state", sa.Text),
        sa.Column("points", sa.Integer, nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("next_at", sa.BigInteger),
    )
    op.create_table(
        "coverage",
        sa.Column("repository", sa.Text, primary_key=True),
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("verified_at", sa.BigInteger, nullable=False),
        sa.Column("verified_seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("exclusive", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("host", sa.Text),
        sa.Column("verdict", sa.Text),
        sa.Column("code", sa.Text),
        sa.Column("progress", sa.Text),
        sa.Column("cancel_by", sa.Text),
        sa.UniqueConstraint("task", "subject", "due_at", "attempt", name="runs_once"),
    )
    running = sa.text("state = 'running'")
    op.create_index(
        "runs_exclusive",
        "runs",
        ["exclusive"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )
    op.create_index("runs_state", "runs", ["state"])
    op.create_index("runs_task_subject", "runs", ["task", "subject", "id"])
    op.create_table(
        "findings",
        sa.Column("control", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("cause", sa.Text),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("last_non_compliant", sa.BigInteger),
        sa.Column("waiver", sa.BigInteger),
        sa.Column("change_seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("change_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try", sa.BigInteger, nullable=False),
    )
    op.create_index("outbox_next", "outbox", ["channel", "state", "next_try"])
