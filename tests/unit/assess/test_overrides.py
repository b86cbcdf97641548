"""Thresholds that people change for a time: what they do to a finding, when they count, when not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backupguard.assess.overrides import Overrides
from backupguard.assess.picture import WaiverState
from backupguard.controls import load_catalogue
from backupguard.controls.catalogue import catalogue_from
from backupguard.model import SITE, Criticality, Fact, Observation, Origin, Status, to_us
from backupguard.resources import shipped
from tests.unit.assess.conftest import START as NOW
from tests.unit.assess.conftest import Hospital
from tests.unit.assess.test_waivers import record

CATALOGUE = load_catalogue()
DAY = timedelta(days=1)
DPI = "application/dpi"


def said(kind: str, seq: int, author: str, data: dict[str, Any], subject: str = SITE) -> Fact:
    return Fact(
        seq=seq,
        recorded_at=NOW,
        run=None,
        author=author,
        hash=b"",
        observation=Observation(
            kind=kind, subject=subject, observed_at=NOW, origin=Origin.ATTESTED, data=data, key=str(seq)
        ),
    )  # fmt: skip


def asked(
    value: int, seq: int = 5, *, threshold: str = "period", control: str = "RST-01",
    subject: str = SITE, days: int = 30, loosens: bool | None = None,
) -> Fact:  # fmt: skip
    weaker = value > 31 * 86_400 if loosens is None else loosens
    data = {
        "control": control, "threshold": threshold, "value": value, "given": f"{value}",
        "reason": "migration", "person": "claire", "until_at": to_us(NOW + days * DAY),
        "loosens": weaker, "needs_confirmation": weaker,
    }  # fmt: skip
    return said("override.asked", seq, "uid/1001 (claire)", data, subject)


def confirmed(of: int, seq: int = 6, uid: int = 1002, person: str = "marc") -> Fact:
    return said("override.confirmed", seq, f"uid/{uid} (x)", {"override": of, "person": person})


def days(*facts: Fact, subject: str = DPI, after: int = 0, c: Criticality = Criticality.C1) -> Any:
    policy, _ = Overrides(facts).policy(CATALOGUE, "RST-01", c, subject, NOW + after * DAY)
    return int(policy.thresholds["period"]) // 86_400


def test_a_stricter_value_counts_at_once_and_a_looser_one_with_two_persons() -> None:
    assert days(asked(7 * 86_400)) == 7
    assert days(asked(45 * 86_400)) == 31
    assert days(asked(45 * 86_400), confirmed(5)) == 45
    assert days(asked(45 * 86_400), confirmed(5, uid=1001)) == 31, "the same account"
    assert days(asked(45 * 86_400), confirmed(5, person="claire")) == 31, "the same person"


def test_its_day_passes_and_it_can_be_ended() -> None:
    assert days(asked(7 * 86_400), after=29) == 7
    assert days(asked(7 * 86_400), after=30) == 31
    ended = said("override.ended", 9, "uid/1001 (claire)", {"override": 5, "reason": "fini"})
    assert days(asked(7 * 86_400), ended) == 31
    assert days(asked(45 * 86_400), ended, confirmed(5, 10)) == 31, "ended is ended"


def test_a_subject_goes_before_the_site_and_a_newer_one_before_an_older_one() -> None:
    site, own = asked(7 * 86_400, 5), asked(3 * 86_400, 4, subject=DPI)
    assert days(site, own) == 3
    assert days(own, site) == 3
    assert days(site, own, subject="application/labo") == 7
    assert days(site, asked(9 * 86_400, 8)) == 9


def test_it_makes_no_demand_where_the_catalogue_makes_none() -> None:
    override = Overrides([asked(10, threshold="locked-for", control="IMM-01")])
    policy, used = override.policy(CATALOGUE, "IMM-01", Criticality.C3, "repository/nas", NOW)
    assert "locked-for" not in policy.thresholds
    assert used == ()


def test_what_became_looser_than_a_stricter_catalogue_waits() -> None:
    text = shipped("controls/care-d4.toml").read_text(encoding="utf-8")
    start = text.index("[control.thresholds.period]", text.index('id = "RST-01"'))
    demanding = text[:start] + text[start:].replace(
        'C1 = { value = "31d"', 'C1 = { value = "5d"', 1
    )
    stricter = catalogue_from({"care-d4.toml": demanding})
    made = Overrides([asked(7 * 86_400)])
    policy, _ = made.policy(stricter, "RST-01", Criticality.C1, DPI, NOW)
    assert policy.thresholds["period"] == 5 * 86_400
    assert made.pictures(NOW, stricter)[0].state is WaiverState.WAITING
    assert made.pictures(NOW, CATALOGUE)[0].state is WaiverState.IN_FORCE


def test_one_that_is_over_is_told_for_a_month() -> None:
    made = Overrides([asked(7 * 86_400)])
    told = [bool(made.told(NOW + after * DAY, CATALOGUE)) for after in (0, 29, 31, 60, 62)]
    assert told == [True, True, True, True, False]
    assert made.told(NOW + 31 * DAY, CATALOGUE)[0].state is WaiverState.EXPIRED


@pytest.mark.parametrize("value", [None, "x"])
def test_a_pruned_body_says_nothing(value: object) -> None:
    made = said("override.asked", 5, "uid/1 (a)", value)  # type: ignore[arg-type]
    assert list(Overrides([made])) == []
    assert list(Overrides([confirmed(99)])) == []


def test_a_finding_follows_its_threshold_and_falls_back_the_day_it_ends(
    hospital: Hospital,
) -> None:
    """The declaration is 91 days old: good for a year, and not where a site wants a month."""
    control, about = "PDM-01", "application/dpi"
    hospital.list_points("nas", ("dpi.nightly", hospital.now - timedelta(hours=1)))
    hospital.list_points("tape", ("dpi.weekly", hospital.now - timedelta(hours=1)))
    before = hospital.finding(control, about)
    assert before.reason.id != "reason.PDM-01.declaration_old"
    data = asked(30 * 86_400, threshold="declaration-age", control=control, days=10, loosens=False)
    seq = record(hospital, "override.asked", SITE, dict(data.observation.data), "uid/1001 (c)")
    hospital.pass_time(minutes=1)
    told = hospital.assess(full=False)
    found = told.finding(control, about)
    assert found is not None
    assert (found.status, seq in found.facts) == (Status.WARNING, True)
    assert [one.given for one in told.overrides] == [str(30 * 86_400)]
    hospital.pass_time(days=10)
    later = hospital.assess(full=False)
    back = later.finding(control, about)
    assert back is not None
    assert seq not in back.facts
    assert [one.state for one in later.overrides] == [WaiverState.EXPIRED]
