"""`backupguard plan`: printed, as JSON, and written and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backupguard.cli import main as cli

CONFIGURATION = """
[site]
name = "CH d'essai"
[store]
directory = "state"
[scratch]
clear-text-accepted-by = "essai"
[plan]
directory = "coffre"
[repositories.exports]
type = "directory"
path = "HERE/exports"
[applications.dpi]
name = "DPI"
criticality = "C1"
rto = "1h"
recovery.steps = [{ name = "serveur", duration = "90m" }]
[applications.dpi.backups.nuit]
repository = "exports"
select.pattern = "app-%Y%m%d.dump"
every = "24h"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("exports", "coffre"):
        (tmp_path / name).mkdir()
    file = tmp_path / "backupguard.toml"
    file.write_text(CONFIGURATION.replace("HERE", str(tmp_path)), encoding="utf-8")
    monkeypatch.setenv("BACKUPGUARD_CONFIG", str(file))
    return tmp_path


def test_it_is_printed_in_the_language_asked_for_and_as_json(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.is_dir()
    assert cli.main(["--language", "en", "plan"]) == 0
    text = capsys.readouterr().out
    assert "misses its RTO, no test has passed" in text
    assert cli.main(["plan", "--json", "--application", "dpi"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["applications"]
    assert (one["late"], one["measured"], one["missing"]) == (True, False, ["test"])
    assert cli.main(["plan", "--application", "nobody"]) == 64


def test_it_is_written_where_it_is_kept_and_nowhere_else(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--quiet", "plan", "--output", str(home / "coffre")]) == 0
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(str(path) for path in (home / "coffre").iterdir())
    assert cli.main(["--quiet", "evidence", "show", "1"]) == 0
    assert cli.main(["--quiet", "plan", "--output", str(home / "absent")]) == 2
    assert not (home / "absent").exists()
