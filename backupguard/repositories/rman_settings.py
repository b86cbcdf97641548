"""What the configuration says of an Oracle database, or of a recovery catalogue. Imports no driver."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, RepositorySettings, refused_setting
from backupguard.repositories.local_times import zone_named

_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}\Z")
_SERVICE = re.compile(r"[A-Za-z0-9_.#$-]{1,128}\Z")
_OWNER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}\Z")


class RmanSettings(RepositorySettings):
    """The history of RMAN in a database's control file, or with `catalogue-owner` in a catalogue.

    `credentials.reader` is the password of `user`. `timezone` is the database server's: the views
    show its local time. `tls` speaks TCPS and verifies the certificate.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    type: Literal["rman"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 2484
    service: str
    user: str = "backupguard"
    catalogue_owner: str | None = None
    timezone: str
    tls: bool = True
    ca_certificate: Path | None = None  # left out: the system's
    refresh_timeout: Duration = timedelta(minutes=5)

    @property
    def talks_to(self) -> str:
        """The database server."""
        return self.host

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _HOST.match(self.host):
            raise refused_setting("host", "host")
        if not _SERVICE.match(self.service):
            raise refused_setting("service", "service")
        if self.catalogue_owner is not None and not _OWNER.match(self.catalogue_owner):
            raise refused_setting("owner", "catalogue-owner")
        if self.user.upper() in {"SYS", "SYSTEM"}:
            raise refused_setting("administrator", "user")
        if self.credentials.reader is None:
            raise refused_setting("reader", "credentials.reader")
        zone_named(self.timezone)
        return self
