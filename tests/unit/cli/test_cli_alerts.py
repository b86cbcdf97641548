"""`backupguard alerts rules`: links and language, from the configuration and from options."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from backupguard.cli import main as cli

CONFIGURATION = """
[site]
name = "CH d'essai"
[store]
directory = "state"
{http}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "backupguard.toml"
    file.write_text(CONFIGURATION.format(http=""), encoding="utf-8")
    monkeypatch.setenv("BACKUPGUARD_CONFIG", str(file))
    return file


def links(text: str) -> set[str]:
    groups = yaml.safe_load(text)["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    found = (rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule)
    return {link.rpartition("/")[0] for link in found}


def test_links_begin_as_the_option_says(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = "https://wiki.example/dr"
    assert cli.main(["--language", "fr", "alerts", "rules", "--runbook-base", base]) == 0
    told = capsys.readouterr().out
    assert links(told) == {base}
    assert "summary: 'Le travail" in told


def test_links_begin_as_the_configuration_says(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--language", "en", "alerts", "rules"]) == 0
    assert "http://{{ $labels.instance }}/runbooks" in links(capsys.readouterr().out)
    base = "https://wiki.example/dr"
    setting = f'[http]\nrunbook-base = "{base}"'
    home.write_text(CONFIGURATION.format(http=setting), encoding="utf-8")
    assert cli.main(["--language", "en", "alerts", "rules"]) == 0
    assert links(capsys.readouterr().out) == {base}


def test_the_rules_of_several_sites_are_fitted_as_well(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--language", "fr", "alerts", "rules", "--ght", "--runbook-base"]
    assert cli.main([*asked, "https://wiki.example/dr"]) == 0
    told = capsys.readouterr().out
    assert links(told) == {"https://wiki.example/dr"}
    assert "alert: BackupGuardSiteSilent" in told
    assert " summary: 'Le BackupGuard de" in told


def test_what_is_no_base_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--language", "fr", "alerts", "rules", "--runbook-base", "wiki'"]) == 64
    assert "http ou https" in capsys.readouterr().err
