"""Sixteen nights of SQLite, damaged from the eleventh on: where it began, in few tests."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.cli.main import main
from backupguard.daemon.bisection import Bisection
from backupguard.daemon.requests import BISECTION
from backupguard.model import RunState
from backupguard.settings.loading import load
from backupguard.store import open_store

NIGHTS, FIRST_BAD = 16, 11
Call = Callable[..., tuple[int, str, str]]


def night(path: Path, number: int) -> None:
    """Write the dump of a night: samples grow by ten, and half of them are lost from the eleventh."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table samples (id integer primary key, tube text)")
        connection.execute("create table closed (id integer primary key, outcome text)")
        rows = 200 + 10 * number
        connection.executemany(
            "insert into samples (tube) values (?)", ((f"tube {n}",) for n in range(rows))
        )
        connection.executemany(
            "insert into closed (outcome) values (?)", ((f"sorti {n}",) for n in range(30))
        )
        if number >= FIRST_BAD:
            connection.execute("delete from samples where id % 2 = 0")
        connection.commit()


@pytest.fixture
def nights(tmp_path: Path) -> list[Path]:
    directory = tmp_path / "dumps"
    directory.mkdir()
    first = datetime.now(UTC) - timedelta(days=NIGHTS)
    found = []
    for number in range(1, NIGHTS + 1):
        moment = first + timedelta(days=number - 1)
        found.append(directory / f"labo-{moment:%Y%m%d}.db")
        night(found[-1], number)
    return found


@pytest.fixture
def configuration(tmp_path: Path, nights: list[Path]) -> Path:
    path = tmp_path / "backupguard.toml"
    path.write_text(
        f"""
[site]
name = "Essai"
language = "fr"
[store]
directory = "{tmp_path / "state"}"
[scratch]
clear-text-accepted-by = "essai"
[repositories.dumps]
type = "directory"
path = "{nights[0].parent}"
settle = "0s"
timezone = "UTC"
[applications.labo]
name = "Laboratoire"
criticality = "C1"
[applications.labo.backups.nightly]
repository = "dumps"
select.pattern = "labo-%Y%m%d.db"
every = "24h"
[applications.labo.restore-test]
engine = "sqlite"
[[applications.labo.restore-test.invariants]]
name = "prélèvements"
table = "samples"
[[applications.labo.restore-test.invariants]]
name = "dossiers clos"
closed-set = "select id, outcome from closed"
since = 2020-01-01
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def call(configuration: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--config", str(configuration), *arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_the_last_clean_point_is_found_and_offered(
    call: Call, configuration: Path, nights: list[Path]
) -> None:
    call("inventory", "--json")
    # A sound night is measured first, then the newest is held against it.
    code, out, error = call("restore-test", "labo", "--point", nights[2].name)
    assert code == 0, out + error
    code, out, _ = call("restore-test", "labo", "--json")
    assert code == 1
    result = json.loads(out)[0]["result"]
    assert result["code"] == "invariant_broken"
    broken = [check for check in result["checks"] if check["verdict"] == "failed"]
    assert [(check["name"], check["code"]) for check in broken] == [
        ("prélèvements", "invariant_shrank")
    ]

    # The daemon asks for the same test that a person's search begins with.
    with closing(open_store(load(configuration).state_directory, replace_corrupt=False)) as store:
        Bisection(store).ask(load(configuration), datetime.now(UTC))
        Bisection(store).ask(load(configuration), datetime.now(UTC))
        asked = [run for run in store.runs(task="restore-test") if run.state is RunState.WAITING]
        assert [run.request.requested_by for run in asked] == [BISECTION]
        assert asked[0].request.options["point"] == nights[8].name
        store.cancel(asked[0].id, "essai")

    # One night cannot be told: it counts as neither.
    nights[8].chmod(0)
    code, out, _ = call("restore-test", "--bisect", "labo", "--json")
    found = json.loads(out)[0]
    assert (found["last_clean"]["point"], found["first_bad"]["point"]) == (
        nights[FIRST_BAD - 2].name,
        nights[FIRST_BAD - 1].name,
    )
    assert found["tests"] <= 5
    assert code == 0

    # It is over: nothing is tested again, and everybody is told.
    code, out, _ = call("restore-test", "--bisect", "labo")
    assert "dernier point sain" in out
    assert "0 essai(s)" in out
    _, out, _ = call("why", "RST-02", "labo")
    assert "Dernier point sain" in out
    assert "premier point atteint" in out
    assert "backupguard plan" in out
    _, out, _ = call("status", "--control", "RST-02")
    assert "ernier point sain" in out
    _, out, _ = call("plan", "--json")
    planned = json.loads(out)["applications"][0]
    assert planned["copies"][0]["point"] == nights[FIRST_BAD - 2].name
    assert planned["last_clean_point"]["first_bad"]["point"] == nights[FIRST_BAD - 1].name
    with closing(open_store(load(configuration).state_directory, replace_corrupt=False)) as store:
        Bisection(store).ask(load(configuration), datetime.now(UTC))
        assert not [run for run in store.runs() if run.state is RunState.WAITING]


def test_a_legitimate_purge_is_accepted_with_its_reason(call: Call, nights: list[Path]) -> None:
    call("inventory", "--json")
    call("restore-test", "labo", "--point", nights[2].name)
    assert call("restore-test", "labo")[0] == 1
    assert call("baseline", "accept", "labo", "--reason", "purge des prélèvements de 2019")[0] == 0
    assert call("restore-test", "labo")[0] == 0
    assert "rien à chercher" in call("restore-test", "--bisect", "labo")[1]
