"""Alembic's way in: it runs this file, which hands it the connection of the store being opened."""

from __future__ import annotations

from alembic import context

from backupguard.store.schema import metadata

# The caller's transaction is the migration's: all of it holds, or none of it.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
    render_as_batch=True,
)
context.run_migrations()
