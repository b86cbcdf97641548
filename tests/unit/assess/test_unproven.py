"""Repositories of unproven types: no control that rests on points believes them, good news or bad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard import plugins
from backupguard.assess.unproven import digest, is_confirmed, major, sample
from backupguard.model import RecoveryPoint, Status
from backupguard.repositories.directory import DIRECTORY
from tests.unit.assess.conftest import START, Hospital

NIGHT = START - timedelta(hours=14)


@pytest.fixture
def unproven(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    """The hospital whose "tape" is of a type that nobody has seen alive."""
    monkeypatch.setattr(plugins, "unproven", lambda name: name == "console")
    tape = hospital.settings.repositories["tape"]
    monkeypatch.setitem(
        hospital.settings.repositories,  # type: ignore[arg-type]
        "tape",
        tape.model_copy(update={"type": "console"}),
    )
    monkeypatch.setattr(
        plugins, "repository_type", lambda name, real=plugins.repository_type: (
            DIRECTORY if name == "console" else real(name)
        ),
    )  # fmt: skip
    hospital.assessor = hospital.new_assessor()
    return hospital


def confirm(hospital: Hospital, **changed: Any) -> None:
    data = {
        "repository": "tape",
        "type": "console",
        "tool": "console",
        "tool_version": "12.1",
        "tool_major": "12",
        "digest": "0" * 64,
        "count": 10,
    }
    hospital.record("repository.confirmed", "repository/tape", data | changed)


def fill(hospital: Hospital) -> None:
    hospital.list_points("nas", ("dpi.nightly", NIGHT), ("labo.nightly", NIGHT))
    hospital.list_points("tape", ("dpi.weekly", NIGHT))


def reason(hospital: Hospital, control: str, subject: str) -> tuple[Status, str]:
    finding = hospital.finding(control, subject)
    return finding.status, finding.reason.id


CAPPED = (Status.NOT_MEASURABLE, "reason.unproven")


def test_its_jobs_and_its_integrity_are_not_measurable(unproven: Hospital) -> None:
    fill(unproven)
    assert reason(unproven, "JOB-01", "job/dpi.weekly") == CAPPED
    assert reason(unproven, "INT-01", "repository/tape") == CAPPED
    assert reason(unproven, "JOB-01", "job/dpi.nightly")[0] is Status.COMPLIANT
    assert reason(unproven, "JOB-01", "job/labo.nightly")[0] is Status.COMPLIANT


def test_bad_news_from_it_is_not_believed_either(unproven: Hospital) -> None:
    fill(unproven)
    unproven.list_points("tape", ("dpi.weekly", START - timedelta(days=90)), state="failed")
    assert reason(unproven, "JOB-01", "job/dpi.weekly") == CAPPED


def test_an_application_takes_no_good_news_from_it(unproven: Hospital) -> None:
    """Its other repository is old: the recent point that is only claimed does not save the RPO."""
    unproven.assess()
    unproven.pass_time(days=30)
    unproven.list_points("nas", ("dpi.nightly", NIGHT), ("labo.nightly", NIGHT))
    unproven.list_points("tape", ("dpi.weekly", unproven.now - timedelta(hours=1)))
    assert reason(unproven, "PDM-01", "application/dpi")[0] is Status.NON_COMPLIANT
    confirm(unproven)
    assert reason(unproven, "PDM-01", "application/dpi")[0] is not Status.NON_COMPLIANT


def test_restore_tests_speak_for_themselves(unproven: Hospital) -> None:
    unproven.tested(repository="tape")
    assert reason(unproven, "RST-01", "application/dpi")[0] is Status.COMPLIANT


def test_confirmed_it_is_believed_until_the_major_version_changes(unproven: Hospital) -> None:
    def inspected(version: str | None) -> None:
        data = {
            "reachable": version is not None,
            "code": None if version else "timeout",
            "type": "console",
            "tool": "console",
            "tool_version": version,
            "repository_id": None,
            "format_version": None,
            "encrypted": None,
            "locks": [],
            "device": None,
        }
        unproven.record("repository.inspected", "repository/tape", data)

    fill(unproven)
    confirm(unproven)
    for version, believed in (("12.1", True), ("12.9", True), (None, True), ("13.0", False)):
        inspected(version)
        found = reason(unproven, "JOB-01", "job/dpi.weekly")
        assert (found != CAPPED) is believed, version
    confirm(unproven, tool_version="13.0", tool_major="13")
    assert reason(unproven, "JOB-01", "job/dpi.weekly") != CAPPED
    confirm(unproven, type="other", tool_major="13")
    assert reason(unproven, "JOB-01", "job/dpi.weekly") == CAPPED


def test_never_confirmed_is_not_confirmed() -> None:
    assert not is_confirmed("console", {})
    assert major("Veeam 12.1.2") == "12"
    assert major("unknown") is None
    assert major(None) is None


def points(job: str, count: int) -> list[RecoveryPoint]:
    return [
        RecoveryPoint(
            repository="r",
            job=job,
            native_id=f"{job}-{number}",
            at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
            covers_until=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
        )
        for number in range(count)
    ]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 40), max_size=4), st.integers(1, 12))
def test_a_sample_is_spread_over_jobs_and_time(counts: dict[str, int], size: int) -> None:
    standing = {job: points(job, count) for job, count in counts.items()}
    chosen = sample(standing, size)
    assert len(chosen) == min(size, sum(counts.values()))
    assert len({(one.job, one.native_id) for one in chosen}) == len(chosen)
    taken = [sum(1 for one in chosen if one.job == job) for job in counts]
    allowed = [min(count, taken) for count, taken in zip(counts.values(), taken, strict=True)]
    assert taken == allowed
    for job, count in counts.items():
        own = [one for one in chosen if one.job == job]
        fair = size // max(1, sum(1 for count in counts.values() if count))
        assert len(own) >= min(count, fair)
        if len(own) > 1:
            assert own[0].native_id == f"{job}-0"
            assert own[-1].native_id == f"{job}-{count - 1}"
    assert digest(chosen) == digest(sample(standing, size))
