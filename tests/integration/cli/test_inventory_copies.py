"""Copies declared apart and found in one place count once; the twin in two places counts twice."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard.cli.main import main

Call = Callable[..., tuple[int, str]]


def configuration(state: Path, near: Path, far: Path) -> str:
    return f"""
[site]
name = "Essai"
language = "fr"
[store]
directory = "{state}"
[repositories.baie]
type = "directory"
path = "{near}"
settle = "0s"
failure-domain = "batiment-a"
declared-by = "DSI"
declared-on = 2026-01-05
[repositories.coffre]
type = "directory"
path = "{far}"
settle = "0s"
failure-domain = "batiment-b"
declared-by = "DSI"
declared-on = 2026-01-05
medium-kind = "removable"
off-site = true
[applications.dpi]
name = "DPI"
criticality = "C1"
failure-domain = "batiment-c"
backups.nuit = {{ repository = "baie", select.pattern = "dpi.dump", every = "24h" }}
backups.semaine = {{ repository = "coffre", select.pattern = "dpi.dump", every = "7d" }}
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system than the tests' own."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Call]:
    def at(far: Path) -> Call:
        near = tmp_path / "baie"
        for directory in (near, far):
            directory.mkdir(exist_ok=True)
            (directory / "dpi.dump").write_bytes(b"PGDMP")
            os.utime(directory / "dpi.dump", (time.time() - 3600,) * 2)
        path = tmp_path / "backupguard.toml"
        path.write_text(configuration(tmp_path / "state", near, far), encoding="utf-8")

        def run(*arguments: str) -> tuple[int, str]:
            code = main(["--config", str(path), *arguments])
            return code, capsys.readouterr().out

        return run

    return at


def judged(run: Call) -> dict[str, Any]:
    found = json.loads(run("status", "--json", "--control", "321-01")[1])["findings"]
    (finding,) = [one for one in found if one["subject"] == "application/dpi"]
    return dict(finding)


def test_two_directories_of_one_file_system_are_one_copy(
    site: Callable[[Path], Call], tmp_path: Path
) -> None:
    run = site(tmp_path / "coffre")
    code, table = run("inventory")
    assert code == 0
    assert "1/2" in table
    assert "baie+coffre (au même endroit)" in table
    (copies,) = json.loads(run("inventory", "--no-refresh", "--json")[1])["applications"][0][
        "copies"
    ]
    assert copies["in_one_place"] == ["baie", "coffre"]
    finding = judged(run)
    assert (finding["status"], finding["severity"]) == ("non_compliant", "high")
    assert finding["reason"]["id"] == "reason.321-01.few_one_place"
    assert "backupguard inventory" in run("why", "321-01", "application/dpi")[1]


def test_the_twin_on_two_file_systems_is_two_copies(
    site: Callable[[Path], Call], elsewhere: Path
) -> None:
    run = site(elsewhere)
    code, table = run("inventory")
    assert code == 0
    assert "2/2" in table
    finding = judged(run)
    assert finding["status"] == "warning"
    assert finding["reason"]["id"] == "reason.321-01.offline_declared"


def test_where_a_copy_was_found_is_remembered_while_it_is_away(
    site: Callable[[Path], Call], tmp_path: Path
) -> None:
    """Taking a repository away must not make it look independent."""
    run = site(tmp_path / "coffre")
    assert run("inventory")[0] == 0
    (tmp_path / "coffre").rename(tmp_path / "away")
    assert run("inventory")[0] == 2
    assert judged(run)["reason"]["id"] == "reason.321-01.few_one_place"
