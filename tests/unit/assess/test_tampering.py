"""Attempts against canaries, from the store to metrics and findings."""

from __future__ import annotations

from typing import Any

import pytest

from backupguard.assess import Assessment
from backupguard.model import Severity, Status, to_us

from .conftest import Hospital
from .test_metrics import samples, value

NAS = "repository/nas"


def tried(hospital: Hospital, verdict: str, code: str | None = None) -> None:
    hospital.record(
        "immutability.tried",
        NAS,
        {
            "attacker": "backup_writer",
            "verdict": verdict,
            "code": code,
            "worked": ["delete-data"] if verdict == "failed" else [],
            "refused": ["delete-data"] if verdict == "passed" else [],
            "untried": [],
            "credentials": "writer",
            "reaches_data": True,
            "before": None,
            "canaries": [],
            "attempts": [],
        },
    )


def locked(hospital: Hospital, until: int | None, **changed: Any) -> None:
    point = {
        "job": "dpi.nightly", "native_id": "a", "at": 1, "locked_until_at": until, "mode": None,
        "objects": 1, "unlocked": 0, "exact": True, "hidden": False, "code": None,
    }  # fmt: skip
    seen = {
        "mechanism": "s3-object-lock", "mode": "compliance", "retention_ms": None, "weaknesses": [],
        "bypass_holders": [], "unread": [], "settings": {}, "points": [point],
        "locked_until_at": until, "requests": {}, "cost_micro_eur": None, "verdict": "passed",
        "code": None,
    }  # fmt: skip
    hospital.record("protection.seen", NAS, seen | changed)


def verdict(assessment: Assessment, attacker: str = "backup_writer") -> float:
    return value(assessment, "immutability_verdict", repository="nas", attacker=attacker)


def test_every_repository_and_attacker_has_its_series_from_the_first_second(
    hospital: Hospital,
) -> None:
    seen = samples(hospital.assess())["backupguard_immutability_verdict"]
    assert {(labels["repository"], labels["attacker"]) for labels, _ in seen} == {
        (repository, attacker)
        for repository in ("nas", "tape")
        for attacker in (
            "backup_writer", "storage_admin", "hypervisor_admin", "physical", "clock"
        )
    }  # fmt: skip
    assert {number for _, number in seen} == {1.0}


def test_a_proof_ages_and_a_refutation_does_not(hospital: Hospital) -> None:
    tried(hospital, "passed")
    assert verdict(hospital.assess()) == 2
    assert verdict(hospital.assess(), "storage_admin") == 1
    hospital.pass_time(days=7)
    tried(hospital, "could_not_verify", "timeout")
    assert verdict(hospital.assess()) == 2
    hospital.pass_time(days=2)
    assert verdict(hospital.assess()) == 1
    tried(hospital, "failed")
    assert verdict(hospital.assess()) == 0
    hospital.pass_time(days=60)
    tried(hospital, "could_not_verify", "read_only")
    assert verdict(hospital.assess()) == 0


def test_a_flip_from_proved_to_refuted_is_a_finding_at_once(hospital: Hospital) -> None:
    tried(hospital, "passed")
    hospital.assess()
    assert hospital.finding("IMM-02", NAS).status is Status.COMPLIANT
    hospital.pass_time(days=7)
    tried(hospital, "failed")
    flipped = hospital.assess(full=False).finding("IMM-02", NAS)
    assert flipped is not None
    assert (flipped.status, flipped.severity) == (Status.NON_COMPLIANT, Severity.CRITICAL)
    assert flipped.reason.id == "reason.IMM-02.lost_protection"
    hospital.assessor = hospital.new_assessor()  # whoever starts anew reads the same
    again = hospital.assess().finding("IMM-02", NAS)
    assert again is not None
    assert again.reason == flipped.reason


@pytest.mark.parametrize(("days", "expected"), [(5, True), (-5, False), (None, False)])
def test_until_when_the_newest_points_are_locked(
    hospital: Hospital, days: int | None, expected: bool
) -> None:
    now = to_us(hospital.assess().judged_at)
    until = None if days is None else now + days * 86_400_000_000
    locked(hospital, until)
    seen = value(hospital.assess(), "immutability_locked_until_timestamp_seconds", repository="nas")
    assert seen == (until / 1_000_000 if expected and until else 0)


def test_what_could_not_be_read_has_no_date(hospital: Hospital) -> None:
    locked(hospital, None, verdict="could_not_verify", code="timeout")
    name = "backupguard_immutability_locked_until_timestamp_seconds"
    assert name not in samples(hospital.assess())
