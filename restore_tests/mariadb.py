"""The restore-test engine of MariaDB: what mariadb-dump and mysqldump write."""

from __future__ import annotations

import re
from collections.abc import Iterator

from backupguard.contracts import (
    EngineSettings,
    Match,
    Requirements,
    Sample,
    SampledFile,
    Trial,
)
from backupguard.errors import BackupDefect, MissingMeans
from backupguard.model import CheckResult, Fingerprint
from restore_tests import mariadb_checks, mariadb_load
from restore_tests.mariadb_server import (
    DATABASE,
    MariadbServer,
    directories,
    of,
    program,
    stop_quietly,
)
from restore_tests.mariadb_survey import consistency, survey
from restore_tests.settings import MariadbSettings

ENGINE = "mariadb"
_MIB = 1 << 20
_HEAD = re.compile(rb"^-- (MariaDB|MySQL) dump ", re.MULTILINE)
_SERVER = re.compile(rb"^-- Server version\t(\d+)\.(\d+)", re.MULTILINE)
#: The one database of a dump that creates none itself; one that does names each where it begins.
_DATABASE = re.compile(rb"^-- Host: [^\n]* Database: ([^\r\n]+)\r?$", re.MULTILINE)
_CREATES = re.compile(rb"^-- Current Database: `", re.MULTILINE)
_NAME = re.compile(r"[\w$-]{1,64}\Z")
_SERVERS_OWN = frozenset({"mysql", "sys", "information_schema", "performance_schema"})
#: MariaDB reads what MySQL wrote up to 5.7; MySQL 8 went its own way.
_MYSQL_APART = (8, 0)


class Mariadb:
    """`contracts.Engine` for MariaDB."""

    name = ENGINE
    settings: type[EngineSettings] = MariadbSettings

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is such a dump, from its bytes alone."""
        found = [match for file in sample.files if (match := _match(file))]
        if len(found) > 1:
            raise MissingMeans("ambiguous_artifact", engines=ENGINE)
        return found[0] if found else None

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs; raise MissingMeans for a dump of MySQL 8 or later."""
        if match.extra["maker"] == "MySQL" and _version(match) >= _MYSQL_APART:
            raise MissingMeans(
                "version_unsupported", program="mysqld", version=match.version or "?",
                package="mysql-server",
            )  # fmt: skip
        # Rows, indexes, and what is sorted on the way to them.
        growth = 24 if match.compression else 3
        return Requirements(
            programs=(program(),),
            disk_bytes=artifact_bytes * growth + 700 * _MIB,  # the server's own logs are most of it
            memory_bytes=768 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Start an empty server, at least as new as the dump's."""
        settings = trial.settings
        memory = settings.memory if isinstance(settings, MariadbSettings) else None
        server = MariadbServer(sandbox=trial.sandbox, trial=trial, memory=memory)
        server.database = trial.match.extra.get("database", DATABASE)
        trial.memory["mariadb"] = server
        made_by = _version(trial.match) if trial.match.extra["maker"] == "MariaDB" else (0, 0)
        for place in directories(made_by):
            server.programs = place
            server.find_version()
            if server.version >= made_by:
                break
        else:
            raise MissingMeans(
                "version_unsupported", program="mariadbd", version=trial.match.version or "?",
                package="mariadb-server",
            )  # fmt: skip
        server.make()
        server.start()

    def load(self, trial: Trial) -> None:
        """Load the dump, and judge everything that was said meanwhile."""
        mariadb_load.load(trial)

    def open(self, trial: Trial) -> None:
        """Have the server tell what it holds."""
        rows = of(trial).query("select version()")
        trial.memory["tools"] = {"mariadb": rows[0][0].partition("-")[0][:20]}
        if not survey(trial).relations:
            raise BackupDefect("empty")

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield the server's own check, what needs no configuration, then the site's checks."""
        if level >= 2:
            yield consistency(trial)
            yield from mariadb_checks.unconfigured(trial)
        if level >= 3:
            yield from mariadb_checks.configured(trial)
            yield from mariadb_checks.replayed(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""
        return survey(trial).fingerprint

    def close(self, trial: Trial) -> None:
        """Stop the server, whatever state it is in."""
        stop_quietly(trial)


def _match(file: SampledFile) -> Match | None:
    head = _HEAD.search(file.head[:4096])
    if head is None:
        return None
    version = _SERVER.search(file.head[:4096])
    return Match(
        engine=ENGINE,
        certainty=95,
        format="script",
        version=f"{int(version[1])}.{int(version[2])}" if version else None,
        compression=file.compression,
        # mysqldump of MySQL names the maker of the tool; what counts is the server.
        extra={
            "path": str(file.path),
            "maker": "MariaDB" if b"MariaDB" in file.head[:4096] else head[1].decode(),
            "database": _database(file.head),
        },
    )


def _database(head: bytes) -> str:
    """Return what the database is called into which the dump is loaded.

    It keeps the name it had: triggers, views and routines may name the tables with it.
    """
    found = _DATABASE.search(head[:4096])
    name = found[1].decode("utf-8", "replace") if found and not _CREATES.search(head) else ""
    usable = _NAME.match(name) and max(name) <= "\uffff" and name.lower() not in _SERVERS_OWN
    return name if usable else DATABASE


def _version(match: Match) -> tuple[int, int]:
    major, _, minor = (match.version or "0.0").partition(".")
    return int(major), int(minor)


MARIADB = Mariadb()
