"""Statements of people, as views show them: what stands, what expired, what was taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from backupguard.assess.history import History
from backupguard.assess.views import build_views
from backupguard.model import to_us
from tests.unit.assess.conftest import Hospital


def attest(hospital: Hospital, topic: str, subject: str, days: int = 30, **more: Any) -> int:
    values = more.pop("values", {})
    data = {
        "topic": topic,
        "person": "claire",
        "text": "vu",
        "values": values,
        "expires_at": to_us(hospital.now + timedelta(days=days)),
        "signature": None,
    }
    hospital.record("attestation.made", subject, data | more)
    return hospital.store.head()[0]


def withdraw(hospital: Hospital, subject: str, seq: int) -> None:
    hospital.record("attestation.withdrawn", subject, {"attestation": seq, "reason": "faux"})


def known(hospital: Hospital, subject: str, history: History | None = None) -> dict[str, Any]:
    history = history or History(hospital.store)
    history.update()
    views = build_views(hospital.store, hospital.settings, history, hospital.now)
    found: dict[str, Any] = views[subject].known["attestations"]
    return found


def test_a_statement_stands_under_its_topic_and_name(hospital: Hospital) -> None:
    escrow = attest(hospital, "escrow", "repository/nas")
    attest(hospital, "attacker", "repository/nas", values={"name": "storage_admin"})
    mfa = attest(hospital, "mfa", "site", values={"name": "restic", "count": 3})
    assert list(known(hospital, "repository/nas")) == ["attacker/storage_admin", "escrow"]
    assert known(hospital, "repository/nas")["escrow"]["seq"] == escrow
    assert known(hospital, "site")["mfa/restic"]["seq"] == mfa
    assert known(hospital, "site")["mfa/restic"]["values"] == {"name": "restic", "count": 3}
    for silent in ("repository/tape", "application/dpi", "job/dpi.nightly"):
        assert known(hospital, silent) == {}


def test_one_whose_day_has_passed_is_kept_and_marked(hospital: Hospital) -> None:
    attest(hospital, "escrow", "repository/nas", days=30)
    assert known(hospital, "repository/nas")["escrow"]["expired"] is False
    hospital.pass_time(days=30)
    assert known(hospital, "repository/nas")["escrow"]["expired"] is True


def test_one_that_was_taken_back_stands_no_more_and_no_older_one_instead(
    hospital: Hospital,
) -> None:
    history = History(hospital.store)
    attest(hospital, "escrow", "repository/nas")
    newer = attest(hospital, "escrow", "repository/nas", days=10)
    assert known(hospital, "repository/nas", history)["escrow"]["seq"] == newer
    withdraw(hospital, "repository/nas", newer)
    assert known(hospital, "repository/nas", history) == {}
    assert known(hospital, "repository/nas") == {}


def test_taking_back_a_replaced_one_leaves_the_one_that_replaced_it(hospital: Hospital) -> None:
    older = attest(hospital, "escrow", "repository/nas")
    newer = attest(hospital, "escrow", "repository/nas")
    withdraw(hospital, "repository/nas", older)
    assert known(hospital, "repository/nas")["escrow"]["seq"] == newer


def test_only_a_signed_one_is_authenticated(hospital: Hospital) -> None:
    attest(hospital, "escrow", "repository/nas")
    assert known(hospital, "repository/nas")["escrow"]["authenticated"] is False
    signature = {"person": "claire", "key": "SHA256:x", "statement": "t", "armored": "s"}
    attest(hospital, "escrow", "repository/nas", signature=signature)
    assert known(hospital, "repository/nas")["escrow"]["authenticated"] is True
