"""A real PostgreSQL server, its log archive and copies of it; the server is gone afterwards."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.postgres import BINARIES, start_cluster

_SCHEMA = """
create table patients (id int primary key, name text not null);
insert into patients select n, 'ZZSECRETZZ' || n from generate_series(1, 400) n;
create table stays (id int primary key, patient int references patients, admitted_at timestamptz);
insert into stays select n, 1 + n % 400, clock_timestamp() from generate_series(1, 3000) n;
create table labs tablespace other as select n, md5(n::text) as code from generate_series(1, 500) n;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What was copied while it ran: directories below `place`, the time at which 3,001 stays stood."""

    place: Path
    target: datetime
    heap: str  # the file of `stays`, relative to the data directory

    def copy(self, name: str, to: Path) -> Path:
        """Return a copy of one of them that may be damaged."""
        shutil.copytree(self.place / name, to / name, symlinks=True)
        return to / name


def _checksums(directory: Path) -> None:
    subprocess.run([BINARIES / "pg_checksums", "--enable", "-D", directory, "--no-sync"],
                   check=True, capture_output=True)  # fmt: skip


def _restart(directory: Path, action: str) -> None:
    subprocess.run(
        [BINARIES / "pg_ctl", "-D", directory, "-l", directory / "log", "-w", "-m", "fast", action],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def make(place: Path) -> Copies:
    """Make the server, its copies ("plain", "tar", "archived", "unsummed") and its archive; stop it."""
    archive, spaces = place / "wal", place / "spaces"
    archive.mkdir(parents=True)
    spaces.mkdir()
    cluster = start_cluster(place / "pg")
    data = cluster.directory

    def sql(text: str, database: str = "dpi") -> str:
        done = cluster.run(
            "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text, database, text=True
        )
        return str(done.stdout).strip()

    with (data / "postgresql.conf").open("a") as file:
        file.write(
            f"archive_mode = on\narchive_command = 'cp %p {archive}/%f'\n"
            "shared_preload_libraries = ''\n"
        )
    _restart(data, "stop")
    _checksums(data)
    _restart(data, "start")
    cluster.create("dpi")
    sql(f"create tablespace other location '{spaces}'")
    for statement in (_SCHEMA,):
        sql(statement)
    common = ("-c", "fast", "--no-sync")
    cluster.run("pg_basebackup", "-D", str(place / "tar"), "-Ft", "-z", "-X", "stream", *common)
    plain = place / "archived" / "data"
    plain.parent.mkdir()
    cluster.run("pg_basebackup", "-D", str(plain), "-X", "none", *common,
                "-T", f"{spaces}={place / 'archived' / 'spaces'}")  # fmt: skip
    cluster.run("pg_basebackup", "-D", str(place / "plain" / "data"), "-X", "fetch", *common,
                "-T", f"{spaces}={place / 'plain' / 'spaces'}")  # fmt: skip
    sql("select pg_switch_wal()")
    sql("insert into stays values (3001, 1, clock_timestamp())")
    sql("select pg_switch_wal()")
    target = datetime.fromisoformat(sql("select clock_timestamp() at time zone 'UTC'"))
    sql("insert into stays select n, 1, clock_timestamp() from generate_series(3002, 3500) n")
    sql("select pg_switch_wal()")
    sql("insert into stays values (3501, 1, clock_timestamp())")
    heap = sql("select pg_relation_filepath('stays')")
    # what would be run at the copy's start if anything of its settings were obeyed
    hostile = f"shared_preload_libraries = 'gone'\nrestore_command = 'touch {place}/obeyed'\n"
    _restart(data, "stop")  # archives what is left, and stays off
    shutil.copytree(archive, place / "archived" / "wal")
    with (plain / "postgresql.auto.conf").open("a") as file:
        file.write(hostile)
    shutil.copytree(data, place / "cold" / "data", symlinks=True)
    shutil.copytree(spaces, place / "cold" / "spaces")
    shutil.rmtree(cluster.socket, ignore_errors=True)
    shutil.rmtree(data)
    shutil.rmtree(spaces)
    return Copies(place=place, target=target.replace(tzinfo=UTC), heap=heap)
