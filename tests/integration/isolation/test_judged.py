"""From facts in the store to the finding: what an assessment makes of looks, over a restart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.assess import Assessor
from backupguard.contracts import Store
from backupguard.controls import load_catalogue
from backupguard.model import Finding, NotMeasurableCause, Observation, Severity, Status, to_us
from backupguard.settings import Settings
from backupguard.store import open_store
from backupguard.testing.contexts import SetClock
from tests.integration.isolation.places import settings

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> SetClock:
    clock = SetClock()
    clock.set(NOW)
    return clock


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[Store]:
    opened = open_store(tmp_path / "state", None, now=clock, site="x", timezone="UTC")
    yield opened
    opened.close()


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return settings(tmp_path)


def seen(store: Store, outcome: str, at: datetime, **changed: Any) -> None:
    row = {
        "target": "coffre",
        "name": "localhost",
        "address": "192.0.2.9",
        "family": "ipv4",
        "port": 445,
        "outcome": outcome,
        "announced": False,
    }
    data = {
        "vantage": "bureautique",
        "zone": "bureautique",
        "witness": True,
        "families": ["ipv4"],
        "began_at": to_us(at) - 1,
        "ended_at": to_us(at),
        "rows": [row],
        "code": None,
    }
    record(store, "isolation.seen", "vantage/bureautique", at, data | changed)


def host(store: Store, at: datetime, **changed: Any) -> None:
    data = {"host": "srv", "joined": False, "domains": [], "seen_by": [], "unread": []}
    record(store, "host.joined", "host/srv", at, data | changed)


def record(store: Store, kind: str, subject: str, at: datetime, data: dict[str, Any]) -> None:
    key = f"{kind}/{to_us(at)}"
    store.append([Observation(kind=kind, subject=subject, observed_at=at, data=data, key=key)])


def finding(assessor: Assessor, now: datetime, *, full: bool = True) -> Finding:
    found = assessor.assess(now, full=full).findings
    (one,) = (f for f in found if (f.control, f.subject) == ("ISO-01", "repository/coffre"))
    return one


def test_a_store_that_answers_is_a_finding_until_it_is_seen_closed(
    store: Store, place: Settings
) -> None:
    assessor = Assessor(store, place, load_catalogue())
    first = finding(assessor, NOW)
    assert (first.status, first.cause) == (
        Status.NOT_MEASURABLE,
        NotMeasurableCause.NEVER_SET_UP,
    )
    host(store, NOW)
    seen(store, "filtered", NOW)
    assert finding(assessor, NOW, full=False).status is Status.COMPLIANT
    seen(store, "open", NOW + HOUR)
    opened = finding(assessor, NOW + HOUR, full=False)
    assert opened.status is Status.NON_COMPLIANT
    assert opened.reason.values["places"] == "localhost:445"
    seen(store, "unreachable", NOW + 2 * HOUR, witness=False, families=[], code="witness_silent")
    assert finding(assessor, NOW + 2 * HOUR, full=False).status is Status.NON_COMPLIANT
    restarted = Assessor(store, place, load_catalogue())
    assert finding(restarted, NOW + 2 * HOUR).status is Status.NON_COMPLIANT
    seen(store, "filtered", NOW + 3 * HOUR)
    for one in (assessor, restarted):
        assert finding(one, NOW + 3 * HOUR, full=False).status is Status.COMPLIANT


def test_a_host_that_joins_production_is_a_finding_at_once(store: Store, place: Settings) -> None:
    assessor = Assessor(store, place, load_catalogue())
    host(store, NOW)
    seen(store, "refused", NOW)
    assert finding(assessor, NOW).status is Status.COMPLIANT
    host(store, NOW + HOUR, joined=True, domains=["ch.local"], seen_by=["sssd"])
    joined = finding(assessor, NOW + HOUR, full=False)
    assert joined.status is Status.NON_COMPLIANT
    assert joined.severity is Severity.CRITICAL


def test_a_vantage_point_silent_for_months_is_lost_and_not_forgotten(
    store: Store, place: Settings, clock: SetClock
) -> None:
    then = NOW - 90 * 24 * HOUR
    clock.set(then)
    host(store, then)
    seen(store, "filtered", then)
    clock.set(NOW)
    host(store, NOW)
    lost = finding(Assessor(store, place, load_catalogue()), NOW)
    assert lost.status is Status.NON_COMPLIANT
    assert lost.cause is NotMeasurableCause.LOST
    assert lost.reason.id == "reason.ISO-01.silent"
