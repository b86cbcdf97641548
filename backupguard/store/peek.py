"""A look at an SQLite store without the database library: what `status` can afford every time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_FILE_NAME = "store.sqlite3"  # as in engine.py, which costs an import of SQLAlchemy


def head_seq(state_directory: Path) -> int | None:
    """Return the sequence number of the newest record, None when it cannot be read like this."""
    return _number(state_directory, "SELECT seq FROM chain_head")


def last_start(state_directory: Path) -> int | None:
    """Return when a daemon was last started (microseconds), None where none ever was."""
    return _number(
        state_directory,
        "SELECT recorded_at FROM facts WHERE kind = 'daemon.started' ORDER BY seq DESC LIMIT 1",
    )


def _number(state_directory: Path, query: str) -> int | None:
    file = state_directory / _FILE_NAME
    try:  # a file that is absent is not made, one that may not be looked at is an error of SQLite's
        with closing(
            sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1)
        ) as connection:
            found = connection.execute(query).fetchone()
    except sqlite3.Error:
        return None
    return int(found[0]) if found is not None else None
