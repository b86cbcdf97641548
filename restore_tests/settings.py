"""What a site may write below `[applications.ID.restore-test]`; imports no tool and no engine."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from backupguard.contracts import Duration, EngineSettings, SettingsModel, Size

#: "stays" or "clinic.stays": as pg_catalog spells them, without quotes.
TableName = Annotated[str, StringConstraints(pattern=r"^[^.\"\s]+(\.[^.\"\s]+)?$", max_length=130)]


def _exact_number(value: object) -> object:
    # A float would be compared inside the engine with a rounding nobody asked for.
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("write a whole number")
    return value


#: The keys of an answer, as they may be written.
_ANSWERS = frozenset(
    {"newer-than", "newer_than", "at-least", "at_least", "at-most", "at_most", "equals"}
)
Whole = Annotated[int, BeforeValidator(_exact_number)]


class Expected(SettingsModel):
    """A question of the site's about its own data, with the answer that proves it.

    `newer-than` counts back from the time of the recovery point, not from now: an old copy is not
    at fault for being old.
    """

    name: str = Field(min_length=1, max_length=80)
    newer_than: Duration | None = None
    at_least: Whole | None = None
    at_most: Whole | None = None
    equals: bool | int | str | None = None

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        numbers = (self.at_least, self.at_most)
        if self.newer_than is None and self.equals is None and numbers == (None, None):
            raise ValueError("say what the answer must be: newer-than, at-least, at-most or equals")
        if self.newer_than is not None and (self.equals is not None or numbers != (None, None)):
            raise ValueError(
                "newer-than compares a time: it cannot stand beside a number or equals"
            )
        if self.newer_than is not None and self.newer_than.total_seconds() <= 0:
            raise ValueError("newer-than must be longer than nothing")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at-least is greater than at-most: no answer could pass")
        return self


def _one_query(sql: str) -> str:
    query = sql.strip().rstrip(";").strip()
    if not query:
        raise ValueError("an empty query proves nothing")
    if "\x00" in query or any(line.lstrip().startswith("\\") for line in query.splitlines()):
        raise ValueError("write one SQL query; commands of psql (\\...) are not run")
    return query


class ContentCheck(Expected):
    """A question in SQL.

    `sql` is one query that yields one value; it runs inside the sandbox as a role that can only
    read, and its value is compared there: only the verdict leaves (and, for `newer-than`, the time).
    """

    sql: str = Field(min_length=1, max_length=20_000)

    @field_validator("sql")
    @classmethod
    def _one_query(cls, sql: str) -> str:
        return _one_query(sql)


class DirectoryCheck(Expected):
    """How many entries of a directory match a filter (RFC 4515), or when the newest was changed."""

    filter: str = Field(pattern=r"^\(.+\)$", max_length=2_000)
    base: str | None = None  # below this entry
    equals: int | None = None


class Canary(SettingsModel):
    """The site's job writes a canary before each backup: `backupguard canary print` says how.

    Points taken after the day `since` must hold it. `newer_than` is how old it may be at the time of
    its point; left out, the application's RPO, or 26 hours.
    """

    since: date
    newer_than: Duration | None = Field(default=None, gt=timedelta(0))


class Invariant(SettingsModel):
    """What must hold from one recovery point to the next, by the points' own times.

    One of: `table`, whose rows only ever become more; `only_grows`, a query that yields one number that
    does; `closed_set`, a query whose rows never change again. It is held against points taken from the
    day `since` on, which a closed set must say: before, it was still open.
    """

    name: str = Field(min_length=1, max_length=80)
    table: TableName | None = None
    only_grows: str | None = Field(default=None, max_length=20_000)
    closed_set: str | None = Field(default=None, max_length=20_000)
    since: date | None = None

    @field_validator("only_grows", "closed_set")
    @classmethod
    def _queries(cls, sql: str | None) -> str | None:
        return None if sql is None else _one_query(sql)

    @model_validator(mode="after")
    def _one_promise(self) -> Self:
        if sum(one is not None for one in (self.table, self.only_grows, self.closed_set)) != 1:
            raise ValueError("write one of table, only-grows and closed-set")
        if self.closed_set is not None and self.since is None:
            raise ValueError("a closed set needs since: the day from which on it is closed")
        return self

    @property
    def closed(self) -> bool:
        """Whether it is a set that never changes; otherwise a number that only grows."""
        return self.closed_set is not None

    @property
    def definition(self) -> str:
        """What it asks, as a digest: what was measured by another question is not compared."""
        said = "\0".join(str(one) for one in (self.table, self.only_grows, self.closed_set))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


class Freshness(SettingsModel):
    """The unconfigured look at the newest plausible timestamps.

    `ignore` names columns ("stays.planned_at", "public.stays.planned_at") or whole tables
    ("heartbeat") whose times say nothing about how old the data are.
    """

    enabled: bool = True
    ignore: tuple[str, ...] = ()


class DatabaseSettings(EngineSettings):
    """What a site may say of any database's content.

    `timezone` is the zone of times without one; left out, the site's.
    """

    checks: tuple[ContentCheck, ...] = ()
    required_tables: tuple[TableName, ...] = ()
    freshness: Freshness = Freshness()
    timezone: str | None = None
    statement_timeout: Duration | None = None  # of one configured check; left out: 10 minutes
    random_text: bool = True  # look for text columns that turned into random characters
    canary: Canary | None = None
    invariants: tuple[Invariant, ...] = ()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(
                    f"{name!r} is no time zone; write for example Europe/Paris"
                ) from error
        return name

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [check.name for check in self.checks]
        names += [invariant.name for invariant in self.invariants]
        if len(set(names)) != len(names):
            raise ValueError("two checks have the same name")
        return self


#: Directories that hold more than a program of the site's, or may change under it.
_NO_PLACE = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run"}
    | {"/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/local/bin", "/var", "/var/tmp"}  # noqa: S108
)
_Exit = Annotated[Whole, Field(ge=0, le=125)]


class CommandCheck(SettingsModel):
    """A check that a program of the site's answers, by its name."""

    name: str = Field(min_length=1, max_length=80)


class SiteProgram(SettingsModel):
    """A program of the site's that runs in the sandbox.

    `directory` (left out: the program's own) is all of the host that it sees, read-only, at `/site`. An
    exit status in neither list says nothing, and nothing is concluded from it.
    """

    program: Path
    directory: Path | None = None
    arguments: tuple[str, ...] = ()
    exit_codes: tuple[_Exit, ...] = (0,)
    failed_exit_codes: tuple[_Exit, ...] = (1,)
    time_limit: Duration = timedelta(minutes=10)
    checks: tuple[CommandCheck, ...] = ()

    @property
    def place(self) -> Path:
        """Return the directory that is shown."""
        return self.directory or self.program.parent

    @model_validator(mode="after")
    def _may_be_shown(self) -> Self:
        if not self.program.is_absolute() or ".." in self.program.parts:
            raise ValueError("write the whole path of the program, from /")
        if not self.program.is_relative_to(self.place) or ".." in self.place.parts:
            raise ValueError("the program must lie below the directory that is shown")
        if str(self.place) in _NO_PLACE:
            raise ValueError("show a directory that holds nothing but this program's own files")
        return self

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if set(self.exit_codes) & set(self.failed_exit_codes) or not self.exit_codes:
            raise ValueError("an exit status means one thing: passed or failed")
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("two checks have the same name")
        if self.time_limit.total_seconds() < 1:
            raise ValueError("a program needs a second at least")
        return self


class CommandSettings(SiteProgram, EngineSettings):
    """How an application's copies are tested by a program of the site's: `engine = "command"`."""


class PostgresqlSettings(DatabaseSettings):
    """How an application's PostgreSQL copies are tested.

    `memory` bounds the engine's buffers and the sandbox; left out, by the host's memory.
    `jobs` bounds parallel loading; left out, by the host's processors.
    """

    database: str = Field(default="restored", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
    memory: Size | None = Field(default=None, ge=256_000_000)
    jobs: int | None = Field(default=None, ge=1, le=64)
    application: SiteProgram | None = None  # level 4: a command against the restored database

    @model_validator(mode="after")
    def _own_database(self) -> Self:
        if self.database in {"postgres", "template0", "template1"}:
            raise ValueError("that database belongs to the server itself; choose another name")
        return self


class PostgresqlPhysicalSettings(DatabaseSettings):
    """How an application's physical PostgreSQL copies are tested.

    `database` is the one of the server's that is the application's; left out, the biggest. `memory` and
    `jobs` as for dumps.
    """

    database: str | None = Field(default=None, pattern=r"^[^\\\"\x00]{1,63}$")
    memory: Size | None = Field(default=None, ge=256_000_000)
    jobs: int | None = Field(default=None, ge=1, le=64)


class MariadbSettings(DatabaseSettings):
    """How an application's MariaDB or MySQL copies are tested.

    `database` is the one that the checks ask, where a dump holds several. `memory` bounds the engine's
    buffers; left out, by the host's memory.
    """

    database: str | None = Field(default=None, pattern=r"^[^`\\/\x00]{1,64}$")
    memory: Size | None = Field(default=None, ge=256_000_000)
    application: SiteProgram | None = None  # level 4: a command against the restored database


class InstanceTestSettings(DatabaseSettings):
    """How an application's copies are tested on a scratch server of the site's.

    `instance` names the server: `[instances.NAME]`.
    """

    read_unnamed: ClassVar[bool] = False

    instance: str = Field(default="", max_length=63)

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.engine == "instance" and not self.instance:
            raise ValueError("say which scratch server: instance")
        return self


class SqliteSettings(DatabaseSettings):
    """How an application's SQLite files are tested.

    `database` is the file, without its suffix, that the checks ask where there are several.
    """

    database: str | None = None


class FirebirdSettings(DatabaseSettings):
    """How an application's Firebird copies are tested.

    It has no key of its own: tables that name no engine are read as those that do.
    """

    read_unnamed: ClassVar[bool] = False


class OpenldapSettings(EngineSettings):
    """How an application's directory is tested.

    `schemas` are files that define what the directory uses beyond what comes with OpenLDAP; they are
    not needed where `cn=config` is saved beside the data. `suffix` names the directory where only its
    mdb is saved.
    """

    checks: tuple[DirectoryCheck, ...] = ()
    freshness: Freshness = Freshness()
    schemas: tuple[Path, ...] = ()
    suffix: str | None = None
    canary: Canary | None = None

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("two checks have the same name")
        return self


#: Attributes that hold passwords: nothing may be learned of them, not even by counting.
_SECRET = ("unicodepwd", "supplementalcredentials", "dbcspwd", "ntpwdhistory", "lmpwdhistory")


class SambaAdSettings(EngineSettings):
    """How an application's Samba domain is tested.

    `domain` is its DNS name, which the backup must be of; left out, that of the shape that is known.
    """

    checks: tuple[DirectoryCheck, ...] = ()
    freshness: Freshness = Freshness()
    domain: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?$")

    @field_validator("checks")
    @classmethod
    def _asks_for_no_secret(cls, checks: tuple[DirectoryCheck, ...]) -> tuple[DirectoryCheck, ...]:
        for check in checks:
            if any(name in check.filter.lower() for name in _SECRET):
                raise ValueError("a filter must not ask for passwords")
        return checks

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("two checks have the same name")
        return self


class FilesCheck(Expected):
    """How many files there are of some, how new the newest is, or what one of them is, to the byte.

    `files` is a pattern for their place in the tree: "radiologie/*.dcm"; `*` also stands for "/".
    `sha256` is that of a canary file, which `backupguard` or the site put there and nobody changes.
    """

    files: str = Field(min_length=1, max_length=1_000)
    equals: int | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="before")
    @classmethod
    def _a_digest_is_an_answer(cls, given: object) -> object:
        # What a canary must be is said by its digest: that one of them is there goes without saying.
        if isinstance(given, dict) and "sha256" in given and len(given.keys() & _ANSWERS) == 0:
            return {**given, "at-least": 1}
        return given


class Partial(SettingsModel):
    """Declares that a test restores a part of a tree that is too large, another part each time.

    A test brings at most `max-bytes` (one directory that cannot be split may be more), the shares that
    were read longest ago first, and what lies at `always` in the tree. All of it is to be read `within`
    that time, and RST-01 warns when it is not.
    """

    max_bytes: Size = Field(ge=1)
    within: Duration = Field(default=timedelta(days=92), gt=timedelta(0))
    always: tuple[Annotated[str, Field(pattern=r"^[^/*?\[\x00][^*?\[\x00]*[^/]$")], ...] = ()

    def holds(self, pattern: str) -> bool:
        """Tell whether every test brings all that a pattern can match."""
        return any(pattern == path or pattern.startswith(f"{path}/") for path in self.always)


class FilesSettings(EngineSettings):
    """How an application's files are tested.

    `manifests` are patterns for the site's own lists of digests in the tree, as sha256sum writes them.
    """

    checks: tuple[FilesCheck, ...] = ()
    manifests: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = ()
    partial: Partial | None = None
    freshness: Freshness = Freshness()
    canary: Canary | None = None

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("two checks have the same name")
        return self
