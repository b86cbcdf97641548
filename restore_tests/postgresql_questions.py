"""The site's own questions about its data: asked inside the sandbox, compared inside the sandbox.

They run as a role that can only read, each bounded in time; only verdicts leave, and for `newer-than`
the time that was found.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from backupguard.contracts import Trial
from backupguard.model import CheckResult
from restore_tests import canary, content, measures
from restore_tests.postgresql_server import FIELD, SUPERUSER, PostgresqlServer, of
from restore_tests.settings import ContentCheck, Invariant
from restore_tests.survey import settings_of, zone

CHECK_TIMEOUT_S = 600


def configured(trial: Trial, *, reader: bool = True) -> Iterator[CheckResult]:
    """Yield one result per check of the site's, in its order.

    Without `reader` nobody can make a role for them: they run as whoever is connected, and only read.
    """
    settings, server = settings_of(trial), of(trial)
    invariants, declared = measures.asked(trial), canary.wanted(trial)
    if not settings.checks and not invariants and declared is None:
        return
    role = SUPERUSER
    if reader:
        role = "reader_" + secrets.token_hex(8)
        _make_reader(server, role)
    timeout = settings.statement_timeout or timedelta(seconds=CHECK_TIMEOUT_S)
    opening = (
        f"set statement_timeout = {int(timeout.total_seconds() * 1000)};\n"
        f"set timezone = {_sql(zone(trial))};\nset default_transaction_read_only = on;\n"
    )
    script = opening + "".join(
        _question(number, check, trial.point_at) for number, check in enumerate(settings.checks)
    )
    first = len(settings.checks)
    for number, invariant in enumerate(invariants, first):
        script += _measurement(number, invariant, measures.key(trial))
    last = first + len(invariants)
    if declared is not None:
        script += _canary(last, canary.beginning(canary.application_of(trial)))
    answers: dict[int, list[str]] = {}
    for row in server.query(script, user=role):
        if row[0] == "check" and len(row) == 4 and row[1].isdigit():
            answers.setdefault(int(row[1]), row[2:])
    for number, check in enumerate(settings.checks):
        said, extra = answers.get(number) or ("error", "")
        yield content.answer(check, said, extra, error=_error_code(extra))
    for number, invariant in enumerate(invariants, first):
        said, extra = answers.get(number) or ("error", "")
        value, _, digest = extra.partition(" ")
        if said == "error":
            value = _error_code(extra)
        measures.tell(trial, invariant, said, value, digest)
    if declared is not None:
        canary.tell(trial, *_canary_said(answers.get(last) or ["error", ""]))


def _measurement(number: int, invariant: Invariant, key: str) -> str:
    """Return the statement that measures an invariant; its last column is numbers alone."""
    if invariant.closed:
        digest = f"encode(sha256(convert_to({_sql(key)} || r::text, 'UTF8')), 'hex') as d"
        part = "coalesce(sum(('x' || substr(d, {}, 12))::bit(48)::bigint), 0)"
        answer = (  # what the site wrote: read by a role that can only read
            f"'set', count(*) || ' ' || {part.format(1)} || ':' || {part.format(13)} from "  # noqa: S608
            f"(select {digest} from ({invariant.closed_set}\n) as r) as rows"
        )
    else:
        answer = (
            "case when v is null then 'null' else 'value' end, trunc(v)::text"
            f" from (select ({invariant.only_grows}\n)::numeric as v) as answer"
        )
    return _told(number, f"select 'check', {number}, {answer};\n")


def _canary(number: int, beginning: str) -> str:
    """Return the statement that looks at the canaries: as they were written or not, and the newest."""
    at = "to_char(written_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    right = f"encode(sha256(convert_to({_sql(beginning)} || {at}, 'UTF8')), 'hex')"
    wrong = f"count(*) filter (where token is distinct from {right})"
    return _told(
        number,
        f"select 'check', {number}, case when count(*) = 0 then 'missing'"  # noqa: S608
        f" when {wrong} > 0 then 'altered' else 'found' end,"
        " trunc(extract(epoch from max(written_at)) * 1000000)::bigint"
        f" from public.{canary.TABLE};\n",
    )


def _canary_said(answer: list[str]) -> tuple[str, str]:
    said, extra = answer
    if said != "error":
        return said, extra
    if extra == "42P01":
        return canary.MISSING, ""
    # A table of that name which is not what the statement made.
    return (canary.ALTERED, "") if extra in {"42703", "42883"} else ("error", _error_code(extra))


def _make_reader(server: PostgresqlServer, role: str) -> None:
    """Make a role that reads every row, row security or not, and can do nothing else."""
    grant = (
        "select format('grant usage on schema %1$I to %2$I; "
        "grant select on all tables in schema %1$I to %2$I;', nspname, :'role') "
        "from pg_catalog.pg_namespace where nspname !~ '^pg_' \\gexec\n"
    )
    connect = (
        "select format('grant connect on database %I to %I', current_database(), :'role') \\gexec\n"
    )
    server.query(
        f"\\set role {role}\ncreate role :role login bypassrls nosuperuser;\n{connect}{grant}"
    )


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _question(number: int, check: ContentCheck, point_at: datetime) -> str:
    """Return the statement that asks and compares; its last column is a time for `newer-than` alone."""
    head = f"select 'check', {number}, case when v is null then 'null' "
    if check.newer_than is not None:
        oldest = (point_at - check.newer_than).isoformat()
        latest = (point_at + timedelta(days=1)).isoformat()
        verdict = (
            f"when v > {_sql(latest)}::timestamptz then 'future' "
            f"when v >= {_sql(oldest)}::timestamptz then 'passed' else 'failed' end, "
            "case when v between '0001-01-01' and '9999-01-01' "
            "then trunc(extract(epoch from v) * 1000000)::bigint end"
        )
        kind = "timestamptz"
    else:
        kind, conditions = _comparison(check)
        verdict = f"when {conditions} then 'passed' else 'failed' end, ''"
    # The query ends on a line of its own: it may end in a comment.
    return _told(number, f"{head}{verdict} from (select ({check.sql}\n)::{kind} as v) as answer;\n")


def _told(number: int, statement: str) -> str:
    """Return a statement that says so where it fails."""
    failed = FIELD.join(("check", str(number), "error", ":LAST_ERROR_SQLSTATE"))
    return f"{statement}\\if :ERROR\n\\echo {failed}\n\\endif\n"


def _comparison(check: ContentCheck) -> tuple[str, str]:
    if isinstance(check.equals, bool):
        return "boolean", f"v = {'true' if check.equals else 'false'}"
    if isinstance(check.equals, str):
        return "text", f"v = {_sql(check.equals)}"
    bounds = (("=", check.equals), (">=", check.at_least), ("<=", check.at_most))
    return "numeric", " and ".join(f"v {sign} {n}" for sign, n in bounds if n is not None)


def _error_code(sqlstate: str) -> str:
    if sqlstate == "57014":
        return "check_timeout"
    return "check_undefined" if sqlstate in {"42P01", "42703", "3F000"} else "check_error"
