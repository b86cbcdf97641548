from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.survival.engines import Backups
from tests.integration.survival.places import PASSWORD, Place, Source
from tests.postgres import start_cluster
from tests.sabotage.corpus.sources import opened

#: Text that does not compress, so that a limited bandwidth makes fetching it slow.
HOSPITAL = """
create table patients (id int primary key, nom text not null);
create table stays (id int primary key, patient_id int not null references patients,
  admitted_at timestamptz not null, note text);
insert into patients select i, 'Nom ' || i from generate_series(1, 200) i;
insert into stays select i, 1 + i % 200, now() - i * interval '20 minutes',
  'Séjour ordinaire ' || i from generate_series(1, 400) i;
"""

#: An index whose expression takes its time: so does its creation, and whoever checks it.
SLOW = """
create table slow (id int primary key);
insert into slow values (1);
create function takes_its_time(int) returns int immutable language plpgsql as
  $$ begin perform pg_catalog.pg_sleep(3); return $1; end $$;
create index slowly on slow (takes_its_time(id));
"""

RANDOM = """
create table scans (id int primary key, content text);
insert into scans select i, (select string_agg(md5(random()::text || i || j), '')
  from generate_series(1, 100) j) from generate_series(1, 500) i;
"""


@pytest.fixture(scope="session")
def source() -> Iterator[Source]:
    root = Path(tempfile.mkdtemp(prefix="backupguard-survival-"))
    (root / "password").touch(mode=0o600)
    (root / "password").write_text(PASSWORD + "\n")
    cluster = start_cluster(root / "cluster")
    try:
        made = Source(cluster=cluster, root=root)
        made.create("dpi", HOSPITAL)
        made.keep("healthy", made.dumped("dpi", "-Fc"))
        made.create("slow", HOSPITAL + SLOW.replace("pg_sleep(3)", "pg_sleep(0)"))
        made.cluster.run(
            "psql",
            "-X",
            "-q",
            "-d",
            "slow",
            "-c",
            SLOW[SLOW.index("create function") :]
            .partition("create index")[0]
            .replace("create function", "create or replace function"),
        )
        made.keep("slow", made.dumped("slow", "-Fc"))
        made.create("large", HOSPITAL + RANDOM)
        made.keep("large", made.dumped("large", "-Fc"))
        yield made
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def place(source: Source, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, source)
    yield made
    made.end()


@pytest.fixture(scope="session")
def backups() -> Iterator[Backups]:
    """One small sound backup per engine; its source is started when it is first asked for."""
    root = Path(tempfile.mkdtemp(prefix="backupguard-engines-"))
    (root / "password").touch(mode=0o600)
    (root / "password").write_text(PASSWORD + "\n")
    try:
        with opened(root / "sources") as sources:
            yield Backups(sources=sources, root=root, password=root / "password")
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port of this host, and who called."""
    callers: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                callers.append(str(address))
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], callers
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
