from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupguard.evidence.kinds import check_payload
from backupguard.model import (
    Baseline,
    CheckResult,
    Fingerprint,
    Phase,
    PhaseResult,
    RestoreTestResult,
    Verdict,
)
from restore_tests import outcome, shape
from restore_tests.phases import result_observation

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BEFORE = Fingerprint(
    tables={"a.big": 1000, "a.small": 40, "a.mid": 200},
    objects={"routine": 4, "view": 2},
    columns={"a.big": 6, "a.small": 2, "a.mid": 3},
)


def changed(
    objects: dict[str, int] | None = None,
    columns: dict[str, int] | None = None,
    **tables: int | None,
):
    rows = {**BEFORE.tables, **{f"a.{name}": count for name, count in tables.items()}}
    return Fingerprint(
        tables={name: count for name, count in rows.items() if count is not None},
        objects={**BEFORE.objects, **(objects or {})},
        columns={**BEFORE.columns, **(columns or {})},
    )


def compared(now: Fingerprint, *, accepted: bool) -> dict[str, tuple[Verdict, str]]:
    baseline = Baseline(fingerprint=BEFORE, accepted=accepted, seq=1)
    return {
        check.name: (check.verdict, check.code)
        for check in shape.compare(now, baseline, None)
        if check.code != "ok"
    }


CASES = [
    (changed(mid=None), "tables-lost", "tables_lost"),
    (changed(big=0), "rows-lost", "rows_lost"),
    (changed(big=499), "rows-lost", "rows_lost"),
    (changed({"routine": 0}), "objects-lost", "missing_object"),
]


@pytest.mark.parametrize(("now", "name", "code"), CASES)
def test_a_loss_fails_against_an_accepted_shape_and_warns_before(now, name, code) -> None:
    assert compared(now, accepted=True)[name] == (Verdict.FAILED, code)
    assert compared(now, accepted=False)[name] == (Verdict.PASSED, f"warning_{code}")


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (changed(big=850), "rows-shrinking"),
        (changed(small=0), "rows-lost"),
        (changed({"view": 1}), "objects-lost"),
        (changed(columns={"a.big": 5}), "columns-lost"),
    ],
)
def test_small_losses_never_fail(now: Fingerprint, name: str) -> None:
    assert compared(now, accepted=True)[name][0] is Verdict.PASSED


@pytest.mark.parametrize(
    "now", [BEFORE, changed(big=950), changed(new=10), changed(big=5000), changed(small=1)]
)
def test_what_grows_or_moves_a_little_is_silent(now: Fingerprint) -> None:
    assert compared(now, accepted=True) == {}


def test_another_database_and_nothing_at_all() -> None:
    other = Fingerprint(tables={"b.x": 100}, columns={"b.x": 1})
    assert compared(other, accepted=True)["same-database"] == (Verdict.FAILED, "wrong_content")
    nothing = list(shape.compare(Fingerprint(tables={}), None, None))
    assert (nothing[0].verdict, nothing[0].code) == (Verdict.FAILED, "no_tables")
    empty = list(shape.compare(Fingerprint(tables={"a.b": 0}), None, None))
    assert (empty[1].verdict, empty[1].code) == (Verdict.FAILED, "schema_only")


def check(
    name: str, verdict: Verdict, code: str = "ok", *, configured: bool = False, **times: datetime
):
    return CheckResult(
        name=name,
        level=3 if configured else 2,
        verdict=verdict,
        code=code,
        configured=configured,
        times=times,
    )


PHASES = [PhaseResult(phase=phase, verdict=Verdict.PASSED, duration_ms=1000) for phase in Phase]
SOUND = check("engine-consistency", Verdict.PASSED)
PROOF = check("admissions", Verdict.PASSED, configured=True)


@pytest.mark.parametrize(
    ("checks", "accepted", "level"),
    [
        ([SOUND, PROOF], True, 3),
        ([SOUND, PROOF], False, 2),
        ([SOUND], True, 2),
        ([PROOF], True, 1),
        ([SOUND, PROOF, check("b", Verdict.FAILED, "check_failed", configured=True)], True, 2),
        (
            [SOUND, PROOF, check("b", Verdict.COULD_NOT_VERIFY, "check_error", configured=True)],
            True,
            2,
        ),
        ([SOUND, PROOF, check("rows", Verdict.FAILED, "rows_lost")], True, 2),
    ],
)
def test_a_level_is_only_what_was_proved(checks, accepted: bool, level: int) -> None:
    verdict, _ = outcome.of_checks(checks)
    reached = outcome.level_reached(PHASES, checks, verdict, baseline_accepted=accepted)
    assert reached == level


def test_a_test_that_never_fetched_or_loaded_reaches_no_level() -> None:
    def reached(phases):
        return outcome.level_reached(phases, [SOUND], Verdict.FAILED, baseline_accepted=True)

    assert reached(PHASES[:1]) == 0
    failed_load = PhaseResult(phase=Phase.LOAD, verdict=Verdict.FAILED, duration_ms=1)
    assert reached([*PHASES[:3], failed_load]) == 1


def test_no_check_at_all_is_no_pass() -> None:
    assert outcome.of_checks([]) == (Verdict.COULD_NOT_VERIFY, "check_unanswered")


def test_what_explains_the_rest_names_the_result() -> None:
    failed = [
        check("a", Verdict.FAILED, "check_failed"),
        check("b", Verdict.FAILED, "wrong_content"),
    ]
    assert outcome.of_checks(failed) == (Verdict.FAILED, "wrong_content")
    assert outcome.of_checks([check("a", Verdict.FAILED, "no_tables")]) == (Verdict.FAILED, "empty")


def test_a_discard_that_failed_is_not_silent() -> None:
    left = PhaseResult(
        phase=Phase.DISCARD, verdict=Verdict.COULD_NOT_VERIFY, duration_ms=1, code="permission"
    )
    verdict = outcome.of_phases([*PHASES[:-1], left], [SOUND])
    assert verdict == (Verdict.COULD_NOT_VERIFY, "permission")


def test_the_worst_configured_time_is_the_data_loss() -> None:
    checks = [
        check("a", Verdict.PASSED, configured=True, newest=NOW - timedelta(hours=1)),
        check("b", Verdict.PASSED, configured=True, newest=NOW - timedelta(hours=3)),
        check("freshness", Verdict.PASSED, newest=NOW - timedelta(days=30)),
    ]
    assert outcome.data_loss_ms(checks, NOW) == 3 * 3600 * 1000
    assert outcome.data_loss_ms(checks[2:], NOW) is None
    assert outcome.freshness(checks) == NOW - timedelta(days=30)


def result(point: str = "p1") -> RestoreTestResult:
    return RestoreTestResult(
        application="dpi", engine="postgresql", repository="nas", point=point, point_at=NOW,
        target=None, verdict=Verdict.PASSED, level=2, phases=tuple(PHASES), checks=(SOUND, PROOF),
        data_loss_ms=5, bytes=10, fingerprint=BEFORE, tools={"postgresql": "15.20"}, code=None,
    )  # fmt: skip


@pytest.mark.parametrize("point", ["p1", ""])
def test_the_recorded_fact_has_the_declared_shape(point: str) -> None:
    observation = result_observation(result(point), "01JRUN", NOW)
    check_payload(observation.kind, 1, observation.data)
    assert (observation.subject, observation.key) == ("application/dpi", "run/01JRUN/result")
    assert observation.data["duration_ms"] == 5000  # select to open
    assert (observation.data["point_at"] is None) == (point == "")
