"""A PostgreSQL archive on a scratch server: scanned in the sandbox, loaded by pg_restore in the jail.

pg_restore sends SQL and no client's commands; the server runs it as an account that may make databases
and nothing else. What server and client say is reduced to counts before it leaves the jail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import Command, Completed, Secret, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict
from restore_tests import content, outcome, shape
from restore_tests import postgresql_questions as questions
from restore_tests.inside import text as programs
from restore_tests.instance_postgresql_server import SYSTEM_CA, PostgresqlScratch
from restore_tests.postgresql_load import SCAN_ARCHIVE, Report, raise_for, raise_unread
from restore_tests.postgresql_messages import CLIENT
from restore_tests.postgresql_server import (
    ENVIRONMENT,
    FIELD,
    RECORD,
    Sizes,
    directories,
    inside,
)
from restore_tests.postgresql_survey import survey
from restore_tests.survey import Survey, settings_of

_SCHEMA = programs("postgresql_statements.awk", "postgresql_schema.awk")
_SUMS = programs("instance_postgresql.awk")
_ROLES = "/tmp/roles.sql"  # noqa: S108 - inside the sandbox
#: Both programs read what pg_restore says; neither lets a value out.
_LOAD = """
A=$(command -v mawk || command -v gawk || command -v original-awk) || exit 90
client=$1 sums=$2; shift 2
{ "$@" 2>/tmp/said >/dev/null; echo "client $?" >/tmp/client; }
"$A" "$client" /tmp/said; LC_ALL=C "$A" "$sums" /tmp/said
cat /tmp/client
"""
_SAID = re.compile(r"said ([a-z_]{1,20}) (\d{1,12})\Z")
_JOBS = "2"


class Client:
    """PostgreSQL's own client programs against one database of the scratch server, in the jail.

    Stands where the survey expects the server of a sandbox.
    """

    sizes = Sizes(shared_buffers=64, maintenance_work_mem=64, jobs=2)

    def __init__(self, trial: Trial, database: str) -> None:
        self.trial = trial
        self.database = database
        self._directory = next((d for d in directories(None) if (d / "pg_restore").exists()), None)

    @property
    def programs(self) -> Path:
        """Where the newest client programs of this host are; raises MissingMeans."""
        if self._directory is None:
            raise MissingMeans("program_missing", program="pg_restore", package="postgresql-client")
        return self._directory

    def run(self, argv: tuple[str, ...], *, read: tuple[Path, ...] = ()) -> Completed:
        """Run a client program against the server: its password is in a file of the jail's."""
        given = self.trial.memory["instance"]
        settings = given.settings
        reference = settings.credentials.account
        secrets = {}
        if reference is not None:
            secret = self.trial.context.secret(reference)
            secrets = {"PGPASSFILE": Secret(secret.name, _passfile(secret.reveal()))}
        ca = settings.ca_certificate or Path(SYSTEM_CA)
        sockets = (Path(settings.host),) if settings.by_socket else ()
        environment = {
            "LC_ALL": "C.UTF-8",
            "PGHOST": settings.host,
            "PGPORT": str(settings.port_used),
            "PGUSER": settings.user,
            "PGDATABASE": self.database,
            "PGAPPNAME": "backupguard",
            "PGCONNECT_TIMEOUT": "15",
        }
        if not settings.by_socket:
            verify = settings.tls == "verify"
            environment["PGSSLMODE"] = "verify-full" if verify else "disable"
            environment["PGSSLROOTCERT"] = str(ca)
        if not secrets:
            environment["PGPASSFILE"] = "/dev/null"
        return self.trial.context.tools.run(
            Command(
                argv=argv,
                read=(*read, *sockets, ca),
                network=not settings.by_socket,
                secrets=secrets,
                environment=environment,
                timeout_s=int(self.trial.memory.get("timeout_s", 3600)),
            )
        )

    def query(self, script: str, **_: Any) -> list[list[str]]:
        """Run a script of ours in one client and return its rows.

        Errors inside the script leave no row. Raises MissingMeans (server_refused).
        """
        path = self.trial.context.work / "script.sql"
        path.write_text(script, encoding="utf-8")
        try:
            done = self.run(
                (
                    *(str(self.programs / "psql"), "-X", "-q", "-A", "-t", "-w"),
                    *("-F", FIELD, "-R", RECORD, "-v", "VERBOSITY=sqlstate", "-f", str(path)),
                ),
                read=(path,),
            )
        finally:
            path.unlink(missing_ok=True)
        if done.returncode != 0:
            raise MissingMeans("server_refused", program="psql", status=done.returncode)
        if done.truncated:
            raise Misunderstood("output_unparsable", program="psql")
        text = done.stdout.decode("utf-8", "replace").rstrip("\n")
        return [
            row.split(FIELD)
            for row in text.replace("\n", RECORD).split(RECORD)
            if row and FIELD in row
        ]


def _passfile(password: bytes) -> bytes:
    text = password.strip(b"\r\n").replace(b"\\", b"\\\\").replace(b":", b"\\:")
    return b"*:*:*:*:" + text + b"\n"


def scan(trial: Trial) -> Report:
    """Read the archive's table of contents in the sandbox, before any server hears of it.

    Raises BackupDefect (hostile, truncated, corrupt) and MissingMeans (version_unsupported).
    """
    pg_restore = Client(trial, "postgres").programs / "pg_restore"
    file = inside(trial.artifact, trial.match.extra["path"])
    if trial.match.format == "tar":
        done = trial.sandbox.run(
            ["/bin/sh", "-c", 'tar -tf "$1" >/dev/null 2>&1', "sh", file],
            scratch=False, environment=ENVIRONMENT, timeout_s=_timeout(trial),
        )  # fmt: skip
        raise_unread(done.returncode, "tar")
    arguments = (file, _SCHEMA, CLIENT, _ROLES, str(pg_restore))
    report = Report.of(
        trial.sandbox.run(
            ["/bin/sh", "-c", SCAN_ARCHIVE, "sh", *arguments],
            scratch=False,
            environment=ENVIRONMENT,
            timeout_s=_timeout(trial),
        )
    )
    if report.facts.get("hostile"):
        raise BackupDefect("hostile", count=len(report.facts["hostile"]))
    raise_for(report.messages, report.last("client"))
    return report


def _timeout(trial: Trial) -> int:
    return int(trial.memory.get("timeout_s", 3600))


def sources(trial: Trial) -> tuple[str, ...]:
    """Return the servers that the backup itself names: an archive names none."""
    del trial
    return ()


def load(trial: Trial, server: PostgresqlScratch, name: str) -> None:
    """Make the database and load the archive into it; raise what was said meanwhile."""
    report: Report = trial.memory["scanned"]
    collate = report.last("collate")
    used = server.create(name, report.last("encoding") or "UTF8", collate, report.last("ctype"))
    trial.memory["locale_missing"] = collate if collate is not None and used != collate else None
    client = trial.memory["postgresql"] = Client(trial, name)
    archive = trial.context.work / "fetched" / _relative(trial)
    jobs = () if trial.match.format == "tar" else ("-j", _JOBS)
    done = client.run(
        (
            *("sh", "-c", _LOAD, "sh", CLIENT, _SUMS),
            *(str(client.programs / "pg_restore"), "-w", "-d", name),
            *("--no-owner", "--no-privileges", "--no-tablespaces", "--no-comments"),
            *("--no-publications", "--no-subscriptions", "--no-security-labels"),
            *jobs,
            str(archive),
        ),
        read=(archive,),
    )
    error = said(Report.of(done), done)
    if error is not None:
        raise error


def _relative(trial: Trial) -> PurePosixPath:
    path = inside(trial.artifact, trial.match.extra["path"])
    return PurePosixPath(path).relative_to("/in")


def said(report: Report, done: Completed) -> BackupGuardError | None:
    """Return what pg_restore's messages amount to; None where all of the archive was taken."""
    counts: dict[str, int] = {}
    for line in done.stdout.decode("ascii", "replace").splitlines():
        if match := _SAID.match(line):
            counts[match[1]] = counts.get(match[1], 0) + int(match[2])
    status, refused = report.last("client"), int(report.last("refused") or 0)
    for kind, code in (
        ("no_disk", "no_disk"),
        ("extension", "extension_missing"),
        ("permission", "server_refused"),
        ("server", "server_refused"),
    ):
        if counts.get(kind):
            return MissingMeans(code, program="postgresql", count=counts[kind], status=1)
    others = [one for one in report.messages if one.template != "other"]
    if others or any(one.severity != "WARNING" for one in report.messages):
        try:
            raise_for(report.messages, status)
        except BackupGuardError as error:
            return error
    if counts.get("unknown") or refused > sum(counts.values()):
        return Misunderstood("unclassified_stderr", count=max(1, refused), program="pg_restore")
    # What is missing may be what an extension, refused before, would have brought.
    if counts.get("refused") or counts.get("missing"):
        count = counts.get("refused", 0) + counts.get("missing", 0)
        return BackupDefect("load_refused", count=count)
    if status == "0" or (status == "1" and counts.get("benign")):
        return None
    number = int(status) if status and status.isdigit() else -1
    return Misunderstood("unknown_exit", program="pg_restore", status=number)


def open_database(trial: Trial) -> None:
    """Have the restored database answer; raise BackupDefect (empty) where there is nothing in it."""
    seen = survey(trial)
    if not seen.relations:
        raise BackupDefect("empty")


def verify(trial: Trial, level: int) -> Iterator[CheckResult]:
    """Yield what a load and a reading of every row prove, then the site's checks."""
    seen, settings = survey(trial), settings_of(trial)
    if level >= 2:
        yield CheckResult(name=outcome.CONSISTENCY, level=2, verdict=Verdict.PASSED, code=shape.OK)
        yield from unconfigured(trial, seen)
        yield from content.archive_age(trial)
        if settings.random_text:
            yield content.random_text(trial, seen)
        if settings.freshness.enabled:
            yield content.freshness(trial, seen)
    if level >= 3:
        yield from questions.configured(trial, reader=False)


def unconfigured(trial: Trial, seen: Survey) -> Iterator[CheckResult]:
    """Yield what any kind of scratch server can tell without being asked."""
    settings = settings_of(trial)
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
    if settings.required_tables:
        yield content.required(seen, settings)


def fingerprint(trial: Trial) -> Fingerprint | None:
    """Return the shape of what was restored."""
    return survey(trial).fingerprint


def close(trial: Trial) -> None:
    """Nothing lies anywhere but in the database."""
    del trial
