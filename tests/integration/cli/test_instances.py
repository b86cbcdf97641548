"""Scratch servers from the command line: a restore test on one, a kind confirmed by a person."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backupguard.cli.main import main
from backupguard.daemon import tasks
from backupguard.model import Observation, to_us
from backupguard.settings import Settings, load
from backupguard.store import open_store
from tests.integration.repositories.servers import free_port
from tests.postgres import Cluster, start_cluster

CONFIGURATION = """
[site]
name = "CH"
language = "en"
[store]
directory = "{directory}/state"
[scratch]
clear-text-accepted-by = "the test"
[instances.essai]
kind = "postgresql"
host = "127.0.0.1"
port = {port}
tls = "none"
credentials.account.file = "{directory}/password"
[instances.essai-sql]
kind = "mssql"
host = "essai-sql"
exchange = "{directory}"
credentials.account.file = "{directory}/password-sql"
[repositories.nas]
type = "directory"
path = "{directory}/nas"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nuit]
repository = "nas"
select.pattern = "dpi-%Y%m%d.dump"
every = "24h"
[applications.dpi.restore-test]
engine = "instance"
instance = "essai"
[applications.labo]
name = "Labo"
criticality = "C2"
[applications.labo.backups.nuit]
repository = "nas"
select.pattern = "labo-%Y%m%d.bak"
every = "24h"
[applications.labo.restore-test]
engine = "instance"
instance = "essai-sql"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = start_cluster(tmp_path_factory.mktemp("essai") / "cluster", port=free_port())
    try:
        made.run("psql", "-X", "-d", "postgres", "-c",
                 "create role backupguard_scratch login createdb password 'essai'")  # fmt: skip
        yield made
    finally:
        made.stop()


@pytest.fixture
def configuration(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "backupguard.toml"
    for name, secret in (("password", "essai"), ("password-sql", "x")):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "nas").mkdir()
    port = request.getfixturevalue("cluster").port if "cluster" in request.fixturenames else 5432
    path.write_text(CONFIGURATION.format(directory=tmp_path, port=port))
    return path


def test_a_dump_is_tested_on_the_server_that_its_application_names(
    cluster: Cluster, configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.create("dpi")
    cluster.run("psql", "-X", "-d", "dpi", "-c", "create table lits as select 1 as id")
    dump = tmp_path / "nas" / f"dpi-{datetime.now(UTC):%Y%m%d}.dump"
    cluster.run("pg_dump", "-Fc", "-f", str(dump), "dpi")
    cluster.run("dropdb", "dpi")
    earlier = time.time() - 3600  # nobody writes it any more
    os.utime(dump, (earlier, earlier))

    def call(*arguments: str) -> tuple[int, str]:
        code = main(["--config", str(configuration), *arguments])
        return code, capsys.readouterr().out

    assert call("restore-test", "dpi")[0] == 2
    with closing(opened(load(configuration))) as store:
        (first,) = store.facts(kinds=["restore-test.result"])
    assert first.observation.data["code"] == "instance_unmarked"
    assert call("prepare-instance", "essai", "--yes")[0] == 0
    code, said = call("restore-test", "dpi")
    assert code == 0, said
    with closing(opened(load(configuration))) as store:
        *_, last = store.facts(kinds=["restore-test.result"])
    assert last.observation.data["engine"] == "instance"
    assert last.observation.data["fingerprint"]["tables"] == {"public.lits": 1}
    left = cluster.run("psql", "-XAt", "-d", "postgres", "-c", "select datname from pg_database")
    names = set(left.stdout.decode().split())
    assert names == {"postgres", "template0", "template1", "backupguard_marker"}


def opened(settings: Settings) -> Any:
    return open_store(
        settings.state_directory, site=settings.site.name, timezone=settings.site.timezone
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def recorded(configuration: Path) -> Settings:
    """Record a test on the SQL Server in which nothing was wrong but that nobody had confirmed it."""
    settings = load(configuration)
    now = datetime.now(UTC)
    data = {
        "application": "labo", "engine": "instance", "repository": "nas", "point": "p1",
        "point_at": to_us(now), "target_at": None, "verdict": "could_not_verify",
        "code": "check_unanswered", "level": 2, "phases": [], "checks": [],
        "checks_configured": 0, "baseline_accepted": False, "data_loss_ms": None,
        "freshness_heuristic_at": None, "bytes": 10, "duration_ms": 10, "age": None,
        "fingerprint": {"tables": {"dbo.analyses": 1204, "dbo.lots": 3}, "objects": {}, "columns": {}},
        "tools": {"mssql": "15.0.4430.1"},
    }  # fmt: skip
    observation = Observation(
        kind="restore-test.result", subject="application/labo", observed_at=now, data=data,
        key="run/X/result",
    )  # fmt: skip
    with closing(opened(settings)) as store:
        store.append([observation])
    return settings


def test_a_kind_that_nobody_saw_alive_is_confirmed_by_a_person(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        code = main(["--config", str(configuration), "doctor", "instances", *arguments])
        return code, capsys.readouterr().out

    code, said = call()
    assert code == 2
    assert "never seen alive" in said
    assert call("essai")[0] == 0  # of a kind that was
    assert call("essai-sql")[0] == 2  # nothing to compare yet
    settings = recorded(configuration)
    code, said = call("essai-sql")
    assert code == 2
    assert "1207" in said
    assert "dbo.analyses" in said
    assert call("essai-sql", "--confirm")[0] == 64  # nobody can pipe one in
    monkeypatch.setattr(sys, "stdin", Terminal("something else\n"))
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    arguments = ["--config", str(configuration), "doctor", "instances", "essai-sql", "--confirm"]
    assert main(arguments) == 2
    monkeypatch.setattr(sys, "stdin", Terminal("essai-sql\n"))
    assert main(arguments) == 0, out.getvalue()
    monkeypatch.undo()
    assert call()[0] == 0

    class Task:
        pass

    task: Any = Task()
    task.settings = settings
    with closing(opened(settings)) as task.store:
        given = tasks._instance(task, settings.applications["labo"].restore_test)
        assert given is not None
        assert given.confirmed == "15"
        assert tasks._instance(task, None) is None
