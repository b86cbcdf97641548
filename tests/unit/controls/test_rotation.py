"""One of several copies is never restored from, and ages of points: what is due, by when."""

from __future__ import annotations

from backupguard.controls.rotation import Of, due_tests
from backupguard.model import Criticality, to_us
from backupguard.settings.model import COPIES_WITHIN_DAYS
from tests.unit.controls.control_facts import CATALOGUE, DAY, NOW, judge
from tests.unit.controls.rotation_tables import AWAY, disk, nas, of_two_copies


def test_the_copy_that_is_left_out_is_named() -> None:
    judgement = judge("RST-01", of_two_copies(disk(97 * DAY), nas()))
    assert judgement.reason.values["repository"] == "disk"
    assert judgement.facts == (5,)


def test_the_times_of_copies_are_those_that_the_schedule_reckons_with() -> None:
    for criticality, days in COPIES_WITHIN_DAYS.items():
        period = CATALOGUE.period("RST-01", criticality, "repository-period")
        assert period == days * 86_400


def test_everything_that_can_be_restored_from_is_listed_with_its_time() -> None:
    view = of_two_copies(disk(97 * DAY, age="month"), nas(age="newest"), disk=AWAY)
    policy = CATALOGUE.policy("RST-01", Criticality.C1)
    found = due_tests(view, policy, NOW)
    listed = [(one.of, one.name, one.why, one.overdue(NOW)) for one in found]
    assert listed == [
        (Of.REPOSITORY, "disk", "medium_away", True),
        (Of.REPOSITORY, "nas", None, False),
        (Of.AGE, "older", None, True),
        (Of.AGE, "week", None, True),
        (Of.AGE, "month", None, False),
        (Of.AGE, "newest", None, False),
    ]
    assert found[0].last_at == to_us(NOW - 97 * DAY)
    assert found[0].due_at == to_us(NOW - 5 * DAY)


def test_ages_that_no_point_has_are_not_due() -> None:
    policy = CATALOGUE.policy("RST-01", Criticality.C1)
    young = due_tests(of_two_copies(nas(), oldest=6 * DAY), policy, NOW)
    assert [one.name for one in young if one.of is Of.AGE] == ["newest", "week"]
    yearly = due_tests(
        of_two_copies(nas(), criticality="C3"), CATALOGUE.policy("RST-01", Criticality.C3), NOW
    )
    assert all(one.due_at is None for one in yearly if one.of is Of.AGE)
