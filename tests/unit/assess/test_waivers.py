"""Exceptions that people accepted: what they cover, what they never cover, and when they end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.assess.settling import as_urgent, settle
from backupguard.assess.waivers import Waivers
from backupguard.language import Words
from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    Message,
    NotMeasurableCause,
    Observation,
    Severity,
    Status,
    to_us,
)
from tests.unit.assess.conftest import START, Hospital

LABO, DPI = "application/labo", "application/dpi"
ALICE, CLAIRE = "uid/1000 (alice)", "uid/1001 (claire)"


def record(
    hospital: Hospital, kind: str, subject: str, data: dict[str, Any], author: str | None
) -> int:
    seq = hospital.store.head()[0] + 1
    hospital.store.append(
        [
            Observation(
                kind=kind, subject=subject, observed_at=hospital.now, data=data, key=f"{kind}/{seq}"
            )
        ],
        author=author,
    )
    return seq


def waive(
    hospital: Hospital,
    control: str,
    subject: str,
    days: int = 30,
    *,
    wait: bool = False,
    author: str = ALICE,
) -> int:
    data = {
        "control": control,
        "reason": "migration",
        "owner": "DSI",
        "person": "alice",
        "until_at": to_us(hospital.now + timedelta(days=days)),
        "needs_confirmation": wait,
    }
    return record(hospital, "waiver.asked", subject, data, author)


def confirm(hospital: Hospital, seq: int, subject: str, author: str, person: str) -> int:
    data = {"waiver": seq, "person": person}
    return record(hospital, "waiver.confirmed", subject, data, author)


def end(hospital: Hospital, seq: int, subject: str) -> None:
    record(hospital, "waiver.ended", subject, {"waiver": seq, "reason": "fini"}, ALICE)


@pytest.fixture
def failed(hospital: Hospital) -> Hospital:
    """Both applications' last restore test failed."""
    for application in ("labo", "dpi"):
        hospital.tested(application, "failed", code="corrupt")
    return hospital


def test_a_waiver_covers_its_finding_and_says_what_it_covers(failed: Hospital) -> None:
    before = failed.finding("RST-01", LABO)
    seq = waive(failed, "RST-01", LABO)
    finding = failed.finding("RST-01", LABO)
    assert (finding.status, finding.waiver) == (Status.WAIVED, seq)
    assert seq in finding.facts
    assert set(before.facts) <= set(finding.facts)
    words = Words("en")
    said = words.say(finding.reason)
    assert "accepted by DSI" in said
    assert "would be" in said
    assert words.say(before.reason) in said
    assert Words("fr").say(before.reason) in Words("fr").say(finding.reason)


def test_it_covers_no_other_control_and_no_other_subject(failed: Hospital) -> None:
    before = {(f.control, f.subject): f.status for f in failed.assess().findings}
    waive(failed, "RST-01", LABO)
    after = {(f.control, f.subject): f.status for f in failed.assess().findings}
    assert {key for key in after if after[key] is not before[key]} == {("RST-01", LABO)}


def test_a_waiver_that_ended_or_expired_gives_the_finding_back_at_once(failed: Hospital) -> None:
    seq = waive(failed, "RST-01", LABO)
    assert failed.finding("RST-01", LABO).status is Status.WAIVED
    end(failed, seq, LABO)
    assert failed.assess(full=False).finding("RST-01", LABO).status is Status.NON_COMPLIANT  # type: ignore[union-attr]
    waive(failed, "RST-01", LABO, days=2)
    assert failed.assess(full=False).finding("RST-01", LABO).status is Status.WAIVED  # type: ignore[union-attr]
    failed.pass_time(days=2)
    found = failed.assess(full=False).finding("RST-01", LABO)
    assert found is not None
    assert found.status is Status.NON_COMPLIANT
    assert found.waiver is None
    assert found.last_non_compliant == failed.now


def test_a_clock_that_is_set_back_brings_no_exception_back(failed: Hospital) -> None:
    waive(failed, "RST-01", LABO, days=2)
    failed.pass_time(days=3)
    failed.tested("labo", "failed", code="corrupt")
    failed.pass_time(days=-3)
    assert failed.finding("RST-01", LABO).status is not Status.WAIVED


def test_what_is_vital_stays_as_it_is_until_a_second_person_confirms(failed: Hospital) -> None:
    seq = waive(failed, "RST-01", DPI, wait=True)
    assert failed.finding("RST-01", DPI).status is Status.NON_COMPLIANT
    confirmed = confirm(failed, seq, DPI, CLAIRE, "claire")
    finding = failed.finding("RST-01", DPI)
    assert (finding.status, finding.waiver) == (Status.WAIVED, seq)
    assert confirmed in finding.facts


def test_a_record_that_forgets_the_second_person_is_not_believed(failed: Hospital) -> None:
    waive(failed, "RST-01", DPI, wait=False)
    assert failed.finding("RST-01", DPI).status is Status.NON_COMPLIANT


@pytest.mark.parametrize(
    ("author", "person"),
    [(ALICE, "claire"), (CLAIRE, "alice"), (None, "claire")],
    ids=["same-account", "same-person", "no-account"],
)
def test_nobody_is_his_own_second_person(failed: Hospital, author: str | None, person: str) -> None:
    seq = waive(failed, "RST-01", DPI, wait=True)
    confirm(failed, seq, DPI, author, person)  # type: ignore[arg-type]
    assert failed.finding("RST-01", DPI).status is Status.NON_COMPLIANT


def test_what_stands_under_a_waiver_may_become_critical_and_is_not_covered_any_more() -> None:
    waivers = Waivers()
    waivers.learn(asked(1, "RST-01", LABO))
    for severity, status in ((Severity.HIGH, Status.WAIVED), (Severity.CRITICAL, None)):
        bad = judgement(Status.NON_COMPLIANT, severity)
        found, _ = waivers.apply("RST-01", LABO, Criticality.C3, bad, START)
        assert found.status is (status or Status.NON_COMPLIANT)


def test_a_critical_finding_that_goes_out_of_sight_stays_uncovered() -> None:
    """Cutting the cable is no way round the second person."""
    waivers = Waivers()
    waivers.learn(asked(1, "INT-01", "repository/nas"))
    stood = settle(
        None, "INT-01", "repository/nas", judgement(Status.NON_COMPLIANT, Severity.CRITICAL), START
    )
    gone = judgement(Status.NOT_MEASURABLE, Severity.INFO, NotMeasurableCause.LOST)
    for before, waiver in ((None, 1), (stood, None)):
        found = waivers.apply(
            "INT-01", "repository/nas", Criticality.C2, as_urgent(before, gone), START
        )
        assert found[1] == waiver


def test_good_news_and_what_was_never_set_up_are_not_waived(hospital: Hospital) -> None:
    hospital.tested("labo")
    for control, subject in (("RST-01", LABO), ("INT-01", "repository/tape")):
        before = hospital.finding(control, subject)
        waive(hospital, control, subject)
        after = hospital.finding(control, subject)
        assert before.status in (Status.COMPLIANT, Status.NOT_MEASURABLE)
        assert (after.status, after.waiver) == (before.status, None)


# ---------------------------------------------------------------------------------- whatever comes


def asked(seq: int, control: str, subject: str, *, days: int = 30, wait: bool = False) -> Fact:
    data = {
        "control": control,
        "reason": "r",
        "owner": "o",
        "person": "alice",
        "until_at": to_us(START + timedelta(days=days)),
        "needs_confirmation": wait,
    }
    return fact(seq, "waiver.asked", subject, data, ALICE)


def fact(seq: int, kind: str, subject: str, data: dict[str, Any], author: str) -> Fact:
    seen = Observation(kind=kind, subject=subject, observed_at=START, data=data, key=str(seq))
    return Fact(seq=seq, recorded_at=START, run=None, author=author, hash=b"", observation=seen)


def judgement(
    status: Status, severity: Severity = Severity.HIGH, cause: NotMeasurableCause | None = None
) -> Judgement:
    return Judgement(status=status, severity=severity, cause=cause, reason=Message(id="reason.bug"))


CONTROLS, SUBJECTS = ("RST-01", "RST-02"), (LABO, DPI)
STEP = st.tuples(
    st.sampled_from(("asked", "confirmed", "ended")),
    st.sampled_from(CONTROLS),
    st.sampled_from(SUBJECTS),
    st.integers(1, 8),  # which waiver
    st.sampled_from((ALICE, CLAIRE)),
    st.booleans(),
)
JUDGED = st.builds(
    judgement,
    st.sampled_from(list(Status)),
    st.sampled_from(list(Severity)),
    st.sampled_from([None, *NotMeasurableCause]),
)


@given(
    steps=st.lists(STEP, max_size=10),
    bad=JUDGED,
    criticality=st.sampled_from(list(Criticality)),
    control=st.sampled_from(CONTROLS),
    subject=st.sampled_from(SUBJECTS),
    days=st.integers(0, 60),
)
def test_a_waiver_never_hides_another_control_or_subject_and_never_by_one_person(
    steps: list[tuple[str, str, str, int, str, bool]],
    bad: Judgement,
    criticality: Criticality,
    control: str,
    subject: str,
    days: int,
) -> None:
    waivers, mine, seconded, over = Waivers(), set(), set(), set()
    for seq, (what, of, about, which, author, wait) in enumerate(steps, 1):
        if what == "asked":
            waivers.learn(asked(seq, of, about, wait=wait))
            if (of, about) == (control, subject):
                mine.add(seq)
        elif what == "confirmed":
            data = {"waiver": which, "person": author}
            waivers.learn(fact(seq, "waiver.confirmed", about, data, author))
            if author == CLAIRE:
                seconded.add(which)
        else:
            waivers.learn(
                fact(seq, "waiver.ended", about, {"waiver": which, "reason": "r"}, author)
            )
            if which < seq:
                over.add(which)
    now = START + timedelta(days=days)
    found, waiver = waivers.apply(control, subject, criticality, bad, now)
    if waiver is None:
        assert found == bad
        return
    assert found.status is Status.WAIVED
    assert waiver in mine - over
    assert days < 30
    assert bad.status in (Status.NON_COMPLIANT, Status.WARNING, Status.NOT_MEASURABLE)
    assert bad.cause is not NotMeasurableCause.NEVER_SET_UP or bad.status is not (
        Status.NOT_MEASURABLE
    )
    if criticality is Criticality.C1 or bad.severity is Severity.CRITICAL:
        assert waiver in seconded
