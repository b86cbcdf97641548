"""What the configuration says of a catalogue of Bacula's or Bareos'. Imports nothing of theirs."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, RepositorySettings, refused_setting
from backupguard.repositories.local_times import zone_named

_WORD = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,253}\Z")
_SOCKET_DIRECTORY = re.compile(r"/[\w./-]+\Z", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Tls = Literal["verify-full", "verify-ca", "require", "disable"]


class BareosSettings(RepositorySettings):
    """A catalogue: a PostgreSQL database (`database`, `host`, …) or an SQLite file (`path`).

    `host` is a name, an address, or the directory of a Unix socket. `credentials.reader` is the
    password of `user`; left out where the server asks for none. `timezone` is the director's, of this
    host where it is left out.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name", "tags"})

    type: Literal["bareos"]
    path: Path | None = None
    database: str | None = None
    host: str = "/var/run/postgresql"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    user: str = "backupguard"
    tls: Tls | None = None  # left out: verify-full, and on this host nothing
    ca_certificate: Path | None = None  # left out: the system's
    timezone: str | None = None
    program: Path | None = None  # psql; left out: on the fixed path
    refresh_timeout: Duration = timedelta(minutes=5)

    @property
    def talks_to(self) -> str:
        """The host of the database server; this one for a file or a socket."""
        local = self.path is not None or self.by_socket or self.host in _LOOPBACK
        return "localhost" if local else self.host

    @property
    def by_socket(self) -> bool:
        """Whether the server is reached through a Unix socket."""
        return self.host.startswith("/")

    @property
    def tls_mode(self) -> Tls:
        """The demand on the connection; a connection that stays on this host needs no encryption."""
        if self.tls is not None:
            return self.tls
        return "disable" if self.by_socket or self.host in _LOOPBACK else "verify-full"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path is None) == (self.database is None):
            raise refused_setting("either", first="path", second="database")
        if self.path is not None and not self.path.is_absolute():
            raise refused_setting("absolute", "path")
        pattern = _SOCKET_DIRECTORY if self.by_socket else _WORD
        if not pattern.match(self.host):
            raise refused_setting("socket", "host")
        for key, text in (("database", self.database), ("user", self.user)):
            # libpq would read "a=b" or a URL here as a whole connection string.
            if text is not None and not _WORD.match(text):
                raise refused_setting("word", key)
        if self.timezone is not None:
            zone_named(self.timezone)
        return self
