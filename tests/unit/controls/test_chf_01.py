"""CHF-01: encryption by the tool's own word, the escrowed key by a restore test that used it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.model import Fact, Judgement, NotMeasurableCause, Status, View, to_us
from tests.unit.controls.control_facts import DAY, NOW, fact, judge, repository, result_of

HOUR = timedelta(hours=1)
GOOD = Status.COMPLIANT


def inspected(
    encrypted: bool | None = True,
    at: datetime = NOW - HOUR,
    *,
    code: str | None = None,
    seq: int = 3,
) -> Fact:
    data = {
        "reachable": code is None,
        "code": code,
        "type": "restic",
        "tool": "restic",
        "tool_version": "0.18.0",
        "repository_id": None,
        "format_version": None,
        "encrypted": encrypted,
        "locks": [],
        "device": None,
    }
    return fact("repository.inspected", "repository/nas", at, data, seq)


def tried(at: datetime, *, seq: int = 9, code: str | None = None) -> Fact:
    verdict = "passed" if code is None else "could_not_verify"
    return result_of(at, verdict, seq=seq, code=code, key="escrow", level=0 if code else 3)


def attested(at: datetime = NOW - 10 * DAY, days: int = 365, **more: Any) -> dict[str, Any]:
    """Return a standing statement as a view shows it."""
    return {
        "escrow": {
            "seq": 4,
            "made_at": to_us(at),
            "expires_at": to_us(at + days * DAY),
            "authenticated": True,
            "person": "claire",
            **more,
        }
    }


def view(
    *latest: tuple[str, Fact],
    attestations: dict[str, Any] | None = None,
    points: dict[str, int] | None = None,
    first_seen: datetime = NOW - 100 * DAY,
    **settings: Any,
) -> View:
    empty = repository(first_seen=first_seen)
    return replace(
        empty,
        settings={**empty.settings, "leaves_site": True, "key_testable": True, **settings},
        latest=dict(latest),
        known={
            **empty.known,
            "attestations": attested() if attestations is None else attestations,
            "points_encrypted": points or {},
        },
    )


def seen(one: Fact) -> tuple[tuple[str, Fact], ...]:
    found = [("repository.inspected", one)]
    if one.observation.data["encrypted"] is not None:
        found.append(("repository.inspected/encryption", one))
    return tuple(found)


OPENED = ("restore-test.escrow/opened", tried(NOW - 30 * DAY))
WRONG = ("restore-test.escrow/refused", tried(NOW - 20 * DAY, code="wrong_key"))


def reason(judgement: Judgement) -> tuple[Status, str]:
    return judgement.status, judgement.reason.id.removeprefix("reason.CHF-01.")


def chf(one: View, now: datetime = NOW) -> tuple[Status, str]:
    return reason(judge("CHF-01", one, now))


# ------------------------------------------------------------------------------------ encryption


def test_an_unencrypted_copy_that_leaves_the_site() -> None:
    judged = judge("CHF-01", view(*seen(inspected(False)), OPENED))
    assert reason(judged) == (Status.NON_COMPLIANT, "clear")
    assert judged.facts == (3,)


def test_its_clean_twin() -> None:
    assert chf(view(*seen(inspected()), OPENED)) == (GOOD, "good")


def test_one_that_stays_on_site_need_not_be_encrypted() -> None:
    one = view(*seen(inspected(False)), leaves_site=False)
    assert chf(one) == (Status.NOT_APPLICABLE, "on_site_clear")
    one = view(*seen(inspected(None)), leaves_site=False)
    assert chf(one) == (Status.NOT_APPLICABLE, "on_site_unknown")


def test_but_if_it_is_its_key_must_be_in_escrow() -> None:
    one = view(*seen(inspected()), leaves_site=False, attestations={})
    assert chf(one) == (Status.NON_COMPLIANT, "no_escrow")


def test_points_say_it_where_the_repository_does_not() -> None:
    silent = seen(inspected(None))
    clear = view(*silent, OPENED, points={"encrypted": 3, "clear": 2})
    assert chf(clear) == (Status.NON_COMPLIANT, "clear_points")
    assert chf(view(*silent, OPENED, points={"encrypted": 5})) == (GOOD, "good")
    some = view(*silent, OPENED, points={"encrypted": 4, "unknown": 1})
    assert chf(some) == (Status.NOT_MEASURABLE, "unknown")


def test_one_clear_point_counts_whatever_the_repository_says() -> None:
    one = view(*seen(inspected()), OPENED, points={"encrypted": 3, "clear": 1})
    assert chf(one) == (Status.NON_COMPLIANT, "clear_points")


@pytest.mark.parametrize(
    ("latest", "expected"),
    [((), "never_seen"), (seen(inspected(None, code="timeout")), "never_seen"),
     (seen(inspected(None)), "unknown")],
    ids=["never asked", "never answered", "does not say"],
)  # fmt: skip
def test_what_nobody_knows_is_not_measurable(latest: Any, expected: str) -> None:
    judged = judge("CHF-01", view(*latest, OPENED))
    assert reason(judged) == (Status.NOT_MEASURABLE, expected)
    assert judged.cause is NotMeasurableCause.NEVER_SET_UP


@pytest.mark.parametrize(
    ("since", "status"),
    [
        (5 * HOUR, Status.NOT_MEASURABLE),
        (30 * HOUR, Status.WARNING),
        (80 * HOUR, Status.NON_COMPLIANT),
    ],
    ids=["hours", "a day", "three days"],
)
def test_a_copy_nobody_sees_any_more(since: timedelta, status: Status) -> None:
    one = view(
        ("repository.inspected", inspected(None, code="timeout", seq=5)),
        ("repository.inspected/encryption", inspected(at=NOW - since)),
        OPENED,
    )
    assert chf(one) == (status, "unseen")


def test_one_whose_medium_is_away_is_judged_by_what_was_seen() -> None:
    one = view(
        ("repository.inspected", inspected(None, code="medium_away", seq=5)),
        ("repository.inspected/encryption", inspected(at=NOW - 40 * DAY)),
        OPENED,
    )
    assert chf(one) == (GOOD, "good")


def test_bad_news_outlives_the_loss_of_sight() -> None:
    one = view(
        ("repository.inspected", inspected(None, code="timeout", seq=5)),
        ("repository.inspected/encryption", inspected(False, at=NOW - HOUR)),
    )
    assert chf(one) == (Status.NON_COMPLIANT, "clear")


# ---------------------------------------------------------------------------------------- escrow


def test_an_escrow_attestation_that_expired_is_named() -> None:
    made = NOW - 200 * DAY
    judged = judge("CHF-01", view(*seen(inspected()), OPENED, attestations=attested(made)))
    assert reason(judged) == (Status.NON_COMPLIANT, "escrow_expired")
    assert judged.reason.values == {"made_at": to_us(made), "expires_at": to_us(made + 180 * DAY)}


def test_its_own_day_counts_when_it_is_earlier() -> None:
    one = view(*seen(inspected()), OPENED, attestations=attested(NOW - 40 * DAY, days=30))
    assert chf(one) == (Status.NON_COMPLIANT, "escrow_expired")


def test_a_fresh_one_holds() -> None:
    one = view(*seen(inspected()), OPENED, attestations=attested(NOW - 170 * DAY))
    assert chf(one) == (GOOD, "good")
    assert chf(one, NOW + 11 * DAY) == (Status.NON_COMPLIANT, "escrow_expired")


def test_a_statement_of_the_future_is_none() -> None:
    one = view(*seen(inspected()), OPENED, attestations=attested(NOW + 10 * DAY))
    assert chf(one) == (Status.NON_COMPLIANT, "no_escrow")


def test_an_escrowed_key_that_does_not_open_it() -> None:
    judged = judge("CHF-01", view(*seen(inspected()), OPENED, WRONG))
    assert reason(judged) == (Status.NON_COMPLIANT, "wrong_key")
    assert judged.reason.values == {"tested_at": to_us(NOW - 20 * DAY)}


def test_the_right_one_was_brought_since() -> None:
    again = ("restore-test.escrow/opened", tried(NOW - 10 * DAY))
    assert chf(view(*seen(inspected()), again, WRONG)) == (GOOD, "good")


def test_a_declared_escrow_is_no_proof() -> None:
    one = view(*seen(inspected()))
    assert chf(one) == (Status.NON_COMPLIANT, "not_tested")
    young = view(*seen(inspected()), first_seen=NOW - 10 * DAY)
    assert chf(young) == (Status.NOT_MEASURABLE, "never_tested")
    nothing = view(*seen(inspected()), first_seen=NOW - 10 * DAY, attestations={})
    assert chf(nothing) == (Status.NOT_MEASURABLE, "never_attested")


def test_a_test_with_the_escrowed_key_is_due_every_year() -> None:
    old = ("restore-test.escrow/opened", tried(NOW - 366 * DAY))
    assert chf(view(*seen(inspected()), old)) == (Status.NON_COMPLIANT, "test_old")


def test_where_no_key_can_be_tried_a_statement_is_worth_a_warning() -> None:
    one = view(*seen(inspected()), key_testable=False)
    assert chf(one) == (Status.WARNING, "attested_only")


def test_an_unproven_type_is_not_believed() -> None:
    one = view(*seen(inspected()), OPENED)
    one = replace(one, known={**one.known, "unproven": True})
    assert judge("CHF-01", one).status is Status.NOT_MEASURABLE


# ------------------------------------------------------------------------------------ properties

LADDER = (Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT)
hours = st.integers(0, 9000)


@st.composite
def views(draw: st.DrawFn) -> View:
    latest: list[tuple[str, Fact]] = []
    if draw(st.booleans()):
        latest += seen(inspected(draw(st.sampled_from([None, True, False])), _before(draw)))
    if draw(st.booleans()):
        code = draw(st.sampled_from(["timeout", "medium_away"]))
        latest.append(("repository.inspected", inspected(None, _before(draw), code=code)))
    if draw(st.booleans()):
        latest.append(("restore-test.escrow/opened", tried(_before(draw))))
    if draw(st.booleans()):
        latest.append(("restore-test.escrow/refused", tried(_before(draw), code="wrong_key")))
    stated = attested(_before(draw), draw(st.integers(1, 400))) if draw(st.booleans()) else {}
    counts = st.fixed_dictionaries(
        {name: st.integers(0, 2) for name in ("encrypted", "clear", "unknown")}
    )
    return view(
        *latest,
        attestations=stated,
        points=draw(counts),
        first_seen=_before(draw),
        key_testable=draw(st.booleans()),
    )


def _before(draw: st.DrawFn) -> datetime:
    return NOW - draw(hours) * HOUR


@settings(max_examples=300, deadline=None)
@given(views(), st.lists(hours, min_size=2, max_size=4))
def test_time_alone_only_worsens(one: View, later: list[int]) -> None:
    states = [chf(one, NOW + after * HOUR)[0] for after in sorted(later)]
    assert states == sorted(states, key=LADDER.index)


@settings(max_examples=300, deadline=None)
@given(views(), st.sampled_from(["refused", "clear", "withdrawn", "silent"]))
def test_bad_news_never_improves_a_status(one: View, news: str) -> None:
    worse = one
    if news == "refused":
        refused = {"restore-test.escrow/refused": tried(NOW, code="wrong_key", seq=40)}
        worse = replace(one, latest={**one.latest, **refused})
    elif news == "clear":
        worse = replace(one, latest={**one.latest, **dict(seen(inspected(False, NOW, seq=41)))})
    elif news == "withdrawn":
        worse = replace(one, known={**one.known, "attestations": {}})
    else:
        silent = {"repository.inspected": inspected(None, NOW, code="timeout", seq=42)}
        worse = replace(one, latest={**one.latest, **silent})
    order = [chf(one)[0], chf(worse)[0]]
    if news == "withdrawn" and order[0] is Status.NON_COMPLIANT:
        return  # a statement that expired and one that is gone may both be too young to count
    assert order == sorted(order, key=LADDER.index)
