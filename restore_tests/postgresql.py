"""The restore-test engine of PostgreSQL: dumps in custom, directory, tar and plain format."""

from __future__ import annotations

from collections.abc import Iterator

from backupguard.contracts import EngineSettings, Match, Requirements, Sample, Trial
from backupguard.errors import BackupDefect, MissingMeans
from backupguard.model import CheckResult, Fingerprint
from restore_tests import (
    application,
    postgresql_archive,
    postgresql_checks,
    postgresql_load,
    shape,
)
from restore_tests import postgresql_questions as questions
from restore_tests.postgresql_cluster import CLUSTER, named
from restore_tests.postgresql_server import (
    SOCKETS,
    PostgresqlServer,
    Sizes,
    program,
    programs_directory,
    stop_quietly,
)
from restore_tests.postgresql_survey import survey
from restore_tests.settings import PostgresqlSettings

_MIB = 1 << 20
#: How much room a loaded dump takes, by its own size. Measured: custom 3.5 (random text) to 16
#: (repetitive), plain 1.5; where it takes more, the sandbox's guard ends the test in time.
_GROWTH = {"plain": 2, "custom": 6, "directory": 6, "tar": 2, CLUSTER: 2}
_COMPRESSED = 8


class Postgresql:
    """`contracts.Engine` for PostgreSQL."""

    name = postgresql_archive.ENGINE
    settings: type[EngineSettings] = PostgresqlSettings

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is a PostgreSQL dump, from its bytes alone."""
        return postgresql_archive.recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs, by how much what is dumped grows."""
        growth = _COMPRESSED if match.compression else _GROWTH[match.format]
        return Requirements(
            programs=(program(match.version),),
            disk_bytes=artifact_bytes * growth + 200 * _MIB,
            memory_bytes=512 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Start an empty server of the dump's version and make what the dump needs."""
        settings = trial.settings
        memory = settings.memory if isinstance(settings, PostgresqlSettings) else None
        jobs = settings.jobs if isinstance(settings, PostgresqlSettings) else None
        server = PostgresqlServer(
            sandbox=trial.sandbox,
            programs=programs_directory(trial.match.version),
            database=settings.database if isinstance(settings, PostgresqlSettings) else "restored",
            sizes=Sizes.of_host(memory, jobs),
            trial=trial,
        )
        trial.memory["postgresql"] = server
        server.start()
        postgresql_load.prepare(trial)

    def load(self, trial: Trial) -> None:
        """Load the dump, and judge everything that was said meanwhile."""
        postgresql_load.load(trial)

    def open(self, trial: Trial) -> None:
        """Open the database as a client would, and have its catalogue answer."""
        server: PostgresqlServer = trial.memory["postgresql"]
        rows = server.query(
            "select 'version', current_setting('server_version');\n"
            "select 'open', count(*) from pg_catalog.pg_class c"
            " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind in ('r', 'm', 'p', 'v', 'f') and n.nspname !~ '^pg_'"
            " and n.nspname <> 'information_schema';"
        )
        said = {row[0]: row[1] for row in rows}
        if not said.get("open", "").isdigit():
            raise MissingMeans("server_refused", program="postgres", status=1)
        trial.memory["tools"] = {"postgresql": said.get("version", "?").split(" ")[0][:20]}
        if int(said["open"]) == 0:
            raise BackupDefect("empty")

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield the engine's own check, what needs no configuration, then the site's checks."""
        if level >= 2:
            # Before amcheck, whose extension would be counted.
            survey(trial)
            whole = trial.match.format == CLUSTER
            yield postgresql_checks.consistency(trial, everywhere=whole)
            if whole:
                many = trial.memory["databases"] > 1 and named(trial) is None
                yield shape.result("databases", "database_unnamed", wrong=many)
            yield from postgresql_checks.unconfigured(trial)
        if level >= 3:
            yield from questions.configured(trial)
            yield from _replayed(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""
        return survey(trial).fingerprint

    def close(self, trial: Trial) -> None:
        """Stop the server, whatever state it is in."""
        stop_quietly(trial)


def _replayed(trial: Trial) -> Iterator[CheckResult]:
    """Have the site's command use the restored database, as its owner would."""
    server: PostgresqlServer = trial.memory["postgresql"]
    settings = trial.settings
    wanted = settings.application if isinstance(settings, PostgresqlSettings) else None
    environment = {**server.connection(), "PGDATABASE": server.database}
    yield from application.replayed(trial, wanted, shared=SOCKETS, environment=environment)


POSTGRESQL = Postgresql()
