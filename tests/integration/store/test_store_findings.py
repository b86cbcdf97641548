from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.contracts import FindingChange
from backupguard.model import Finding, Message, NotMeasurableCause, Severity, Status
from backupguard.store.sql import SqlStore

from .conftest import SetClock

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def finding(status: Status = Status.COMPLIANT, **fields: Any) -> Finding:
    fields = {"since": NOW, "reason": Message(id="r", values={"n": 1, "t": "é"}), **fields}
    return Finding(
        control="RST-01",
        subject="application/dpi",
        status=status,
        severity=Severity.CRITICAL,
        **fields,
    )


def record(store: SqlStore, after: Finding) -> int:
    return len(store.record_findings([FindingChange(before=None, after=after)]))


def owed(store: SqlStore) -> list[int]:
    return [one.fact.seq for one in store.waiting("events")]


def test_a_finding_its_fact_and_its_notification_come_together(
    store: SqlStore, clock: SetClock
) -> None:
    new = finding(Status.NOT_MEASURABLE, cause=NotMeasurableCause.LOST, facts=(3, 4), waiver=7)
    (fact,) = store.record_findings([FindingChange(before=None, after=new)])
    assert store.findings() == (new,)
    assert fact.observation.key == "finding/RST-01/application/dpi/0"
    assert fact.observation.data["before"] is None
    assert fact.observation.data["reason"] == {"id": "r", "values": {"n": 1, "t": "é"}}
    assert owed(store)[-1] == fact.seq


def test_the_same_judgement_twice_is_recorded_once(store: SqlStore, clock: SetClock) -> None:
    assert record(store, finding()) == 1
    assert record(store, finding(since=NOW + HOUR)) == 0
    assert len(tuple(store.facts(kinds=["finding.changed"]))) == 1


def test_since_stays_while_the_status_does(store: SqlStore, clock: SetClock) -> None:
    record(store, finding())
    record(store, finding(since=NOW + HOUR, reason=Message(id="other")))
    assert store.findings()[0].since == NOW
    record(store, finding(Status.WARNING, since=NOW + 2 * HOUR))
    assert store.findings()[0].since == NOW + 2 * HOUR


def test_when_it_was_last_non_compliant_is_remembered(store: SqlStore, clock: SetClock) -> None:
    record(store, finding())
    assert store.findings()[0].last_non_compliant is None
    record(store, finding(Status.NON_COMPLIANT, since=NOW + HOUR))
    assert store.findings()[0].last_non_compliant == NOW + HOUR
    record(store, finding(Status.COMPLIANT, since=NOW + 2 * HOUR))
    assert store.findings()[0].last_non_compliant == NOW + 2 * HOUR
    record(store, finding(Status.WARNING, since=NOW + 3 * HOUR))
    assert store.findings()[0].last_non_compliant == NOW + 2 * HOUR
    changes = [f.observation.data for f in store.facts(kinds=["finding.changed"])]
    assert [c["before"] for c in changes] == [None, "compliant", "non_compliant", "compliant"]
