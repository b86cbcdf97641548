"""A real MariaDB server for tests: its own data in a directory, a Unix socket, TCP only when asked."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SERVER = Path("/usr/sbin/mariadbd")
SUPERUSER = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class MariaDB:
    """A running server. Its socket lies in a short directory, for a socket's path is limited.

    `root` may do everything over the socket without a password; so may the calling user, by its name.
    """

    directory: Path
    socket: Path
    port: int | None
    process: subprocess.Popen[bytes]

    def run(self, sql: str, *, user: str = SUPERUSER) -> str:
        """Run statements over the socket and return their rows; raises when one fails."""
        done = subprocess.run(
            [
                *("mariadb", "--no-defaults", f"--socket={self.socket}", f"--user={user}"),
                *("--batch", "--skip-column-names", f"--execute={sql}"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def stop(self) -> None:
        """Stop the server and remove its socket's directory."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.socket.parent, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_mariadb(directory: Path, *, port: int | None = None) -> MariaDB:
    """Make and start a server in `directory` (must not exist), as the calling ordinary user.

    `port`: where it listens on 127.0.0.1; left out: nowhere.
    """
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", "--force", f"--datadir={directory}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
            "--innodb-log-file-size=8M",
        ],
        check=True,
        capture_output=True,
    )
    place = Path(tempfile.mkdtemp(prefix="bgmy")) / "mysqld.sock"
    network = [f"--port={port}", "--bind-address=127.0.0.1"] if port else ["--skip-networking"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(SERVER, "--no-defaults", f"--datadir={directory}", f"--socket={place}", *network),
                *("--skip-log-bin", "--innodb-flush-method=nosync", "--skip-name-resolve"),
                *("--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"),
                *(f"--pid-file={directory}/pid", "--performance-schema=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = MariaDB(directory=directory, socket=place, port=port, process=process)
    deadline = time.monotonic() + 60
    while True:
        try:
            server.run("select 1")
            break
        except subprocess.CalledProcessError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                server.stop()
                text = (directory / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"MariaDB did not start:\n{text}") from error
            time.sleep(0.05)
    user = f"'{getpass.getuser()}'@localhost"
    server.run(f"create user {user}; grant all on *.* to {user} with grant option")
    return server
