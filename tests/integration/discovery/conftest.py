"""Real servers for discovery: PostgreSQL, MariaDB and slapd, as an ordinary user."""

from __future__ import annotations

import shutil
import socket as socketlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes import discovery_host
from probes.discovery_host import Host
from tests.mariadb import MariaDB, free_port, start_mariadb
from tests.postgres import Cluster, start_cluster

#: With everything that a file of passwords must escape.
PASSWORD = "Canari:7h\\K2\"x'#"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL server: `lecteur` may only log in, `moniteur` may see sizes, both by password."""
    port = free_port()
    server = start_cluster(tmp_path_factory.mktemp("discovery") / "pg", port=port)
    try:
        escaped = PASSWORD.replace("'", "''")
        for sql in (
            f"create role lecteur login password '{escaped}'",
            "create role moniteur login in role pg_monitor",
            "create role personne nologin",
            "create database dpi",
            "create database planning",
            "revoke connect on database planning from public",
        ):
            server.run("psql", "-X", "-q", "-d", "postgres", "-c", sql)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def maria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB server: `lecteur` may see everything, `borgne` one schema only."""
    server = start_mariadb(tmp_path_factory.mktemp("discovery") / "my", port=free_port())
    try:
        escaped = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        server.run(
            "create database ged; create database planning; create table ged.t (a int);"
            f"create user lecteur@localhost identified by '{escaped}';"
            f"create user lecteur@'127.0.0.1' identified by '{escaped}';"
            "grant select, show databases on *.* to lecteur@localhost;"
            "grant select, show databases on *.* to lecteur@'127.0.0.1';"
            "create user borgne@localhost; grant select on ged.* to borgne@localhost"
        )
        yield server
    finally:
        server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A running slapd."""

    place: Path
    socket: Path
    configuration: Path


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """An OpenLDAP server with two suffixes, on a Unix socket."""
    place = tmp_path_factory.mktemp("slapd")
    socket = Path(tempfile.mkdtemp(prefix="bgld")) / "ldapi"
    databases = "".join(
        f'database mdb\nsuffix "{suffix}"\ndirectory {place}/{name}\nmaxsize 10485760\n'
        for name, suffix in (("a", "dc=chu,dc=example"), ("b", "o=Hôpital"))
    )
    for name in ("a", "b"):
        (place / name).mkdir()
    configuration = place / "slapd.conf"
    configuration.write_text(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f"pidfile {place}/pid\n{databases}",
        encoding="utf-8",
    )
    url = "ldapi://" + str(socket).replace("/", "%2F")
    process = subprocess.Popen(
        ["/usr/sbin/slapd", "-d", "0", "-h", url, "-f", configuration],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not _answers(socket):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Directory(place=place, socket=socket, configuration=configuration)
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(socket.parent, ignore_errors=True)


def _answers(path: Path) -> bool:
    with socketlib.socket(socketlib.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


def host_with(*places: Path) -> Host:
    """Return this host as psutil sees it, with only the servers that live in these places.

    Other tests' servers may be running at the same time.
    """
    everything = discovery_host.look()
    names = [str(place) for place in places]
    return Host(
        name="srv-db1",
        processes=tuple(
            process
            for process in everything.processes
            if any(name in argument for argument in process.argv for name in names)
        ),
        sockets=tuple(
            path for path in everything.sockets if any(path.startswith(name) for name in names)
        ),
    )
