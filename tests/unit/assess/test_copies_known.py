"""What views say of copies: whether tampering was refused lately, and whose word a domain is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backupguard.assess.history import History
from backupguard.assess.views import Views
from backupguard.model import to_us
from tests.unit.assess.conftest import Hospital


def copy_of(hospital: Hospital, repository: str = "nas") -> dict[str, Any]:
    history = History(hospital.store)
    history.update()
    view = Views(hospital.store, hospital.settings, history, hospital.now).of("application/dpi")
    return next(one for one in view.known["copies"] if one["repository"] == repository)


def tried(hospital: Hospital, verdict: str) -> None:
    data = {
        "attacker": "backup_writer",
        "verdict": verdict,
        "code": None,
        "worked": ["delete"] if verdict == "failed" else [],
        "refused": [],
        "untried": [],
        "credentials": "writer",
        "reaches_data": True,
        "before": None,
        "canaries": [],
        "attempts": [],
    }
    hospital.record("immutability.tried", "repository/nas", data)


def protected(hospital: Hospital, until: int | None) -> None:
    point = {
        "job": "dpi.nightly",
        "native_id": "p",
        "at": None,
        "locked_until_at": until,
        "mode": "compliance",
        "objects": 1,
        "unlocked": 0,
        "exact": True,
        "hidden": False,
        "code": None,
    }
    data = {
        "mechanism": "s3-object-lock",
        "mode": "compliance",
        "retention_ms": 1,
        "weaknesses": [],
        "bypass_holders": [],
        "unread": [],
        "settings": {},
        "points": [point],
        "locked_until_at": until,
        "requests": {},
        "cost_micro_eur": None,
        "verdict": "passed",
        "code": None,
    }
    hospital.record("protection.seen", "repository/nas", data)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("passed", "proved"), ("failed", "refuted"), ("could_not_verify", "inconclusive")],
)
def test_what_came_of_tampering(hospital: Hospital, verdict: str, said: str) -> None:
    assert copy_of(hospital)["immutable"] is None
    tried(hospital, verdict)
    assert copy_of(hospital)["immutable"] == said
    assert copy_of(hospital, "tape")["immutable"] is None


def test_a_proof_ages_and_a_refutation_does_not(hospital: Hospital) -> None:
    tried(hospital, "passed")
    hospital.pass_time(days=15)
    assert copy_of(hospital)["immutable"] == "inconclusive"
    tried(hospital, "failed")
    hospital.pass_time(days=60)
    assert copy_of(hospital)["immutable"] == "refuted"


def test_where_the_locks_have_ended_nothing_is_proved(hospital: Hospital) -> None:
    tried(hospital, "passed")
    protected(hospital, to_us(hospital.now + timedelta(days=3)))
    assert copy_of(hospital)["immutable"] == "proved"
    hospital.pass_time(days=4)
    assert copy_of(hospital)["immutable"] == "inconclusive"
    tried(hospital, "passed")
    protected(hospital, None)
    assert copy_of(hospital)["immutable"] == "inconclusive"


def test_a_statement_renews_the_declaration_of_a_failure_domain(hospital: Hospital) -> None:
    assert copy_of(hospital)["declared_at"] is None
    hospital.record(
        "attestation.made",
        "repository/nas",
        {
            "topic": "failure-domain",
            "person": "rssi",
            "text": "seen in its room",
            "values": {},
            "expires_at": to_us(hospital.now + timedelta(days=30)),
            "signature": None,
        },
    )
    assert copy_of(hospital)["declared_at"] == to_us(hospital.now)
    hospital.pass_time(days=31)
    assert copy_of(hospital)["declared_at"] is None
