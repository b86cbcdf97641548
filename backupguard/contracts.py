"""What a plug-in implements, and all that it is handed.

Plug-ins, the shipped ones included, import this module, `backupguard.errors` and `backupguard.model`
and nothing else of BackupGuard. Importing a plug-in must not import the tool library it wraps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from backupguard.model import (
    Baseline,
    CheckResult,
    Closing,
    Fact,
    Finding,
    Fingerprint,
    JobSummary,
    Json,
    Judgement,
    Listing,
    Observation,
    Origin,
    PointsLost,
    Policy,
    RecoveryPoint,
    Run,
    RunRequest,
    RunState,
    Scope,
    Sighting,
    Subject,
    Verdict,
    VerifiedCoverage,
    View,
)

# ---------------------------------------------------------------------------------------- settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_S = 100 * 366 * 86400  # nobody means more than a century; timedelta would overflow
_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_duration(text: object) -> object:
    """Given a short duration such as "36h", "90m" or "1d12h", return a timedelta.

    A timedelta passes. A bare number is refused, since nobody can tell its unit. Raise ValueError
    when the text is no duration.
    """
    if isinstance(text, int | float):
        raise _no_duration(str(text))
    if not isinstance(text, str):
        return text
    total, digits = 0, ""
    for character in text.strip():
        if character in "0123456789":
            digits += character
        elif digits and character in _UNITS:
            total += int(digits) * _UNITS[character]
            digits = ""
        else:
            raise _no_duration(text)
    if digits or not text.strip() or total > _LONGEST_S:
        raise _no_duration(text)
    return timedelta(seconds=total)


def _no_duration(text: str) -> ValueError:
    return PydanticCustomError(
        "duration", "{text} is no duration; write for example 90m, 36h or 31d", {"text": text[:80]}
    )


def format_duration(duration: timedelta) -> str:
    """Given a timedelta, return it as settings write it: "1d12h", "90m" as "1h30m", "0s"."""
    rest, text = int(duration.total_seconds()), ""
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, seconds)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(text: object) -> object:
    """Given a size such as "50MB" or "2TB" (powers of ten), return bytes; integers pass through."""
    if not isinstance(text, str):
        return text
    number = text.strip().rstrip("BkKMGT")
    unit = text.strip()[len(number) :]
    if not number.strip().isdigit() or unit not in _SIZES:
        raise PydanticCustomError(
            "size", "{text} is no size; write for example 500MB or 2TB", {"text": text[:80]}
        )
    return int(number) * _SIZES[unit]


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": r"^(\d+[smhdw])+$"}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(json_schema_extra={"type": ["integer", "string"], "format": "size"}),
]


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class SettingsModel(BaseModel):
    """Base of every settings class: kebab-case keys, unknown keys refused, immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=_kebab, populate_by_name=True
    )


def refused_setting(sentence: str, key: str = "", /, **values: str) -> ValueError:
    """Return what a validator raises for a setting it refuses: said in the language of the reader.

    `sentence` is the end of a message id, `settings.refuses.SENTENCE`; `key` what it is about, from
    the model that is validated: "limits.bandwidth". A plug-in whose sentences are not in our
    catalogues raises ValueError with its own words.
    """
    context = {"sentence": sentence, "key": key, "values": values}
    return PydanticCustomError("refused_setting", "{key}: {sentence}", context)


class SecretReference(SettingsModel):
    """Where a secret is: a systemd credential by name, or a file nobody else may read."""

    credential: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.credential is None) == (self.file is None):
            raise PydanticCustomError("secret_reference", "give either .credential or .file")
        return self


class Credentials(SettingsModel):
    """The secrets of a repository, each by reference.

    `reader` opens the repository for reading (the restic password, the rest-server password file…);
    `backend` authenticates against the place it lies in, where that is another secret.
    `writer-for-probe` is what the backup client itself uses, and nothing but an attacker ever gets
    it: with it canaries are written and tampered with. `escrow` is the key as it lies in escrow, for
    a restore test that uses no other; it may be absent until somebody brings it.
    """

    reader: SecretReference | None = None
    backend: SecretReference | None = None
    writer_for_probe: SecretReference | None = None
    escrow: SecretReference | None = None

    @model_validator(mode="after")
    def _escrow_is_elsewhere(self) -> Self:
        if self.escrow is not None and self.escrow == self.reader:
            raise refused_setting("escrow-is-reader", "escrow")
        return self


#: The account of this host that writes the backups, where they are files.
BackupUser = Annotated[str | None, Field(pattern=r"^[a-z_][a-z0-9_.-]*\$?$", max_length=64)]


class Limits(SettingsModel):
    """When, how fast and how much may be read from a repository."""

    windows: tuple[str, ...] = ()  # "Mon-Fri 09:00-17:00", local time of the site; none = always
    bandwidth: str | None = None  # "50MB/s"
    max_bytes_per_day: Size | None = None


class RepositorySettings(SettingsModel):
    """What every repository type's settings share. `type` selects the plug-in.

    `failure-domain` says what would be lost together with it (a room, an array, a cluster, an
    administrator's account), `declared-by` and `declared-on` who said so and when. A snapshot or a
    replica is no backup where it shares the fate of production.

    `medium` names the offline medium (`[media.ID]`) that carries it: while that one is away, nobody
    can look, and nothing is wrong with that.

    `selects` is what jobs may choose their points by, of `name`, `pattern` and `tags`: another one
    would be ignored, and a job would take points that are not its own.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name", "pattern", "tags"})
    #: Whether `credentials.reader` is what decrypts the backups, so that an escrowed one can be tried.
    reader_is_key: ClassVar[bool] = False

    type: str
    credentials: Credentials = Credentials()
    medium_kind: str = Field(default="disk", pattern="^(disk|tape|vtl|object|removable)$")
    failure_domain: str | None = None
    declared_by: str | None = None
    declared_on: date | None = None
    off_site: bool = False
    copy_kind: Literal["backup", "snapshot", "replica"] = "backup"
    claimed_protection: tuple[str, ...] = ()
    medium: str | None = None
    limits: Limits = Limits()

    @property
    def talks_to(self) -> str:
        """The host that reading loads: repositories of one host share `daemon.parallel-per-host`.

        "localhost" unless a type says otherwise, for example with the host of its URL.
        """
        return "localhost"


class ProbeSettings(SettingsModel):
    """What every probe's settings share: how often, at most once a minute."""

    every: Annotated[Duration, Field(ge=timedelta(minutes=1))] | None = None


class RecordImports(SettingsModel):
    """Where other tools lay the records of the restore tests they did of an application.

    `names` are the databases or machines in them that are the application's, left out: all. `dates` is
    the form of times that could be read in two ways (strptime): "%d/%m/%Y %H:%M:%S".
    """

    directory: Path
    format: Literal["dbatools", "surebackup", "rman", "dbcc", "iris"]
    pattern: Annotated[str, Field(pattern=r"^[^/]{1,100}$")] = "*"
    repository: str | None = None  # left out: the only one of the application
    names: tuple[str, ...] = ()
    dates: str | None = None

    @field_validator("directory")
    @classmethod
    def _whole(cls, directory: Path) -> Path:
        if not directory.is_absolute():
            raise ValueError("write the whole path, from /")
        return directory


class EngineSettings(SettingsModel):
    """What every engine's settings share; the engine's own checks are added by its subclass.

    `read_unnamed`: whether a table that names no engine may be read as this class.
    """

    read_unnamed: ClassVar[bool] = True

    engine: str | None = None  # left out: recognised from the artifact
    schedule: str | None = None  # cron; left out: by criticality
    imports: RecordImports | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_part(cls, given: object) -> object:
        # Whoever asks for it has a database that is too large: say what else there is.
        asked = isinstance(given, Mapping) and "partial" in given and given.get("engine")
        if asked and "partial" not in cls.model_fields:
            raise refused_setting("not-in-part", "partial")
        return given


class InstanceCredentials(SettingsModel):
    """The secret of a scratch server's account: its password, alone in a credential or file."""

    account: SecretReference | None = None


class InstanceSettings(SettingsModel):
    """A scratch database server of the site's, on which restore tests may make databases of their own.

    `host` is a name, an address or, for PostgreSQL, the directory of a Unix socket. `tls = "none"` is
    for this host only. A SQL Server reads a backup from `exchange`, a directory this host writes to,
    which the server sees as `exchange-seen-as`. `max-bytes` is the most that a backup may have;
    `production` names servers (names, addresses or identifiers) that this one must never be.
    """

    kind: Literal["postgresql", "mssql"]
    host: str = Field(pattern=r"^(/[^\x00]{1,90}|[A-Za-z0-9_.:-]{1,253})$")
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str = Field(default="backupguard_scratch", pattern=r"^[^\x00-\x1f:\\]{1,63}$")
    credentials: InstanceCredentials = InstanceCredentials()
    tls: Literal["verify", "none"] = "verify"
    ca_certificate: Path | None = None  # left out: the system's
    exchange: Path | None = None
    exchange_seen_as: str | None = Field(default=None, pattern=r"^[^\x00-\x1f'\"]{1,400}$")
    max_bytes: Annotated[Size, Field(gt=0)] | None = None
    production: tuple[Annotated[str, Field(min_length=1, max_length=253)], ...] = ()

    @property
    def by_socket(self) -> bool:
        """Tell whether it is reached by a Unix socket of this host."""
        return self.host.startswith("/")

    @property
    def port_used(self) -> int:
        """The port, the usual one of its kind where none is given."""
        return self.port or (1433 if self.kind == "mssql" else 5432)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        here = self.by_socket or self.host in {"localhost", "127.0.0.1", "::1"}
        if self.tls == "none" and not here:
            raise refused_setting("instance-tls", "tls")
        if self.kind == "mssql":
            if self.by_socket or self.credentials.account is None:
                raise refused_setting("instance-account", "credentials.account")
            if self.exchange is None or not self.exchange.is_absolute():
                raise refused_setting("instance-exchange", "exchange")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionServer:
    """A server that applications live on, as the settings name it. `port` None: any of its ports."""

    host: str
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenInstance:
    """A scratch server as a restore test is handed it, with the servers that it must not be.

    `confirmed` is the major version under which a person confirmed what a kind that was never seen
    alive does.
    """

    name: str
    settings: InstanceSettings
    production: tuple[ProductionServer, ...] = ()
    confirmed: str | None = None


# ----------------------------------------------------------------------------------------- secrets


class Secret:
    """A secret's value; shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: bytes) -> None:
        self.name = name
        self._value = value

    def reveal(self) -> bytes:
        """Return the value. Only for handing it to the child process or library that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.name!r}, ****)"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError("a secret is never pickled")


# ------------------------------------------------------------------------------------ running tools

#: Where the files of `Command.secrets` are inside the jail: `SECRETS/NAME`, for tools that take the
#: path in an option and not by the environment.
SECRETS = "/run/backupguard-secrets"

#: Called with each complete line (without its end) of a tool's standard output.
LineSink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One call of a backup tool in the jail (`Tools.run`).

    `argv[0]` is a program name, looked up on a fixed path, or an absolute path. `read` are paths the
    command needs; the jail shows the host read-only, so they serve errors and the tests. `write` are
    the only writable paths. `secrets` maps an environment variable that the tool reads as the path of
    a file (`RESTIC_PASSWORD_FILE`, `AWS_SHARED_CREDENTIALS_FILE`, …) to the secret put into that
    file, which exists only inside the jail. `environment` holds what is no secret. `sink` receives
    standard output: a file created exclusively, or a callable per line; without one it is returned.
    """

    argv: tuple[str, ...]
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    network: bool = False
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = 600
    sink: Path | LineSink | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a program ended. Output is capped; `truncated` says so. Secrets are masked in both."""

    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    oom: bool = False
    duration_ms: int = 0


class Tools(Protocol):
    """Runs backup tools in the jail."""

    def run(self, command: Command) -> Completed:
        """Run `command` to its end, blocking this thread.

        Raises MissingMeans (program_missing, sandbox_unavailable), TimedOut (phase_limit) and
        Cancelled; an exit status other than 0 is not an error here.
        """

    def which(self, program: str) -> Path | None:
        """Return where `program` is found on the fixed path, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which certificate of a server is believed: one signed by `ca`, or the one with a fingerprint.

    `fingerprint` is the SHA-256 of the certificate in hexadecimal, colons allowed; with it names and
    dates of the certificate are not looked at. Without either, the system's authorities decide.
    """

    ca: Path | None = None
    fingerprint: str | None = None


#: The system's own authorities.
SYSTEM_TRUST = Trust()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a server answered an attacker; names of `headers` are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Tampering(Protocol):
    """The HTTP of an attacker: reads anything, changes nothing but what was named beforehand."""

    def ask(
        self,
        method: Literal["GET", "POST", "DELETE"],
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: int,
        trust: Trust = ...,
    ) -> Answered:
        """Ask once and return the answer, whatever its status; never asked a second time.

        Raises ValueError, before anything is sent, where `method` is not GET and `url` is none of
        those named; Unreachable, Misunderstood and Cancelled as `Http.get` does.
        """


class Http(Protocol):
    """Bounded HTTP for plug-ins whose tool has an HTTP interface."""

    def get(
        self, url: str, *, headers: Mapping[str, str], timeout_s: int, trust: Trust = ...
    ) -> tuple[int, bytes]:
        """Return status and body (at most 16 MiB); raises Unreachable, AccessRefused."""

    def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: int,
        trust: Trust = ...,
    ) -> tuple[int, bytes]:
        """Post once, to log in: nothing else is ever posted. Returns and raises as `get` does."""

    def tampering(self, canaries: Collection[str]) -> Tampering:
        """Return what an attacker asks with: it posts to and deletes `canaries`, exact URLs, only."""


class Cancel(Protocol):
    """Tells that somebody wants the run to end."""

    def is_set(self) -> bool:
        """Tell whether the run is to end."""

    def raise_if_set(self) -> None:
        """Raise Cancelled when the run is to end."""

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether the run is to end."""


# ---------------------------------------------------------------------------------------- contexts


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSelector:
    """A backup job as its repository needs to know it: which points are its own."""

    job: str  # "dpi.nightly"
    application: str
    paths: tuple[str, ...] = ()  # select.paths
    host: str | None = None  # select.host
    tags: tuple[str, ...] = ()  # select.tags
    pattern: str | None = None  # select.pattern, for directories: "dpi-%Y%m%d.dump.gz"
    name: str | None = None  # select.name: what the tool calls it (stanza, server, job, database)


class Known(Protocol):
    """Read-only answers from the store."""

    def points(self, job: str, repository: str) -> Sequence[RecoveryPoint]:
        """Return the job's standing points in that repository, newest first."""

    def latest(self, kind: str, subject: Subject) -> Fact | None:
        """Return the newest fact of that kind about that subject."""

    def since(self, kind: str, subject: Subject, seq: int) -> Sequence[Fact]:
        """Return the facts of that kind about that subject newer than number `seq`, oldest first."""

    def coverage(self, repository: str) -> Mapping[str, VerifiedCoverage]:
        """Return the verified units of a repository, by unit."""

    def sighting(self, repository: str) -> Sighting | None:
        """Return when a repository was last asked; None when it never was."""

    def standing(self, repository: str, listed: Iterable[RecoveryPoint] = ()) -> Mapping[str, int]:
        """Return per job how many points stand in a repository once `listed` are counted as well."""

    def runs_since(self, repository: str) -> datetime | None:
        """Return from when on a tool's runs may be new or may have ended; None: none are known."""


class Context(Protocol):
    """All that a plug-in is handed."""

    tools: Tools
    http: Http
    cancel: Cancel
    known: Known
    work: Path  # the run's own directory (0700), removed after the run

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Say how far the work is; cheap, may be called often."""

    def secret(self, reference: SecretReference) -> Secret:
        """Read a secret now; raises MissingMeans (secret_missing) or AccessRefused (permission)."""

    def remember(self, name: str) -> Path:
        """Return a cache directory that outlives the run, for example restic's; may be emptied."""


# ------------------------------------------------------------------------------------ repositories


class Capability(StrEnum):
    """What a repository can do beyond `inspect` and `points`."""

    RUNS = "runs"
    VERIFY = "verify"
    FETCH = "fetch"
    PITR = "pitr"
    PROTECTION = "protection"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSeen:
    """A lock somebody holds in a repository; we never break one."""

    holder_host: str | None
    holder_pid: int | None
    since: datetime | None
    exclusive: bool
    alive: bool | None  # None = cannot be told from here


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """What a repository is right now. An unreachable one raises instead."""

    tool: str
    tool_version: str
    repository_id: str | None = None
    format_version: str | None = None
    encrypted: bool | None = None
    locks: tuple[LockSeen, ...] = ()
    free_bytes: int | None = None
    device: str | None = None  # host and device identity, for failure domains
    # Codes of what is wrong with how it is looked at or kept, for people: "administrator_credential".
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """The tool's own record of one of its runs, also of one that left no point.

    `bytes` and `files` are what was looked at; `bytes_added` what was new after deduplication,
    `bytes_stored` what that took after compression. `duration_ms` only where it is not simply
    `ended_at` less `started_at`.
    """

    job: str
    native_id: str
    started_at: datetime
    ended_at: datetime | None
    state: str  # a PointState value
    bytes: int | None = None
    files: int | None = None
    duration_ms: int | None = None
    bytes_added: int | None = None
    bytes_stored: int | None = None
    files_new: int | None = None
    files_changed: int | None = None
    files_removed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRuns:
    """What a repository's `runs` yielded, to its end. None of them is ever taken away again."""

    repository: str
    runs: Collection[JobRun]
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is new in a repository since a mark.

    `points` are the new and the changed ones, `standing` how many each job of those asked for has in
    all, `mark` is handed back next time. `complete` says that `points` are all there are: without a
    mark, or when the tool can no longer tell what is new since then.
    """

    points: Iterable[RecoveryPoint]
    standing: Mapping[str, int]
    mark: str
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyPlan:
    """What to verify: the structure, and how much of the data within which budget."""

    structure: bool = True
    data_percent: int = 0  # 0 to 100; the least recently verified units come first
    max_bytes: int | None = None
    # Whose points matter, where a repository can tell them apart.
    jobs: tuple[JobSelector, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedUnit:
    """One unit that was verified. `unit` is stable across runs ("structure", "bucket/017").

    `objects` are ids of what is damaged (packs, indexes), at most 20; never a name of restored data.
    """

    unit: str
    verdict: Verdict
    bytes: int
    code: str | None = None
    units_total: int = 1
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How much of an over-size tree to bring, beside the paths that come `always`.

    `read_at` says when each share of it was last read (µs), by its name: a hash of its path with `key`.
    """

    max_bytes: int
    always: tuple[str, ...]
    read_at: Mapping[str, int]
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFetched:
    """What part of a tree was brought: bytes of all bytes, the shares `chosen` of all `shares`."""

    bytes: int
    total_bytes: int
    chosen: tuple[str, ...]
    shares: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """Which point, and what of it, to bring to disk; `at` for point-in-time recovery.

    `exact`: no engine will read all that was written, so the tool is to compare it with its listing
    where it can do so without reading the repository twice. `part`: bring only a part where there is
    more than that; a repository that cannot brings everything.
    """

    point: RecoveryPoint
    selector: JobSelector
    at: datetime | None = None
    exact: bool = False
    part: Part | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a fetch left in its directory: the artifact's path relative to it, sizes, tool versions."""

    artifact: PurePosixPath
    bytes: int
    files: int
    tools: Mapping[str, str] = field(default_factory=dict)
    part: PartFetched | None = None  # None: everything was brought


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """How a point is protected, over every object it needs.

    `locked_until` is the earliest end of a lock among those objects, None when any has none (or only
    one that can be taken off, `mode` "governance"); `unlocked` how many these are. `exact` is False
    where what a point needs could not be told from what others need: then the date may be too early,
    never too late. `hidden` says that a delete marker lies over it. `code` says why it is not known.
    """

    native_id: str
    mechanism: str  # a mechanism of `ProtectionState`
    locked_until: datetime | None
    job: str | None = None
    mode: str | None = None  # "compliance", "governance", "legal-hold"; the weakest of its objects
    objects: int = 0
    unlocked: int = 0
    exact: bool = True
    hidden: bool = False
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """What is wrong with a protection as it is set up: a code of `weakness.CODE`, and its values."""

    code: str
    values: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionState:
    """How a repository says it is protected, read from its settings: no proof, nothing was tried.

    `bypass_holders` are who may take a lock off, as the policy names them; `unread` what could not be
    read for lack of rights; `weaknesses` what an attacker would use. `settings` holds what was read,
    by name, for CFG-01 to compare.
    """

    mechanism: str  # "s3-object-lock", "append-only", "file-attributes", "vendor", "none"
    mode: str | None = None  # "compliance", "governance"
    retention_s: int | None = None  # the default that new objects get
    weaknesses: tuple[Weakness, ...] = ()
    bypass_holders: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    settings: Mapping[str, int | str | bool] = field(default_factory=dict)


class Repository(Protocol):
    """One opened place that keeps copies. Only reads."""

    capabilities: frozenset[Capability]

    def inspect(self) -> RepositoryState:
        """Return the state; raises Unreachable, AccessRefused, MissingMeans."""

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every point of these jobs. Ending normally means complete; raising says nothing."""

    def runs(self, since: datetime) -> Iterator[JobRun]:
        """Yield the tool's own run records."""

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Verify what the plan asks for, unit by unit; resumable through `known.coverage`."""

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Bring a selection of a point into the empty directory `into`.

        Raises BackupDefect (corrupt, selection_absent, content_changed…), Changing, Unreachable…
        """

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:
        """Yield how each point is protected."""


@runtime_checkable
class StatesProtection(Protocol):
    """A repository whose protection has settings that can be read."""

    def protection_state(self) -> ProtectionState:
        """Return what is set up; raises Unreachable, AccessRefused only when nothing can be read."""


@runtime_checkable
class CountsRequests(Protocol):
    """A repository that is paid for by the request."""

    def requests(self) -> Mapping[str, int]:
        """Return how many requests were made since it was opened, by operation: "HeadObject"."""


@runtime_checkable
class ListsChanges(Protocol):
    """A repository that can tell what is new, where naming everything would be dear.

    Counts are compared with what is known: a job whose count comes out wrong is listed through
    `points` at once, and everything is once a day, so that a loss cannot hide.
    """

    def changes(self, jobs: Sequence[JobSelector], mark: str | None) -> Changes:
        """Return what is new since `mark`, which an earlier call returned; None: everything.

        Raises what `points` raises. A mark that this repository cannot use any more is no error: it
        answers as without one, with `complete`.
        """


@runtime_checkable
class VerifiesInUnits(Protocol):
    """A repository that can name all its units: so that "everything was read since" can be said."""

    def units(self, plan: VerifyPlan) -> Sequence[str]:
        """Return the names of all units that `verify` yields in the course of its turns."""


class AttackerKind(StrEnum):
    """Who attacks. Only the first is ever tried; the others are "not tested" until attested."""

    BACKUP_WRITER = "backup_writer"
    STORAGE_ADMIN = "storage_admin"
    HYPERVISOR_ADMIN = "hypervisor_admin"
    PHYSICAL = "physical"
    CLOCK = "clock"


class AttackOutcome(StrEnum):
    """What came of one attempt against a canary."""

    REFUSED = "refused"  # what was asked did not happen
    WORKED = "worked"  # something destructive happened
    UNTRIED = "untried"  # it could not be tried, or nobody can tell what came of it


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlace:
    """Where an attacker may put its canaries.

    `token` (16 hexadecimal digits, new in every run) makes their names unique, and `remembered` are
    the names of earlier ones: those whose locks have ended may be removed, and nothing else ever.
    `jobs` are the backup jobs kept there: canaries belong beside their points, and are none of them.

    An attempt named "put-…" leaves its target there; one named "remove-canary" that worked ends that.
    """

    token: str
    remembered: tuple[str, ...] = ()
    jobs: tuple[JobSelector, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt against a canary: first its intent (`outcome` None), then the same with its outcome.

    `name` is what is tried, a code of `attempt.NAME` ("delete-version"), `target` the canary (never
    an object of the backup), `code` what refused it or why it could not be tried, in the server's own
    word ("AccessDenied", "EPERM", "403"), `request_id` the server's, where it gives one. One that is
    not `destructive` puts a canary there or takes an expired one away: that it worked refutes nothing.
    """

    name: str
    target: str
    outcome: AttackOutcome | None = None
    destructive: bool = True
    code: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearing:
    """What the attempts of an attacker say about the backups themselves.

    `reaches_data`: the canaries lay where the backups lie, or the policy for both places was read and
    found to be the same; otherwise nothing is proved. `credentials` is whose they turned out to be:
    "writer", "administrator" or "read_only" (both the wrong ones to prove anything), or "unknown".
    `code` says why nothing can be proved, where something stands in the way of it. `notes` are codes
    of `bearing.CODE`: what a person should know and what stands in the way of nothing.
    """

    reaches_data: bool
    credentials: str = "writer"
    code: str | None = None
    notes: tuple[str, ...] = ()


class Attacker(Protocol):
    """Tries to tamper with canaries of its own, with the backup writer's credentials."""

    kind: AttackerKind

    def attempts(self, canary: CanaryPlace) -> Iterator[Attempt]:
        """Yield an intent, wait until it is stored, act, yield the result.

        Raises Unreachable, AccessRefused (authentication), MissingMeans…: then nothing is proved, but
        what worked before stays refuted.
        """

    def bearing(self) -> Bearing:
        """Return what the attempts say of the backups; called after the last one, and once."""


@runtime_checkable
class RepositoryType(Protocol):
    """The entry point of a repository plug-in (group `backupguard.repositories`).

    A type that was never seen against a live server says `unproven = True` (left out: False). What is
    concluded from its repositories is not measurable until a person has compared a sample of points
    with what the vendor's console shows (`backupguard doctor repositories ID --confirm`), and again
    after a major upgrade of the tool.

    A type may also say `capabilities: frozenset[Capability]`, what its repositories can do at most, so
    that no run is planned which they cannot perform.
    """

    name: str
    settings: type[RepositorySettings]

    def open(
        self, identifier: str, settings: Any, context: Context
    ) -> AbstractContextManager[Repository]:
        """Open the repository named `identifier` for reading."""

    def attack(
        self, identifier: str, settings: Any, context: Context
    ) -> AbstractContextManager[Attacker] | None:
        """Open it as the backup writer, or return None where nothing can be tried."""


# ------------------------------------------------------------------------------------------ probes


class Repositories(Protocol):
    """The repositories a probe may look at."""

    def identifiers(self) -> Sequence[str]:
        """Return the ids of the repositories that are asked for."""

    def jobs(self, identifier: str) -> Sequence[JobSelector]:
        """Return the backup jobs kept in that repository."""

    def type_of(self, identifier: str) -> str:
        """Return the type of a repository, as its settings name it: "restic"."""

    def open(self, identifier: str) -> AbstractContextManager[Repository]:
        """Open one; may be called from several threads, once per repository."""

    def attack(self, identifier: str) -> AbstractContextManager[Attacker] | None:
        """Open one as its backup writer; None where nothing can be tried."""

    def parallelism(self) -> int:
        """Return how many may be open at the same time."""

    def host_of(self, identifier: str) -> str:
        """Return the host that reading a repository loads."""

    def origin_of(self, identifier: str) -> Origin:
        """Return whose word a repository's points are: observed, or imported."""

    def parallelism_per_host(self) -> int:
        """Return how many of one host may be open at the same time."""

    def allowance(self, identifier: str) -> int | None:
        """Return how many bytes may still be read from a repository today; None: any number.

        By `limits.max-bytes-per-day`. Listings are not counted; what does not fit is not begun, and
        is told with the code `daily_limit`.
        """


@runtime_checkable
class Probe(Protocol):
    """The entry point of a probe (group `backupguard.probes`): one question about copies."""

    name: str
    scope: Scope
    settings: type[ProbeSettings]

    def observe(
        self, subject: Subject, repositories: Repositories, context: Context, settings: Any
    ) -> Iterator[Observation | Listing | JobRuns]:
        """Yield what is seen. What cannot be seen is an observation too, with its error code."""


# ----------------------------------------------------------------------------------- restore tests


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFile:
    """What an engine may look at to recognise an artifact.

    `head` is at most the first 64 KiB and `tail` the last 4 KiB, both after decompression where
    `compression` is "gzip", "xz" or "zstd" (at most 1 MiB is decompressed for the head; `tail` is
    empty for compressed files).
    """

    path: PurePosixPath  # relative to the artifact; "." when the artifact is one file
    size: int
    head: bytes
    tail: bytes
    compression: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An artifact as seen before anything parses it: at most 200 files with their first bytes."""

    artifact: PurePosixPath
    is_directory: bool
    files: tuple[SampledFile, ...]
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An engine recognised an artifact: how sure (0 to 100), which format, which version."""

    engine: str
    certainty: int
    format: str  # "custom", "directory", "tar", "plain"
    version: str | None  # major version of the engine the artifact was made with
    compression: str | None = None
    extra: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program an engine needs: the path of a directory inside `/usr` or of an unpacked engine."""

    name: str
    directories: tuple[Path, ...]
    package: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a restore of this artifact needs on this host."""

    programs: tuple[Program, ...]
    disk_bytes: int
    memory_bytes: int


class Server(Protocol):
    """A program that keeps running in its sandbox."""

    def alive(self) -> bool:
        """Tell whether it still runs; raises what ended its sandbox (scratch_limit, no_disk…)."""

    def stop(self, signal_number: int, timeout_s: int) -> Completed:
        """Send the signal to the program inside, wait, kill the sandbox if it does not end.

        Never raises; a second call returns the same.
        """


class Sandbox(Protocol):
    """Where restored data lives: no network, no host files but /usr, limits on everything.

    Inside, `/in` is the fetched artifact's directory (read-only), `/scratch` the data directory
    (only when `scratch` is true), `/shared/NAME` directories that programs meet in. One bwrap per
    program.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str] = (),
        stdin: Path | PurePosixPath | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: int,
        output_limit: int = 1 << 20,
        site: Path | None = None,
    ) -> Completed:
        """Run a program inside to its end; raises TimedOut, Cancelled, MissingMeans.

        `site` is a directory of the host that the settings name, shown read-only at `/site`.
        `stdin` is bytes, a file of the host (`Path`) or one inside (`PurePosixPath`). An exit status
        of 128 + N stands for signal N.
        """

    def start(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: str,
        shell: str | None = None,
    ) -> Server:
        """Start a server inside; main thread only. Its output goes to `/shared`-less log `log`.

        `shell` is the text of a program that stands where `/bin/sh` would: for a server that needs
        none, so that whoever makes it ask for one is noticed and gets nothing.
        """

    def write(self, path: PurePosixPath, content: bytes) -> None:
        """Create a file below `/scratch` or `/shared` before a program runs; follows no link."""

    def take(self, path: PurePosixPath, to: PurePosixPath) -> bool:
        """Move what lies at `path` below `/in` to `to` below `/scratch`, instead of copying it.

        False where it cannot be moved (another file system, no right to): then nothing has happened.
        """

    def read(self, path: PurePosixPath, limit: int) -> bytes:
        """Read at most `limit` bytes of a regular file below `/scratch` or `/shared`; no links."""

    def log(self, name: str, limit: int) -> bytes:
        """Return the last `limit` bytes of a started server's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One restore test as its engine sees it."""

    sandbox: Sandbox
    artifact: PurePosixPath  # as seen inside: "/in/dpi.dump"
    match: Match
    settings: Any
    baseline: Baseline | None
    previous: Fingerprint | None
    point_at: datetime
    context: Context
    memory: dict[str, Any] = field(default_factory=dict)  # what its phases tell one another
    key: bytes = b""  # per-test key for HMACs of anything that must be compared later


class Engine(Protocol):
    """The entry point of a restore-test engine (group `backupguard.restore_tests`).

    `select`, `fetch` and `discard` are shared code (restore_tests/phases.py); an engine never writes
    its own. Each method raises BackupDefect when the backup is to blame and nothing else of that
    kind. One that says `only_when_named = True` (left out: False) is asked only where the
    site names it; of those, one that says `exact = True` has the repository compare what was written
    with its own listing (`FetchRequest.exact`).
    """

    name: str
    settings: type[EngineSettings]

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is the engine's, from its bytes alone; no third-party parser."""

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs; the caller finds the programs and checks the room."""

    def prepare(self, trial: Trial) -> None:
        """Make an empty, running server ready for the load."""

    def load(self, trial: Trial) -> None:
        """Load the artifact."""

    def open(self, trial: Trial) -> None:
        """Bring the database to the state in which it would be opened; level 2 ends here."""

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield one result per check up to `level`."""

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""

    def close(self, trial: Trial) -> None:
        """Stop what was started; called always, also after an error; must not raise."""


# ---------------------------------------------------------------------------------------- controls


class Control(Protocol):
    """A pure, total function from a view to a judgement: no clock, no disk, no network."""

    id: ClassVar[str]
    scope: ClassVar[Scope]
    reads: ClassVar[frozenset[str]]

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one subject."""


# ------------------------------------------------------------------------------------------- store


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChange:
    """A finding that changed, with the one it replaces."""

    before: Finding | None
    after: Finding


class Store(Protocol):
    """What is remembered. Every write is one transaction; facts are only ever added."""

    store_id: str

    def append(
        self,
        new: Sequence[Observation],
        *,
        run: str | None = None,
        author: str | None = None,
        closing: Closing | None = None,
    ) -> tuple[Fact, ...]:
        """Record observations (a key that exists returns its first fact) and close a run with them."""

    def merge_listing(self, listing: Listing, *, run: str | None) -> tuple[Fact, ...]:
        """Record what appeared, changed and vanished; nothing at all when nothing did."""

    def merge_runs(self, seen: JobRuns, *, run: str | None) -> tuple[Fact, ...]:
        """Record the tool's runs that are new or have changed; nothing at all when none has."""

    def record_inspection(
        self, inspected: Observation, *, run: str | None, author: str | None
    ) -> tuple[Fact, ...]:
        """Record a `repository.inspected` that differs from the last one, or the first of a day.

        When the repository was asked is remembered either way.
        """

    def sightings(self) -> Mapping[str, Sighting]:
        """Return when each repository was last asked and what came of it, by id."""

    def standing(self, repository: str, listed: Iterable[RecoveryPoint] = ()) -> Mapping[str, int]:
        """Return per job how many points stand in a repository once `listed` are counted as well."""

    def job_runs(
        self, job: str, repository: str | None = None, limit: int | None = None
    ) -> tuple[JobRun, ...]:
        """Return what the tools recorded of a job's runs, newest first."""

    def runs_since(self, repository: str) -> datetime | None:
        """Return from when on a tool's runs may be new or may have ended; None: none are known."""

    def seal(self) -> None:
        """Seal the chain's head with the store's key, unless it is sealed already."""

    def head(self) -> tuple[int, bytes]:
        """Return sequence number and hash of the newest record."""

    def sealed(self) -> tuple[int, datetime] | None:
        """Return up to which record the chain is sealed, and since when; None without any seal."""

    def facts(
        self, *, after: int = 0, kinds: Collection[str] = (), subject: Subject | None = None
    ) -> Iterator[Fact]:
        """Yield facts in order."""

    def fact(self, seq: int) -> Fact | None:
        """Return one fact."""

    def latest(
        self, subjects: Collection[Subject] | None = None, kinds: Collection[str] = ()
    ) -> Mapping[Subject, Mapping[str, Fact]]:
        """Return the newest fact per subject and kind."""

    def summaries(self, jobs: Collection[str] | None = None) -> tuple[JobSummary, ...]:
        """Return what stands per job and repository."""

    def points(
        self, job: str, repository: str | None = None, limit: int | None = None
    ) -> tuple[RecoveryPoint, ...]:
        """Return standing points, newest first."""

    def gone_points(self, job: str, repository: str, limit: int) -> tuple[RecoveryPoint, ...]:
        """Return the newest points that stood once and do not any more, newest first."""

    def losses(self, after: int) -> tuple[PointsLost, ...]:
        """Return the usable points that vanished by facts newer than `after`, listing by listing."""

    def coverage(self, repository: str) -> Mapping[str, VerifiedCoverage]:
        """Return verified units."""

    def changed_since(self, seq: int) -> tuple[int, frozenset[Subject]]:
        """Return the head and the subjects that have facts newer than `seq`."""

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that stand."""

    def record_findings(self, changes: Sequence[FindingChange]) -> tuple[Fact, ...]:
        """Append one `finding.changed` fact per change and update the findings, together."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold a named lock while the context lasts; raises Busy at once when another holds it."""

    # -- the diary of runs

    def enqueue(self, request: RunRequest) -> Run:
        """Insert a waiting run, or return the one with the same task, subject, due_at, attempt."""

    def claim(self, host: str, free: Mapping[str, int]) -> tuple[Run, ...]:
        """Turn waiting runs into this host's running ones, at most `free` per resource."""

    def start_run(self, run: str, host: str) -> bool:
        """Turn one waiting run into a running one; False when somebody else did or it is blocked."""

    def cancel(self, run: str, by: str) -> bool:
        """Mark a run for cancelling (a waiting one is closed); False when it has ended already."""

    def report_progress(self, run: str, progress: Json) -> None:
        """Remember how far a run is. Not evidence."""

    def run(self, run: str) -> Run | None:
        """Return one run."""

    def runs(
        self,
        *,
        states: Collection[RunState] = (),
        task: str | None = None,
        subject: Subject | None = None,
        limit: int = 1000,
    ) -> tuple[Run, ...]:
        """Return runs, newest first."""

    def close(self) -> None:
        """Release files and connections."""
