"""What is judged of restored content by itself, whatever the engine: told without configuration.

These checks warn or fail; none raises the level. And what an engine's answer to a question of the
site's amounts to.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from backupguard.contracts import Trial
from backupguard.model import CheckResult, Verdict, from_us
from restore_tests import shape
from restore_tests.settings import DatabaseSettings, Expected
from restore_tests.survey import DAMAGED_TEXT_COLUMN, RANDOM_TEXT_COLUMN, TEXT_COLUMN, Survey

#: Zones of the source and of this host may differ by as much; no zone is further from another.
ZONES = timedelta(hours=14)
#: Without a declared RPO, data older than this are worth a word.
OLD = timedelta(days=7)
#: A table of so few rows that are always fresh is a heartbeat, not a proof of work.
HEARTBEAT_ROWS = 50


def required(seen: Survey, settings: DatabaseSettings) -> CheckResult:
    """Tell whether tables that the site names are there."""
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


def random_text(trial: Trial, seen: Survey) -> CheckResult:
    """Text columns whose characters became even: what an encryption inside the database looks like.

    Columns of hashes and identifiers look so from their first day; growth against a known shape is the
    sign, or, where no shape is known, most of all text.
    """
    now = seen.fingerprint.objects
    columns, random = now[TEXT_COLUMN], now[RANDOM_TEXT_COLUMN]
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape.objects.get(RANDOM_TEXT_COLUMN) if known else None
    wrong = random > before if before is not None else columns >= 2 and random * 2 >= columns
    return shape.result(
        "random-text",
        "random_text",
        wrong=wrong,
        proved=before is not None and known is not None and known.accepted,
        numbers={"columns": columns, "random": random, "before": before or 0},
    )


def damaged_text(trial: Trial, seen: Survey) -> CheckResult:
    """Text columns whose letters came through a wrong character set: `Ã©`, or `?` for a letter.

    Some hold such letters from an old migration: growth against a known shape is the sign.
    """
    now = seen.fingerprint.objects.get(DAMAGED_TEXT_COLUMN, 0)
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape.objects.get(DAMAGED_TEXT_COLUMN) if known else None
    return shape.result(
        "text-damaged",
        "text_damaged",
        wrong=before is not None and now > before,
        numbers={"columns": now, "before": before or 0},
    )


def orphans(count: int) -> CheckResult:
    """Rows whose foreign key leads nowhere, where the engine loads such rows without a word."""
    return shape.result("foreign-keys", "orphans", wrong=count > 0, numbers={"rows": count})


def archive_age(trial: Trial) -> Iterator[CheckResult]:
    """An old dump under a fresh snapshot: the archive's own date counts, not the file's."""
    made_at = (trial.match.extra or {}).get("made_at")
    if not made_at:
        return
    made = datetime.fromisoformat(made_at).replace(tzinfo=UTC)
    rpo = rpo_of(trial)
    late = trial.point_at - made - ZONES
    yield shape.result(
        "archive-date",
        "stale_data",
        wrong=late > max(rpo or OLD, timedelta(days=1)),
        proved=rpo is not None,
        times={"made": made},
    )


def freshness(trial: Trial, seen: Survey) -> CheckResult:
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
    limit = max(rpo_of(trial) or OLD, timedelta(days=1))
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


def rpo_of(trial: Trial) -> timedelta | None:
    """Return the RPO that was promised for the application, None when nobody did."""
    rpo = trial.memory.get("rpo")
    return rpo if isinstance(rpo, timedelta) else None


def answer(check: Expected, said: str, extra: str, *, error: str = "check_error") -> CheckResult:
    """Return what an engine's answer to a check of the site's amounts to.

    `said` is "passed", "failed", "null", "future" or anything else, which is no answer: then `error`
    is its code. `extra` is the time that `newer-than` found, in microseconds.
    """
    verdict, code = {
        "passed": (Verdict.PASSED, shape.OK),
        "failed": (Verdict.FAILED, "stale_data" if check.newer_than else "check_failed"),
        "null": (Verdict.FAILED, "check_no_answer"),
        "future": (Verdict.COULD_NOT_VERIFY, "check_future_time"),
    }.get(said, (Verdict.COULD_NOT_VERIFY, error))
    newest = {}
    if (
        check.newer_than is not None
        and said in {"passed", "failed"}
        and extra.lstrip("-").isdigit()
    ):
        newest = {"newest": from_us(int(extra))}
    return CheckResult(
        name=check.name, level=3, verdict=verdict, code=code, times=newest, configured=True
    )
