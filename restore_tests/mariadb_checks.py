"""What a restored MariaDB server is asked: what needs no configuration, then the site's own checks."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from backupguard.contracts import Trial
from backupguard.model import CheckResult
from restore_tests import application, canary, content, mariadb_measures, measures, shape
from restore_tests.mariadb_server import SOCKET, SOCKETS, MariadbServer, of
from restore_tests.mariadb_survey import database_of, session, survey
from restore_tests.settings import ContentCheck, MariadbSettings
from restore_tests.survey import Survey, settings_of, zone

_CHECK_TIMEOUT_S = 600


def unconfigured(trial: Trial) -> Iterator[CheckResult]:
    """Yield what needs no configuration: shape, definers, rows without a parent, texts, freshness."""
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


def replayed(trial: Trial) -> Iterator[CheckResult]:
    """Have the site's command use the restored database, as its owner would."""
    settings = trial.settings
    if not isinstance(settings, MariadbSettings):
        return
    environment = {
        **of(trial).environment,
        "MYSQL_UNIX_PORT": SOCKET,
        "BACKUPGUARD_USER": of(trial).superuser,
        "BACKUPGUARD_DATABASE": database_of(trial, settings.database),
    }
    yield from application.replayed(
        trial, settings.application, shared=SOCKETS, environment=environment
    )


def configured(trial: Trial) -> Iterator[CheckResult]:
    """Yield one result per check of the site's, each asked by a client that can only read."""
    checks, declared = settings_of(trial).checks, canary.wanted(trial)
    invariants = measures.asked(trial)
    if not checks and not invariants and declared is None:
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
        question = _question(check, trial.point_at, zone(trial))
        said, extra = _asked(trial, server, question, role, database)
        yield content.answer(check, said, extra, error=extra if said == "error" else "check_error")
    for invariant in invariants:
        question = mariadb_measures.question(invariant, measures.key(trial))
        said, extra = _asked(trial, server, question, role, database)
        value, _, digest = extra.partition(" ")
        measures.tell(trial, invariant, said, value, digest)
    if declared is not None:
        question = mariadb_measures.canaries(canary.beginning(canary.application_of(trial)))
        said, extra = _asked(trial, server, question, role, database)
        canary.tell(trial, *mariadb_measures.canary_said(said, extra))


def _asked(
    trial: Trial, server: MariadbServer, question: str, role: str, database: str
) -> tuple[str, str]:
    """Return what a question is answered with, and what goes with it: "error" goes with a code."""
    timeout = settings_of(trial).statement_timeout or timedelta(seconds=_CHECK_TIMEOUT_S)
    script = (
        session(trial)
        + f"set max_statement_time = {max(1, int(timeout.total_seconds()))};\n"
        + question
    )
    options = ["--batch", "--skip-column-names", f"--database={database}"]
    done = server.client(options, user=role, stdin=script.encode())
    if done.returncode != 0:
        number = re.match(rb"(?:--------------\n.*?)?ERROR (\d+)", done.stderr, re.DOTALL)
        code = {b"1969": "check_timeout", b"1146": "check_undefined", b"1054": "check_undefined"}
        return "error", code.get(number[1] if number else b"", "check_error")
    row = done.stdout.decode("ascii", "replace").rstrip("\n").split("\t")
    return (row[0], row[1]) if len(row) == 2 else ("error", "check_error")


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
