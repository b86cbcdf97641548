"""What is wrong with a restored PostgreSQL database, told without any configuration.

These checks warn or fail; none raises the level.
"""

from __future__ import annotations

from collections.abc import Iterator

from backupguard.contracts import Trial
from backupguard.model import CheckResult, Verdict
from restore_tests import content, shape
from restore_tests.postgresql_messages import EngineMessage, Meaning, meaning_of
from restore_tests.postgresql_server import PostgresqlServer, of
from restore_tests.postgresql_survey import survey
from restore_tests.survey import Survey, settings_of


def unconfigured(trial: Trial) -> Iterator[CheckResult]:
    """Yield the checks that need no configuration; they can warn or fail, never raise the level."""
    seen, settings = survey(trial), settings_of(trial)
    yield _messages(trial.memory.get("messages", ()))
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
    if settings.required_tables:
        yield content.required(seen, settings)
    yield _pointers(seen)
    counts = seen.counts
    yield shape.result("invalid-indexes", "invalid_index", wrong=counts.get("invalid-index", 0) > 0)
    yield shape.result(
        "sequences",
        "sequence_behind",
        wrong=seen.sequences_behind > 0,
        numbers={"behind": seen.sequences_behind},
    )
    secured = counts.get("row-security", 0)
    accepted = trial.baseline is not None and trial.baseline.accepted
    # Whether the dump's role saw all rows cannot be told from here; an accepted count can tell.
    yield shape.result(
        "row-security",
        "row_security",
        wrong=secured > 0 and not accepted,
        numbers={"tables": secured},
    )
    if settings.random_text:
        yield content.random_text(trial, seen)
    yield from content.archive_age(trial)
    if settings.freshness.enabled:
        yield content.freshness(trial, seen)


def _messages(messages: tuple[EngineMessage, ...]) -> CheckResult:
    unknown = sum(
        message.count
        for message in messages
        if message.severity == "WARNING" and message.template == "other"
    )
    roles = sum(message.count for message in messages if message.template == "role_missing")
    benign = sum(m.count for m in messages if meaning_of(m) is Meaning.BENIGN)
    return shape.result(
        "load-messages",
        "engine_warnings",
        wrong=unknown > 0,
        numbers={"benign": benign, "roles_missing": roles, "warnings": unknown},
    )


def _pointers(seen: Survey) -> CheckResult:
    # A column of type oid may point to something else than large objects; most of it, rarely.
    return shape.result(
        "large-objects",
        "large_objects_missing",
        wrong=seen.dangling > 0,
        proved=seen.dangling * 2 > seen.pointers,
        numbers={"pointers": seen.pointers, "dangling": seen.dangling},
    )


#: What pg_amcheck prints names relations and blocks: how many lines there are is enough, and how many
#: of them speak of a want of this host's.
_AMCHECK = r"""
said=$("$@" 2>&1); status=$?
lines=$(printf '%s\n' "$said" | grep -c .)
ours=$(printf '%s\n' "$said" | grep -cE -e 'out of memory|No space left|File too large|shared memory' \
  -e 'terminating connection|connection to server|server closed the connection' \
  -e 'canceling statement|too many clients|could not (write|extend|create|open|fsync|fork)')
echo "$lines $ours"; exit $status
"""


def consistency(trial: Trial, *, everywhere: bool = False) -> CheckResult:
    """Let the engine check itself: pg_amcheck over every table and index (PostgreSQL 14 and later).

    Of the trial's database; with `everywhere`, of all that the server has.
    """
    server = of(trial)
    amcheck = server.programs / "pg_amcheck"
    if not amcheck.exists():
        return _index_check(server)
    done = server.client(
        [
            *("/bin/sh", "-c", _AMCHECK, "sh", str(amcheck)),
            *(("--all",) if everywhere else ("--database", server.database)),
            *("--install-missing=pg_catalog", "--heapallindexed", "--no-dependent-toast"),
            *("--jobs", str(server.sizes.jobs)),
        ]
    )
    said = done.stdout.decode("ascii", "replace").split()
    lines, ours = (int(n) for n in said) if len(said) == 2 and "".join(said).isdigit() else (0, 1)
    if done.returncode == 0:
        return CheckResult(
            name="engine-consistency", level=2, verdict=Verdict.PASSED, code=shape.OK
        )
    # 2 is its status for damage, and also for a check that could not be made.
    damaged = done.returncode == 2 and not ours
    return CheckResult(
        name="engine-consistency",
        level=2,
        verdict=Verdict.FAILED if damaged else Verdict.COULD_NOT_VERIFY,
        code="corrupt" if damaged else "consistency_unknown",
        numbers={"lines": lines},
    )


def _index_check(server: PostgresqlServer) -> CheckResult:
    rows = server.query(
        "create extension if not exists amcheck schema pg_catalog;\n"
        "select 'checked', count(pg_catalog.bt_index_check(i.indexrelid, true))"
        " from pg_catalog.pg_index i"
        " join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_am a on a.oid = c.relam"
        " where a.amname = 'btree' and c.relpersistence <> 't' and i.indisready and i.indisvalid;"
    )
    checked = any(row[0] == "checked" for row in rows)
    return CheckResult(
        name="engine-consistency",
        level=2,
        verdict=Verdict.PASSED if checked else Verdict.COULD_NOT_VERIFY,
        code=shape.OK if checked else "consistency_unknown",
    )
