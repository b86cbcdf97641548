"""IMM-02 as a table, and its laws: bad news stays, proofs age, a lost protection is said to be lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.assess.tampering import Tried
from backupguard.controls.imm_02 import UNTESTED
from backupguard.language import LANGUAGES, Words
from backupguard.model import Fact, Scope, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, fact, judge

SUBJECT = "repository/nas"
NEVER, LOST = "never_set_up", "lost"


def tried(age: timedelta, verdict: str, code: str | None = None, *, seq: int = 7) -> Fact:
    worked = ["delete-data", "delete-canary"] if verdict == "failed" else []
    data = {
        "attacker": "backup_writer",
        "verdict": verdict,
        "code": code,
        "worked": worked,
        "refused": ["overwrite-canary"] if verdict == "failed" else ["delete-data", "shell"],
        "untried": [],
        "credentials": "writer",
        "reaches_data": True,
        "before": None,
        "canaries": [],
        "attempts": [],
    }
    return fact("immutability.tried", SUBJECT, NOW - age, data, seq)


def view(*facts: Fact, **known: Any) -> View:
    """Return a repository's view as `assess` builds it from these facts, oldest first."""
    remembered = Tried()
    for one in facts:
        remembered.learn(one)
    latest = {"immutability.tried": facts[-1]} if facts else {}
    return View(
        scope=Scope.REPOSITORY,
        subject=SUBJECT,
        settings={"criticality": "C1"},
        latest=latest | remembered.of(SUBJECT),
        first_seen=NOW - 400 * DAY,
        known={"newest_record_at": None, "attestations": {}} | known,
    )


PROVED, REFUTED, UNSURE = "passed", "failed", "could_not_verify"
ROWS = [
    (view(), "not_measurable", NEVER, "never"),
    (view(tried(HOUR, PROVED)), "compliant", None, "proved"),
    (view(tried(8 * DAY, PROVED)), "compliant", None, "proved"),
    (view(tried(8 * DAY + HOUR, PROVED)), "not_measurable", LOST, "old"),
    (view(tried(9 * DAY + HOUR, PROVED)), "warning", LOST, "old"),
    (view(tried(12 * DAY, PROVED)), "non_compliant", LOST, "old"),
    (view(tried(HOUR, REFUTED)), "non_compliant", None, "refuted"),
    # what was found does not go away by not being looked at, nor by what proves nothing
    (view(tried(99 * DAY, REFUTED)), "non_compliant", None, "refuted"),
    (view(tried(8 * DAY, REFUTED), tried(HOUR, UNSURE, "timeout")), "non_compliant", None, "refuted"),
    (view(tried(8 * DAY, REFUTED), tried(HOUR, PROVED)), "compliant", None, "proved"),
    # a flip is a finding at once, and said to be one
    (view(tried(7 * DAY, PROVED), tried(HOUR, REFUTED)), "non_compliant", None, "lost_protection"),
    (
        view(tried(9 * DAY, PROVED), tried(7 * DAY, UNSURE, "dns"), tried(HOUR, REFUTED)),
        "non_compliant",
        None,
        "lost_protection",
    ),
    # inconclusive: the last conclusion holds for its period, no longer
    (view(tried(7 * DAY, PROVED), tried(HOUR, UNSURE, "timeout")), "warning", None, "unsure"),
    (view(tried(9 * DAY - HOUR, PROVED), tried(HOUR, UNSURE, "timeout")), "warning", None, "unsure"),
    (view(tried(10 * DAY, PROVED), tried(HOUR, UNSURE, "timeout")), "warning", LOST, "stale"),
    (view(tried(12 * DAY, PROVED), tried(HOUR, UNSURE, "read_only")), "non_compliant", LOST, "stale"),
    # nothing was ever concluded
    (view(tried(HOUR, UNSURE, "nothing_to_try")), "not_measurable", NEVER, "nothing_to_try"),
    (view(tried(HOUR, UNSURE, "writer_missing")), "not_measurable", NEVER, "not_set_up"),
    (view(tried(HOUR, UNSURE, "administrator")), "not_measurable", NEVER, "wrong_credentials"),
    (view(tried(HOUR, UNSURE, "authentication")), "not_measurable", NEVER, "wrong_credentials"),
    (view(tried(HOUR, UNSURE, "clock_skew")), "not_measurable", NEVER, "inconclusive"),
    # dated in the future: none
    (view(tried(-DAY, PROVED)), "not_measurable", NEVER, "never"),
    (
        view(tried(HOUR, PROVED), newest_record_at=to_us(NOW + HOUR)),
        "not_measurable",
        LOST,
        "clock_behind",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "status", "cause", "reason"), ROWS, ids=[f"{n}-{row[3]}" for n, row in enumerate(ROWS)]
)
def test_imm_02(seen: View, status: str, cause: str | None, reason: str) -> None:
    judgement = judge("IMM-02", seen)
    assert judgement.status == status
    assert judgement.cause == cause
    assert judgement.reason.id.rpartition(".")[2] == reason
    if reason in {"refuted", "lost_protection"}:
        assert judgement.severity == "critical"
    for language in LANGUAGES:  # every value has its words
        said = Words(language).say(judgement.reason)
        assert "{" not in said
        assert not any(part in said for part in ("code.", "attempt.", "untested.", "reason."))


def test_what_worked_is_named() -> None:
    said = Words("en").say(judge("IMM-02", view(tried(HOUR, REFUTED))).reason)
    assert "could delete data (2 kinds" in said
    assert "storage administrator: not tested" in said


@pytest.mark.parametrize("attacker", UNTESTED)
def test_an_attacker_is_not_tested_until_somebody_attests(attacker: str) -> None:
    stands = {f"attacker/{attacker}": {"expired": False}}
    values = judge("IMM-02", view(tried(HOUR, PROVED), attestations=stands)).reason.values
    assert values[attacker] == "@untested.attested"
    assert [values[other] for other in UNTESTED if other != attacker] == ["@untested.no"] * 3
    stands[f"attacker/{attacker}"]["expired"] = True
    values = judge("IMM-02", view(tried(HOUR, PROVED), attestations=stands)).reason.values
    assert values[attacker] == "@untested.no"


ages = st.lists(st.integers(0, 40 * 24), min_size=1, max_size=5, unique=True)
outcomes = st.sampled_from([PROVED, REFUTED, UNSURE])
LADDER = ("compliant", "not_measurable", "warning", "non_compliant")


@given(ages, st.lists(outcomes, min_size=5, max_size=5), st.integers(0, 40 * 24))
def test_time_alone_only_worsens_and_bad_news_never_improves(
    hours: list[int], verdicts: list[str], later: int
) -> None:
    known = [
        tried(age * HOUR, verdict, "timeout" if verdict == UNSURE else None, seq=number)
        for number, (age, verdict) in enumerate(
            zip(sorted(hours, reverse=True), verdicts, strict=False), 1
        )
    ]
    now = judge("IMM-02", view(*known))
    then = judge("IMM-02", view(*known), NOW + later * HOUR)
    assert LADDER.index(then.status) >= LADDER.index(now.status)
    worse = judge("IMM-02", view(*known, tried(timedelta(0), UNSURE, "timeout", seq=9)))
    assert LADDER.index(worse.status) >= LADDER.index(now.status)
    assert judge("IMM-02", view(*known, tried(timedelta(0), REFUTED, seq=9))).status == LADDER[-1]
