"""What discovery is told to look for, and what it found: plain shapes that its parts hand around."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from backupguard.contracts import SecretReference
from backupguard.databases import DatabasePattern

#: What is missing, by code, in English as facts hold it; `{about}` is a file, role or program.
NEEDS: Mapping[str, str] = {
    "permission": "read access to {about}",
    "role": "role that may log in: {about}",
    "rights": "right to see every database: {about}",
    "hidden": "[discovery.servers] entry for {about}",
    "processes": "sight of other users' processes: {about}",
    "not_declared": "[discovery.servers] entry for {about}",
    "program_missing": "program {about}",
    "secret": "secret {about}",
    "unreachable": "answer from {about}",
    "tls": "TLS certificate that {about} can show",
    "timeout": "answer in time from {about}",
    "not_found": "{about} to exist",
    "too_large": "file of at most 1 MiB: {about}",
    "too_many": "fewer entries in {about}",
    "unparsable": "{about} in a form that can be read",
    "half_written": "complete file: {about}",
    "bug": "correction in BackupGuard: {about}",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST = 300


def clean(text: str) -> str:
    """Return a text from a file or tool as it may stand in a fact: printable, bounded."""
    return _CONTROL.sub("\ufffd", text)[:_LONGEST]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredJob:
    """A backup job of the configuration, as far as coverage needs it.

    `addresses` are what its repository's settings say of where it lies; `name` what its tool calls
    it (`select.name`).
    """

    id: str  # "dpi.nightly"
    repository: str
    type: str
    addresses: tuple[str, ...] = ()
    name: str | None = None
    host: str | None = None
    paths: tuple[str, ...] = ()
    covers: tuple[DatabasePattern, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A declared database server."""

    id: str
    engine: str
    host: str
    port: int
    user: str
    database: str
    tls: str = "prefer"
    ca: Path | None = None
    reader: SecretReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Databases that somebody decided need no backup, until the end of a day."""

    pattern: DatabasePattern
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application's names, for the reference: id, name, aliases, hosts of its selectors."""

    id: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePlan:
    """Where the reference is and how it is read; see `[reference]` in the configuration."""

    file: Path
    name: str
    id: str | None = None
    host: str | None = None
    kind: str | None = None
    date: str | None = None
    kinds: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    dated: str = "modified"
    date_format: str | None = None
    max_age: timedelta = timedelta(days=31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the files of backup tools are. Elsewhere only in tests."""

    etc: Path = Path("/etc")
    crontabs: Path = Path("/var/spool/cron/crontabs")
    systemd: Path = Path("/run/systemd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the configuration says to discovery."""

    jobs: tuple[ConfiguredJob, ...] = ()
    servers: tuple[Server, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    sqlite: tuple[str, ...] = ()
    own: Path | None = None  # our state directory: its store is not the hospital's database
    applications: tuple[Application, ...] = ()
    reference: ReferencePlan | None = None
    places: Places = Places()


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database that exists."""

    engine: str
    host: str
    port: int | None
    server: str
    name: str
    bytes: int | None = None
    directory: str | None = None  # the data directory of its server, where that could be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """A server whose list of databases was read to its end."""

    engine: str
    host: str
    port: int | None
    directory: str | None = None

    def is_same(self, other: Catalogue) -> bool:
        """Tell whether both are one server: by its port, and its data directory where both know."""
        mine = (self.engine, self.host, self.port)
        if mine != (other.engine, other.host, other.port):
            return False
        return None in {self.directory, other.directory} or self.directory == other.directory

    def __str__(self) -> str:
        """Write it as "postgresql://srv1:5432"."""
        return f"{self.engine}://{self.host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """A backup job that some tool is set up to run.

    `covers` are databases that a configuration file names; `claims` those that a command line seems
    to name, which are shown only where such a database exists: what looks like a name there may be a
    password. `clusters` are those of this host that are saved whole, by data directory.
    """

    tool: str
    name: str
    source: str
    enabled: bool = True
    last_run_at: int | None = None
    never_ran: bool = False
    schedule: str = ""
    repositories: tuple[str, ...] = ()
    covers: tuple[DatabasePattern, ...] = ()
    claims: tuple[DatabasePattern, ...] = ()
    clusters: tuple[Catalogue, ...] = ()
    paths: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What could not be looked at, and why; `code` is a key of `NEEDS`."""

    what: str
    code: str
    about: str
    hides: str  # "databases", "jobs", "reference"


@dataclass(slots=True, kw_only=True)
class Found:
    """What has been found so far on `host`; every part of discovery adds to it."""

    host: str
    databases: list[Database] = field(default_factory=list)
    catalogues: list[Catalogue] = field(default_factory=list)
    jobs: list[FoundJob] = field(default_factory=list)
    lacking: list[Lack] = field(default_factory=list)

    def lack(self, what: str, code: str, about: str | Path, hides: str) -> None:
        """Note something that could not be looked at, once."""
        lack = Lack(what=clean(what), code=code, about=clean(str(about)), hides=hides)
        if lack not in self.lacking:
            self.lacking.append(lack)

    def catalogue(self, catalogue: Catalogue, databases: Sequence[Database]) -> None:
        """Note a server's databases; a server that was read before, by another way, adds nothing."""
        if any(one.is_same(catalogue) for one in self.catalogues):
            return
        self.catalogues.append(catalogue)
        self.databases += databases
