"""RST-04: a domain whose objects were read is never taken for one that was rebuilt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from backupguard.controls.rst_04 import NOT_STARTED
from backupguard.language import catalogue
from backupguard.model import Fact
from tests.unit.controls.control_facts import DAY, NOW, judge, result_of
from tests.unit.controls.declared_tables import EXERCISE, UNSTARTED, core

ages = st.integers(min_value=0, max_value=900 * 24).map(lambda hours: timedelta(hours=hours))
read_only = st.builds(
    lambda age, level, verdict: result_of(NOW - age, verdict, level=level, checks=[UNSTARTED]),
    ages,
    st.integers(min_value=0, max_value=4),
    st.sampled_from(["passed", "failed", "could_not_verify"]),
)


def test_what_is_looked_for_is_what_the_engine_says() -> None:
    assert f"check.{NOT_STARTED}" in catalogue("en")


@given(tests=st.lists(read_only, max_size=6))
def test_no_number_of_tests_without_a_controller_shows_a_rebuild(tests: list[Fact]) -> None:
    numbered = [_numbered(test, 50 + place) for place, test in enumerate(tests)]
    assert judge("RST-04", core(*numbered)).status != "compliant"


@given(test=read_only)
def test_beside_a_rebuild_one_that_passed_changes_nothing(test: Fact) -> None:
    alone = judge("RST-04", core(EXERCISE))
    both = judge("RST-04", core(EXERCISE, _numbered(test, 60)))
    failed = both.reason.id == "reason.RST-04.failed"
    assert both.status == alone.status or failed
    assert not failed or test.observation.observed_at >= NOW - DAY


def _numbered(test: Fact, seq: int) -> Fact:
    return replace(test, seq=seq)
