"""What a SOC sees: a backup breaks, one alert arrives, and its runbook is a click away."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from backupguard.demo import soc, summary, watchers
from backupguard.language import Words, catalogue
from backupguard.model import Message


@pytest.mark.slow
def test_one_byte_is_one_alert_with_its_runbook(tmp_path: Path) -> None:
    said: list[Message] = []
    shown = soc.play(tmp_path / "demo", language="fr", tell=said.append)
    assert shown.proved, (shown.alert, shown.others)
    assert shown.before == ()
    assert (shown.alert.control, shown.alert.subject) == ("INT-01", "repository/nas")
    assert shown.alert.severity == "critical"
    assert shown.alert.summary.startswith("Les données de repository/nas")
    assert "Que faire" in shown.runbook
    assert all(message.id in catalogue("fr") for message in said)
    printed = io.StringIO()
    summary.show_alert(shown, Words("fr"), Console(file=printed, width=200))
    for part in (shown.alert.name, shown.alert.runbook, "Que faire", shown.pages["alerts"]):
        assert part in printed.getvalue()


def test_only_the_waiting_is_changed() -> None:
    routes = {
        "global": {"smtp_smarthost": "relay:25"},
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname"],
            "group_wait": "5m",
            "routes": [{"receiver": "page", "matchers": ["severity=critical"], "continue": True}],
        },
        "inhibit_rules": [{"equal": ["site"]}],
        "receivers": [{"name": "tickets", "email_configs": []}, {"name": "nobody"}],
    }
    quick = watchers.quicker_routes(routes, "http://127.0.0.1:1/")
    assert quick["inhibit_rules"] == routes["inhibit_rules"]
    tickets, nobody = quick["receivers"]
    assert (tickets["name"], nobody) == ("tickets", {"name": "nobody"})
    assert tickets["webhook_configs"][0]["url"] == "http://127.0.0.1:1/"
    assert "relay" not in str(quick)
    (page,) = quick["route"]["routes"]
    assert page == {
        "receiver": "page",
        "matchers": ["severity=critical"],
        "continue": True,
        "group_wait": "1s",
        "group_interval": "1s",
    }
    assert watchers.quicker_rules("    interval: 1m\n        for: 5m\n") == (
        "    interval: 1s\n        for: 5m\n"
    )
