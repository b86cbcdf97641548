"""A real Bacula 9.6 on loopback ports, as an ordinary user: director, storage and file daemon."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import program

LIBRARIES = ("usr/lib/bacula", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
STATEMENTS = re.compile(r"<<END-OF-DATA\n(.*?)^END-OF-DATA$", re.DOTALL | re.MULTILINE)
PASSWORD = "only-for-tests"  # of the daemons among one another; they listen on 127.0.0.1

DIRECTOR = """
Director {{
  Name = t-dir; DIRport = {dir_port}; DirAddress = 127.0.0.1; QueryFile = "/dev/null"
  WorkingDirectory = "{work}"; PidDirectory = "{work}"; Maximum Concurrent Jobs = 4
  Password = "{password}"; Messages = M
}}
Catalog {{ Name = C; {catalogue} }}
Messages {{ Name = M; append = "{work}/log" = all; catalog = all }}
Client {{
  Name = srv-dpi-fd; Address = 127.0.0.1; FDPort = {fd_port}; Catalog = C; Password = "{password}"
  AutoPrune = no
}}
Storage {{
  Name = File; Address = 127.0.0.1; SDPort = {sd_port}; Password = "{password}"
  Device = Disk; Media Type = File; Maximum Concurrent Jobs = 4
}}
Storage {{
  Name = Vault; Address = 127.0.0.1; SDPort = {sd_port}; Password = "{password}"
  Device = Vault; Media Type = VaultFile; Maximum Concurrent Jobs = 4
}}
Pool {{
  Name = Daily; Pool Type = Backup; Storage = File; Label Format = "Daily-"; Recycle = yes
  AutoPrune = no; Volume Retention = 30 days; Maximum Volume Jobs = 1; Next Pool = Offsite
}}
Pool {{
  Name = Offsite; Pool Type = Backup; Storage = Vault; Label Format = "Offsite-"; Recycle = no
  AutoPrune = no; Volume Retention = 1 year
}}
FileSet {{ Name = dpi; Include {{ Options {{ signature = MD5 }}; File = "{source}" }} }}
FileSet {{ Name = none; Include {{ Options {{ signature = MD5 }}; File = "{work}/absent" }} }}
JobDefs {{
  Name = D; Type = Backup; Client = srv-dpi-fd; FileSet = dpi; Storage = File; Pool = Daily
  Messages = M; Level = Incremental
}}
Job {{ Name = dpi-nightly; JobDefs = D }}
Job {{ Name = lab-nightly; JobDefs = D }}
Job {{ Name = empty; JobDefs = D; FileSet = none }}
Job {{ Name = failing; JobDefs = D; Run Before Job = "/bin/false" }}
Job {{
  Name = copy-offsite; Type = Copy; JobDefs = D; Pool = Daily; Selection Type = Job
  Selection Pattern = "dpi-nightly"
}}
Job {{
  Name = RestoreFiles; Type = Restore; JobDefs = D; Where = "{work}/restored"
}}
"""

STORAGE = """
Storage {{
  Name = t-sd; SDPort = {sd_port}; SDAddress = 127.0.0.1; WorkingDirectory = "{work}"
  Pid Directory = "{work}"; Maximum Concurrent Jobs = 4
}}
Director {{ Name = t-dir; Password = "{password}" }}
Device {{
  Name = Disk; Media Type = File; Archive Device = "{work}/disk"; LabelMedia = yes
  Random Access = yes; AutomaticMount = yes; RemovableMedia = no; AlwaysOpen = no
}}
Device {{
  Name = Vault; Media Type = VaultFile; Archive Device = "{work}/vault"; LabelMedia = yes
  Random Access = yes; AutomaticMount = yes; RemovableMedia = no; AlwaysOpen = no
}}
Messages {{ Name = M; director = t-dir = all }}
"""

CLIENT = """
Director {{ Name = t-dir; Password = "{password}" }}
FileDaemon {{
  Name = srv-dpi-fd; FDport = {fd_port}; FDAddress = 127.0.0.1; WorkingDirectory = "{work}"
  Pid Directory = "{work}"; Maximum Concurrent Jobs = 4
}}
Messages {{ Name = M; director = t-dir = all }}
"""

CONSOLE = """
Director {{ Name = t-dir; DIRport = {dir_port}; address = 127.0.0.1; Password = "{password}" }}
"""


def unpacked() -> Path:
    """Return where script/install-programs unpacked Debian's Bacula packages."""
    return program("bacula-root").resolve()


def schema(kind: str) -> str:
    """Return the statements of Bacula's own script `make_KIND_tables`: "postgresql", "sqlite3"."""
    script = unpacked() / "usr/share/bacula-director" / f"make_{kind}_tables"
    found = STATEMENTS.search(script.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Bacula:
    """Three daemons, the directory they work in, and the directory they back up."""

    work: Path
    source: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen]

    def console(self, *commands: str) -> str:
        """Give the director commands and return what it says."""
        done = subprocess.run(
            [unpacked() / "usr/sbin/bconsole", "-c", self.work / "console.conf"],
            input="\n".join([*commands, "quit", ""]),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout

    def run_all(self, *jobs: str, level: str = "Incremental") -> None:
        """Run jobs to their ends; a first backup becomes a full one by itself."""
        self.console(*(f"run job={job} level={level} yes" for job in jobs), "wait")

    def stop(self) -> None:
        """End the daemons."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(work: Path, catalogue: str, kind: str) -> Bacula:
    """Start a Bacula whose catalogue is told by `catalogue`; `kind` is "postgresql" or "sqlite3"."""
    root = unpacked()
    source = work / "source"
    for directory in (work, source, work / "disk", work / "vault", work / "cats"):
        directory.mkdir(parents=True, exist_ok=True)
    # Which database a director talks to is decided by which library bears this name.
    driver = f"libbaccats-{kind}-9.6.7.so"
    (work / "cats" / "libbaccats-9.6.7.so").symlink_to(root / "usr/lib/bacula" / driver)
    dir_port, sd_port, fd_port = _free_ports(3)
    for name, text in (
        ("director", DIRECTOR),
        ("storage", STORAGE),
        ("client", CLIENT),
        ("console", CONSOLE),
    ):
        filled = text.format(
            work=work,
            source=source,
            catalogue=catalogue,
            password=PASSWORD,
            dir_port=dir_port,
            sd_port=sd_port,
            fd_port=fd_port,
        )
        # One directive a line: what Bacula's own parser wants behind an opening brace.
        filled = re.sub(r";\s+", "\n  ", filled).replace("{ ", "{\n  ").replace(" }", "\n}")
        (work / f"{name}.conf").write_text(filled, encoding="utf-8")
    libraries = [str(work / "cats"), *(str(root / each) for each in LIBRARIES)]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "LANG": "C.UTF-8"}
    bacula = Bacula(work=work, source=source, environment=environment, processes=[])
    for binary, name in (
        ("bacula-sd", "storage"),
        ("bacula-fd", "client"),
        ("bacula-dir", "director"),
    ):
        with (work / f"{name}.out").open("wb") as output:
            bacula.processes.append(
                subprocess.Popen(
                    [root / "usr/sbin" / binary, "-f", "-c", work / f"{name}.conf"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )
    _await(bacula, (dir_port, sd_port, fd_port))
    return bacula


def _await(bacula: Bacula, ports: tuple[int, ...]) -> None:
    deadline = time.monotonic() + 30
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or any(
                    p.poll() is not None for p in bacula.processes
                ):
                    said = "\n".join(path.read_text() for path in bacula.work.glob("*.out"))
                    bacula.stop()
                    pytest.fail(f"Bacula did not start:\n{said}")
                time.sleep(0.05)


def remove(bacula: Bacula) -> None:
    """End the daemons and remove what they wrote."""
    bacula.stop()
    shutil.rmtree(bacula.work, ignore_errors=True)
