"""`backupguard discover` from end to end: exit codes, what is recorded, what is proposed, secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backupguard.cli.main import main
from backupguard.daemon import discovery as task
from backupguard.daemon.discovery import plan_of
from backupguard.store import open_store
from probes import discovery_host
from probes.discovery_found import Plan
from tests.integration.discovery.conftest import host_with
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.unit.probes.discovering import SECRET, places, write

JOBS = """
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
covers = ["postgresql://srv-db1/*", "mariadb://localhost/ged"]
"""
REST = """
[[discovery.ignore]]
pattern = "mariadb://localhost/planning"
reason = "copie de test"
"""


@pytest.fixture
def hospital(
    tmp_path: Path, cluster: Cluster, maria: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A host with two servers, jobs of other tools full of secrets, and a configuration."""
    here = host_with(cluster.directory, cluster.socket, maria.directory, maria.socket.parent)
    monkeypatch.setattr(discovery_host, "look", lambda: here)

    def plan(settings: Any) -> Plan:
        return replace(plan_of(settings), places=places(tmp_path))

    monkeypatch.setattr(task, "plan_of", plan)
    monkeypatch.delenv("BACKUPGUARD_CONFIG", raising=False)
    return tmp_path


def configured(directory: Path, text: str) -> None:
    write(
        directory / "backupguard.toml",
        '[site]\nname = "Essai"\nlanguage = "en"\n'
        f'[store]\ndirectory = "{directory / "state"}"\n'
        f'[repositories.nas]\ntype = "directory"\npath = "{directory}"\n'
        '[discovery]\nroles.postgresql = "moniteur"\n' + text,
    )


def run(directory: Path, *arguments: str) -> int:
    return main(["--config", str(directory / "backupguard.toml"), *arguments])


def planted(directory: Path) -> None:
    """Write jobs of other tools, a secret wherever one may stand."""
    write(
        directory / "etc/borgmatic/config.yaml",
        f"repositories: [{{path: 'ssh://b:{SECRET}@nas.example/./dpi'}}]\n"
        f"encryption_passphrase: {SECRET}\n"
        f"mariadb_databases: [{{name: ged, username: x, password: {SECRET}}}]\n",
    )
    write(
        directory / "etc/cron.d/dpi",
        f"PGPASSWORD={SECRET}\n"
        f"0 2 * * * root RESTIC_PASSWORD={SECRET} restic -r rest:https://u:{SECRET}@nas/d backup /x\n"
        f"0 3 * * * root mysqldump -uroot -p{SECRET} planning\n"
        f"0 4 * * * root mysqldump -u root -p {SECRET} planning\n"
        f"0 5 * * * root curl https://{SECRET}@x.example/backup.sh\n",
    )
    write(
        directory / "etc/pgbackrest.conf",
        f"[global]\nrepo1-cipher-pass={SECRET}\nrepo1-s3-key={SECRET}\n[{'dpi'}]\npg1-path=/x\n",
    )
    write(directory / "etc/barman.conf", "[barman]\nx = y\n")
    write(directory / "etc/barman.d/ged.conf", f"[ged]\nconninfo = postgresql://u:{SECRET}@h/d\n")


def test_what_nothing_covers_is_named_and_its_clean_twin_is_silent(
    hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(hospital, JOBS)
    assert run(hospital, "discover") == 1
    text = capsys.readouterr().out
    after = text.partition("Databases that no job covers: 1")[2]
    assert after.splitlines()[1].strip().startswith("mariadb://srv-db1:")
    assert after.splitlines()[1].endswith("/planning")
    configured(hospital, JOBS + REST)
    assert run(hospital, "discover") == 0
    assert "Every database found is covered by a job (4)." in capsys.readouterr().out


def test_json_has_both_lists_and_the_difference(
    hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(hospital)
    configured(hospital, JOBS.replace("/ged", "/partie"))
    assert run(hospital, "discover", "--json") == 1
    data = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in data["databases"]} == {"dpi", "planning", "ged"}
    assert {one["tool"] for one in data["jobs"]} == {"borgmatic", "cron", "pgbackrest", "barman"}
    assert data["covers_nothing"] == ["dpi.nightly"]
    assert [one.rpartition("/")[2] for one in data["not_configured"]] == ["ged", "planning"]
    assert data["uncovered"] == []


def test_what_could_not_be_looked_at_is_an_exit_status_of_its_own(
    hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(hospital, (JOBS + REST).replace("[discovery]", "[unused]"))
    text = (hospital / "backupguard.toml").read_text().replace("moniteur", "personne")
    write(hospital / "backupguard.toml", text)
    assert run(hospital, "discover") == 2
    assert "needs a role that may log in: personne" in capsys.readouterr().out


def test_a_fact_a_day_and_one_per_change(hospital: Path, cluster: Cluster) -> None:
    def facts() -> int:
        store = open_store(hospital / "state", None, site="Essai")
        try:
            return sum(1 for _ in store.facts(kinds=["discovery.seen"]))
        finally:
            store.close()

    configured(hospital, JOBS + REST)
    run(hospital, "--quiet", "discover")
    run(hospital, "--quiet", "discover")
    assert facts() == 1
    cluster.create("nouvelle")
    try:
        run(hospital, "--quiet", "discover")
        assert facts() == 2
    finally:
        cluster.run("dropdb", "nouvelle")


def test_the_proposal_is_accepted_by_config_check(
    hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(hospital)
    configured(hospital, "")
    assert run(hospital, "discover", "--toml") in {1, 2}
    proposed = capsys.readouterr().out
    write(hospital / "conf.d/found.toml", proposed)
    assert run(hospital, "--quiet", "config", "check") == 0
    assert 'covers = ["mariadb://srv-db1:' in proposed
    assert "no backup job saves it" in proposed


def test_a_host_without_a_configuration_gets_a_whole_one(
    hospital: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(hospital)
    monkeypatch.setattr("backupguard.settings.loading.DEFAULT_PATH", hospital / "none.toml")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert main(["discover", "--toml"]) in {1, 2}
    said = capsys.readouterr()
    assert "nothing is recorded" in said.err
    write(hospital / "backupguard.toml", said.out)
    assert run(hospital, "--quiet", "config", "check") == 0
    assert SECRET not in said.out + said.err


def test_no_secret_leaves_the_files_it_stands_in(
    hospital: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    planted(hospital)
    configured(hospital, JOBS)
    for arguments in (
        ["discover"],
        ["--language", "fr", "discover"],
        ["--verbose", "discover", "--json"],
        ["discover", "--toml"],
        ["evidence", "export", "--output", str(hospital / "bundle")],
    ):
        run(hospital, *arguments)
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    assert "config.yaml line 1" in said.out
    for path in (hospital / "state").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_reference_is_compared_and_said(
    hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(hospital / "cmdb.csv", "Nom;Type\nDPI;appli\nRepas;appli\n")
    reference = '[reference]\nfile = "cmdb.csv"\ncolumns = { name = "Nom" }\n'
    configured(hospital, JOBS + REST + reference)
    assert run(hospital, "--language", "fr", "discover") == 0
    text = capsys.readouterr().out
    assert "Référence\u00a0: 2 entrées" in text
    assert "Repas" in text
    write(hospital / "cmdb.csv", "Nom;Type\nDPI;appli\nRep")
    assert run(hospital, "discover") == 2
    assert "is incomplete or being written" in capsys.readouterr().out
