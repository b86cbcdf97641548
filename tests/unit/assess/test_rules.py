"""Alert rules: promtool accepts them, and every alert is shown to fire and to stay silent."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from backupguard import alerts
from backupguard.controls import BUILT, load_catalogue
from backupguard.metrics import STATUS_VALUES
from backupguard.model import Criticality, Status
from backupguard.resources import shipped
from tests.unit.assess import rule_cases

RULES = shipped(alerts.FILE)
CASES = shipped(rule_cases.FILE)
BY_NAME = {rule.name: rule for rule in alerts.rules()}
#: With those of several sites, whose rules have cases of their own.
NAMED = {
    name
    for file in RULES.parent.glob("*.rules.yml")
    for name in re.findall(r"(?m)^ +- alert: (\w+)$", file.read_text(encoding="utf-8"))
}
SECTIONS = {
    "en": ["Meaning", "How to confirm", "What to do", "Who"],
    "fr": ["Signification", "Comment confirmer", "Que faire", "Qui"],
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=RULES.parent, text=True, capture_output=True, timeout=120
    )


def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", RULES.name)
    assert checked.returncode == 0, checked.stderr


def test_the_cases_hold() -> None:
    tested = promtool("test", "rules", CASES.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_cases_are_those_that_are_made() -> None:
    assert CASES.read_text(encoding="utf-8") == rule_cases.document()


def checks() -> dict[str, list[dict[str, Any]]]:
    """Return what the cases check of each alert."""
    found: dict[str, list[dict[str, Any]]] = {}
    for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]:
        for check in case["alert_rule_test"]:
            found.setdefault(check["alertname"], []).append(check)
    return found


def test_every_alert_is_shown_to_fire_and_to_stay_silent() -> None:
    found = checks()
    assert set(found) == set(BY_NAME)
    assert [name for name, all_ in found.items() if not any(c["exp_alerts"] for c in all_)] == []
    assert [name for name, all_ in found.items() if all(c["exp_alerts"] for c in all_)] == []


def test_every_rule_fires_in_some_case_not_only_one_of_two_with_its_name() -> None:
    fired = {
        (check["alertname"], one["exp_labels"]["severity"], one["exp_labels"].get("extent"))
        for all_ in checks().values()
        for check in all_
        for one in check["exp_alerts"]
    }
    for rule in alerts.rules():
        severity = rule.labels["severity"]
        wanted = {"critical", "high", "warning"} if "{{" in severity else {severity}
        found = {
            s
            for name, s, extent in fired
            if (name, extent) == (rule.name, rule.labels.get("extent"))
        }
        assert found & wanted, rule.name


@pytest.mark.parametrize("rule", alerts.rules(), ids=lambda rule: f"{rule.name}-{rule.wait}")
def test_every_alert_has_its_labels_and_words(rule: alerts.Rule) -> None:
    assert rule.labels["care_domain"] == "D4"
    assert rule.labels["control"] in BUILT
    assert re.fullmatch(r"critical|high|warning|none|\{\{.+\}\}", rule.labels["severity"])
    assert set(rule.annotations) == {
        "summary", "description", "summary_fr", "description_fr", "runbook_url",
    }  # fmt: skip
    assert all(len(text) >= 15 for text in rule.annotations.values())
    assert rule.annotations["runbook_url"].endswith(f"/runbooks/{rule.name}")


@pytest.mark.parametrize("alert", sorted(NAMED))
@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_alert_has_a_runbook(alert: str, language: str) -> None:
    text = (shipped("runbooks") / f"{alert}.{language}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"(?m)^## (.+)$", text) == SECTIONS[language]
    for section in re.split(r"(?m)^## .+$", text)[1:]:
        assert len(section.strip()) > 20
    assert "backupguard" in text.lower()


def test_no_runbook_is_left_over() -> None:
    names = {path.name for path in shipped("runbooks").iterdir()}
    several_sites = shipped("prometheus/backupguard-ght.rules.yml").read_text(encoding="utf-8")
    alerting = {*BY_NAME, *re.findall(r"- alert: (\w+)", several_sites)}
    assert names == {f"{alert}.{language}.md" for alert in alerting for language in ("en", "fr")}


def test_every_built_control_has_an_alert_of_its_own() -> None:
    """One that reads the control's findings: alerts about the daemon itself do not count."""
    named = {
        rule.labels["control"]
        for rule in alerts.rules()
        if f'control="{rule.labels["control"]}"' in rule.expr
    }
    assert named == set(BUILT)


def test_the_rules_read_only_metrics_that_exist() -> None:
    import backupguard.metrics as metrics

    source = RULES.read_text(encoding="utf-8")
    place = Path(metrics.__file__)
    files = place.parent.glob("*.py") if place.name == "__init__.py" else [place]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    for name in set(re.findall(r"\bbackupguard_(\w+)", source)):
        assert f'"{name}"' in code, name


def test_a_page_ends_on_what_the_metrics_call_settled() -> None:
    ends = {STATUS_VALUES[s] for s in (Status.COMPLIANT, Status.NOT_APPLICABLE, Status.WAIVED)}
    assert ends == {0, 4, 5}


@pytest.mark.parametrize(
    ("alert", "threshold"),
    [("BackupGuardAnchorStale", "anchor-age"), ("BackupGuardSelfTestStale", "self-test-age")],
)
def test_limits_in_the_rules_are_those_of_the_catalogue(alert: str, threshold: str) -> None:
    days = re.search(r"> (\d+) \* 86400", BY_NAME[alert].expr)
    assert days is not None
    assert load_catalogue().period("PRV-01", Criticality.C1, threshold) == int(days[1]) * 86_400


def test_links_of_several_sites_begin_where_they_are_wanted(tmp_path: Path) -> None:
    text = alerts.fitted("https://wiki.example/sauvegardes/", "fr", alerts.GHT_FILE)
    (tmp_path / "rules.yml").write_text(text, encoding="utf-8")
    checked = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert checked.returncode == 0, checked.stderr
    found = re.findall(r"runbook_url: '(.+)/\w+'", text)
    assert set(found) == {"https://wiki.example/sauvegardes"}
    assert alerts.fitted(None, "en", alerts.GHT_FILE) == alerts.shipped_text(alerts.GHT_FILE)


def test_links_begin_where_the_site_wants(tmp_path: Path) -> None:
    text = alerts.fitted("https://wiki.example/sauvegardes/", "fr")
    (tmp_path / "rules.yml").write_text(text, encoding="utf-8")
    checked = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert checked.returncode == 0, checked.stderr
    told = [
        rule["annotations"]
        for rule in yaml.safe_load(text)["groups"][0]["rules"]
        if "alert" in rule
    ]
    usual = [rule.annotations for rule in alerts.rules()]
    for one, before in zip(told, usual, strict=True):
        name = before["runbook_url"].rpartition("/")[2]
        assert one["runbook_url"] == f"https://wiki.example/sauvegardes/{name}"
        assert one["summary"] == before["summary_fr"]
        assert one["description_en"] == before["description"]


def test_nothing_is_changed_where_nothing_is_asked() -> None:
    assert alerts.fitted(None, "en") == RULES.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "base", ["wiki", "https://x/'", "https://{{ x }}", "https://x y", "file:///x"]
)
def test_what_is_no_base_of_links_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match=re.escape(base)):
        alerts.fitted(base, "en")


def test_the_page_of_alerts_is_the_one_that_is_made() -> None:
    page = Path(__file__).parents[3] / "docs" / "soc" / "alerts.md"
    assert page.read_text(encoding="utf-8") == alerts.reference()
