"""Changed thresholds as people ask for them: whose word, how long, what is refused, on the socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backupguard.daemon import overrides
from backupguard.errors import UsageError
from tests.integration.statements.test_statements import (
    DAEMON,
    NOBODY,
    NOW,
    ROOT,
    STRANGER,
    Office,
    Socket,
    keys,
    office,
)

__all__ = ["keys", "office"]  # fixtures


def ask(
    office: Office,
    value: str = "45d",
    *,
    control: str = "RST-01",
    threshold: str = "period",
    subject: str = "site",
    days: int = 30,
    uid: int = ROOT,
    reason: str = "migration",
) -> tuple[int, bool]:
    return overrides.override(
        office.statements,
        control=control,
        threshold=threshold,
        value=value,
        subject=subject,
        reason=reason,
        until=(office.now + timedelta(days=days)).date(),
        uid=uid,
        now=office.now,
    )


def rows(office: Office) -> list[dict[str, Any]]:
    return overrides.every(office.statements, office.now)


def test_a_looser_value_waits_for_another_person_and_a_stricter_one_holds(
    office: Office,
) -> None:
    loose, waits = ask(office, "45d")
    strict, at_once = ask(office, "7d", subject="application/dpi", days=300)
    assert (waits, at_once) == (True, False)
    assert [row["state"] for row in rows(office)] == ["waiting", "in_force"]
    fact = office.fact(loose)
    assert fact.author == "uid/0 (root)"
    assert fact.observation.data["value"] == 45 * 86_400
    assert fact.observation.data["person"] == "claire"
    for uid, wrong in ((ROOT, "own-override"), (DAEMON, "not-rssi"), (STRANGER, "nobody")):
        with pytest.raises(UsageError) as caught:
            overrides.confirm(office.statements, loose, uid=uid, now=NOW)
        assert caught.value.message.id == f"statements.{wrong}"
    overrides.confirm(office.statements, loose, uid=NOBODY, now=NOW)
    assert [row["state"] for row in rows(office)] == ["in_force", "in_force"]
    assert rows(office)[0]["confirmed_by"] == "ines"
    overrides.end(office.statements, strict, "fini", uid=DAEMON, now=NOW)
    assert rows(office)[1]["state"] == "ended"
    with pytest.raises(UsageError) as caught:
        overrides.end(office.statements, strict, "encore", uid=DAEMON, now=NOW)
    assert caught.value.message.id == "statements.override-state"


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"control": "XXX-01"}, "no-control"),
        ({"threshold": "perid"}, "no-threshold"),
        ({"value": "45"}, "no-threshold-value"),
        ({"value": "0d"}, "no-threshold-value"),
        ({"value": "fast"}, "no-threshold-value"),
        ({"control": "JOB-01", "threshold": "success-rate", "value": "101%"}, "no-threshold-value"),
        ({"control": "JOB-01", "threshold": "success-rate", "value": "95 %"}, "changes-nothing"),
        ({"control": "IMM-01", "threshold": "period", "value": "7d"}, "changes-nothing"),
        ({"subject": "repository/nas"}, "not-of-control"),
        ({"subject": "application/none"}, "not-of-control"),
        ({"threshold": "age-period", "subject": "application/labo"}, "not-demanded"),
        ({"days": 91}, "too-long"),
        ({"value": "7d", "days": 367}, "too-long"),
        ({"days": -1}, "past"),
        ({"reason": "@x"}, "not-one-line"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_taken(
    office: Office,
    changed: dict[str, Any],
    wrong: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        ask(office, **changed)
    assert caught.value.message.id == f"statements.{wrong}"
    assert rows(office) == []


def test_percent_and_counts_are_read_as_people_write_them(office: Office) -> None:
    ask(office, "98%", control="JOB-01", threshold="success-rate")
    ask(office, "3", control="321-01", threshold="copies")
    assert [office.fact(row["seq"]).observation.data["value"] for row in rows(office)] == [98, 3]


def test_a_statement_may_stand_as_long_as_its_changed_threshold_says(
    office: Office,
) -> None:
    before = office.statements.longest("escrow", "repository/nas", NOW)
    ask(office, "30d", control="CHF-01", threshold="escrow-attestation", days=60)
    after = office.statements.longest("escrow", "repository/nas", NOW)
    assert (before.days, after.days) == (180, 30)


def test_the_socket_knows_who_asks(office: Office) -> None:
    socket = Socket(office)
    office.now = datetime.now(UTC)
    body = {
        "control": "RST-01",
        "threshold": "period",
        "value": "45d",
        "subject": "site",
        "reason": "migration",
        "until": (datetime.now(UTC).date() + timedelta(days=30)).isoformat(),
        "author": "uid/65534 (nobody)",
        "person": "ines",
    }
    made = socket.ask(ROOT, "POST", "/overrides", body)
    assert (made.status_code, made.json()["needs_confirmation"]) == (201, True)
    seq = made.json()["seq"]
    assert office.fact(seq).author == "uid/0 (root)"
    refused = socket.ask(ROOT, "POST", f"/overrides/{seq}/confirm", {"uid": NOBODY})
    assert (refused.status_code, refused.json()["message"]) == (422, "statements.own-override")
    assert socket.ask(NOBODY, "POST", f"/overrides/{seq}/confirm", {}).status_code == 200
    listed = socket.ask(DAEMON, "GET", "/overrides", None).json()
    assert [row["state"] for row in listed] == ["in_force"]
    ended = socket.ask(DAEMON, "POST", f"/overrides/{seq}/end", {"reason": "fini"})
    assert ended.status_code == 200
    assert socket.ask(ROOT, "POST", "/overrides", {**body, "until": "soon"}).status_code == 422
