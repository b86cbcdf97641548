"""Fact tables of every built control: compliant, each failure, each way of not being measurable."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backupguard.model import Fact, View, to_us
from tests.unit.controls import declared_tables, rotation_tables
from tests.unit.controls.backup_tables import ANO_01, JOB_01, PDM_01, RET_01
from tests.unit.controls.control_facts import (
    DAY,
    HOUR,
    NOW,
    application,
    check,
    fact,
    job,
    judge,
    repository,
    result_of,
    site,
    verified,
)

NEVER, LOST = "never_set_up", "lost"
FAILED_TEST = result_of(NOW - DAY, "failed", code="corrupt", level=0, seq=8)
UNSURE = result_of(NOW - HOUR, "could_not_verify", code="timeout", level=0, seq=9)
CLOSED = {
    "task": "restore-test",
    "verdict": "could_not_verify",
    "code": "run_limit",
    "state": "finished",
    "started_at": None,
    "ended_at": to_us(NOW),
    "attempt": 1,
    "due_at": None,
    "requested_by": "agenda",
    "tools": {},
}


def closed(code: str) -> dict[str, object]:
    data = CLOSED | {"code": code}
    return {
        "restore-test.closed": fact("restore-test.closed", "application/dpi", NOW - HOUR, data, 11)
    }


def passed(age: object, **changed: object) -> object:
    return result_of(NOW - age, **changed)  # type: ignore[operator,arg-type]


def part(age: timedelta, covered: timedelta | None, **changed: Any) -> Fact:
    """Return a test of a part of the data, all of which was read since `covered` ago."""
    since = to_us(NOW - covered) if covered is not None else None
    said = {
        "percent": 12,
        "bytes": 12_000,
        "total_bytes": 100_000,
        "shares": 3,
        "shares_total": 25,
        "within_ms": 31 * 86_400_000,
        "covered_since": since,
    }
    return passed(age, partial=said, baseline_accepted=False, **changed)


RST_01 = [
    # view, status, cause, severity, reason
    (application(passed(31 * DAY)), "compliant", None, "info", "passed"),
    (application(passed(35 * DAY)), "compliant", None, "info", "passed"),
    (application(part(DAY, 30 * DAY)), "compliant", None, "info", "part"),
    (application(part(DAY, 32 * DAY)), "warning", None, "warning", "part_uncovered"),
    (application(part(DAY, None)), "warning", None, "warning", "part_uncovered"),
    (application(passed(36 * DAY)), "non_compliant", None, "high", "overdue"),
    (application(passed(63 * DAY)), "non_compliant", None, "critical", "overdue"),
    (application(passed(95 * DAY), criticality="C2"), "compliant", None, "info", "passed"),
    (application(passed(97 * DAY), criticality="C2"), "non_compliant", None, "high", "overdue"),
    (application(passed(369 * DAY), criticality="C3"), "compliant", None, "info", "passed"),
    (application(passed(370 * DAY), criticality="C3"), "non_compliant", None, "high", "overdue"),
    (application(passed(2 * DAY), FAILED_TEST), "non_compliant", None, "critical", "failed"),
    (
        application(passed(2 * DAY), FAILED_TEST, criticality="C2"),
        "non_compliant",
        None,
        "high",
        "failed",
    ),
    # what could not be verified takes back neither a failure nor a success
    (application(FAILED_TEST, UNSURE), "non_compliant", None, "critical", "failed"),
    (application(passed(2 * DAY), UNSURE), "warning", None, "warning", "unverified"),
    (
        application(passed(2 * DAY), latest=closed("run_limit")),
        "warning",
        None,
        "warning",
        "unverified",
    ),
    (application(passed(2 * DAY), latest=closed("by_stop")), "compliant", None, "info", "passed"),
    (application(FAILED_TEST, passed(HOUR)), "compliant", None, "info", "passed"),
    # another point of the same copy proves that copy, and not the point that failed
    (
        application(
            FAILED_TEST, passed(HOUR), latest={"restore-test.failed-point/nas": FAILED_TEST}
        ),
        "warning",
        None,
        "warning",
        "point_failed",
    ),
    (
        application(passed(HOUR), latest={"restore-test.failed-point/gone": FAILED_TEST}),
        "compliant",
        None,
        "info",
        "passed",
    ),
    # another copy does not prove the one that failed
    (
        application(FAILED_TEST, passed(HOUR, repository="tape"), repositories=("nas", "tape")),
        "non_compliant",
        None,
        "critical",
        "failed",
    ),
    # a copy that was taken away does not count any more
    (
        application(
            result_of(NOW - DAY, "failed", code="corrupt", repository="gone"), passed(HOUR)
        ),
        "compliant",
        None,
        "info",
        "passed",
    ),
    (
        application(
            passed(2 * DAY), result_of(NOW - DAY, "failed", code="no_point", repository=None)
        ),
        "non_compliant",
        None,
        "critical",
        "failed",
    ),
    (
        application(result_of(NOW - DAY, "failed", code="no_point", repository=None), passed(HOUR)),
        "compliant",
        None,
        "info",
        "passed",
    ),
    (application(first_seen=NOW - DAY), "not_measurable", NEVER, "info", "never"),
    (application(first_seen=None), "not_measurable", NEVER, "info", "never"),
    (application(UNSURE, first_seen=NOW - DAY), "not_measurable", NEVER, "info", "never_verified"),
    (application(first_seen=NOW - 36 * DAY), "non_compliant", None, "high", "never_done"),
    (application(UNSURE, first_seen=NOW - 36 * DAY), "non_compliant", None, "high", "never_done"),
    # a success dated in the future is none
    (
        application(result_of(NOW + 40 * DAY), first_seen=NOW - DAY),
        "not_measurable",
        NEVER,
        "info",
        "never",
    ),
]

WRONG = result_of(
    NOW - DAY,
    "failed",
    code="check_failed",
    level=2,
    checks=[
        check("amcheck", "failed", "corrupt", configured=False),
        check("admissions récentes", "failed"),
        check("lits", "passed"),
    ],
)


def reached(*tests: Fact, clean_at: int | None = to_us(NOW - 3 * DAY), between: int = 0) -> View:
    found = {
        "check": "séjours",
        "code": "invariant_shrank",
        "bad_at": to_us(NOW - 2 * DAY),
        "bad_point": "p11",
        "bad_repository": "nas",
        "clean_at": clean_at,
        "clean_point": "p10",
        "clean_repository": "nas",
        "between": between,
        "unverified": 0,
    }
    view = application(*tests)
    return replace(view, known={**view.known, "reached": found})


RST_02 = [
    (application(passed(DAY)), "compliant", None, "info", "proved"),
    (application(part(DAY, 30 * DAY)), "compliant", None, "info", "part"),
    (application(part(DAY, None)), "warning", None, "warning", "part_uncovered"),
    (application(part(DAY, DAY, level=2)), "warning", None, "warning", "level"),
    (application(WRONG), "non_compliant", None, "critical", "failed"),
    (
        application(passed(DAY, data_loss_ms=90_000_000)),
        "non_compliant",
        None,
        "critical",
        "data_loss",
    ),
    (application(passed(DAY, data_loss_ms=80_000_000)), "compliant", None, "info", "proved"),
    (
        application(passed(DAY, checks_configured=0, level=2)),
        "warning",
        None,
        "warning",
        "no_business_check",
    ),
    (
        application(passed(DAY, baseline_accepted=False, level=2)),
        "warning",
        None,
        "warning",
        "provisional",
    ),
    (application(passed(DAY, level=2)), "warning", None, "warning", "level"),
    (
        application(passed(DAY, checks=[check("lits", "could_not_verify", "timeout")])),
        "warning",
        None,
        "warning",
        "undecided",
    ),
    # the newest point is bad, whatever a test of another one says
    (reached(passed(DAY)), "non_compliant", None, "critical", "reached"),
    (reached(passed(DAY), between=3), "non_compliant", None, "critical", "reached_between"),
    (reached(WRONG, clean_at=None), "non_compliant", None, "critical", "failed"),
    (
        application(passed(DAY, checks=[check("canary", "passed", "warning_canary_missing")])),
        "warning",
        None,
        "warning",
        "canary_missing",
    ),
    (application(first_seen=NOW - DAY), "not_measurable", NEVER, "info", "never"),
    (application(UNSURE), "not_measurable", NEVER, "info", "never"),
    (
        application(result_of(NOW - HOUR, "failed", code="corrupt", level=0)),
        "not_measurable",
        LOST,
        "info",
        "not_reached",
    ),
    (
        application(result_of(NOW - 25 * HOUR, "failed", code="corrupt", level=0)),
        "warning",
        LOST,
        "warning",
        "not_reached",
    ),
    (
        application(result_of(NOW - 73 * HOUR, "failed", code="corrupt", level=0)),
        "non_compliant",
        LOST,
        "critical",
        "not_reached",
    ),
    (application(passed(35 * DAY + HOUR)), "not_measurable", LOST, "info", "old"),
    (application(passed(36 * DAY + HOUR)), "warning", LOST, "warning", "old"),
    (application(passed(39 * DAY)), "non_compliant", LOST, "critical", "old"),
]

STEPS = 3600
#: Ten minutes of restoring and an hour of declared steps: 4200 s.
RST_03 = [
    (application(passed(DAY), steps_s=STEPS), "compliant", None, "info", "within"),
    (
        application(passed(DAY), steps_s=STEPS, rto_s=None),
        "compliant",
        None,
        "info",
        "within_default",
    ),
    (application(passed(DAY), steps_s=STEPS, rto_s=4200), "warning", None, "warning", "near"),
    (application(passed(DAY), steps_s=STEPS, rto_s=5251), "compliant", None, "info", "within"),
    (application(passed(DAY), steps_s=STEPS, rto_s=5250), "warning", None, "warning", "near"),
    (
        application(passed(DAY), steps_s=STEPS, rto_s=4199),
        "non_compliant",
        None,
        "high",
        "exceeded",
    ),
    (application(passed(DAY), steps_s=14_400), "non_compliant", None, "high", "exceeded"),
    (
        application(passed(DAY), rto_s=None, steps_s=43_200),
        "non_compliant",
        None,
        "high",
        "exceeded_default",
    ),
    (
        application(passed(DAY), rto_s=None, steps_s=36_000),
        "warning",
        None,
        "warning",
        "near_default",
    ),
    # nobody declared what people have to do: nothing can be said, but that it is too long already
    (application(passed(DAY)), "not_measurable", NEVER, "info", "no_steps"),
    (application(passed(DAY), rto_s=599), "non_compliant", None, "high", "least"),
    (
        application(passed(DAY), steps_s=STEPS, forecast={"waits_for": ["labo"]}),
        "not_measurable",
        NEVER,
        "info",
        "waits",
    ),
    (
        application(passed(DAY), steps_s=STEPS, forecast={"behind": 2}),
        "warning",
        None,
        "warning",
        "behind",
    ),
    (
        application(passed(DAY), steps_s=STEPS, forecast={"failed": True}),
        "warning",
        None,
        "warning",
        "failed",
    ),
    (
        application(passed(DAY), rto_s=None, forecast={"end_ms": 43_200_001}),
        "non_compliant",
        None,
        "high",
        "least_default",
    ),
    *(
        (
            application(passed(DAY), steps_s=STEPS, rto_s=None, forecast=known),
            "warning",
            None,
            "warning",
            reason,
        )
        for known, reason in (
            ({"behind": 2}, "behind_default"),
            ({"failed": True}, "failed_default"),
        )
    ),
    (application(FAILED_TEST), "not_measurable", NEVER, "info", "never"),
    (
        application(passed(35 * DAY + HOUR), steps_s=STEPS),
        "not_measurable",
        LOST,
        "info",
        "old",
    ),
    (application(passed(37 * DAY)), "warning", LOST, "warning", "old"),
    (application(passed(40 * DAY)), "non_compliant", LOST, "high", "old"),
]

WHOLE = verified(NOW - DAY, complete_at=NOW - 8 * DAY)
INT_01 = [
    (repository(complete=WHOLE), "compliant", None, "info", "complete"),
    (
        repository(failed=verified(NOW - DAY, "failed", units=(("b/1", "failed", "corrupt"),))),
        "non_compliant",
        None,
        "critical",
        "failed",
    ),
    # what was found wrong stays wrong, whatever else was read since
    (
        repository(
            complete=WHOLE,
            verified=verified(NOW - HOUR),
            failed=verified(NOW - DAY, "failed", code="missing_object"),
        ),
        "non_compliant",
        None,
        "critical",
        "failed",
    ),
    (
        repository(complete=verified(NOW - DAY, complete_at=NOW - 36 * DAY)),
        "non_compliant",
        None,
        "warning",
        "overdue",
    ),
    (
        repository(complete=verified(NOW - DAY, complete_at=NOW - 36 * DAY), criticality="C2"),
        "compliant",
        None,
        "info",
        "complete",
    ),
    (
        repository(
            complete=WHOLE, verified=verified(NOW - HOUR, "could_not_verify", code="timeout")
        ),
        "warning",
        None,
        "warning",
        "unverified",
    ),
    (repository(), "not_measurable", NEVER, "info", "never"),
    (repository(verified=verified(NOW - DAY)), "not_measurable", NEVER, "info", "partial"),
    (
        repository(verified=verified(NOW - DAY, "could_not_verify", code="timeout")),
        "not_measurable",
        NEVER,
        "info",
        "never_verified",
    ),
    (
        repository(first_seen=NOW - 36 * DAY),
        "non_compliant",
        None,
        "warning",
        "never_complete",
    ),
    (
        repository(verified=verified(NOW - DAY), first_seen=NOW - 36 * DAY),
        "non_compliant",
        None,
        "warning",
        "never_complete",
    ),
    (repository(verifiable=False), "not_applicable", None, "info", "not_verifiable"),
]

WEEK = 7 * 86_400
PRV_01 = [
    (site(), "compliant", None, "info", "kept"),
    (site(valid=False, wrong_seq=41), "non_compliant", None, "critical", "broken"),
    (site(reported="2026-04"), "non_compliant", None, "high", "no_report"),
    (site(reported=None), "non_compliant", None, "high", "no_report"),
    (site(reported=None, first_seen=NOW - 10 * DAY), "compliant", None, "info", "kept"),
    (site(valid=None), "not_measurable", NEVER, "info", "unchecked"),
    (site(anchored=None), "not_measurable", NEVER, "info", "no_anchor"),
    (site(anchored=NOW - 35 * DAY - HOUR), "not_measurable", LOST, "info", "old_anchor"),
    (site(anchored=NOW - 36 * DAY - HOUR), "warning", LOST, "warning", "old_anchor"),
    (site(anchored=NOW - 39 * DAY), "non_compliant", LOST, "high", "old_anchor"),
    # each place of the settings by its own; what somebody says to have put down stands for none
    (site(places={"soc": NOW - DAY, "vault": NOW - 2 * DAY}), "compliant", None, "info", "kept"),
    (
        site(places={"soc": NOW - DAY, "vault": NOW - 39 * DAY}),
        "non_compliant",
        LOST,
        "high",
        "old_anchor_at",
    ),
    (
        site(places={"soc": NOW - DAY, "vault": None}),
        "not_measurable",
        NEVER,
        "info",
        "no_anchor_at",
    ),
    (site(places={"soc": None}, by_hand=True), "not_measurable", NEVER, "info", "no_anchor_at"),
    (site(by_hand=True), "compliant", None, "info", "by_hand"),
    # a report that has not come back signed
    (site(awaited=NOW - 10 * DAY), "compliant", None, "info", "kept"),
    (site(awaited=NOW - 11 * DAY), "warning", None, "warning", "not_acknowledged"),
    (site(awaited=NOW - 11 * DAY, valid=None), "warning", None, "warning", "not_acknowledged"),
    (site(awaited=NOW - 11 * DAY, reported=None), "non_compliant", None, "high", "no_report"),
    (site(awaited=NOW + DAY), "compliant", None, "info", "kept"),
    # a copy that was broken on purpose
    (site(noticed=False), "non_compliant", None, "critical", "blind"),
    (site(noticed=False, newest_record_at=NOW + DAY), "non_compliant", None, "critical", "blind"),
    (site(self_tested=NOW - 40 * DAY), "compliant", None, "info", "kept"),
    (site(self_tested=NOW - 41 * DAY), "warning", None, "warning", "self_test_old"),
    (site(self_tested=None), "warning", None, "warning", "self_test_never"),
    (site(self_tested=None, first_seen=NOW - 39 * DAY), "compliant", None, "info", "kept"),
    # the recovery plan, where a place is configured for it
    (site(plan=NOW - 8 * DAY, plan_every_s=WEEK), "compliant", None, "info", "kept"),
    (site(plan=NOW - 15 * DAY, plan_every_s=WEEK), "warning", None, "warning", "plan_old"),
    (
        site(plan=NOW - DAY, plan_every_s=WEEK, plan_here=True),
        "warning",
        None,
        "warning",
        "plan_here",
    ),
    (site(plan_every_s=WEEK), "warning", None, "warning", "no_plan"),
    (site(plan_every_s=WEEK, anchored=None), "warning", None, "warning", "no_plan"),
    (
        site(plan_every_s=WEEK, first_seen=NOW - 10 * DAY, reported=None),
        "compliant",
        None,
        "info",
        "kept",
    ),
]

TABLES = {
    "RST-01": [*RST_01, *rotation_tables.ROWS, *declared_tables.RST_01],
    "RST-02": [*RST_02, *declared_tables.RST_02],
    "RST-04": declared_tables.RST_04,
    "RST-03": RST_03,
    "JOB-01": JOB_01,
    "PDM-01": PDM_01,
    "RET-01": RET_01,
    "ANO-01": ANO_01,
    "INT-01": INT_01,
    "PRV-01": PRV_01,
}


@pytest.mark.parametrize(
    ("control", "view", "status", "cause", "severity", "reason"),
    [
        pytest.param(control, *row, id=f"{control}-{number}-{row[4]}")
        for control, rows in TABLES.items()
        for number, row in enumerate(rows)
    ],
)
def test_judgement(
    control: str, view: View, status: str, cause: str | None, severity: str, reason: str
) -> None:
    judgement = judge(control, view)
    found = (judgement.status, judgement.cause, judgement.severity, judgement.reason.id)
    last = (
        reason if reason in ("never_seen", "unseen") and control in ("JOB-01", "RET-01") else None
    )
    if reason == "never_seen":
        last = reason
    expected = f"reason.{last}" if last else f"reason.{control}.{reason}"
    assert found == (status, cause, severity, expected)


@pytest.mark.parametrize("control", sorted(TABLES))
def test_every_reason_of_a_control_is_in_its_table(control: str) -> None:
    from backupguard.language import catalogue

    prefix = f"reason.{control}."
    known = {key.removeprefix(prefix) for key in catalogue("en") if key.startswith(prefix)}
    assert known <= {row[4] for row in TABLES[control]}


AHEAD = NOW + 2 * HOUR


@pytest.mark.parametrize(
    ("control", "view"),
    [
        ("RST-01", application(passed(DAY), newest_record_at=AHEAD)),
        ("RST-04", declared_tables.core(newest_record_at=AHEAD)),
        ("RST-02", application(passed(DAY), newest_record_at=AHEAD)),
        ("RST-03", application(passed(DAY), newest_record_at=AHEAD)),
        ("PDM-01", application(jobs=(job(NOW - HOUR),), newest_record_at=AHEAD)),
        ("JOB-01", job(NOW - HOUR, newest_record_at=AHEAD)),
        ("ANO-01", job(NOW - HOUR, newest_record_at=AHEAD)),
        ("RET-01", application(jobs=(job(NOW - HOUR),), newest_record_at=AHEAD)),
        ("INT-01", repository(complete=WHOLE, newest_record_at=AHEAD)),
        ("PRV-01", site(newest_record_at=AHEAD)),
    ],
)
def test_a_clock_behind_the_newest_record_measures_no_age(control: str, view: View) -> None:
    judgement = judge(control, view)
    assert (judgement.status, judgement.reason.id) == ("not_measurable", "reason.clock_behind")
    assert judge(control, view, AHEAD).reason.id != "reason.clock_behind"


def test_broken_evidence_shows_whatever_the_clock_says() -> None:
    view = site(valid=False, wrong_seq=3, newest_record_at=AHEAD)
    assert judge("PRV-01", view).status == "non_compliant"


def test_the_facts_a_judgement_rests_on_are_named() -> None:
    assert judge("RST-01", application(passed(2 * DAY), FAILED_TEST)).facts == (8,)
    assert judge("INT-01", repository(complete=WHOLE)).facts == (9,)


def test_the_site_s_own_check_is_named_before_the_engine_s() -> None:
    reason = judge("RST-02", application(WRONG)).reason
    assert reason.values["check"] == "admissions récentes"
    assert reason.values["count"] == 2


@pytest.mark.parametrize(
    ("first", "now", "due"),
    [
        ((2026, 1, 15), (2026, 2, 5, 23), None),
        ((2026, 1, 15), (2026, 2, 6, 0), "2026-01"),
        ((2026, 1, 15), (2026, 3, 5, 23), "2026-01"),
        ((2026, 1, 15), (2026, 3, 6, 0), "2026-02"),
        ((2025, 11, 1), (2026, 1, 5, 1), "2025-11"),
        ((2025, 11, 1), (2026, 1, 6, 1), "2025-12"),
        ((2026, 2, 1), (2026, 2, 20, 0), None),
    ],
)
def test_when_a_report_is_due(
    first: tuple[int, int, int], now: tuple[int, int, int, int], due: str | None
) -> None:
    from datetime import UTC, datetime

    from backupguard.controls.prv_01 import report_due

    assert report_due(datetime(*first, tzinfo=UTC), datetime(*now, tzinfo=UTC), 5) == due


def test_no_report_is_due_before_anything_was_seen() -> None:
    from backupguard.controls.prv_01 import report_due

    assert report_due(None, NOW, 5) is None
