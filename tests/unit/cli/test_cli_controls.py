"""`controls` and `override`: what is printed, what is shown in `status` and `why`, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backupguard.cli.main import main

CONFIGURATION = """
[site]
name = "CH"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "backupguard.toml"
    path.write_text(CONFIGURATION.replace("HERE", str(tmp_path)), encoding="utf-8")
    return path


def test_the_catalogue_one_control_and_one_reference(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--config", str(file), "--language", "fr", "controls"]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "CaRE D4 (plan 2023) / domaine 2 (appel à financement 2025)" in said
    assert "Aligné sur\u00a0:" in said
    assert "CaRE D2 (non vérifié)" in said
    assert said.count("-01") == 15
    assert main([*call, "D4-RST-01"]) == 0
    said = capsys.readouterr().out
    assert "C1 31d C2 92d C3 365d" in said
    assert "R22" in said
    assert "cité par un tiers, non vérifié" in said
    assert main([*call, "--map", "care d2"]) == 0
    said = capsys.readouterr().out
    assert "Lignes non vérifiées" in said
    assert "principe du 3-2-1" in said
    assert main([*call, "321-01", "--map", "ANSSI-BP-100", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["identifier"] for row in told["maps"][0]["rows"]] == ["R11"]
    assert main([*call, "--map", "none"]) == 64
    assert main([*call, "XXX-99"]) == 64


def test_a_changed_threshold_is_shown_with_author_reason_and_end(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--config", str(file), "--language", "en"]
    make = [*call, "override", "RST-01", "period", "7d", "--reason", "audit", "--for", "30d"]
    assert main(make) == 0
    assert "in force until" in capsys.readouterr().out
    assert main([*call, "override", "rst-01", "period", "45d", "--reason", "x", "--for", "9d"]) == 0
    assert "changes nothing yet" in capsys.readouterr().out
    assert main([*call, "override", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["given"], row["state"]) for row in rows] == [
        ("7d", "in_force"),
        ("45d", "waiting"),
    ]
    main([*call, "status"])
    said = capsys.readouterr().out
    assert "Thresholds changed:" in said
    assert "(more demanding than the catalogue)" in said
    assert "audit" in said
    main([*call, "status", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [row["given"] for row in told["overrides"]] == ["7d", "45d"]
    assert told["aligned"]["name"]["fr"].startswith("CaRE D4 (plan 2023)")
    assert "R22" in {row["identifier"] for row in told["aligned"]["controls"]["RST-01"]}
    assert "waits for a second person" in said
    main([*call, "why", "RST-01", "dpi"])
    assert said.count("Threshold") >= 1
    assert "7d" in capsys.readouterr().out
    assert main([*call, "override", "end", str(rows[0]["seq"]), "--reason", "done"]) == 0
    capsys.readouterr()
    assert main([*call, "override", "list"]) == 0
    assert "ended" in capsys.readouterr().out


def test_config_check_names_what_is_wrong_with_a_catalogue(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = file.parent / "controls"
    own.mkdir()
    (own / "map-x.toml").write_text('id = "X"\nname = 3\n', encoding="utf-8")
    with file.open("a", encoding="utf-8") as text:
        text.write('[controls]\ndirectory = "controls"\n')
    assert main(["--config", str(file), "config", "check", "--json"]) == 78
    told = json.loads(capsys.readouterr().out)
    assert told["problems"][0]["file"] == str(own / "map-x.toml")
    assert told["problems"][0]["line"] == 2
    (own / "map-x.toml").unlink()
    assert main(["--config", str(file), "config", "check"]) == 0
