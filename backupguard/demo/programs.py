"""Runs the programs the demonstration plays with: PostgreSQL servers of its own, backup tools."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backupguard.errors import MissingMeans
from backupguard.model import Message

POSTGRESQL = Path("/usr/lib/postgresql")
_LIMIT_S = 600


def _missing(program: str, package: str) -> MissingMeans:
    remedy = Message(id="remedy.install_package", values={"package": package})
    return MissingMeans("program_missing", remedy=remedy, program=program, package=package)


def find(*names: str) -> Path | None:
    """Return the first of these programs that is in BACKUPGUARD_TOOLS or on PATH, or None."""
    tools = os.environ.get("BACKUPGUARD_TOOLS")
    path = os.pathsep.join(filter(None, (tools, os.environ.get("PATH", os.defpath))))
    found = (shutil.which(name, path=path) for name in names)
    return next((Path(place) for place in found if place), None)


def newest_postgresql(root: Path = POSTGRESQL) -> Path:
    """Return the directory of programs of the newest PostgreSQL server installed.

    Raises MissingMeans (program_missing) with the package to install.
    """
    majors = [d for d in root.glob("*/bin/initdb") if d.parent.parent.name.isdigit()]
    if not majors:
        raise _missing("postgres", "postgresql")
    return max(majors, key=lambda place: int(place.parent.parent.name)).parent


def required(program: str, package: str | None = None) -> Path:
    """Return where a program is. Raises MissingMeans (program_missing) with the package to install."""
    found = find(program)
    if found is None:
        raise _missing(program, package or program)
    return found


def rest_server() -> Path | None:
    """Return where a rest-server is, under Debian's name or its own, or None."""
    return find("restic-rest-server", "rest-server")


def call(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return what it printed.

    Raises MissingMeans (server_refused) with its last line when it fails: all data here is invented,
    so what a program says may be shown.
    """
    done = subprocess.run(
        [str(part) for part in argv],
        env={**_environment(), **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["—"]
        values = {"program": Path(argv[0]).name, "said": said[-1][:300]}
        raise MissingMeans("server_refused", Message(id="demo.program_failed", values=values))
    return done.stdout


def _environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A running PostgreSQL of the demonstration's own, reached through its socket only.

    `port` is a part of the socket's name, and tells servers of one host apart.
    """

    programs: Path
    socket: Path
    port: int = 5432

    @property
    def conninfo(self) -> str:
        """Return how libpq reaches it."""
        return f"host={self.socket} port={self.port} user=postgres dbname=postgres"

    def connection(self, database: str) -> list[str]:
        """Return the options by which PostgreSQL's programs reach a database."""
        return ["-h", str(self.socket), "-p", str(self.port), "-U", "postgres", "-d", database]

    def psql(self, database: str, *arguments: str, script: str | None = None) -> str:
        """Run psql, with a script on its standard input if one is given; return what it printed."""
        argv = [str(self.programs / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        return call([*argv, *self.connection(database), *arguments], stdin=script)

    def create(self, database: str, script: str, **variables: int) -> None:
        """Create a database and fill it by a SQL script with these psql variables."""
        self.psql("postgres", "-c", f'create database "{database}"')
        options = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        self.psql(database, *options, script=script)

    def dump(self, database: str, into: Path, *options: str) -> None:
        """Dump a database with pg_dump; the custom format with fast compression by default."""
        chosen = options or ("-Fc", "-Z1")
        argv = [str(self.programs / "pg_dump"), *chosen, "-f", str(into)]
        call([*argv, *self.connection(database)])

    def bytes_of(self, database: str) -> int:
        """Return the size of a database in bytes."""
        return int(self.psql(database, "-c", "select pg_database_size(current_database())"))


@contextmanager
def postgresql(
    directory: Path, settings: Mapping[str, str] | None = None, port: int = 5432
) -> Iterator[Source]:
    """Run a PostgreSQL server with its data below `directory` until the block ends.

    It listens on its socket alone and writes without fsync: its data is made again by the next run.
    `settings` take the place of those that make loading quick.
    """
    programs = newest_postgresql()
    data, log = directory / "data", directory / "log"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    meeting = tempfile.mkdtemp(prefix="backupguard-demo-")
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres"]
    call([*initdb, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"])
    chosen = {
        "listen_addresses": "",
        "port": str(port),
        # A socket's path is bound to 107 bytes, and `directory` is not ours to choose.
        "unix_socket_directories": meeting,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "8GB",
        "shared_buffers": "256MB",
        "maintenance_work_mem": "256MB",
        "autovacuum": "off",
        "jit": "off",
        **(settings or {}),
    }
    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    source = Source(programs=programs, socket=Path(meeting), port=port)
    argv = (str(programs / "postgres"), "-D", str(data), *options)
    try:
        with running(argv, lambda: _answers(source), log):
            yield source
    finally:
        shutil.rmtree(meeting, ignore_errors=True)


@contextmanager
def running(argv: Sequence[str | Path], ready: Callable[[], bool], log: Path) -> Iterator[None]:
    """Run a program from when it is ready until the block ends; what it says goes into `log`.

    Raises MissingMeans (server_refused) when it ends before, or is not ready within a minute.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )
    try:
        _wait_for(ready, process, Path(argv[0]).name, log)
        yield
    finally:
        _stop(process)


def _answers(source: Source) -> bool:
    done = subprocess.run(
        [str(source.programs / "pg_isready"), "-q", *source.connection("postgres")],
        env=_environment(),
        check=False,
        timeout=10,
    )
    return done.returncode == 0


def _wait_for(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    program: str,
    log: Path,
    seconds: int = 60,
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if ready():
            return
        time.sleep(0.05)
    lines = log.read_text(errors="replace").strip().splitlines() or ["—"]
    values = {"program": program, "said": lines[-1][:300]}
    raise MissingMeans("server_refused", Message(id="demo.program_failed", values=values))


def wait_until(ready: Callable[[], bool], program: str, seconds: int = 60) -> None:
    """Wait until something that a program does is done. Raises MissingMeans (server_refused)."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            values = {"program": program, "said": "…"}
            raise MissingMeans("server_refused", Message(id="demo.program_failed", values=values))
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port(wanted: int | None = None) -> int:
    """Return `wanted` if nobody listens on it here, else a port that is free right now."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise MissingMeans("server_refused", Message(id="demo.no_port"))


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def start_daemon(program: Path, configuration: Path) -> subprocess.Popen[bytes]:
    """Start `backupguard run` on a configuration; the caller ends it."""
    return subprocess.Popen([str(program), "--config", str(configuration), "run"])
