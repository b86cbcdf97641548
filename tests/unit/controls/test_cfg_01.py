"""CFG-01 whatever the views hold: bad news never improves it, and time alone only worsens it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.controls.cfg_01 import CRITICAL, MANY
from backupguard.language import Words, catalogue
from backupguard.model import NotMeasurableCause, Severity, Status, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, judge, site

LADDER = (Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT)
WHAT = sorted(key.partition(".")[2] for key in catalogue("en") if key.startswith("weakening."))


def weakening(seq: int = 7, what: str = "admin_added", **changed: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "at": to_us(NOW - DAY),
        "of": "policy",
        "what": what,
        "path": "accounts|groups|admin.sudo|bob",
        "after": True,
        **changed,
    }


def statement(**changed: Any) -> dict[str, Any]:
    return {"expired": False, "authenticated": True, "person": "rssi", **changed}


def view(
    *weakenings: dict[str, Any], attestations: dict[str, Any] | None = None, **policies: Any
) -> View:
    made = site()
    known = {
        **made.known,
        "weakenings": list(weakenings),
        "attestations": attestations or {},
        "policies": {
            "seen_at": to_us(NOW - HOUR),
            "unread": {},
            "never_read": [],
            **policies,
        },
    }
    return replace(made, known=known)


def test_what_was_never_looked_at_is_work_to_do() -> None:
    judgement = judge("CFG-01", view(seen_at=None))
    assert judgement.cause is NotMeasurableCause.NEVER_SET_UP
    assert judgement.reason.id == "reason.CFG-01.never_seen"


def test_every_weakening_has_its_urgency_and_words() -> None:
    assert set(CRITICAL) <= set(WHAT)
    for what in WHAT:
        judgement = judge("CFG-01", view(weakening(what=what)))
        urgent = what in CRITICAL
        assert judgement.severity is (Severity.CRITICAL if urgent else Severity.WARNING), what
        for language in ("fr", "en"):
            assert "@" not in Words(language).say(judgement.reason)


def test_jobs_that_go_together_are_a_mass_deletion() -> None:
    gone = [weakening(what="job_removed", path=f"cron|/etc/cron.d/{n}|job.enabled") for n in "abc"]
    assert judge("CFG-01", view(*gone[: MANY - 1])).severity is Severity.WARNING
    assert judge("CFG-01", view(*gone)).severity is Severity.CRITICAL
    apart = [{**one, "seq": number} for number, one in enumerate(gone)]
    assert judge("CFG-01", view(*apart)).severity is Severity.WARNING


def test_the_worst_is_named_and_all_are_counted() -> None:
    found = [weakening(3, "retention_shortened"), weakening(5, "lock_removed"), weakening(9)]
    judgement = judge("CFG-01", view(*found))
    assert judgement.reason.values["what"] == "@weakening.lock_removed"
    assert judgement.reason.values["count"] == 3
    assert judgement.facts == (3, 5, 9)


def test_only_a_statement_about_that_record_answers_for_it() -> None:
    for made, status in (
        ({"change/7": statement()}, Status.COMPLIANT),
        ({"change/7": statement(authenticated=False)}, Status.WARNING),
        ({"change/7": statement(expired=True)}, Status.NON_COMPLIANT),
        ({"change/8": statement()}, Status.NON_COMPLIANT),
        ({"change": statement()}, Status.NON_COMPLIANT),
        ({}, Status.NON_COMPLIANT),
    ):
        assert judge("CFG-01", view(weakening(), attestations=made)).status is status


weakenings = st.lists(
    st.builds(weakening, st.integers(1, 9), st.sampled_from([*WHAT, "unheard_of"])), max_size=4
)
answers = st.dictionaries(
    st.integers(1, 9).map(lambda seq: f"change/{seq}"),
    st.builds(statement, expired=st.booleans(), authenticated=st.booleans()),
    max_size=4,
)
moments = st.integers(0, 400).map(lambda hours: to_us(NOW - hours * HOUR))
views = st.builds(
    lambda found, made, seen_at, unread, never: view(
        *found, attestations=made, seen_at=seen_at, unread=unread, never_read=never
    ),
    weakenings,
    answers,
    st.none() | moments,
    st.dictionaries(st.sampled_from(["systemd|", "cron|/etc/crontab"]), moments),
    st.lists(st.just("barman|/etc/barman.conf"), max_size=1),
)


@settings(max_examples=200, deadline=None)
@given(views, st.lists(st.integers(0, 3000), min_size=2, max_size=4))
def test_time_alone_only_worsens(made: View, hours: list[int]) -> None:
    states = [judge("CFG-01", made, NOW + timedelta(hours=h)).status for h in sorted(hours)]
    assert states == sorted(states, key=LADDER.index)


@settings(max_examples=200, deadline=None)
@given(views, st.sampled_from(WHAT))
def test_bad_news_never_improves_it(made: View, what: str) -> None:
    before = LADDER.index(judge("CFG-01", made).status)
    policies = made.known["policies"]
    for worse in (
        {"weakenings": [*made.known["weakenings"], weakening(77, what)]},
        {"attestations": {}},
        {"policies": {**policies, "never_read": ["bareos|"]}},
        {"policies": {**policies, "unread": {**policies["unread"], "x|": to_us(NOW - 5 * DAY)}}},
    ):
        changed = replace(made, known={**made.known, **worse})
        assert LADDER.index(judge("CFG-01", changed).status) >= before


@given(st.dictionaries(st.sampled_from(["weakenings", "policies", "attestations"]), st.none()))
def test_a_view_without_it_raises_nothing(known: dict[str, Any]) -> None:
    made = site()
    judge("CFG-01", replace(made, known={**made.known, **known}))
