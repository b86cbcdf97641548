"""The configuration as types: what may stand in the file, with its defaults.

The plug-ins' own parts are put in when a file is loaded (`settings_type`): each family is a union
whose member is chosen by `type` or `engine`, made of the plug-ins that the file names and no others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    WithJsonSchema,
    create_model,
    with_config,
)
from pydantic_core import core_schema
from typing_extensions import TypedDict

from backupguard import plugins
from backupguard.contracts import (
    Capability,
    Duration,
    EngineSettings,
    GivenInstance,
    InstanceSettings,
    JobSelector,
    ProbeSettings,
    ProductionServer,
    RepositorySettings,
    SettingsModel,
    Size,
)
from backupguard.databases import parse_database_pattern
from backupguard.errors import ConfigurationError
from backupguard.model import JOURNAL, MAIL, SYSLOG, Criticality
from backupguard.settings.anchors import Evidence
from backupguard.settings.controls import Controls
from backupguard.settings.discovery import Discovery, Pattern, Reference
from backupguard.settings.host import Host
from backupguard.settings.http import HttpSettings
from backupguard.settings.isolation import Isolation
from backupguard.settings.media import Medium
from backupguard.settings.notify import Notify
from backupguard.settings.people import Person
from backupguard.settings.report import ReportSettings
from backupguard.settings.secrets import files_named_in
from backupguard.settings.soc import Soc

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

#: A duration that is longer than nothing.
Positive = Annotated[Duration, Field(gt=timedelta(0))]
#: How often something of ours runs: once a minute at most.
Cadence = Annotated[Duration, Field(ge=_MINUTE)]
PositiveSize = Annotated[Size, Field(gt=0)]

STATE_DIRECTORY = Path("/var/lib/backupguard")
RUNTIME_DIRECTORY = Path("/run/backupguard")


#: Base services and backup infrastructure: without them nothing else comes back.
BaseService = Literal[
    "directory", "dns", "pki", "vault", "hypervisor", "network", "backup-catalogue"
]


class Site(SettingsModel):
    """The establishment. `commissioning_until` softens the severity of alerts, never a finding.

    `without` names base services that do not exist here, each with the reason.
    """

    name: str = Field(min_length=1)
    timezone: str = "Europe/Paris"
    language: Literal["fr", "en"] = "fr"
    commissioning_until: date | None = None
    without: Mapping[BaseService, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)


class Select(SettingsModel):
    """Which of a repository's points belong to a job, and what of them is its data."""

    paths: tuple[str, ...] = ()
    host: str | None = None
    tags: tuple[str, ...] = ()
    pattern: str | None = None
    name: str | None = None  # what the tool calls it: a stanza, server, job or database


class BackupJob(SettingsModel):
    """Backups that somebody else makes: where, which, how often.

    `grace` defaults to the longest of the last 30 runs, the interval at most, plus 30 minutes.
    """

    repository: str
    select: Select = Select()
    schedule: str | None = None  # cron, in the site's time zone
    every: Positive | None = None
    covers: tuple[Pattern, ...] = ()  # the databases it saves: "postgresql://srv-db1/dpi"
    grace: Annotated[Duration, Field(ge=timedelta(0))] | None = None


class RecoveryStep(SettingsModel):
    """Something people do before the application is back, with where the figure comes from."""

    name: str = Field(min_length=1)
    duration: Positive
    source: str | None = None


class Recovery(SettingsModel):
    """What the recovery forecast adds to what is measured."""

    steps: tuple[RecoveryStep, ...] = ()


class Retention(SettingsModel):
    """How many days, months and years of points must stand; left out: what the catalogue demands."""

    daily: int | None = Field(default=None, ge=0, le=3660)
    monthly: int | None = Field(default=None, ge=0, le=600)
    yearly: int | None = Field(default=None, ge=0, le=100)


class Application(SettingsModel):
    """A critical application: what was promised for it, by whom, and the copies it has.

    `failure_domain` is where its production lives; `provides` the base services that it is.
    """

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()  # its names in the reference
    criticality: Criticality
    rpo: Positive | None = None
    rto: Positive | None = None
    declared_by: str | None = None
    declared_on: date | None = None
    bia_reference: str | None = None
    failure_domain: str | None = None
    provides: tuple[BaseService, ...] = ()
    depends_on: tuple[str, ...] = ()
    retention: Retention = Retention()
    recovery: Recovery = Recovery()
    backups: Mapping[str, BackupJob] = Field(default_factory=dict)
    restore_test: EngineSettings | None = None


class ByCriticality(SettingsModel):
    """One cadence per criticality."""

    c1: Cadence = Field(alias="C1")
    c2: Cadence = Field(alias="C2")
    c3: Cadence = Field(alias="C3")

    def of(self, criticality: Criticality) -> timedelta:
        """Return the cadence of a criticality."""
        return {Criticality.C1: self.c1, Criticality.C2: self.c2, Criticality.C3: self.c3}[
            criticality
        ]


class InventoryCadence(ByCriticality):
    """How often repositories are listed."""

    c1: Cadence = Field(default=15 * _MINUTE, alias="C1")
    c2: Cadence = Field(default=_HOUR, alias="C2")
    c3: Cadence = Field(default=_HOUR, alias="C3")


class IntegrityCadence(ByCriticality):
    """How often repositories are read to see whether their bytes are still right."""

    c1: Cadence = Field(default=7 * _DAY, alias="C1")
    c2: Cadence = Field(default=14 * _DAY, alias="C2")
    c3: Cadence = Field(default=31 * _DAY, alias="C3")


class RestoreTestCadence(ByCriticality):
    """How often applications are restored where their own table sets no schedule."""

    c1: Cadence = Field(default=31 * _DAY, alias="C1")
    c2: Cadence = Field(default=92 * _DAY, alias="C2")
    c3: Cadence = Field(default=365 * _DAY, alias="C3")


#: Within how many days every repository that holds an application is restored from, as RST-01 asks.
COPIES_WITHIN_DAYS = {Criticality.C1: 92, Criticality.C2: 92, Criticality.C3: 365}


class Cadences(SettingsModel):
    """How often BackupGuard does what no other setting schedules."""

    inventory: InventoryCadence = InventoryCadence()
    integrity: IntegrityCadence = IntegrityCadence()
    restore_test: RestoreTestCadence = RestoreTestCadence()
    discovery: Cadence = _DAY
    immutability: Cadence = 7 * _DAY
    offline: Cadence = 15 * _MINUTE
    isolation: Cadence = _HOUR
    drift: Cadence = 15 * _MINUTE  # as what is vital is listed: who prepares an attack is quick
    self_test: Cadence = 31 * _DAY
    imports: Cadence = _HOUR
    report: str = "0 6 1 * *"  # cron


class PhaseLimits(SettingsModel):
    """How long each phase of a restore test may take, and each probe."""

    select: Positive = 30 * _MINUTE
    fetch: Positive = 24 * _HOUR
    prepare: Positive = 15 * _MINUTE
    load: Positive = 24 * _HOUR
    open: Positive = 4 * _HOUR
    verify: Positive = 12 * _HOUR
    discard: Positive = _HOUR
    inventory: Positive = 15 * _MINUTE  # per repository
    integrity: Positive = 12 * _HOUR  # per repository
    discovery: Positive = 30 * _MINUTE
    immutability: Positive = 2 * _HOUR  # per repository
    offline: Positive = 4 * _HOUR
    isolation: Positive = 30 * _MINUTE
    drift: Positive = 30 * _MINUTE
    imports: Positive = 30 * _MINUTE
    report: Positive = _HOUR
    plan: Positive = 10 * _MINUTE
    anchor: Positive = 10 * _MINUTE


class Daemon(SettingsModel):
    """The daemon: how much at once, how often, when, how long.

    Restore tests and integrity probes start inside `windows` only (none: at any time), and inside
    their repository's own.
    """

    parallel_restore_tests: int = Field(default=1, ge=1, le=64)
    parallel_probes: int = Field(default=4, ge=1, le=64)
    # Repositories of one host that are listed at the same time.
    parallel_per_host: int = Field(default=2, ge=1, le=64)
    windows: tuple[str, ...] = ()
    cadences: Cadences = Cadences()
    limits: PhaseLimits = PhaseLimits()
    runtime_directory: Path | None = None


class StoreSettings(SettingsModel):
    """Where everything is remembered: SQLite in the directory, or PostgreSQL by URL."""

    directory: Path = STATE_DIRECTORY
    url: str | None = None


class Scratch(SettingsModel):
    """Where restored data lives while it is tested, and what a test may use.

    Scratch lies on tmpfs or encrypted storage, or `clear_text_accepted_by` says who accepted that
    it does not; without either, no vital application (C1) is restored.
    """

    directory: Path | None = None  # left out: `runs` in the store's directory
    reserve_percent: int = Field(default=10, ge=0, le=90)
    reserve: PositiveSize = 2 * 10**9  # bytes always left free, whichever is more
    max_bytes: PositiveSize | None = None  # per run; left out: free space minus the reserve
    max_memory: PositiveSize | None = None  # per run
    max_processes: int = Field(default=512, ge=16, le=65536)
    clear_text_accepted_by: str | None = None


class PlanSettings(SettingsModel):
    """The recovery plan: what its forecast assumes, and where it is kept off this host.

    `directory` must exist and lie on something that outlives this host (a mounted share, a USB key);
    left out, the plan is written only when somebody asks. `durable_writes` is what a load costs with
    durable writes, in percent of the same load in a restore test, which has none.
    """

    directory: Path | None = None
    every: Cadence = 7 * _DAY
    parallel: int = Field(default=1, ge=1, le=64)  # applications that are brought back at once
    durable_writes: int = Field(default=165, ge=100, le=1000)


class Settings(SettingsModel):
    """The effective settings: frozen, without a single secret's value."""

    site: Site
    repositories: Mapping[str, RepositorySettings] = Field(default_factory=dict)
    applications: Mapping[str, Application] = Field(default_factory=dict)
    daemon: Daemon = Daemon()
    store: StoreSettings = StoreSettings()
    http: HttpSettings = HttpSettings()
    host: Host = Host()
    scratch: Scratch = Scratch()
    discovery: Discovery = Discovery()
    reference: Reference | None = None
    media: Mapping[str, Medium] = Field(default_factory=dict)
    isolation: Isolation = Isolation()
    plan: PlanSettings = PlanSettings()
    report: ReportSettings = ReportSettings()
    evidence: Evidence = Evidence()
    controls: Controls = Controls()
    notify: Notify = Notify()
    soc: Soc = Soc()
    people: Mapping[str, Person] = Field(default_factory=dict)
    instances: Mapping[str, InstanceSettings] = Field(default_factory=dict)
    probes: Mapping[str, ProbeSettings] = Field(default_factory=dict)

    _files: tuple[Path, ...] = PrivateAttr(default=())

    @property
    def files(self) -> tuple[Path, ...]:
        """The files these settings were read from, in the order they were merged."""
        return self._files

    @property
    def channels(self) -> tuple[str, ...]:
        """Who is told of events: the journal always, others where they are configured."""
        configured = {SYSLOG: self.soc.syslog, MAIL: self.notify.mail}
        return (JOURNAL, *(name for name, found in configured.items() if found is not None))

    @property
    def state_directory(self) -> Path:
        """Where the store, its keys and caches live."""
        return self.store.directory

    @property
    def runtime_directory(self) -> Path:
        """Where `control.sock` and `status.json` live; below the state unless that is the default."""
        if self.daemon.runtime_directory is not None:
            return self.daemon.runtime_directory
        if self.store.directory == STATE_DIRECTORY:
            return RUNTIME_DIRECTORY
        return self.store.directory / "run"

    @property
    def runs_directory(self) -> Path:
        """Where each run has its own directory, restored data included."""
        return self.scratch.directory or self.store.directory / "runs"

    @property
    def private_files(self) -> tuple[Path, ...]:
        """What no program of others needs to see: every secret's file, our own keys, those of the port.

        A backup tool is handed the one secret it needs, and could read all others of this account.
        """
        web: tuple[Path, ...] = ()
        if self.http.web_config is not None:
            from backupguard.settings.web_config import read

            with suppress(ConfigurationError):  # what is wrong with it is told elsewhere
                found = read(self.http.web_config)
                web = tuple(file for file in (found.file, found.key) if file is not None)
        return (self.state_directory / "keys", *files_named_in(self._effective()), *web)

    @property
    def sha256(self) -> str:
        """The hash of the effective settings: equal where nothing that counts differs."""
        text = json.dumps(self._effective(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def selector(self, application: str, job: str) -> JobSelector:
        """Return a job as its repository needs to know it. Raises KeyError for unknown ids."""
        select = self.applications[application].backups[job].select
        return JobSelector(
            job=f"{application}.{job}",
            application=application,
            paths=select.paths,
            host=select.host,
            tags=select.tags,
            pattern=select.pattern,
            name=select.name,
        )

    def jobs_in(self, repository: str) -> tuple[JobSelector, ...]:
        """Return the jobs that keep their copies in a repository."""
        return tuple(
            self.selector(application, job)
            for application, owner in self.applications.items()
            for job, backup in owner.backups.items()
            if backup.repository == repository
        )

    def repositories_of(self, application: str) -> tuple[str, ...]:
        """Return the repositories that keep copies of an application, each once."""
        jobs = self.applications[application].backups.values()
        return tuple(dict.fromkeys(job.repository for job in jobs))

    def fetchable(self, application: str) -> tuple[str, ...]:
        """Return those of them that copies can be restored from."""
        return tuple(
            name
            for name in self.repositories_of(application)
            if Capability.FETCH in plugins.capabilities(self.repositories[name].type)
        )

    def probe(self, name: str) -> ProbeSettings:
        """Return a probe's settings, its defaults where the file does not name it."""
        return self.probes.get(name) or plugins.probe(name).settings()

    @property
    def imports_tests(self) -> bool:
        """Tell whether any application has restore tests that other tools do."""
        return any(
            owner.restore_test is not None and owner.restore_test.imports is not None
            for owner in self.applications.values()
        )

    def restore_test_schedule(self, application: str) -> str | timedelta:
        """Return when an application is tested: its own cron, else by its criticality and its copies.

        A test is of one copy: with more of them, tests come as often as it takes to restore each in
        its time.
        """
        owner = self.applications[application]
        if owner.restore_test is not None and owner.restore_test.schedule is not None:
            return owner.restore_test.schedule
        copies = max(1, len(self.fetchable(application)))
        each = timedelta(days=max(1, COPIES_WITHIN_DAYS[owner.criticality] // copies))
        return min(self.daemon.cadences.restore_test.of(owner.criticality), each)

    def instance(self, name: str, *, confirmed: str | None = None) -> GivenInstance | None:
        """Return a scratch server with all that is known to be production; None for no such name."""
        settings = self.instances.get(name)
        if settings is None:
            return None
        return GivenInstance(
            name=name,
            settings=settings,
            production=self.production_servers(),
            confirmed=confirmed,
        )

    def production_servers(self) -> tuple[ProductionServer, ...]:
        """Return every database server that these settings name as somebody's production.

        The servers whose history or catalogue is read, those whose databases jobs cover, and the hosts
        that jobs select. A pattern for any host says nothing.
        """
        found = [
            ProductionServer(host=host, port=getattr(repository, "port", None))
            for repository in self.repositories.values()
            if isinstance(host := getattr(repository, "host", None), str)
        ]
        found += [
            ProductionServer(host=server.host, port=server.port)
            for server in self.discovery.servers.values()
        ]
        for owner in self.applications.values():
            for job in owner.backups.values():
                patterns = [parse_database_pattern(text) for text in job.covers]
                found += [
                    ProductionServer(host=pattern.host, port=pattern.port)
                    for pattern in patterns
                    if "*" not in pattern.host and pattern.engine not in {"sqlite", "openldap"}
                ]
                if job.select.host is not None:
                    found.append(ProductionServer(host=job.select.host))
        return tuple(dict.fromkeys(found))

    def criticality_of(self, repository: str) -> Criticality:
        """Return the highest criticality of the applications kept in a repository; C3 for none."""
        found = (
            owner.criticality
            for owner in self.applications.values()
            if any(job.repository == repository for job in owner.backups.values())
        )
        return min(found, default=Criticality.C3, key=lambda criticality: criticality.value)

    def _effective(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values, secrets as references: what runners are handed."""
        return {
            "settings": self._effective(),
            "sha256": self.sha256,
            "files": [str(file) for file in self.files],
        }

    def with_files(self, files: tuple[Path, ...]) -> Settings:
        """Return these settings, remembering the files they came from."""
        self._files = files
        return self


# ------------------------------------------------------------------------- the plug-ins' own parts


@dataclass(frozen=True, eq=False)
class Choice:
    """An annotation that makes a field a union of settings classes, told apart by one key.

    Pydantic's own discriminator wants at least two classes and a literal in each; a hospital that
    uses one type of repository, made by somebody else, has neither.
    """

    classes: Mapping[str, type[SettingsModel]]
    tag: Callable[[Any], str | None]
    key: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Build the tagged union."""
        return core_schema.tagged_union_schema(
            {name: handler.generate_schema(cls) for name, cls in self.classes.items()},
            self._tag_of,
        )

    def _tag_of(self, value: Any) -> str | None:
        for name, cls in self.classes.items():
            if type(value) is cls:
                return name
        return self.tag(value)


def _known_keys(model: type[SettingsModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _unknown_keys(model: type[SettingsModel], value: Mapping[str, Any]) -> int:
    """Return how many keys of a table, and of the tables in its arrays, a class does not know."""
    unknown = len(set(value) - _known_keys(model))
    for name, field in model.model_fields.items():
        rows = value.get(field.alias or name)
        for inner in get_args(field.annotation):
            if not (isinstance(inner, type) and issubclass(inner, SettingsModel)):
                continue
            for row in rows if isinstance(rows, list) else ():
                unknown += len(set(row) - _known_keys(inner)) if isinstance(row, Mapping) else 0
    return unknown


def engine_tag(classes: Mapping[str, type[SettingsModel]]) -> Callable[[Any], str | None]:
    """Return the rule that chooses the class of a `restore-test` table.

    `engine` decides; "" is the class of what every engine knows. Without `engine`, the table is read
    by the first class, in the order of names, that knows all its keys, those of its checks included,
    and when none does by the one that knows most; the engine that recognises the artifact re-reads it
    as its own.
    """

    def tag(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return ""
        if value.get("engine") is not None:
            return str(value["engine"])
        return min(classes, key=lambda name: (_unknown_keys(classes[name], value), name))

    return tag


def _type_tag(value: Any) -> str | None:
    return str(value["type"]) if isinstance(value, Mapping) and "type" in value else None


def settings_type(
    repositories: Mapping[str, type[RepositorySettings]],
    engines: Mapping[str, type[EngineSettings]],
    probes: Mapping[str, type[ProbeSettings]],
) -> type[Settings]:
    """Return the `Settings` class in which these plug-ins have their own parts."""
    every_engine = {"": EngineSettings, **engines}
    restore_test = Annotated[
        EngineSettings, Choice(every_engine, engine_tag(every_engine), "engine")
    ]
    application = create_model(
        "Application", __base__=Application, restore_test=(restore_test | None, None)
    )
    probes_type: Any = with_config(ConfigDict(extra="forbid"))(
        TypedDict("Probes", dict(probes), total=False)  # type: ignore[operator]
    )
    repository: Any = Annotated[RepositorySettings, Choice(repositories, _type_tag, "type")]
    if not repositories:  # a union of nothing: any entry at all names an unknown type
        repository = Annotated[RepositorySettings, WithJsonSchema({"type": "object"})]
    return cast(
        type[Settings],
        create_model(
            "Settings",
            __base__=Settings,
            repositories=(Mapping[str, repository], Field(default_factory=dict)),
            applications=(Mapping[str, application], Field(default_factory=dict)),
            probes=(probes_type, Field(default_factory=dict)),
        ),
    )
