"""What the configuration says of a Barman host's catalogue. Imports nothing of Barman's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from backupguard.contracts import Duration, RepositorySettings, refused_setting


class BarmanSettings(RepositorySettings):
    """Barman's own directory on this host. Each job names its server by `select.name`.

    Barman's files are read, and Barman itself is never called: its commands write lock files and
    logs. A server with a directory elsewhere (`backup_directory`) is a repository of its own, whose
    `path` is the directory above it.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    type: Literal["barman"]
    path: Path = Path("/var/lib/barman")  # barman_home
    lock_path: Path | None = None  # barman_lock_directory; left out: `path`
    # A segment that came before one that precedes it is late, and missed only after this.
    archive_settle: Duration = timedelta(minutes=15)
    fetch_timeout: Duration = timedelta(hours=12)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.path.is_absolute():
            raise refused_setting("absolute", "path")
        return self
