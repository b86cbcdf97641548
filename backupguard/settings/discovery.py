"""What `discover` may look at beyond what it finds by itself, and the reference it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from backupguard.contracts import Duration, SecretReference, SettingsModel
from backupguard.databases import parse_database_pattern


def _pattern(text: str) -> str:
    try:
        parse_database_pattern(text)
    except ValueError as error:
        raise PydanticCustomError("database_pattern", "{why}", {"why": str(error)}) from error
    return text


#: `ENGINE://HOST[:PORT]/NAME`; see `backupguard.databases`.
Pattern = Annotated[str, AfterValidator(_pattern)]


class ReaderCredentials(SettingsModel):
    """The secret of a role that may only read: its password, alone in a credential or file."""

    reader: SecretReference | None = None


class DatabaseServer(SettingsModel):
    """A database server whose own catalogue is read, as a role without any right to write."""

    engine: Literal["postgresql", "mariadb", "mysql"]
    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str = "backupguard"
    database: str = "postgres"  # which one to connect to (PostgreSQL)
    tls: Literal["prefer", "require", "verify"] = "prefer"
    ca: Path | None = None  # whose certificates are believed, with tls = "verify"
    credentials: ReaderCredentials = ReaderCredentials()


class IgnoredDatabases(SettingsModel):
    """Databases that need no backup: why, and until when that was decided."""

    pattern: Pattern
    reason: str = Field(min_length=1)
    until: date | None = None  # the last day on which it holds


class Discovery(SettingsModel):
    """What discovery looks at on this host and elsewhere.

    `roles` names, per engine, the role that reads the local servers' catalogues over their Unix
    sockets; left out: the system user that BackupGuard runs as. `sqlite` are globs of absolute paths.
    """

    enabled: bool = True
    roles: Mapping[Literal["postgresql", "mariadb"], str] = Field(default_factory=dict)
    sqlite: tuple[str, ...] = ()
    servers: Mapping[str, DatabaseServer] = Field(default_factory=dict)
    ignore: tuple[IgnoredDatabases, ...] = ()

    @model_validator(mode="after")
    def _absolute_globs(self) -> Self:
        if any(not glob.startswith("/") for glob in self.sqlite):
            raise PydanticCustomError("sqlite_globs", "sqlite: write absolute paths")
        return self


class ReferenceColumns(SettingsModel):
    """Which columns of the export hold what, by their headings."""

    name: str = Field(min_length=1)
    id: str | None = None
    host: str | None = None
    kind: str | None = None
    date: str | None = None


class Reference(SettingsModel):
    """A list of what exists that BackupGuard did not write: a CMDB, vCenter or DNS export in CSV.

    The last part of `file` may hold `*`: the newest by name is taken. `dated` says where the date of
    the export comes from: a column (the newest row counts), the file's name, or when it was modified.
    """

    file: Path
    columns: ReferenceColumns
    kinds: tuple[str, ...] = ()  # which values of the kind column count; none = all
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: Literal["utf-8", "cp1252", "latin-1", "utf-16"] | None = None
    dated: Literal["column", "name", "modified"] = "modified"
    date_format: str | None = None  # "%d/%m/%Y"; left out: ISO 8601
    max_age: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(days=31)

    @model_validator(mode="after")
    def _has_what_it_names(self) -> Self:
        if self.dated == "column" and self.columns.date is None:
            raise PydanticCustomError("reference_date", 'dated = "column" needs columns.date')
        if self.kinds and self.columns.kind is None:
            raise PydanticCustomError("reference_kind", "kinds needs columns.kind")
        return self
