"""A real daemon in a process of its own, and what its tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.error import HTTPError

from backupguard.model import Fact
from backupguard.settings import Settings, load
from backupguard.store import open_store

PROGRAM = Path(sys.executable).with_name("backupguard")

BASE = """
[site]
name = "CH de test"
language = "{language}"
[store]
directory = "state"
[http]
listen = "127.0.0.1:{port}"
[repositories.dumps]
type = "directory"
path = "{dumps}"
[applications.dpi]
name = "Dossier patient"
criticality = "C2"
rpo = "24h"
[applications.dpi.backups.nightly]
repository = "dumps"
select.pattern = "dpi-%Y%m%d.dump"
every = "24h"
[applications.dpi.restore-test]
engine = "postgresql"
schedule = "0 3 1 1 *"
"""

HANGING = """
[repositories.hung]
type = "restic"
url = "{url}"
credentials.reader.file = "{password}"
"""


def wait_for(what: Callable[[], object], timeout_s: float = 30.0) -> object:
    """Return the first truthy answer; fail when there is none in time."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def quiet() -> str:
    """Return the table with which no restore test starts by itself: in one minute, in three days.

    A second test of an application is refused while one runs, so a test that asks for its own
    must not meet the daemon's.
    """
    later = datetime.now(UTC) + timedelta(days=3)
    return f'[daemon]\nwindows = ["{later:%a} 03:00-03:01"]\n'


class Site:
    """A site's directory with its configuration, and the daemons started on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.config = directory / "backupguard.toml"
        self.dumps = directory / "dumps"
        self.dumps.mkdir()
        self.log = directory / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.settimeout(40)
        self.write()

    def write(self, more: str = "", language: str = "fr") -> None:
        base = BASE.format(port=self.port, dumps=self.dumps, language=language)
        self.config.write_text(base + more, encoding="utf-8")

    def hang(self) -> None:
        """Add a repository that never answers: restic waits in its jail for a pipe nobody writes."""
        password = self.directory / "password"
        password.write_text("secret")
        password.chmod(0o600)
        place = self.directory / "hung"
        for name in ("data", "index", "keys", "locks", "snapshots"):
            (place / name).mkdir(parents=True)
        (place / "config").write_bytes(b"x" * 64)
        os.mkfifo(place / "keys" / ("a" * 64))
        self.write(HANGING.format(url=place, password=password))

    @property
    def settings(self) -> Settings:
        return load(self.config)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def start(
        self,
        *,
        ready: bool = True,
        program: Sequence[str | Path] = (PROGRAM,),
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        """Start a daemon; `more` is added to its environment."""
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "LANG": "C.UTF-8",
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            "WATCHDOG_USEC": "4000000",
            **more,
        }
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*program, "--config", self.config, "run"],
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.processes.append(process)
        if ready:
            self.heard("READY=1")
        return process

    def heard(self, wanted: str) -> list[str]:
        """Return what the service manager heard until `wanted` came."""
        told: list[str] = []
        while wanted not in told:
            told += self.manager.recv(4096).decode().split("\n")
        return told

    def quieten(self) -> None:
        """Forget what the service manager heard so far."""
        self.manager.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.manager.recv(4096)
        self.manager.settimeout(40)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def facts(self, *kinds: str) -> list[Fact]:
        store = open_store(self.state)
        try:
            return list(store.facts(kinds=kinds))
        finally:
            store.close()

    def events(self, code: str) -> list[dict[str, object]]:
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event.code") == code:
                    found.append(event)
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
        )

    def leftovers(self) -> list[str]:
        """Return every process that has to do with this site, daemons not counted."""
        found = []
        ours = {str(process.pid) for process in self.processes if process.poll() is None}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or entry.name in ours or entry.name == str(os.getpid()):
                continue
            with suppress(OSError):
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if str(self.directory) in text:
                    found.append(text)
        return found

    def run_directories(self) -> list[str]:
        directory = self.state / "runs"
        return [entry.name for entry in directory.iterdir()] if directory.is_dir() else []

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.manager.close()


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Ask a daemon to end and return its exit status."""
    process.send_signal(number)
    return process.wait(40)
