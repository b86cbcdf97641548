"""A real PostgreSQL server for tests: its own cluster in a directory, a Unix socket, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

BINARIES = Path("/usr/lib/postgresql/15/bin")
SUPERUSER = "hospital"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running server. Its socket lies in a short directory, for a socket's path is limited."""

    directory: Path
    socket: Path
    port: int = 5432

    def url(self, database: str = "postgres") -> str:
        """Return a URL for SQLAlchemy and libpq alike."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.socket}"

    def environment(self) -> dict[str, str]:
        """Return what PostgreSQL's own programs need to find the server."""
        return {
            **os.environ,
            "PGHOST": str(self.socket),
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
        }

    def run(self, program: str, *arguments: str, **options: object) -> subprocess.CompletedProcess:
        """Run one of PostgreSQL's programs against the server; raises when it fails."""
        return subprocess.run(
            [BINARIES / program, *arguments],
            env=self.environment(),
            check=True,
            capture_output=True,
            **options,
        )

    def create(self, database: str) -> str:
        """Create a database and return its URL."""
        self.run("createdb", database)
        return self.url(database)

    def stop(self) -> None:
        """Stop the server at once and remove its socket directory."""
        subprocess.run(
            [BINARIES / "pg_ctl", "-D", self.directory, "-m", "immediate", "-w", "stop"],
            check=False,
            capture_output=True,
        )
        shutil.rmtree(self.socket, ignore_errors=True)


def start_cluster(directory: Path, *, port: int | None = None) -> Cluster:
    """Make and start a cluster in `directory` (must not exist), as the calling ordinary user.

    `port`: where it also listens on 127.0.0.1, wanting a password there; left out: nowhere.
    """
    subprocess.run(
        [
            *(BINARIES / "initdb", "-D", directory, "-A", "trust", "-U", SUPERUSER, "-N"),
            *("--locale=C.UTF-8", "--encoding=UTF8"),
        ],
        check=True,
        capture_output=True,
    )
    socket = Path(tempfile.mkdtemp(prefix="bgpg"))
    settings = {
        "listen_addresses": "''",
        "unix_socket_directories": f"'{socket}'",
        "fsync": "off",
        "max_connections": "200",
        "shared_buffers": "32MB",
    }
    if port is not None:
        settings |= {"listen_addresses": "'127.0.0.1'", "port": str(port)}
        rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (directory / "pg_hba.conf").write_text(rules, encoding="utf-8")
    with (directory / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    # The log goes to a file: a server that inherits a pipe would keep its reader waiting for ever.
    started = subprocess.run(
        [BINARIES / "pg_ctl", "-D", directory, "-l", directory / "log", "-w", "-t", "60", "start"],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cluster = Cluster(directory=directory, socket=socket, port=port or 5432)
    if started.returncode != 0:
        log = (directory / "log").read_text(encoding="utf-8", errors="replace")
        shutil.rmtree(socket, ignore_errors=True)
        raise RuntimeError(f"PostgreSQL did not start:\n{log}")
    return cluster
