"""What another tool says of copies is recorded and shown as its word, never as seen."""

from __future__ import annotations

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
