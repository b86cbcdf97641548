"""What the configuration says of a directory of dumps."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import model_validator

from backupguard.contracts import BackupUser, Duration, RepositorySettings, refused_setting


class DirectorySettings(RepositorySettings):
    """A directory that a dump script writes into.

    Times in names are local times of `timezone`, of this host where it is left out. A file that was
    changed less than `settle` ago is still being written. `backup_user` is the account of this host
    that writes there: as it the probe `immutability` tries to tamper with a canary.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"pattern"})

    type: Literal["directory"]
    path: Path
    timezone: str | None = None
    settle: Duration = timedelta(seconds=60)
    backup_user: BackupUser = None
    fetch_timeout: Duration = timedelta(hours=12)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.path.is_absolute():
            raise refused_setting("absolute", "path")
        if self.timezone is not None:
            try:
                ZoneInfo(self.timezone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise refused_setting("timezone", "timezone") from error
        return self
