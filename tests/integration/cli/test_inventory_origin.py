"""Whose word points are, what is wrong with a repository and what to do is said where it is shown."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.cli import common
from backupguard.cli.main import main

Call = Callable[..., tuple[int, str]]


def configuration(where: Path) -> str:
    return f"""
[site]
name = "Essai"
language = "fr"
[store]
directory = "{where}/state"
[repositories.netbackup]
type = "import"
source = "NetBackup"
file = "{where}/export.csv"
columns = {{ job = "job", at = "at", state = "state" }}
states = {{ complete = ["0"] }}
[repositories.scripts]
type = "reported"
spool = "{where}/spool"
[repositories.dumps]
type = "directory"
path = "{where}/dumps"
settle = "0s"
[applications.dpi]
name = "DPI"
criticality = "C1"
backups.central = {{ repository = "netbackup", select.name = "DPI_*", every = "24h" }}
backups.script = {{ repository = "scripts", every = "24h" }}
backups.dump = {{ repository = "dumps", select.pattern = "dpi.dump", every = "24h" }}
"""


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    at = datetime.now(UTC) - timedelta(hours=3)
    (tmp_path / "export.csv").write_text(f"job,at,state\nDPI_FULL,{at.isoformat()},0\n")
    os.utime(tmp_path / "export.csv", (time.time() - 3600,) * 2)
    (tmp_path / "dumps").mkdir()
    (tmp_path / "dumps/dpi.dump").write_bytes(b"PGDMP")
    os.utime(tmp_path / "dumps/dpi.dump", (time.time() - 3600,) * 2)
    (tmp_path / "spool/dpi.script").mkdir(parents=True)
    (tmp_path / "backupguard.toml").write_text(configuration(tmp_path), encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["--config", str(tmp_path / "backupguard.toml"), *arguments])
        return code, capsys.readouterr().out

    return run


def test_a_listing_is_recorded_as_whose_word_it_is(site: Call) -> None:
    assert site("inventory", "--json")[0] == 0
    store = common.store(common.settings())
    try:
        facts = list(store.facts(kinds=["inventory.listed"]))
    finally:
        store.close()
    origins = {fact.observation.subject: fact.observation.origin.value for fact in facts}
    assert origins == {
        "repository/netbackup": "imported",
        "repository/scripts": "imported",
        "repository/dumps": "observed",
    }


def test_imported_points_are_called_so_wherever_a_repository_is_named(site: Call) -> None:
    code, table = site("inventory")
    assert code == 0
    assert "netbackup (importé)" in table
    assert "scripts (importé)" in table
    assert "dumps (" not in table.split("Remarques")[0]
    document = json.loads(site("inventory", "--no-refresh", "--json")[1])
    assert {one["id"]: one["origin"] for one in document["repositories"]} == {
        "netbackup": "imported",
        "scripts": "imported",
        "dumps": "observed",
    }
    assert site("doctor", "repositories")[1].count("importé") == 2


def test_a_report_that_was_refused_is_told_and_its_twin_is_silent(
    site: Call, tmp_path: Path
) -> None:
    refused = "des rapports invalides, ou contredisant un rapport enregistré, ont été refusés"
    assert site("inventory")[0] == 0
    assert refused not in site("inventory")[1] + site("doctor")[1]
    (tmp_path / "spool/dpi.script/1.json").write_text("{}")
    assert f"scripts : {refused}" in site("inventory")[1].replace("\u00a0", " ")
    code, told = site("doctor")
    assert code == 2
    assert refused in told
    assert "docs/repositories/reported.md" in told


@pytest.mark.parametrize(
    ("broken", "told", "remedy"),
    [
        ("row", "export.csv, ligne 2", "dans une version que nomme docs/repositories"),
        ("spool", "Tout le monde peut écrire dans", "chmod o-w"),
        ("gone", "introuvable", "Vérifiez le chemin"),
    ],
    ids=["an import with a row that is none", "a spool open to all", "a directory that is gone"],
)
def test_a_repository_in_trouble_says_what_and_what_to_do(
    site: Call, tmp_path: Path, broken: str, told: str, remedy: str
) -> None:
    if broken == "row":
        (tmp_path / "export.csv").write_text("job,at,state\nDPI_FULL,31/02/2026,0\n")
    elif broken == "spool":
        (tmp_path / "spool/dpi.script").chmod(0o777)
    else:
        (tmp_path / "dumps").rename(tmp_path / "away")
    for command in ("inventory", "doctor"):
        code, shown = site(command)
        assert code == 2
        assert told in shown.replace("\u00a0", " ")
        assert remedy in shown.replace("\u00a0", " ")


def test_doctor_names_the_program_of_a_type_that_is_not_here(site: Call, tmp_path: Path) -> None:
    assert "borg" not in site("doctor")[1]
    with (tmp_path / "backupguard.toml").open("a") as file:
        file.write(f"""
[repositories.archives]
type = "borg"
url = "{tmp_path}/borg"
program = "{tmp_path}/none/borg"
""")
    code, shown = site("doctor")
    assert code == 2
    assert f"{tmp_path}/none/borg" in shown
    assert "apt-get install borgbackup" in shown
