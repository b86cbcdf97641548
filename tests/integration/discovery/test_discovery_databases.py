"""The databases that really run: listed to the end without a right to write, or said not to be."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Secret, SecretReference
from backupguard.databases import parse_database_pattern
from backupguard.testing import contexts
from probes import discovery_host, discovery_mariadb, discovery_postgresql
from probes.discovery_found import ConfiguredJob, Ignored, Plan, Server
from probes.discovery_host import Host
from tests.integration.discovery.conftest import PASSWORD, Directory, host_with
from tests.mariadb import MariaDB
from tests.postgres import SUPERUSER, Cluster
from tests.unit.probes.discovering import places

_NOWHERE = Host(name="srv-db1")


def seen(directory: Path, plan: Plan, host: Host = _NOWHERE) -> dict[str, Any]:
    """Return `discovery.seen` of a real look; the passwords of the test are not in it."""
    import json

    from probes import discovery

    context = contexts.context(directory)
    plan = replace(plan, places=places(directory))
    (one,) = discovery.look("site", plan, host, context)
    text = json.dumps(one.data, ensure_ascii=False)
    assert "Canari" not in text
    data: dict[str, Any] = one.data
    return data


def names(data: dict[str, Any]) -> list[str]:
    return [one["name"] for one in data["databases"]]


def job(*covers: str) -> ConfiguredJob:
    return ConfiguredJob(
        id="dpi.nightly",
        repository="nas",
        type="restic",
        covers=tuple(parse_database_pattern(text) for text in covers),
    )


def password_file(directory: Path, text: str = PASSWORD) -> SecretReference:
    file = directory / f"password-{len(text)}"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return SecretReference(file=file)


# ------------------------------------------------------------------------------------- PostgreSQL


def here(cluster: Cluster) -> Host:
    return host_with(cluster.directory, cluster.socket)


def test_every_database_of_a_local_cluster_is_listed(tmp_path: Path, cluster: Cluster) -> None:
    data = seen(tmp_path, Plan(roles={"postgresql": "moniteur"}), here(cluster))
    assert data["lacking"] == []
    assert names(data) == ["dpi", "planning"]
    assert all(one["bytes"] > 1_000_000 for one in data["databases"])
    assert data["catalogues"] == [f"postgresql://srv-db1:{cluster.port}"]


def test_a_role_that_may_only_log_in_sees_every_name(tmp_path: Path, cluster: Cluster) -> None:
    data = seen(tmp_path, Plan(roles={"postgresql": "lecteur"}), here(cluster))
    assert data["lacking"] == []
    assert [(one["name"], one["bytes"] is None) for one in data["databases"]] == [
        ("dpi", False),
        ("planning", True),
    ]


def test_what_no_job_covers_is_named_and_its_clean_twin_is_silent(
    tmp_path: Path, cluster: Cluster
) -> None:
    plan = Plan(roles={"postgresql": "lecteur"}, jobs=(job("postgresql://localhost/dpi"),))
    data = seen(tmp_path, plan, here(cluster))
    assert [one["name"] for one in data["databases"] if not one["covered_by"]] == ["planning"]
    clean = replace(plan, jobs=(job("postgresql://localhost/*"),))
    data = seen(tmp_path, clean, here(cluster))
    assert all(one["covered_by"] == ["dpi.nightly"] for one in data["databases"])
    assert data["covers_nothing"] == []


def test_a_job_of_a_dropped_database_is_named(tmp_path: Path, cluster: Cluster) -> None:
    cluster.create("ephemere")
    plan = Plan(roles={"postgresql": "lecteur"}, jobs=(job("postgresql://localhost/ephemere"),))
    before = seen(tmp_path, plan, here(cluster))
    cluster.run("dropdb", "ephemere")
    after = seen(tmp_path, plan, here(cluster))
    assert (before["covers_nothing"], after["covers_nothing"]) == ([], ["dpi.nightly"])


def test_a_declared_exception_is_not_uncovered(tmp_path: Path, cluster: Cluster) -> None:
    ignored = Ignored(pattern=parse_database_pattern("postgresql://*/plan*"))
    data = seen(tmp_path, Plan(roles={"postgresql": "lecteur"}, ignored=(ignored,)), here(cluster))
    assert [one["ignored"] for one in data["databases"]] == [False, True]


@pytest.mark.parametrize("role", ["personne", "inconnu"])
def test_a_role_that_may_not_log_in_is_a_lack_and_no_empty_list(
    tmp_path: Path, cluster: Cluster, role: str
) -> None:
    plan = Plan(roles={"postgresql": role}, jobs=(job("postgresql://localhost/dpi"),))
    data = seen(tmp_path, plan, here(cluster))
    assert names(data) == []
    assert [one["code"] for one in data["lacking"]] == ["role"]
    assert data["covers_nothing"] == [], "what was not seen is not gone"


def test_a_server_without_a_socket_that_can_be_reached_is_a_lack(
    tmp_path: Path, cluster: Cluster
) -> None:
    hidden = replace(here(cluster), sockets=())
    data = seen(tmp_path, Plan(roles={"postgresql": "lecteur"}), hidden)
    assert [(one["code"], one["about"]) for one in data["lacking"]] == [
        ("hidden", str(cluster.directory))
    ]


def test_somebody_else_s_server_that_may_not_be_looked_at_is_a_lack_and_hides_no_other(
    tmp_path: Path, cluster: Cluster
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    found = here(cluster)
    sockets = (f"{locked}/.s.PGSQL.5999", f"{locked}/mysqld.sock", f"{locked}/ldapi")
    data = seen(
        tmp_path,
        Plan(roles={"postgresql": "lecteur"}),
        replace(found, sockets=(*sockets, *found.sockets)),
    )
    assert "dpi" in str(names(data))
    assert any("5999" in one["what"] for one in data["lacking"]), data["lacking"]
    assert "unparsable" not in {one["code"] for one in data["lacking"]}


@pytest.mark.parametrize("user", [SUPERUSER, "lecteur"])
@pytest.mark.parametrize(
    "sql",
    [
        "create table public.x (a int)",
        "create database x",
        "create temp table y as select 1; insert into y values (2); create role z",
        "drop database dpi",
    ],
    ids=["table", "database", "role", "drop"],
)
def test_the_session_cannot_write(tmp_path: Path, cluster: Cluster, user: str, sql: str) -> None:
    session = discovery_postgresql.Session(
        host=str(cluster.socket), port=cluster.port, user=user, database="dpi"
    )
    done = discovery_postgresql.psql(session, sql, contexts.context(tmp_path))
    assert done.returncode != 0
    assert (
        b"read-only" in done.stderr or b"cannot run" in done.stderr or b"permission" in done.stderr
    )
    left = cluster.run(
        "psql", "-XAt", "-d", "dpi", "-c", "select count(*) from pg_tables where tablename = 'x'"
    )
    assert left.stdout.strip() == b"0"


def server(cluster: Cluster, reader: SecretReference | None, **more: Any) -> Server:
    values: dict[str, Any] = {
        "id": "db2",
        "engine": "postgresql",
        "host": "127.0.0.1",
        "port": cluster.port,
        "user": "lecteur",
        "database": "postgres",
        "reader": reader,
    }
    return Server(**(values | more))


def test_a_declared_server_is_read_with_its_readers_password(
    tmp_path: Path, cluster: Cluster
) -> None:
    data = seen(tmp_path, Plan(servers=(server(cluster, password_file(tmp_path)),)))
    assert data["lacking"] == []
    assert names(data) == ["dpi", "planning"]


def test_one_server_seen_twice_is_listed_once(tmp_path: Path, cluster: Cluster) -> None:
    plan = Plan(
        roles={"postgresql": "lecteur"}, servers=(server(cluster, password_file(tmp_path)),)
    )
    data = seen(tmp_path, plan, here(cluster))
    assert names(data) == ["dpi", "planning"]


def test_what_keeps_a_declared_server_from_being_read_is_said(
    tmp_path: Path, cluster: Cluster
) -> None:
    from tests.mariadb import free_port

    right = password_file(tmp_path)
    for other, code in (
        (server(cluster, password_file(tmp_path, "wrong")), "role"),
        (server(cluster, None), "role"),
        (server(cluster, SecretReference(file=tmp_path / "none")), "secret"),
        (server(cluster, right, port=free_port()), "unreachable"),
        (server(cluster, right, tls="require"), "tls"),
        (server(cluster, right, database="nowhere"), "role"),
    ):
        data = seen(tmp_path, Plan(servers=(other,)))
        assert [one["code"] for one in data["lacking"]] == [code]
        assert data["databases"] == []


def test_psutil_sees_the_server_and_its_socket(cluster: Cluster) -> None:
    host = here(cluster)
    assert [Path(path).parent for path in host.sockets] == [cluster.socket]
    assert any(process.option("-D") == str(cluster.directory) for process in host.processes)


# ---------------------------------------------------------------------------------------- MariaDB


def beside(maria: MariaDB) -> Host:
    return host_with(maria.directory, maria.socket.parent)


def test_every_schema_of_a_local_mariadb_is_listed(tmp_path: Path, maria: MariaDB) -> None:
    data = seen(tmp_path, Plan(), beside(maria))
    assert data["lacking"] == []
    assert names(data) == ["ged", "planning"]
    assert data["databases"][0]["bytes"] > 0
    assert data["catalogues"] == [f"mariadb://srv-db1:{maria.port}"]


def test_who_sees_some_schemas_only_is_told_so(tmp_path: Path, maria: MariaDB) -> None:
    plan = Plan(roles={"mariadb": "borgne"}, jobs=(job("mariadb://localhost/planning"),))
    data = seen(tmp_path, plan, beside(maria))
    assert names(data) == ["ged"]
    assert [one["code"] for one in data["lacking"]] == ["rights"]
    assert data["covers_nothing"] == []
    assert data["catalogues"] == []


def test_a_schema_that_no_job_covers_and_one_that_is_gone(tmp_path: Path, maria: MariaDB) -> None:
    plan = Plan(jobs=(job("mariadb://localhost/ged", "mariadb://localhost/partie"),))
    data = seen(tmp_path, plan, beside(maria))
    assert [one["name"] for one in data["databases"] if not one["covered_by"]] == ["planning"]
    assert [one["pattern"] for one in data["missing"]] == ["mariadb://localhost/partie"]


def test_an_account_that_may_not_log_in_is_a_lack(tmp_path: Path, maria: MariaDB) -> None:
    data = seen(tmp_path, Plan(roles={"mariadb": "inconnu"}), beside(maria))
    assert [one["code"] for one in data["lacking"]] == ["role"]
    hidden = replace(beside(maria), sockets=(), processes=())
    assert seen(tmp_path, Plan(), hidden)["lacking"] == []


@pytest.mark.parametrize(
    "sql",
    ["create database x", "insert into ged.t values (1)", "drop database ged", "create user x"],
    ids=["database", "insert", "drop", "user"],
)
def test_a_session_with_mariadb_cannot_write(tmp_path: Path, maria: MariaDB, sql: str) -> None:
    session = discovery_mariadb.Session(user="root", socket=maria.socket)
    done = discovery_mariadb.client(session, sql, contexts.context(tmp_path))
    assert done.returncode != 0
    assert b"READ ONLY" in done.stderr
    assert maria.run("select count(*) from ged.t").strip() == "0"


def test_a_declared_mariadb_is_read_with_its_readers_password(
    tmp_path: Path, maria: MariaDB
) -> None:
    assert maria.port is not None
    declared = Server(
        id="ged",
        engine="mariadb",
        host="127.0.0.1",
        port=maria.port,
        user="lecteur",
        database="",
        reader=password_file(tmp_path),
    )
    data = seen(tmp_path, Plan(servers=(declared,)))
    assert data["lacking"] == []
    assert names(data) == ["ged", "planning"]
    for wrong, code in (
        (replace(declared, reader=password_file(tmp_path, "wrong")), "role"),
        (replace(declared, port=1), "unreachable"),
        (replace(declared, tls="require"), "tls"),
        (replace(declared, tls="verify"), "tls"),
    ):
        data = seen(tmp_path, Plan(servers=(wrong,)))
        assert [one["code"] for one in data["lacking"]] == [code]


def test_secrets_are_in_no_argument(tmp_path: Path, maria: MariaDB, cluster: Cluster) -> None:
    from tests.unit.probes.discovering import Answers

    asked = Answers()
    context = contexts.context(tmp_path, tools=asked)
    secret = Secret("x", PASSWORD.encode())
    discovery_postgresql.psql(
        discovery_postgresql.Session(host="h", port=1, user="u", database="d", password=secret),
        "select 1",
        context,
    )
    discovery_mariadb.client(
        discovery_mariadb.Session(user="u", host="h", password=secret), "select 1", context
    )
    assert "Canari" not in repr(asked.asked)


# --------------------------------------------------------------------------- OpenLDAP and SQLite


def test_the_suffixes_of_slapd_come_from_its_configuration_or_from_itself(
    tmp_path: Path, slapd: Directory
) -> None:
    host = host_with(slapd.place, slapd.socket.parent)
    wanted = ["dc=chu,dc=example", "o=Hôpital"]
    assert names(seen(tmp_path, Plan(), host)) == wanted
    slapd.configuration.chmod(0)
    try:
        asked = seen(tmp_path, Plan(), host)
    finally:
        slapd.configuration.chmod(0o600)
    assert names(asked) == wanted
    assert asked["lacking"] == []


def test_hidden_processes_are_a_lack_and_sockets_tell_all_the_same(
    tmp_path: Path, slapd: Directory, cluster: Cluster
) -> None:
    host = host_with(slapd.place, slapd.socket.parent, cluster.directory, cluster.socket)
    data = seen(
        tmp_path,
        Plan(roles={"postgresql": "lecteur"}),
        replace(host, processes=(), sees_all=False),
    )
    assert len(names(data)) == 4
    assert [(one["what"], one["hides"]) for one in data["lacking"]] == [("processes", "databases")]
    assert discovery_host.look().sees_all


def test_a_slapd_that_cannot_be_asked_is_a_lack(tmp_path: Path, slapd: Directory) -> None:
    host = host_with(slapd.place, slapd.socket.parent)
    (process,) = host.processes
    argv = ("slapd", "-h", "ldapi://%2Fnowhere%2Fldapi", "-F", str(tmp_path / "none"))
    data = seen(tmp_path, Plan(), replace(host, processes=(replace(process, argv=argv),)))
    assert data["databases"] == []
    assert [(one["code"], one["hides"]) for one in data["lacking"]] == [("permission", "databases")]


def test_sqlite_files_by_glob_and_held_open(tmp_path: Path) -> None:
    import sqlite3

    place = tmp_path / "srv"
    for name in ("labo/a.sqlite3", "labo/deep/er/b.sqlite3", "own/store.sqlite3", "held/c.db"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(place / name)
        connection.execute("create table t (a)")
        connection.commit()
        connection.close()
    (place / "labo" / "text.sqlite3").write_text("no database")
    plan = Plan(sqlite=(f"{place}/labo/**/*.sqlite3", f"{place}/own/*"), own=place / "own")
    data = seen(tmp_path, plan)
    assert [Path(name).name for name in names(data)] == ["a.sqlite3", "b.sqlite3"]
    assert data["lacking"] == []


def test_a_directory_that_may_not_be_looked_into_is_a_lack(tmp_path: Path) -> None:
    place = tmp_path / "srv" / "labo"
    place.mkdir(parents=True)
    place.chmod(0)
    try:
        plan = Plan(sqlite=(f"{tmp_path}/srv/*/*.db", f"{tmp_path}/nowhere/*.db"))
        lacking = seen(tmp_path, plan)["lacking"]
    finally:
        place.chmod(0o700)
    assert sorted(one["code"] for one in lacking) == ["not_found", "permission"]


def test_a_file_this_process_holds_open_is_seen() -> None:
    import sqlite3
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        connection = sqlite3.connect(f"{name}/x.db")
        connection.execute("create table t (a)")
        connection.execute("begin immediate")
        held = {str(path) for path in discovery_host.look().open_files()}
        connection.close()
        assert os.path.realpath(f"{name}/x.db") in held
