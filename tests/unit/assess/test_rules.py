"""Alert rules: promtool accepts them, and every alert is shown to fire and to stay silent."""

from __future__ import annotations

import re
import subprocess

import pytest

from backupguard.controls import BUILT
from backupguard.metrics import STATUS_VALUES
from backupguard.metrics.families import BY_NAME
from backupguard.model import Status
from backupguard.resources import shipped

RULES = shipped("prometheus/backupguard.rules.yml")
CASES = shipped("prometheus/backupguard.rules.test.yml")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=RULES.parent, text=True, capture_output=True, timeout=120
    )


def alerts() -> dict[str, str]:
    """Return the text of each alert rule by its name."""
    parts = re.split(r"^\s+- alert: (\w+)$", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", RULES.name)
    assert checked.returncode == 0, checked.stderr


def test_the_cases_hold() -> None:
    tested = promtool("test", "rules", CASES.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_every_alert_is_shown_to_fire_and_to_stay_silent(alert: str) -> None:
    text = CASES.read_text(encoding="utf-8")
    fires = re.findall(rf"alertname: {alert}\n\s+exp_alerts:\n", text)
    silent = re.findall(rf"alertname: {alert}\n\s+exp_alerts: \[\]", text)
    assert fires
    assert silent


@pytest.mark.parametrize(("alert", "rule"), sorted(alerts().items()))
def test_every_alert_has_its_labels_and_words(alert: str, rule: str) -> None:
    for label in ("care_domain: D4", "control: ", "severity: "):
        assert label in rule
    for annotation in ("summary", "description", "summary_fr", "description_fr"):
        assert re.search(rf"^\s+{annotation}: '.{{15,}}'$", rule, re.MULTILINE), annotation
    assert f"/runbooks/{alert}'" in rule


@pytest.mark.parametrize("alert", sorted(alerts()))
@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_alert_has_a_runbook(alert: str, language: str) -> None:
    text = (shipped("runbooks") / f"{alert}.{language}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")
    assert "backupguard" in text


def test_every_built_control_has_an_alert() -> None:
    named = set(re.findall(r"^\s+control: (\S+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == set(BUILT)


def test_the_rules_read_only_metrics_that_exist() -> None:
    source = RULES.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bbackupguard_(\w+)", source)):
        assert name in BY_NAME, name


def test_a_page_ends_on_what_the_metrics_call_settled() -> None:
    ends = {STATUS_VALUES[s] for s in (Status.COMPLIANT, Status.NOT_APPLICABLE, Status.WAIVED)}
    assert ends == {0, 4, 5}
