"""What is wrong with a lock is named by IMM-01, each sabotage with a clean twin: words, ages, laws.

The same is tried on locks of a real server in tests/integration/repositories/test_s3_locks.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.assess.protections import Protections
from backupguard.language import LANGUAGES, Words
from backupguard.model import Fact, Judgement, Scope, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, fact, judge

SUBJECT = "repository/cloud"
MONTH = 30 * DAY


def point(
    age: timedelta = HOUR, locked: timedelta | None = MONTH, **changed: Any
) -> dict[str, Any]:
    """A point `age` old whose earliest lock ends `locked` after it."""
    at = NOW - age
    return {
        "job": "dpi.nightly",
        "native_id": "abc",
        "at": to_us(at),
        "locked_until_at": to_us(at + locked) if locked is not None else None,
        "mode": "compliance" if locked is not None else None,
        "objects": 10_000,
        "unlocked": 0,
        "exact": True,
        "hidden": False,
        "code": None,
    } | changed


def seen(*points: dict[str, Any], age: timedelta = HOUR, seq: int = 7, **changed: Any) -> Fact:
    data = {
        "mechanism": "s3-object-lock",
        "mode": "compliance",
        "retention_ms": 30 * 86_400_000,
        "weaknesses": [],
        "bypass_holders": [],
        "unread": ["iam"],
        "settings": {"lock": True},
        "points": list(points),
        "locked_until_at": None,
        "requests": {"HeadObject": 10_000},
        "cost_micro_eur": 4000,
        "verdict": "passed",
        "code": None,
    } | changed
    return fact("protection.seen", SUBJECT, NOW - age, data, seq)


def weak(*codes: str, **values: int | str) -> list[dict[str, Any]]:
    return [{"code": code, "values": dict(values)} for code in codes]


def failed(age: timedelta = HOUR, code: str = "timeout", seq: int = 8) -> Fact:
    none = {"mechanism": "none", "verdict": "could_not_verify", "code": code, "settings": {}}
    return seen(age=age, seq=seq, **none)


def tried(age: timedelta, verdict: str) -> Fact:
    data: dict[str, Any] = {
        "attacker": "backup_writer",
        "verdict": verdict,
        "credentials": "writer",
    }
    data |= {"code": None, "reaches_data": True, "before": None}
    data |= {name: [] for name in ("worked", "refused", "untried", "canaries", "attempts")}
    return fact("immutability.tried", SUBJECT, NOW - age, data, 3)


def view(*found: Fact, claims: tuple[str, ...] = ("object-lock",), **latest: Fact) -> View:
    remembered = Protections()
    for one in found:
        remembered.learn(one)
    newest = {"protection.seen": found[-1]} if found else {}
    more = {"immutability.tried/concluded": latest["tried"]} if latest else {}
    return View(
        scope=Scope.REPOSITORY,
        subject=SUBJECT,
        settings={"criticality": "C1", "claims": list(claims)},
        latest=newest | remembered.of(SUBJECT) | more,
        first_seen=NOW - 400 * DAY,
        known={"newest_record_at": None},
    )


NEVER, LOST = "never_set_up", "lost"
GOOD = point()
OPEN = {"mechanism": "none", "mode": None, "retention_ms": None}
BARE = {"retention_ms": None, "mode": None, "weaknesses": weak("no_default_retention")}
GOVERNANCE = {"mode": "governance", "weaknesses": weak("governance")}
EARLY = {
    "weaknesses": weak("lifecycle_early", rule="tidy", days=5),
    "settings": {"lifecycle-days": 5, "lifecycle-rule": "tidy"},
}
BYPASS = weak("bypass_allowed", holders="writer")
DENIED = {"unread": ["lock-configuration", "iam"], "mode": None, "retention_ms": None}

ROWS: dict[str, tuple[View, str, str | None, str]] = {
    "clean": (view(seen(GOOD)), "compliant", None, "locked"),
    # -- the sabotages of the issue
    "no-lock": (
        view(seen(point(locked=None), **OPEN, weaknesses=weak("no_lock"))),
        *("non_compliant", None, "no_lock"),
    ),
    "no-lock-claimed-by-nobody": (
        view(seen(point(locked=None), **OPEN, weaknesses=weak("no_lock")), claims=("offline",)),
        *("not_applicable", None, "not_claimed"),
    ),
    "lock-without-default-retention": (
        view(seen(point(locked=None, unlocked=10_000), **BARE)),
        *("non_compliant", None, "no_default_retention"),
    ),
    "without-default-retention-but-each-object-locked": (
        view(seen(GOOD, **BARE)),
        *("compliant", None, "locked"),
    ),
    "governance": (
        view(seen(point(locked=None, mode="governance", unlocked=10_000), **GOVERNANCE)),
        *("non_compliant", None, "governance"),
    ),
    "retention-shorter-than-policy": (
        view(seen(point(locked=7 * DAY), retention_ms=7 * 86_400_000)),
        *("non_compliant", None, "retention_short"),
    ),
    "retention-as-long-as-policy": (
        view(seen(point(locked=14 * DAY), retention_ms=14 * 86_400_000)),
        *("compliant", None, "locked"),
    ),
    "versioning-suspended": (
        view(seen(GOOD, weaknesses=weak("versioning_suspended"))),
        *("non_compliant", None, "versioning_suspended"),
    ),
    "lifecycle-expiring-early": (
        view(seen(GOOD, **EARLY)),
        *("non_compliant", None, "lifecycle_early"),
    ),
    "delete-markers-on-newest-points": (
        view(seen(GOOD, point(at=None, hidden=True, job=None))),
        *("non_compliant", None, "hidden"),
    ),
    "delete-marker-on-an-older-point": (
        view(seen(GOOD, point(5 * DAY, hidden=True))),
        *("compliant", None, "locked"),
    ),
    "one-pack-of-10000-unlocked": (
        view(seen(point(locked=None, mode=None, unlocked=1))),
        *("non_compliant", None, "unlocked"),
    ),
    "pack-whose-lock-ends-before-a-newer-snapshot": (
        view(seen(point(locked=2 * DAY))),
        *("non_compliant", None, "ends_early"),
    ),
    "writer-allowed-to-bypass": (
        view(
            seen(
                point(locked=None, mode="governance", unlocked=3),
                mode="governance",
                weaknesses=weak("governance") + BYPASS,
            )
        ),
        *("non_compliant", None, "bypass_allowed"),
    ),
    "bypass-that-compliance-makes-useless": (
        view(seen(GOOD, weaknesses=BYPASS)),
        *("warning", None, "bypass_useless"),
    ),
    # -- what could not be read
    "no-right": (view(seen(GOOD, **DENIED)), "not_measurable", NEVER, "no_right"),
    "no-right-and-bad-news": (
        view(seen(point(locked=None, unlocked=1), **DENIED)),
        *("non_compliant", None, "unlocked"),
    ),
    "locks-unreadable": (
        view(seen(point(locked=None, code="permission"))),
        *("not_measurable", NEVER, "unread"),
    ),
    "never": (view(), "not_measurable", NEVER, "never"),
    "never-and-nothing-claimed": (view(claims=()), "not_applicable", None, "not_claimed"),
    "server-down": (view(failed()), "not_measurable", NEVER, "unread"),
    "server-down-since": (view(seen(GOOD, age=DAY), failed()), "warning", None, "unsure"),
    "server-down-and-bad-news": (
        view(seen(point(locked=None, unlocked=1), age=40 * DAY), failed()),
        *("non_compliant", None, "unlocked"),
    ),
    "old": (view(seen(GOOD, age=8 * DAY + HOUR)), "not_measurable", LOST, "old"),
    "older": (view(seen(GOOD, age=12 * DAY)), "non_compliant", LOST, "old"),
    "ended": (view(seen(point(31 * DAY))), "non_compliant", None, "ended"),
    "missing": (
        view(seen(point(locked=None, code="missing_object"))),
        *("non_compliant", None, "missing"),
    ),
    "legal-hold": (
        view(seen(point(locked=None, mode="legal-hold", unlocked=1))),
        *("non_compliant", None, "legal_hold"),
    ),
    "no-points": (view(seen()), "not_measurable", NEVER, "no_points"),
    # -- protections without dates: settings alone are no proof
    "append-only-untried": (
        view(seen(mechanism="append-only")),
        *("not_measurable", NEVER, "untried"),
    ),
    "append-only-tried": (
        view(seen(mechanism="append-only"), tried=tried(DAY, "passed")),
        *("compliant", None, "tried"),
    ),
    "append-only-refuted": (
        view(seen(mechanism="append-only"), tried=tried(DAY, "failed")),
        *("non_compliant", None, "refuted"),
    ),
    "vendor": (view(seen(mechanism="vendor")), "warning", None, "vendor"),
    "nothing-found-nothing-claimed": (
        view(seen(mechanism="none"), claims=()),
        *("not_applicable", None, "not_claimed"),
    ),
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_weakness_is_named(name: str) -> None:
    found, status, cause, reason = ROWS[name]
    judgement = judge("IMM-01", found)
    assert (judgement.status, judgement.cause) == (status, cause)
    assert judgement.reason.id == f"reason.IMM-01.{reason}"
    for language in LANGUAGES:
        said = Words(language).say(judgement.reason)
        assert "{" not in said
        assert not any(part in said for part in ("code.", "weakness.", "unread.", "reason."))


def test_until_when_is_said() -> None:
    said = Words("en").say(judge("IMM-01", view(seen(GOOD))).reason)
    assert "(10000 objects)" in said
    assert "they survive until 15 Jul 2026" in said


def said_of(*found: Fact) -> Judgement:
    return judge("IMM-01", view(*found))


LADDER = ("compliant", "not_measurable", "warning", "non_compliant")
locks = st.none() | st.integers(1, 60).map(lambda days: days * DAY)
points = st.builds(
    point,
    st.integers(0, 40 * 24).map(lambda hours: hours * HOUR),
    locks,
    unlocked=st.integers(0, 1),
    hidden=st.booleans(),
    code=st.sampled_from([None, "permission", "missing_object"]),
)
looks = st.lists(
    st.tuples(
        st.integers(0, 40 * 24),
        st.lists(points, max_size=3),
        st.lists(
            st.sampled_from(
                ["no_default_retention", "governance", "versioning_suspended", "bypass_allowed"]
            ),
            max_size=2,
            unique=True,
        ),
        st.sampled_from([(), ("lock-configuration",), ("policy",)]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one[0],
)


@given(looks, st.integers(0, 60 * 24))
def test_time_alone_only_worsens_and_bad_news_never_improves(
    drawn: list[tuple[int, list[dict[str, Any]], list[str], tuple[str, ...]]], later: int
) -> None:
    known = [
        seen(*found, age=age * HOUR, seq=number, weaknesses=weak(*codes), unread=list(unread))
        for number, (age, found, codes, unread) in enumerate(sorted(drawn, key=lambda d: -d[0]), 1)
    ]
    now = judge("IMM-01", view(*known))
    then = judge("IMM-01", view(*known), NOW + later * HOUR)
    assert LADDER.index(then.status) >= LADDER.index(now.status)
    unread = said_of(*known, failed(timedelta(0), seq=9))
    assert LADDER.index(unread.status) >= LADDER.index(now.status)
