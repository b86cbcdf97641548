"""What the configuration says of a SQL Server whose backup history is read. Imports no driver."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, RepositorySettings, refused_setting
from backupguard.repositories.local_times import zone_named

HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}\Z")


class MssqlSettings(RepositorySettings):
    """The history that one instance of SQL Server (2014 or later) keeps in its database msdb.

    `credentials.reader` is the password of `user`, a SQL Server login. `timezone` is the server's:
    msdb stores local times. The connection is always encrypted and the certificate verified.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    type: Literal["mssql"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 1433
    user: str = "backupguard"
    timezone: str
    ca_certificate: Path | None = None  # left out: the system's
    refresh_timeout: Duration = timedelta(minutes=5)

    @property
    def talks_to(self) -> str:
        """The server."""
        return self.host

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not HOST.match(self.host):
            raise refused_setting("host", "host")
        if self.credentials.reader is None:
            raise refused_setting("reader", "credentials.reader")
        zone_named(self.timezone)
        return self
