"""What the configuration says of a pgBackRest repository. Imports nothing of pgBackRest's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, RepositorySettings, refused_setting


class PgBackRestSettings(RepositorySettings):
    """One repository of pgBackRest's. Each job names its stanza by `select.name`.

    `path` is a repository on this host. One elsewhere (S3, Azure, GCS) is described by
    `credentials.backend`: a pgBackRest configuration file, of which nothing but the keys
    `repoN-…` of [global] is taken, N being `repo`. `credentials.reader` is the cipher passphrase.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    reader_is_key: ClassVar[bool] = True

    type: Literal["pgbackrest"]
    path: Path | None = None
    repo: Annotated[int, Field(ge=1, le=256)] = 1
    program: Path | None = None  # left out: `pgbackrest` on the fixed path
    lock_path: Path = Path("/tmp/pgbackrest")  # noqa: S108 - pgBackRest's own default
    # Log between older backups is dropped on purpose (repo-retention-archive): no gap, then.
    archive_expires: bool = False
    # A segment that came before one that precedes it is late, and missed only after this.
    archive_settle: Duration = timedelta(minutes=15)
    refresh_timeout: Duration = timedelta(minutes=5)
    verify_timeout: Duration = timedelta(hours=6)
    fetch_timeout: Duration = timedelta(hours=12)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path is not None and not self.path.is_absolute():
            raise refused_setting("absolute", "path")
        if (self.path is None) == (self.credentials.backend is None):
            raise refused_setting("either", first="path", second="credentials.backend")
        return self
