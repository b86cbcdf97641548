"""The daemon as the service manager, the SOC and the operator meet it."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backupguard.daemon import client
from backupguard.errors import ConfigurationError, UsageError
from backupguard.model import RunState
from backupguard.resources import shipped
from backupguard.store import open_store
from tests.integration.daemon.living import PROGRAM, Site, stop, wait_for

#: Kilobytes the idle daemon may hold resident.
RSS_LIMIT_KB = 90 * 1024

HEAVY = (
    "alembic",
    "boto3",
    "botocore",
    "jinja2",
    "markdown_it",
    "pygal",
    "pygments",
    "restore_tests.phases",
    "rich",
    "sqlalchemy.orm",
    "tree_sitter",
    "weasyprint",
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


def finished(site: Site, task: str = "inventory") -> object:
    return wait_for(lambda: site.facts(f"{task}.closed"))


def test_from_start_to_stop(site: Site) -> None:
    process = site.start()
    assert site.get("/-/ready") == (200, "ready\n")
    assert site.get("/-/healthy") == (200, "healthy\n")
    status, text = site.get("/metrics")
    names = {family.name for family in text_string_to_metric_families(text)}
    assert status == 200
    assert {"backupguard_control_status", "process_start_time_seconds"} <= names
    assert "Dossier patient" in site.get("/")[1]
    finished(site)
    finished(site, "integrity")
    site.quieten()
    assert "WATCHDOG=1" in site.heard("WATCHDOG=1")
    assert stat.S_IMODE((site.state / "run" / "control.sock").stat().st_mode) == 0o660
    assert stop(process) == 0
    assert "STOPPING=1" in site.heard("STOPPING=1")
    assert site.facts("daemon.stopped")[-1].observation.data["reason"] == "SIGTERM"
    assert site.run_directories() == []
    assert not (site.state / "run" / "control.sock").exists()
    log = site.log.read_text()
    assert all(line.startswith("{") for line in log.splitlines()), log


def test_the_record_says_whether_the_daemon_before_ended_cleanly(site: Site) -> None:
    stop(site.start(), signal.SIGINT)
    process = site.start()
    process.kill()
    process.wait()
    site.start()
    clean = [fact.observation.data["clean"] for fact in site.facts("daemon.started")]
    assert clean == [True, True, False]


def test_a_daemon_whose_key_is_gone_lives_says_so_and_seals_once_it_is_back(site: Site) -> None:
    assert stop(site.start()) == 0
    keys, safe = site.state / "keys", site.state.parent / "safe"
    keys.rename(safe)
    process = site.start()
    assert site.get("/-/ready")[0] == 200
    assert stop(process) == 0
    assert site.events("evidence.not-sealed")
    assert not keys.exists()
    safe.rename(keys)
    assert stop(site.start()) == 0
    with closing(open_store(site.state)) as store:
        assert store.sealed()[0] == store.head()[0]
        assert len(list(store.facts(kinds=["evidence.key-created"]))) == 1


def test_one_store_has_one_daemon(site: Site) -> None:
    first = site.start()
    second = site.start(ready=False)
    assert second.wait(30) == 2
    assert "démon" in site.log.read_text() or "daemon" in site.log.read_text()
    assert first.poll() is None
    assert site.get("/-/ready")[0] == 200
    assert len(site.facts("daemon.started")) == 1


def test_a_taken_port_is_said_in_words(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)):
        process = site.start(ready=False)
        assert process.wait(30) == 2
    assert f"127.0.0.1:{site.port}" in site.log.read_text()


def test_a_first_start_without_configuration_explains_itself(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    done = subprocess.run(
        [PROGRAM, "--config", missing, "--language", "en", "run"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78
    assert str(missing) in done.stderr
    assert "config check" in done.stderr


def test_a_wrong_configuration_starts_nothing(site: Site) -> None:
    site.write('[nonsense]\nkey = "x"\n')
    assert site.start(ready=False).wait(30) == 78
    assert not site.state.exists()


def test_a_reload_is_recorded_with_what_it_changed(site: Site) -> None:
    process = site.start()
    site.write(language="en")
    site.quieten()
    process.send_signal(signal.SIGHUP)
    told = site.heard("READY=1")
    assert told.index("RELOADING=1") < told.index("READY=1")
    loaded = site.facts("configuration.loaded")
    assert [d["path"] for d in loaded[-1].observation.data["differences"]] == ["site.language"]
    assert loaded[-1].author == "signal/SIGHUP"
    wait_for(lambda: '<html lang="en">' in site.get("/")[1])
    files = [entry.name for entry in (site.state / "settings").iterdir()]
    assert f"settings-{site.settings.sha256}.json" in files
    for entry in (site.state / "settings").iterdir():
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600


def test_a_bad_reload_changes_nothing_and_is_recorded(site: Site) -> None:
    process = site.start()
    before = site.facts("configuration.loaded")
    site.write('[nonsense]\nkey = "x"\n')
    site.quieten()
    process.send_signal(signal.SIGHUP)
    site.heard("READY=1")
    rejected = site.facts("configuration.rejected")
    assert rejected[-1].observation.data["first_key"].startswith("nonsense")
    assert site.facts("configuration.loaded") == before
    assert site.get("/-/ready")[0] == 200
    site.write()
    settings = site.settings
    client.reload(settings)
    first, second = site.facts("configuration.loaded")
    assert "estate" in first.observation.data  # what was declared, so that a past report holds
    assert "estate" not in second.observation.data  # as it was before


def test_a_catalogue_with_an_error_is_named_and_the_old_one_stays(site: Site) -> None:
    """Sabotage: a hospital's own catalogue loses a bracket; then it is mended."""
    directory = site.state.parent / "controls"
    directory.mkdir()
    own = directory / "care-d4.toml"
    text = shipped("controls/care-d4.toml").read_text(encoding="utf-8")
    own.write_text(text.replace('value = "35d"', 'value = "34d"'), encoding="utf-8")
    site.write(f'[controls]\ndirectory = "{directory}"\n')
    process = site.start()
    held = site.facts("configuration.loaded")[-1].observation.data
    assert len(held["maps"]) == 7
    wrong = text.replace('all = { value = "35d"', "all = { value = 35d")
    own.write_text(wrong, encoding="utf-8")
    site.quieten()
    process.send_signal(signal.SIGHUP)
    site.heard("READY=1")
    line = next(n for n, one in enumerate(wrong.splitlines(), 1) if "value = 35d" in one)
    rejected = site.facts("configuration.rejected")[-1].observation.data
    assert (rejected["first_file"], rejected["first_line"]) == (str(own), line)
    assert site.facts("configuration.loaded")[-1].observation.data == held
    told = "CFG-01.rejected"
    wait_for(lambda: any(told in str(f.observation.data) for f in site.facts("finding.changed")))
    own.write_text(text, encoding="utf-8")
    client.reload(site.settings)
    loaded = site.facts("configuration.loaded")[-1].observation.data
    changed = {d["path"]: d["weakened"] for d in loaded["differences"]}
    assert changed["catalogue.PRV-01.anchor-age.C1"] is True, "35 days ask less than 34"
    newest = lambda: str(site.facts("finding.changed")[-1].observation.data)  # noqa: E731
    wait_for(lambda: "CFG-01.weakened" in newest() or told not in newest())


def test_a_reload_cannot_move_the_daemon(site: Site) -> None:
    site.start()
    settings = site.settings
    site.port += 1
    site.write()
    with pytest.raises(ConfigurationError) as refused:
        client.reload(settings)
    assert refused.value.problems[0].key == "http.listen"


def test_operators_are_known_by_their_uid_and_told_what_they_asked_wrongly(site: Site) -> None:
    site.start()
    settings = site.settings
    assert client.daemon_alive(settings)
    assert client.about(settings)["pid"] == site.processes[0].pid
    run = client.enqueue(settings, "inventory", "site")
    last = list(client.follow(settings, run))[-1]
    assert last["state"] == RunState.FINISHED.value
    assert str(last["requested_by"]).startswith(f"uid/{os.getuid()}")
    with pytest.raises(UsageError):
        client.enqueue(settings, "restore-test", "application/absent")
    with pytest.raises(UsageError):
        client.run(settings, "01ABSENT")
    assert not client.cancel(settings, run)


def test_a_pause_holds_the_agenda_and_is_on_the_page(site: Site) -> None:
    paused = site.command("pause", "--reason", "déménagement de la baie", "--until", "2h")
    assert paused.returncode == 0, paused.stderr
    site.start()
    time.sleep(1)
    assert site.facts("inventory.closed") == []
    assert "suspendues" in site.get("/")[1]
    settings = site.settings
    assert client.about(settings)["paused"]
    # a person's own request is performed all the same
    run = client.enqueue(settings, "integrity", "repository/dumps")
    assert list(client.follow(settings, run))[-1]["state"] == RunState.FINISHED.value
    assert site.command("pause", "--reason", "fini", "--end").returncode == 0
    finished(site)
    facts = site.facts("pause.started", "pause.ended")
    assert [fact.observation.kind for fact in facts] == ["pause.started", "pause.ended"]
    assert all((fact.author or "").startswith(f"uid/{os.getuid()}") for fact in facts)
    assert site.command("pause").returncode == 64
    assert site.command("pause", "--reason", "x", "--until", "yesterday").returncode == 64


def test_downtime_is_caught_up_at_the_next_start(site: Site) -> None:
    stop(site.start())
    site.facts()
    # an hour passes for the diary: its runs, and their slots, move into the past
    import sqlite3

    def inventories() -> int:
        # one that finds nothing new leaves no fact, only its row in the diary
        with closing(sqlite3.connect(site.state / "store.sqlite3")) as database:
            wanted = "SELECT count(*) FROM runs WHERE task = 'inventory' AND state = 'finished'"
            return int(database.execute(wanted).fetchone()[0])

    ended = inventories()
    hour = timedelta(hours=1) // timedelta(microseconds=1)
    with closing(sqlite3.connect(site.state / "store.sqlite3", isolation_level=None)) as database:
        database.execute(
            "UPDATE runs SET due_at = due_at - ?, created_at = created_at - ?", (hour, hour)
        )
    site.start()
    wait_for(lambda: inventories() > ended)


def test_a_cancelled_run_ends_with_everything_it_started(site: Site) -> None:
    site.hang()
    site.start()
    settings = site.settings
    run = wait_for(lambda: hanging(site))
    wait_for(lambda: any("bwrap" in text for text in site.leftovers()))
    assert client.cancel(settings, str(run))
    last = list(client.follow(settings, str(run)))[-1]
    assert (last["state"], last["code"]) == ("cancelled", "by_operator")
    wait_for(lambda: str(run) not in site.run_directories())


def hanging(site: Site) -> str | None:
    """Return the inventory that waits for the server which never answers."""
    running = [run for run in client.runs(site.settings) if run["state"] == "running"]
    return next((str(run["id"]) for run in running if run["task"] == "inventory"), None)


def test_a_stop_ends_runs_and_their_slots_are_due_again(site: Site) -> None:
    site.hang()
    process = site.start()
    wait_for(lambda: hanging(site))
    wait_for(lambda: any("bwrap" in text for text in site.leftovers()))
    assert stop(process) == 0
    assert site.leftovers() == []
    assert site.run_directories() == []
    closed = site.facts("inventory.closed")
    assert closed[-1].observation.data["code"] == "by_stop"
    site.start()
    again = wait_for(lambda: hanging(site))
    assert client.run(site.settings, str(again))["attempt"] == 2


@pytest.mark.parametrize("runners_too", [False, True])
def test_a_killed_daemon_leaves_nothing_behind(site: Site, runners_too: bool) -> None:
    site.hang()
    process = site.start()
    run = wait_for(lambda: hanging(site))
    wait_for(lambda: any("bwrap" in text for text in site.leftovers()))
    runners = [event["pid"] for event in site.events("runner.started")]
    process.kill()
    if runners_too:
        for pid in runners:
            with suppress(ProcessLookupError):  # it ended by itself, or noticed first
                os.kill(int(str(pid)), signal.SIGKILL)
    process.wait()
    # no process outlives its daemon, whoever was killed first
    wait_for(lambda: not site.leftovers())
    site.write()
    site.start()
    closings = [fact.observation.data for fact in site.facts("inventory.closed") if fact.run == run]
    assert len(closings) == 1
    assert closings[0]["code"] == ("daemon_died" if runners_too else "by_stop")
    wait_for(lambda: str(run) not in site.run_directories())
    started = site.facts("daemon.started")[-1].observation.data
    assert (run in started["recovered"]) is runners_too


def test_an_idle_daemon_is_small_and_has_imported_nothing_heavy(site: Site) -> None:
    process = site.start()
    finished(site)
    finished(site, "integrity")
    wait_for(lambda: client.about(site.settings)["running"] == 0)
    time.sleep(1)
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    assert resident <= RSS_LIMIT_KB, f"{resident} kB"
    loaded = set(client.modules(site.settings))
    assert not loaded & set(HEAVY), loaded & set(HEAVY)


@pytest.mark.slow
def test_a_run_that_no_process_can_take_up_is_given_up_as_a_fact(site: Site) -> None:
    site.start()
    finished(site)
    finished(site, "integrity")
    wait_for(lambda: client.about(site.settings)["running"] == 0)
    for entry in (site.state / "settings").iterdir():
        entry.unlink()
    run = client.enqueue(site.settings, "inventory", "site")
    wait_for(lambda: client.run(site.settings, run)["state"] == "finished", 90)
    last = client.run(site.settings, run)
    assert (last["verdict"], last["code"]) == ("could_not_verify", "bug")
    assert len(site.events("runner.started")) >= 3
    assert site.get("/-/healthy")[0] == 200


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that another user can reach; pytest's own are below one that is private."""
    with TemporaryDirectory(prefix="bg-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.root
def test_started_as_root_it_becomes_the_owner_of_its_state(open_directory: Path) -> None:
    owner = pwd.getpwnam("nobody")
    site = Site(open_directory)
    for entry in (site.state, site.dumps):
        entry.mkdir(exist_ok=True)
        os.chown(entry, owner.pw_uid, owner.pw_gid)
    (open_directory / "notify").chmod(0o777)
    try:
        process = site.start()
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        uids = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
        assert set(uids) == {str(owner.pw_uid)}
        assert (site.state / "store.sqlite3").stat().st_uid == owner.pw_uid
    finally:
        site.end()
