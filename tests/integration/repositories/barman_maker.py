"""A real Barman that backs up a real PostgreSQL cluster, plainly and compressed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupguard.contracts import JobSelector
from backupguard.repositories.barman_settings import BarmanSettings
from tests.postgres import BINARIES, Cluster, start_cluster

_SERVER = """[{name}]
description = {name}
conninfo = {connection}
streaming_conninfo = {connection}
backup_method = postgres
archiver = on
immediate_checkpoint = true
{more}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Barman:
    """A real Barman, its home, and the cluster it backs up as server `dpi`."""

    directory: Path
    cluster: Cluster

    @property
    def home(self) -> Path:
        return self.directory / "home"

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["barman", "-c", self.directory / "barman.conf", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def mark(self) -> Path:
        """A file with a time at which 5 rows stood, and no more."""
        return self.directory / "mark"

    def sql(self, text: str) -> str:
        done = self.cluster.run("psql", "-qAtX", "postgres", "-c", text, text=True)
        return str(done.stdout).strip()

    def base(self, server: str, home: Path | None = None) -> Path:
        """Return where the newest backup of a server lies."""
        return max((home or self.home).glob(f"{server}/base/*"))

    def copy(self, to: Path) -> Path:
        """Return a copy of everything that may be damaged; times of files are kept."""
        return Path(shutil.copytree(self.home, to, symlinks=True))

    def switch(self) -> None:
        """Write something and have the segment archived; Barman itself takes it in later."""
        self.sql("insert into stays values (1)")
        name = self.sql("select pg_walfile_name(pg_switch_wal())")
        self.sql(
            "do $$ begin for i in 1..500 loop "
            f"if (select last_archived_wal >= '{name}' from pg_stat_archiver) then exit; "
            "end if; perform pg_sleep(0.02); perform pg_stat_clear_snapshot(); end loop; end $$",
        )

    def segments(self, home: Path | None = None) -> dict[str, Path]:
        found = (home or self.home).glob("dpi/wals/*/*")
        return {path.name: path for path in found if len(path.name) == 24}

    def settings(self, home: Path | None = None, **more: Any) -> BarmanSettings:
        values: dict[str, Any] = {
            "type": "barman",
            "path": home or self.home,
            "archive_settle": "0s",
        }
        return BarmanSettings(**{**values, "lock_path": self.directory / "lock", **more})


def selector(name: str | None = "dpi") -> JobSelector:
    return JobSelector(job="dpi.nightly", application="dpi", name=name)


def user_name() -> str:
    """Return the name of who runs the tests."""
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def copy_by_rsync(made: Barman, port: int, key: Path, known: Path) -> list[str]:
    """Have Barman copy the same cluster twice by rsync over SSH, as server `copied`.

    The second copy is of links to what did not change (`reuse_backup = link`). Return their names.
    """
    ssh = f"ssh -p {port} -i {key} -o UserKnownHostsFile={known} -o BatchMode=yes"
    (made.directory / "conf.d" / "copied.conf").write_text(
        f"""[copied]
description = copied
conninfo = host={made.cluster.socket} user=hospital dbname=postgres
ssh_command = {ssh} {user_name()}@127.0.0.1
backup_method = rsync
reuse_backup = link
archiver = on
immediate_checkpoint = true
"""
    )
    made.switch()
    made.run("archive-wal", "copied")
    for _ in range(2):
        made.run("backup", "--wait", "copied")
        made.switch()
    made.run("archive-wal", "copied")
    return sorted(path.name for path in made.home.glob("copied/base/*"))


def make(directory: Path) -> Barman:
    """Make two backups of `dpi` with log after each of them, and a compressed one as server `tgz`."""
    incoming = tuple(f"home/{name}/incoming" for name in ("dpi", "tgz", "copied"))
    for name in (*incoming, "lock", "conf.d", "spaces"):
        (directory / name).mkdir(parents=True)
    cluster = start_cluster(directory / "pg")
    made = Barman(directory=directory, cluster=cluster)
    arrives = " && ".join(
        f"cp %p {made.home}/{name}/incoming/%f" for name in ("dpi", "tgz", "copied")
    )
    with (cluster.directory / "postgresql.conf").open("a") as file:
        file.write(f"wal_level = replica\narchive_mode = on\narchive_command = '{arrives}'\n")
    subprocess.run(
        [*(BINARIES / "pg_ctl", "-D", cluster.directory, "-l", cluster.directory / "log", "-w"),
         *("-m", "fast", "restart")],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    user = user_name()
    connection = f"host={cluster.socket} user=hospital dbname=postgres"
    (directory / "barman.conf").write_text(
        f"""[barman]
barman_home = {made.home}
barman_user = {user}
configuration_files_directory = {directory}/conf.d
log_file = {directory}/log
barman_lock_directory = {directory}/lock
path_prefix = {BINARIES}
compression = gzip
"""
        + _SERVER.format(name="dpi", connection=connection, more="")
        + _SERVER.format(
            name="tgz", connection=connection, more="backup_compression = gzip\ncompression = bzip2"
        )
    )
    made.sql("create table stays (n int)")
    made.sql(f"create tablespace other location '{directory / 'spaces'}'")
    made.sql("create table labs tablespace other as select generate_series(1, 500) n")
    made.switch()
    made.run("archive-wal", "dpi")  # it makes no backup before it has seen a segment
    for _ in range(2):
        made.run("backup", "--wait", "dpi")
        made.switch()
    for _ in range(2):
        made.switch()
    made.mark.write_text(made.sql("select clock_timestamp() at time zone 'UTC' || '+00:00'"))
    made.sql("select pg_sleep(1.1)")  # archives know whole seconds
    made.switch()
    for server in ("dpi", "tgz"):
        made.run("archive-wal", server)
    made.run("backup", "--wait", "tgz")
    return made
