"""Makes the hospital: its databases, their dumps, and the two places their copies are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from backupguard.demo import programs
from backupguard.demo.layout import Layout, write_secret


def script(name: str) -> str:
    """Return one of the SQL scripts: "dpi" or "labo"."""
    return (resources.files("backupguard.demo") / "sql" / f"{name}.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made: sizes in bytes per database, and the version of the server."""

    sizes: Mapping[str, int]
    rows: int
    version: str


def make_dumps(layout: Layout, observations: int, results: int) -> Made:
    """Start a PostgreSQL, load the hospital into it, dump it, and stop the server again."""
    with programs.postgresql(layout.source / "server") as source:
        source.create("dpi", script("dpi"), observations=observations)
        source.create("labo", script("labo"), results=results)
        for database in ("dpi", "labo"):
            source.dump(database, layout.dumps / f"{database}.dump")
        sizes = {database: source.bytes_of(database) for database in ("dpi", "labo")}
        version = source.psql("postgres", "-c", "show server_version").split()[0]
    return Made(sizes=sizes, rows=observations, version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restic:
    """restic as the hospital's own backup job calls it: with write rights, unlike BackupGuard."""

    program: Path
    repository: str
    password_file: Path

    def call(self, *arguments: str | Path) -> str:
        """Run restic on this repository and return what it printed."""
        environment = {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD_FILE": str(self.password_file),
        }
        argv = [self.program, "--no-cache", "-q", *arguments]
        return programs.call(argv, environment=environment)

    def back_up(self, dumps: Path) -> None:
        """Make the repository if need be, and a snapshot of each dump on its own."""
        self.call("init")
        for dump in sorted(dumps.glob("*.dump")):
            self.call("backup", "--tag", dump.stem, "--host", "belle-rive", dump)


def back_up(layout: Layout, restic: Path, coffre_port: int | None) -> None:
    """Back the dumps up into the directory and, if it has a port, into the rest-server."""
    nas = Restic(
        program=restic, repository=str(layout.nas), password_file=write_secret(layout, "nas")
    )
    nas.back_up(layout.dumps)
    if coffre_port is not None:
        coffre = Restic(
            program=restic,
            repository=f"rest:http://127.0.0.1:{coffre_port}/",
            password_file=write_secret(layout, "coffre"),
        )
        coffre.back_up(layout.dumps)


def vault_argv(program: Path, layout: Layout, port: int) -> tuple[str, ...]:
    """Return how the rest-server is started: append-only, on loopback, for this user only."""
    return (
        str(program),
        "--append-only",
        "--no-auth",  # on loopback, and restic encrypts: what it keeps is of no use to others
        "--listen",
        f"127.0.0.1:{port}",
        "--path",
        str(layout.coffre),
    )
