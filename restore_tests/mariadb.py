"""The restore-test engine of MariaDB: what mariadb-dump and mysqldump write."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

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
from restore_tests import application, content, mariadb_load, shape
from restore_tests.mariadb_server import (
    ENVIRONMENT,
    SOCKET,
    SOCKETS,
    MariadbServer,
    of,
    program,
    stop_quietly,
)
from restore_tests.mariadb_survey import consistency, database_of, session, survey
from restore_tests.settings import ContentCheck, MariadbSettings
from restore_tests.survey import Survey, settings_of, zone

ENGINE = "mariadb"
_MIB = 1 << 20
_HEAD = re.compile(rb"^-- (MariaDB|MySQL) dump ", re.MULTILINE)
_SERVER = re.compile(rb"^-- Server version\t(\d+)\.(\d+)", re.MULTILINE)
#: MariaDB reads what MySQL wrote up to 5.7; MySQL 8 went its own way.
_MYSQL_APART = (8, 0)
_CHECK_TIMEOUT_S = 600


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
        trial.memory["mariadb"] = server
        server.find_version()
        made_by = _version(trial.match)
        if trial.match.extra["maker"] == "MariaDB" and server.version < made_by:
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
            yield from _unconfigured(trial)
        if level >= 3:
            yield from _configured(trial)
            yield from _replayed(trial)

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
        },
    )


def _version(match: Match) -> tuple[int, int]:
    major, _, minor = (match.version or "0.0").partition(".")
    return int(major), int(minor)


def _unconfigured(trial: Trial) -> Iterator[CheckResult]:
    seen: Survey = survey(trial)
    settings = settings_of(trial)
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
    if settings.required_tables:
        yield content.required(seen, settings)
    # Accounts are no part of a database's dump: views and routines work once they are made again.
    definers = seen.counts["definers"]
    yield shape.result(
        "definers", "definers_missing", wrong=definers > 0, numbers={"missing": definers}
    )
    yield content.orphans(seen.counts["orphans"])
    if settings.random_text:
        yield content.random_text(trial, seen)
        yield content.damaged_text(trial, seen)
    if settings.freshness.enabled:
        yield content.freshness(trial, seen)


# --------------------------------------------------------------------------------------- questions


def _replayed(trial: Trial) -> Iterator[CheckResult]:
    """Have the site's command use the restored database, as its owner would."""
    settings = trial.settings
    if not isinstance(settings, MariadbSettings):
        return
    environment = {
        **ENVIRONMENT,
        "MYSQL_UNIX_PORT": SOCKET,
        "BACKUPGUARD_USER": "root",
        "BACKUPGUARD_DATABASE": database_of(trial, settings.database),
    }
    yield from application.replayed(
        trial, settings.application, shared=SOCKETS, environment=environment
    )


def _configured(trial: Trial) -> Iterator[CheckResult]:
    """Yield one result per check of the site's, each asked by a client that can only read."""
    checks = settings_of(trial).checks
    if not checks:
        return
    server, settings = of(trial), trial.settings
    role = "reader_" + secrets.token_hex(8)
    server.query(
        f"create user {role}@localhost identified via unix_socket or mysql_native_password"
        f" using ''; grant select, show view, execute on *.* to {role}@localhost;"
    )
    wanted = settings.database if isinstance(settings, MariadbSettings) else None
    database = database_of(trial, wanted)
    for check in checks:
        yield _asked(trial, server, check, role, database)


def _asked(
    trial: Trial, server: MariadbServer, check: ContentCheck, role: str, database: str
) -> CheckResult:
    timeout = settings_of(trial).statement_timeout or timedelta(seconds=_CHECK_TIMEOUT_S)
    script = (
        session(trial)
        + f"set max_statement_time = {max(1, int(timeout.total_seconds()))};\n"
        + _question(check, trial.point_at, zone(trial))
    )
    options = ["--batch", "--skip-column-names", f"--database={database}"]
    done = server.client(options, user=role, stdin=script.encode())
    if done.returncode != 0:
        number = re.match(rb"(?:--------------\n.*?)?ERROR (\d+)", done.stderr, re.DOTALL)
        code = {b"1969": "check_timeout", b"1146": "check_undefined", b"1054": "check_undefined"}
        error = code.get(number[1] if number else b"", "check_error")
        return content.answer(check, "error", "", error=error)
    row = done.stdout.decode("ascii", "replace").rstrip("\n").split("\t")
    said, extra = (row[0], row[1]) if len(row) == 2 else ("error", "")
    return content.answer(check, said, extra)


def _sql(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _question(check: ContentCheck, point_at: datetime, timezone: str) -> str:
    """Return the statement that asks and compares; its last column is a time for `newer-than` alone."""
    head = "select case when v is null then 'null' "
    if check.newer_than is not None:

        def local(moment: datetime) -> str:
            return _sql(moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M:%S.%f"))

        oldest, latest = local(point_at - check.newer_than), local(point_at + timedelta(days=1))
        epoch = local(datetime(1970, 1, 1, tzinfo=UTC))
        return (
            f"{head}when cast(v as datetime(6)) > {latest} then 'future'"
            f" when cast(v as datetime(6)) >= {oldest} then 'passed' else 'failed' end,"
            f" coalesce(timestampdiff(microsecond, {epoch}, v), '')"
            f" from (select ({check.sql}\n) as v) answer;\n"
        )
    return (
        f"{head}when {_comparison(check)} then 'passed' else 'failed' end, ''"
        f" from (select ({check.sql}\n) as v) answer;\n"
    )


def _comparison(check: ContentCheck) -> str:
    if isinstance(check.equals, bool):
        return f"v = {int(check.equals)}"
    if isinstance(check.equals, str):
        return f"cast(v as char) = {_sql(check.equals)}"
    bounds = (("=", check.equals), (">=", check.at_least), ("<=", check.at_most))
    return " and ".join(f"v {sign} {n}" for sign, n in bounds if n is not None)


MARIADB = Mariadb()
