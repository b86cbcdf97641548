"""What is wrong with a restored PostgreSQL database, told without any configuration.

These checks warn or fail; none raises the level.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from backupguard.contracts import Trial
from backupguard.model import CheckResult, Verdict
from restore_tests import shape
from restore_tests.postgresql_messages import EngineMessage, Meaning, meaning_of
from restore_tests.postgresql_server import PostgresqlServer, of
from restore_tests.postgresql_survey import Survey, settings_of, survey
from restore_tests.settings import PostgresqlSettings

#: Zones of the source and of this host may differ by as much; no zone is further from another.
ZONES = timedelta(hours=14)
#: Without a declared RPO, data older than this are worth a word.
OLD = timedelta(days=7)
#: A table of so few rows that are always fresh is a heartbeat, not a proof of work.
HEARTBEAT_ROWS = 50


def unconfigured(trial: Trial) -> Iterator[CheckResult]:
    """Yield the checks that need no configuration; they can warn or fail, never raise the level."""
    seen, settings = survey(trial), settings_of(trial)
    yield _messages(trial.memory.get("messages", ()))
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
    if settings.required_tables:
        yield _required(seen, settings)
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
        yield _random_text(trial, seen)
    yield from _archive_age(trial)
    if settings.freshness.enabled:
        yield _freshness(trial, seen)


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


def _required(seen: Survey, settings: PostgresqlSettings) -> CheckResult:
    names = seen.relations | {relation.split(".", 1)[1] for relation in seen.relations}
    required = len(settings.required_tables)
    missing = sum(table not in names for table in settings.required_tables)
    return shape.result(
        "required-tables",
        # With none of several it is another database; otherwise it is this one, and incomplete.
        "wrong_content" if missing == required > 1 else "tables_lost",
        wrong=missing > 0,
        proved=True,
        level=3,
        numbers={"required": required, "missing": missing},
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


def _random_text(trial: Trial, seen: Survey) -> CheckResult:
    """Text columns whose characters became even: what an encryption inside the database looks like.

    Columns of hashes and identifiers look so from their first day; growth against a known shape is the
    sign, or, where no shape is known, most of all text.
    """
    now = seen.fingerprint.objects
    columns, random = now["text-column"], now["random-text-column"]
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape.objects.get("random-text-column") if known else None
    wrong = random > before if before is not None else columns >= 2 and random * 2 >= columns
    return shape.result(
        "random-text",
        "random_text",
        wrong=wrong,
        proved=before is not None and known is not None and known.accepted,
        numbers={"columns": columns, "random": random, "before": before or 0},
    )


def _archive_age(trial: Trial) -> Iterator[CheckResult]:
    """An old dump under a fresh snapshot: the archive's own date counts, not the file's."""
    made_at = (trial.match.extra or {}).get("made_at")
    if not made_at:
        return
    made = datetime.fromisoformat(made_at).replace(tzinfo=UTC)
    rpo = _rpo(trial)
    late = trial.point_at - made - ZONES
    yield shape.result(
        "archive-date",
        "stale_data",
        wrong=late > max(rpo or OLD, timedelta(days=1)),
        proved=rpo is not None,
        times={"made": made},
    )


def _rpo(trial: Trial) -> timedelta | None:
    rpo = trial.memory.get("rpo")
    return rpo if isinstance(rpo, timedelta) else None


def _freshness(trial: Trial, seen: Survey) -> CheckResult:
    """The newest plausible time of the tables that hold the work, and whether most lag behind it.

    A table of a few rows (a heartbeat, a job's last run) is always fresh and proves nothing. `typical`
    is the newest time of the table at which half of all dated rows is reached, freshest tables first.
    """
    rows = seen.fingerprint.tables
    dated = sorted(((moment, rows[table]) for table, moment in seen.newest.items()), reverse=True)
    work = [(moment, count) for moment, count in dated if count > HEARTBEAT_ROWS] or dated
    if not work:
        return CheckResult(
            name="freshness", level=2, verdict=Verdict.PASSED, code="warning_no_times"
        )
    newest, typical = work[0][0], work[-1][0]
    half, total = 0, sum(count for _, count in work)
    for moment, count in work:
        half += count
        if half * 2 >= total:
            typical = moment
            break
    limit = max(_rpo(trial) or OLD, timedelta(days=1))
    code, wrong = "stale_data", trial.point_at - newest > limit
    if not wrong:
        code = "stale_tables"
        wrong = trial.point_at - typical > limit and dated[0][0] - typical > limit
    return shape.result(
        "freshness",
        code,
        wrong=wrong,
        numbers={"tables": len(dated)},
        times={"newest": newest, "typical": typical, "any": dated[0][0]},
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


def consistency(trial: Trial) -> CheckResult:
    """Let the engine check itself: pg_amcheck over every table and index (PostgreSQL 14 and later)."""
    server = of(trial)
    amcheck = server.programs / "pg_amcheck"
    if not amcheck.exists():
        return _index_check(server)
    done = server.client(
        [
            *("/bin/sh", "-c", _AMCHECK, "sh", str(amcheck), "--database", server.database),
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
