"""Rules for several sites: promtool accepts them, each alert fires, stays silent, has its words."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from backupguard.metrics.families import BY_NAME
from backupguard.resources import shipped

RULES = shipped("prometheus/backupguard-ght.rules.yml")
CASES = shipped("prometheus/backupguard-ght.rules.test.yml")
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=RULES.parent, text=True, capture_output=True, timeout=120
    )


def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", RULES.name)
    assert checked.returncode == 0, checked.stderr


def test_promtool_accepts_the_example() -> None:
    checked = promtool("check", "config", "ght.example.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_cases_hold() -> None:
    tested = promtool("test", "rules", CASES.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_shown_to_fire_and_to_stay_silent() -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    shown = {
        (check["alertname"], bool(check["exp_alerts"]))
        for case in cases
        for check in case.get("alert_rule_test", ())
    }
    assert shown == {(alert, fires) for alert in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_every_alert_has_its_labels_words_and_runbooks(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"care_domain", "control", "severity"}
    for annotation in ("summary", "description", "summary_fr", "description_fr"):
        assert len(rule["annotations"][annotation]) >= 15
    assert rule["annotations"]["runbook_url"].endswith(f"/runbooks/{alert}")
    for language in ("en", "fr"):
        page = shipped("runbooks") / f"{alert}.{language}.md"
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {alert}\n")
        assert text.count("\n## ") == 4


def test_every_result_is_by_site_and_every_metric_exists() -> None:
    text = RULES.read_text(encoding="utf-8")
    assert set(re.findall(r"\bbackupguard_(\w+)", text)) <= set(BY_NAME)
    for labels in re.findall(r"\bby \(([^)]*)\)", text):
        assert "site" in labels.split(", ")
