"""From version to version, from configuration to configuration, to the end: what runs is not lost."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backupguard.daemon import client
from backupguard.daemon.runners import GRACE_S
from backupguard.store.schema import SCHEMA
from tests.integration.daemon.living import Site, wait_for
from tests.integration.daemon.test_daemon import hanging
from tests.integration.store.schemas.make import HERE
from tests.integration.store.test_store_schemas import FILE, put, version

UNIT = Path(__file__).parents[3] / "systemd/backupguard.service"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


def test_a_reload_leaves_what_runs_running(site: Site) -> None:
    site.hang()
    process = site.start()
    run = str(wait_for(lambda: hanging(site)))
    wait_for(lambda: any("bwrap" in text for text in site.leftovers()))
    runners = [event["pid"] for event in site.events("runner.started")]
    site.config.write_text(site.config.read_text().replace('language = "fr"', 'language = "en"'))
    site.quieten()
    process.send_signal(signal.SIGHUP)
    site.heard("READY=1")
    assert len(site.facts("configuration.loaded")) == 2, "the reload is in force"
    assert client.run(site.settings, run)["state"] == "running"
    assert [event["pid"] for event in site.events("runner.started")][: len(runners)] == runners
    assert not site.facts("inventory.closed")
    assert client.cancel(site.settings, run), "and can still be ended"
    last = list(client.follow(site.settings, run))[-1]
    assert (last["state"], last["code"]) == ("cancelled", "by_operator")


def test_systemd_leaves_a_stop_more_time_than_runs_are_given() -> None:
    """That a deaf runner is killed after its grace is tried in tests/unit/daemon/test_runners.py."""
    told = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))
    assert int(told["TimeoutStopSec"]) >= GRACE_S + 20, "and the daemon its own after it"
    assert told["KillMode"] == "mixed", "only the daemon is told; it ends its runs in order"


def test_a_daemon_takes_up_the_store_of_the_first_version(site: Site) -> None:
    specimen = min(HERE.glob("*.sql"))
    before = put(specimen, site.state)
    site.start()
    assert site.get("/-/ready") == (200, "ready\n")
    started = site.facts("daemon.started")[-1]
    assert started.seq > before["chain_head"][0]["seq"], "the chain goes on"
    assert version(site.state / FILE) == SCHEMA
    assert (site.state / f"copies/before-{SCHEMA}.sqlite3").exists()
    assert site.command("evidence", "verify").returncode == 2, "coherent; no key was named"


def test_a_daemon_does_not_begin_on_a_store_of_the_future(site: Site) -> None:
    put(max(HERE.glob("*.sql")), site.state)
    with closing(sqlite3.connect(site.state / FILE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    process = site.start(ready=False)
    assert process.wait(30) == 2, "it is tried again: a newer package may be put back any minute"
    said = site.log.read_text()
    assert "version plus récente" in said
    assert "copies/before-" in said
