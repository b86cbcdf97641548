"""Commands that act, in process: what they print, what they record, how they exit."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.cli.main import main
from backupguard.cli.probe import PROBES
from backupguard.daemon import cadence, tasks
from backupguard.daemon.requests import request
from backupguard.model import RunState
from backupguard.runs import run_directory
from backupguard.settings import load
from backupguard.store import open_store

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    """The directory in which a job leaves its dumps: one of them, and it is empty."""
    directory = tmp_path / "dumps"
    directory.mkdir()
    (directory / "dpi.dump").write_bytes(b"")
    return directory


@pytest.fixture
def call(tmp_path: Path, dumps: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    path = tmp_path / "backupguard.toml"
    path.write_text(
        f"""
[site]
name = "Essai"
language = "en"
[store]
directory = "{tmp_path / "state"}"
[scratch]
clear-text-accepted-by = "tests: invented data"
[repositories.dumps]
type = "directory"
path = "{dumps}"
settle = "0s"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "dumps"
select.pattern = "dpi.dump"
every = "24h"
[applications.dpi.restore-test]
engine = "postgresql"
""",
        encoding="utf-8",
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--config", str(path), *arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.mark.parametrize(
    ("criticality", "accepted", "protection", "refused"),
    [
        ("C1", "", "clear", True),
        ("C1", "", "encrypted", False),
        ("C1", "", "tmpfs", False),
        ("C1", "RSSI", "clear", False),
        ("C2", "", "clear", False),
    ],
    ids=["vital", "encrypted", "memory", "accepted", "important"],
)
def test_a_vital_application_is_not_restored_to_a_disk_in_clear_text(
    call: Call,
    dumps: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    criticality: str,
    accepted: str,
    protection: str,
    refused: bool,
) -> None:
    config = tmp_path / "backupguard.toml"
    text = config.read_text(encoding="utf-8")
    line = f'clear-text-accepted-by = "{accepted}"'
    text = text.replace('clear-text-accepted-by = "tests: invented data"', line)
    config.write_text(text.replace('"C1"', f'"{criticality}"'), encoding="utf-8")
    monkeypatch.setattr(tasks, "scratch_protection", lambda _: protection)
    (dumps / "dpi.dump").write_text("no dump, which is a defect once it is fetched\n")
    code, out, _ = call("restore-test", "dpi", "--json")
    (run,) = json.loads(out)
    assert run["verdict"] == ("could_not_verify" if refused else "failed")
    assert run["code"] == ("scratch_in_clear" if refused else "not_a_dump")
    assert code == (2 if refused else 1)
    store = open_store(tmp_path / "state")
    try:
        (result,) = store.facts(kinds=["restore-test.result"])
        data = result.observation.data
        assert (data["code"], data["bytes"] == 0) == (run["code"], refused)
        phases = [fact.observation.data for fact in store.facts(kinds=["restore-test.phase"])]
    finally:
        store.close()
    fetched = next(one for one in phases if one["phase"] == "fetch")
    assert (fetched["code"] == "scratch_in_clear") is refused
    _, told, _ = call("--language", "fr", "why", "RST-01", "application/dpi")
    assert ("espace de travail en clair refusé" in told) is refused


def test_inventory_lists_jobs_and_says_how_the_repository_answers(call: Call) -> None:
    code, out, _ = call("inventory", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["applications"][0]["jobs"][0]["repository"] == "dumps"
    assert told["repositories"][0]["inspected"]["reachable"] is True


def test_inventory_says_that_a_repository_is_gone(call: Call, dumps: Path) -> None:
    (dumps / "dpi.dump").unlink()
    dumps.rmdir()
    code, out, _ = call("inventory")
    assert code == 2
    assert "not found" in out
    code, again, _ = call("inventory", "--no-refresh")
    assert code == 0  # nothing was asked, so nothing could fail
    assert "not found" in again


def test_an_empty_dump_fails_its_restore_test(call: Call) -> None:
    call("inventory")
    code, out, _ = call("restore-test", "dpi")
    assert code == 1
    assert "application/dpi  failed – " in out


def test_a_file_that_is_no_dump_fails_its_restore_test(call: Call, dumps: Path) -> None:
    (dumps / "dpi.dump").write_text("pg_dump: error: connection refused\n")
    code, out, _ = call("restore-test", "--json")
    told = json.loads(out)
    assert code == 1
    assert (told[0]["verdict"], told[0]["code"]) == ("failed", "not_a_dump")
    assert told[0]["result"]["level"] == 1  # its bytes were read, and no more


def test_each_run_is_closed_once_and_leaves_nothing(call: Call, tmp_path: Path) -> None:
    call("probe")
    store = open_store(tmp_path / "state")
    closed = [fact.observation.kind for fact in store.facts() if "closed" in fact.observation.kind]
    assert sorted(closed) == sorted(f"{name}.closed" for name in PROBES)
    assert list((tmp_path / "state" / "runs").iterdir()) == []
    store.close()


@pytest.mark.parametrize(
    ("limit", "verdict", "code"),
    [(1, "could_not_verify", "run_limit"), (600, "passed", None)],
    ids=["too-long", "in-time"],
)
def test_without_a_daemon_a_run_has_a_deadline_too(
    call: Call,
    dumps: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    verdict: str,
    code: str | None,
) -> None:
    program = tmp_path / "site" / "look"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec sleep {30 if limit == 1 else 0}\n")
    program.chmod(0o755)
    config = tmp_path / "backupguard.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(
        text.replace('engine = "postgresql"', f'engine = "command"\nprogram = "{program}"'),
        encoding="utf-8",
    )
    (dumps / "dpi.dump").write_bytes(b"what only the site's own program knows\n")
    monkeypatch.setattr(cadence, "deadline", lambda *_: timedelta(seconds=limit))
    began = time.monotonic()
    _, out, _ = call("restore-test", "dpi", "--json")
    assert time.monotonic() - began < 20
    (run,) = json.loads(out)
    assert (run["verdict"], run["code"]) == (verdict, code)
    assert not any((tmp_path / "state" / "runs").iterdir())


def test_a_second_test_of_an_application_is_refused_while_one_runs(
    call: Call, tmp_path: Path
) -> None:
    call("inventory")
    settings = load(tmp_path / "backupguard.toml")
    store = open_store(settings.state_directory)
    one = store.enqueue(request("restore-test", "application/dpi", requested_by="uid/0"))
    with run_directory(settings, one.id):  # as the process that performs it does
        assert store.start_run(one.id, socket.gethostname())
        code, out, err = call("restore-test", "dpi")
        assert code == 2
        assert "already" in out + err
        (refused,) = store.runs(states=[RunState.CANCELLED])
        assert refused.request.task == "restore-test"
        assert [run.id for run in store.runs(states=[RunState.RUNNING])] == [one.id]
        assert not list(store.facts(kinds=["restore-test.result"]))
    # Its process is gone: the next request closes it and is performed.
    code, _, _ = call("restore-test", "dpi")
    assert code == 1
    assert len(list(store.facts(kinds=["restore-test.result"]))) == 1
    store.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "nosuch"),
        ("probe", "--repository", "nosuch"),
        ("restore-test", "nosuch"),
        ("restore-test", "dpi", "--repository", "nosuch"),
    ],
)
def test_an_unknown_name_is_a_usage_error_that_names_it(
    call: Call, arguments: tuple[str, ...]
) -> None:
    code, _, err = call(*arguments)
    assert code == 64
    assert "nosuch" in err


def test_cancelling_a_run_that_does_not_exist_says_so(call: Call) -> None:
    code, out, err = call("restore-test", "--cancel", "01AAAAAAAAAAAAAAAAAAAAAAAA")
    assert code != 0
    assert "01AAAAAAAAAAAAAAAAAAAAAAAA" in out + err
