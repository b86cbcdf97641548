"""A real PostgreSQL cluster that archives into a real pgBackRest repository."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import JobSelector
from backupguard.repositories.pgbackrest_settings import PgBackRestSettings
from tests.postgres import BINARIES, Cluster, start_cluster

PASSPHRASE = "lune-et-marée-7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A cluster with its repository: `directory/repo`; stanza `main`."""

    directory: Path
    cluster: Cluster

    @property
    def repo(self) -> Path:
        return self.directory / "repo"

    @property
    def configuration(self) -> Path:
        return self.directory / "pgbackrest.conf"

    @property
    def mark(self) -> Path:
        """A file with a time at which 5 rows stood, and no more."""
        return self.directory / "mark"

    @property
    def sockets(self) -> Path:
        """A short directory for the socket of a second server."""
        directory = self.cluster.socket / "2"
        directory.mkdir(exist_ok=True)
        return directory

    @property
    def secret(self) -> Path:
        return self.directory / "passphrase"

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pgbackrest", f"--config={self.configuration}", "--stanza=main", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sql(self, text: str) -> str:
        done = self.cluster.run("psql", "-qAtX", "-c", text, "postgres", text=True)
        return str(done.stdout).strip()

    def switch(self, rows: int = 1) -> None:
        """Write something and have the segment archived."""
        self.sql(f"insert into stays select generate_series(1, {rows})")
        name = self.sql("select pg_walfile_name(pg_switch_wal())")
        self.sql(
            "do $$ begin for i in 1..500 loop "
            f"if (select last_archived_wal >= '{name}' from pg_stat_archiver) then exit; end if; "
            "perform pg_sleep(0.02); perform pg_stat_clear_snapshot(); end loop; end $$"
        )

    def segments(self, repo: Path | None = None) -> dict[str, Path]:
        """Return the archived segments by name."""
        return {
            path.name[:24]: path
            for path in (repo or self.repo).glob("archive/main/15-1/*/*")
            if path.name[24:25] == "-"
        }

    def labels(self, repo: Path | None = None) -> list[str]:
        return sorted(
            path.name
            for path in (repo or self.repo).glob("backup/main/*")
            if path.is_dir() and path.name[8:9] == "-" and not path.is_symlink()
        )

    def settings(self, path: Path | None = None, **more) -> PgBackRestSettings:
        values = {
            "type": "pgbackrest",
            "path": path or self.repo,
            "credentials": {"reader": {"file": self.secret}},
            "lock_path": self.directory / "lock",
            "archive_settle": "0s",
        }
        return PgBackRestSettings(**{**values, **more})

    def copy(self, to: Path) -> Path:
        """Return a copy of the repository that may be damaged; times of files are kept."""
        shutil.copytree(self.repo, to, symlinks=True)
        subprocess.run(["chmod", "-R", "u+w", to], check=True)
        return to


def selector(name: str | None = "main") -> JobSelector:
    return JobSelector(job="dpi.nightly", application="dpi", name=name)


def make(directory: Path) -> Archived:
    """Make cluster and repository; a full, a differential and an incremental backup, log between."""
    for name in ("repo", "log", "lock", "spool"):
        (directory / name).mkdir(parents=True)
    cluster = start_cluster(directory / "pg")
    made = Archived(directory=directory, cluster=cluster)
    made.secret.write_text(PASSPHRASE + "\n")
    made.configuration.write_text(
        f"""[global]
repo1-path={made.repo}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={PASSPHRASE}
repo1-retention-full=9
log-path={directory / "log"}
lock-path={directory / "lock"}
spool-path={directory / "spool"}
start-fast=y
[main]
pg1-path={cluster.directory}
pg1-socket-path={cluster.socket}
pg1-user=hospital
"""
    )
    tablespace = directory / "tablespace"
    tablespace.mkdir()
    with (cluster.directory / "postgresql.conf").open("a") as file:
        file.write("wal_level = replica\narchive_mode = on\n")
        file.write(
            f"archive_command = 'pgbackrest --config={made.configuration} --stanza=main "
            "archive-push %p'\n"
        )
    subprocess.run(
        [*(BINARIES / "pg_ctl", "-D", cluster.directory, "-l", cluster.directory / "log", "-w"),
         *("-m", "fast", "restart")],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    made.run("stanza-create")
    made.sql("create table stays (n int)")
    made.sql(f"create tablespace other location '{tablespace}'")
    made.sql("create table labs tablespace other as select generate_series(1, 500) n")
    made.run("--type=full", "backup")
    made.switch()
    made.run("--type=diff", "backup")
    made.switch()
    made.run("--type=incr", "backup")
    for _ in range(3):
        made.switch()
    made.mark.write_text(made.sql("select clock_timestamp() at time zone 'UTC' || '+00:00'"))
    made.sql("select pg_sleep(1.1)")  # archives know whole seconds
    made.switch(rows=100)
    return made
