"""What is remembered: facts in their chain, what follows from them, the diary of runs.

SQLite by default, PostgreSQL by URL, the same schema and the same promises on both. The database
library is imported only when a store is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.model import JOURNAL

if TYPE_CHECKING:
    from backupguard.store.sql import SqlStore


def utc_now() -> datetime:
    """Return the time of the wall clock, aware and in UTC."""
    return datetime.now(UTC)


def open_store(
    state_directory: Path,
    url: str | None = None,
    *,
    now: Callable[[], datetime] = utc_now,
    site: str = "",
    timezone: str = "UTC",
    replace_corrupt: bool = True,
    channels: Sequence[str] = (JOURNAL,),
    progress: Callable[[], None] = lambda: None,
) -> SqlStore:
    """Open the store of a state directory, or of a PostgreSQL `url`; make it when there is none.

    `site` is the site's name, written into every record; days are those of its `timezone`;
    `channels` are told of new facts. A damaged SQLite file is set aside and a new store begun,
    unless `replace_corrupt` is false. `progress` is called again and again while that takes long.
    Raises StoreError (network_filesystem, unreadable, newer_schema, corrupt_store, full) and Busy
    (store_busy; second_daemon where somebody works with a file that is to be migrated).
    """
    from backupguard.store.opening import open_store as open_it

    return open_it(
        state_directory,
        url,
        now=now,
        site=site,
        timezone=timezone,
        replace_corrupt=replace_corrupt,
        channels=channels,
        progress=progress,
    )
