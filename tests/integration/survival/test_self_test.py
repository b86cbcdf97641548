"""The monthly self-test on a real repository: what it breaks goes red, and only it says so."""

from __future__ import annotations

from backupguard.model import SITE, Verdict
from tests.integration.survival.places import DPI, Place


def test_a_copy_broken_on_purpose_is_noticed_and_is_no_test_of_the_application(
    place: Place,
) -> None:
    place.add("healthy")
    place.write()
    place.perform("inventory", SITE)
    none = place.perform("self-test", SITE)
    assert (none.verdict, none.code) == (Verdict.COULD_NOT_VERIFY, "nothing_to_break")
    assert place.perform(subject=DPI).verdict is Verdict.PASSED
    before = [fact.seq for fact in place.facts("restore-test.result", "restore-test.phase")]
    run = place.perform("self-test", SITE)
    (seen,) = place.facts("self-test.result")
    data = seen.observation.data
    assert run.verdict is Verdict.PASSED, data
    assert (data["application"], data["engine"], data["harm"]) == ("dpi", "postgresql", "truncated")
    assert (data["verdict"], data["noticed"]) == ("failed", True)
    after = [fact.seq for fact in place.facts("restore-test.result", "restore-test.phase")]
    assert after == before
    assert place.judged()["PRV-01", SITE].reason.id != "reason.PRV-01.blind"
