"""What phases and checks amount to: verdict, level, data loss, and the fact that is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from backupguard.errors import MissingMeans
from backupguard.model import (
    CheckResult,
    Fingerprint,
    Json,
    Measured,
    PartialTest,
    Phase,
    PhaseResult,
    RestoreTestResult,
    Verdict,
    to_us,
    worst,
)

LEVEL_BYTES, LEVEL_OPENED, LEVEL_CONTENT, LEVEL_APPLICATION = 1, 2, 3, 4
#: The name of the check by which an engine tells that it found its own data sound.
CONSISTENCY = "engine-consistency"
FRESHNESS = "freshness"
#: The row, entry or file that the site's own job writes before each backup.
CANARY = "canary"

#: Codes of checks that a result says in the words of the closed vocabulary of errors.
_RESULT_CODES = {
    "no_tables": "empty",
    "large_objects_missing": "missing_object",
    "check_no_answer": "check_failed",
    "files_empty": "empty",
    "ransom_notes": "files_encrypted",
    "manifest_differs": "check_failed",
    "manifest_missing": "check_failed",
    "canary_old": "stale_data",
    "invariant_shrank": "invariant_broken",
    "invariant_reopened": "invariant_broken",
}
#: The first of these that failed names the result: what explains the others comes first.
_FIRST = (
    *(
        "no_tables",
        "files_encrypted",
        "files_renamed",
        "files_changed",
        "corrupt",
        "wrong_content",
        "schema_only",
        "tables_lost",
        "rows_lost",
    ),
    *("random_text", "canary_altered", "invariant_reopened", "invariant_shrank"),
    *("missing_object", "large_objects_missing", "canary_lost", "stale_data", "canary_old"),
    "check_failed",
)
_TO_INSTALL = frozenset({"program_missing", "version_unsupported"})
#: Phases whose durations add up to the test duration: what a recovery needs as well. Verification and
#: disposal are the test's own.
RECOVERY = frozenset({Phase.SELECT, Phase.FETCH, Phase.PREPARE, Phase.LOAD, Phase.OPEN})


def of_checks(checks: Sequence[CheckResult]) -> tuple[Verdict, str | None]:
    """Return verdict and code of all checks together; no check at all proves nothing."""
    if not checks:
        return Verdict.COULD_NOT_VERIFY, "check_unanswered"
    verdict = worst([check.verdict for check in checks])
    if verdict is Verdict.PASSED:
        return verdict, None
    codes = [check.code for check in checks if check.verdict is verdict]
    if verdict is not Verdict.FAILED:
        return verdict, "check_unanswered"
    code = next((code for code in _FIRST if code in codes), codes[0])
    return verdict, _RESULT_CODES.get(code, code)


def of_phases(
    phases: Sequence[PhaseResult], checks: Sequence[CheckResult]
) -> tuple[Verdict, str | None]:
    """Return verdict and code of a test whose phases all ended by themselves."""
    verdict, code = of_checks(checks)
    discard = next((done for done in phases if done.phase is Phase.DISCARD), None)
    if discard is not None and worst([verdict, discard.verdict]) is not verdict:
        return discard.verdict, discard.code
    return verdict, code


def level_reached(
    phases: Sequence[PhaseResult],
    checks: Sequence[CheckResult],
    verdict: Verdict,
    *,
    baseline_accepted: bool,
) -> int:
    """Return the level that was proved, 0 to 4.

    1: the bytes came back. 2: the engine opened them and found them sound. 3: at least one check of the
    site's proved its data, none was left open, and a person had accepted the shape they are compared
    with. 4: beyond that, the site's command used the restored database, and passed.
    """
    passed = {done.phase for done in phases if done.verdict is Verdict.PASSED}
    if Phase.FETCH not in passed:
        return 0
    sound = any(c.name == CONSISTENCY and c.verdict is Verdict.PASSED for c in checks)
    if not {Phase.LOAD, Phase.OPEN} <= passed or not sound:
        return LEVEL_BYTES
    configured = [
        check.verdict for check in checks if check.configured and check.level < LEVEL_APPLICATION
    ]
    replayed = any(check.level == LEVEL_APPLICATION for check in checks)
    proved = bool(configured) and set(configured) == {Verdict.PASSED}
    if proved and baseline_accepted and verdict is Verdict.PASSED:
        return LEVEL_APPLICATION if replayed else LEVEL_CONTENT
    return LEVEL_OPENED


def data_loss_ms(checks: Sequence[CheckResult], point_at: datetime) -> int | None:
    """Return how far the newest data lie before the point: the worst that the site's checks found.

    Its canary counts as one of them.
    """
    losses = [
        max(0, (point_at - check.times["newest"]) // timedelta(milliseconds=1))
        for check in checks
        if (check.configured or check.name == CANARY) and "newest" in check.times
    ]
    return max(losses, default=None)


def freshness(checks: Sequence[CheckResult]) -> datetime | None:
    """Return the newest plausible time that an engine found without being told where to look."""
    return next((c.times.get("newest") for c in checks if c.name == FRESHNESS), None)


def recovery_duration_ms(phases: Sequence[PhaseResult]) -> int:
    """Return the test duration: the phases from select to open, a lower bound of a recovery."""
    return sum(done.duration_ms for done in phases if done.phase in RECOVERY)


def lacked(error: BaseException) -> str | None:
    """Return what this host lacked: a Debian package, or else a program and the version it has to be.

    None: it lacked nothing, or nobody can tell what.
    """
    if not isinstance(error, MissingMeans) or error.code not in _TO_INSTALL:
        return None
    said = {name: str(value) for name, value in error.message.values.items()}
    named = next((said[k] for k in ("package", "program") if said.get(k, "—") != "—"), None)
    version = said.get("version", "?")
    return f"{named} ({version})" if named and version != "?" else named


def payload(result: RestoreTestResult) -> Json:
    """Return a result as the fact `restore-test.result` holds it."""
    tested = bool(result.point)
    partial = {"partial": _partial(result.partial)} if result.partial is not None else {}
    lacking = {"lacked": result.lacked} if result.lacked is not None else {}
    return {
        **partial,
        **lacking,
        "application": result.application,
        "engine": result.engine or None,
        "repository": result.repository or None,
        "point": result.point or None,
        "point_at": to_us(result.point_at) if tested else None,
        "target_at": to_us(result.target) if result.target else None,
        "verdict": result.verdict.value,
        "code": result.code,
        "level": result.level,
        "phases": [_phase(done) for done in result.phases],
        "checks": [_check(check) for check in result.checks],
        "checks_configured": result.checks_configured,
        "baseline_accepted": result.baseline_accepted,
        "data_loss_ms": result.data_loss_ms,
        "freshness_heuristic_at": (
            to_us(result.freshness_heuristic) if result.freshness_heuristic else None
        ),
        "bytes": result.bytes,
        "duration_ms": recovery_duration_ms(result.phases),
        "fingerprint": _fingerprint(result.fingerprint),
        "tools": dict(result.tools),
        "age": result.age.value if result.age else None,
        "job": result.job,
        "canary_at": to_us(result.canary_at) if result.canary_at else None,
        "measured": [_measured(one) for one in result.measured],
    }


def _phase(done: PhaseResult) -> Json:
    return {
        "phase": done.phase.value,
        "verdict": done.verdict.value,
        "duration_ms": done.duration_ms,
        "code": done.code,
    }


def _check(check: CheckResult) -> Json:
    return {
        "name": check.name,
        "level": check.level,
        "verdict": check.verdict.value,
        "code": check.code,
        "numbers": dict(check.numbers),
        "times": {name: to_us(moment) for name, moment in check.times.items()},
        "configured": check.configured,
    }


def _partial(test: PartialTest) -> Json:
    return {
        "percent": test.percent,
        "bytes": test.bytes,
        "total_bytes": test.total_bytes,
        "shares": test.shares,
        "shares_total": test.shares_total,
        "within_ms": test.within_ms,
        "covered_since": test.covered_since,
    }


def _measured(one: Measured) -> Json:
    return {
        "name": one.name,
        "definition": one.definition,
        "value": one.value,
        "digest": one.digest,
    }


def _fingerprint(shape: Fingerprint | None) -> Json:
    if shape is None:
        return None
    return {
        "tables": dict(shape.tables),
        "objects": dict(shape.objects),
        "columns": dict(shape.columns),
    }
