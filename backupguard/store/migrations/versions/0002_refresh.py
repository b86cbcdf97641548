"""What a refresh remembers: runs of the tools, sightings, counts and days per job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables and columns; whoever migrates fills the derived ones afterwards."""
    op.add_column(
        "job_summaries", sa.Column("standing", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column(
        "job_summaries", sa.Column("point_days", sa.Text, nullable=False, server_default="")
    )
    op.create_index("job_summaries_repository", "job_summaries", ["repository"])
    gone = sa.text("vanished_seq IS NOT NULL")
    for name, columns in (
        ("recovery_points_gone", ["job", "repository", "at"]),
        ("recovery_points_vanished", ["vanished_seq"]),
    ):
        op.create_index(
            name, "recovery_points", columns, sqlite_where=gone, postgresql_where=gone
        )
    op.create_table(
        "job_runs",
        sa.Column("repository", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("native_id", sa.Text, primary_key=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("files", sa.BigInteger),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_index("job_runs_newest", "job_runs", ["job", "started_at"])
    op.create_index("job_runs_repository", "job_runs", ["repository", "started_at"])
    op.create_table(
        "sightings",
        sa.Column("repository", sa.Text, primary_key=True),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("listed_at", sa.BigInteger),
        sa.Column("listed_fully_at", sa.BigInteger),
        sa.Column("inspected_at", sa.BigInteger),
        sa.Column("mark", sa.Text),
    )
