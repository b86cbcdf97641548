"""A small bwrap runner behind the contracts, so that engines are tested apart from the real sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import Command, Completed
from backupguard.errors import Cancelled, TimedOut


class LocalCancel:
    def __init__(self) -> None:
        self.event = threading.Event()

    def is_set(self) -> bool:
        return self.event.is_set()

    def raise_if_set(self) -> None:
        if self.event.is_set():
            raise Cancelled("by_operator")

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)


@dataclass
class LocalServer:
    process: subprocess.Popen[bytes]

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, signal_number: int, timeout_s: int) -> Completed:
        self.process.kill()
        return Completed(returncode=self.process.wait(timeout_s), stdout=b"", stderr=b"")


@dataclass
class LocalSandbox:
    directory: Path
    artifact: Path
    cancel: LocalCancel = field(default_factory=LocalCancel)
    servers: list[LocalServer] = field(default_factory=list)
    runs: list[list[str]] = field(default_factory=list)

    def _argv(
        self,
        argv: Sequence[str],
        scratch: bool,
        shared: Sequence[str],
        environment: Mapping[str, str] | None,
    ) -> list[str]:
        line = [
            *("/usr/bin/bwrap", "--unshare-all", "--uid", "1000", "--gid", "1000"),
            *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
            *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"),
            *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
            *("--proc", "/proc", "--dev", "/dev", "--size", "67108864", "--tmpfs", "/tmp"),
            *("--ro-bind", str(self.directory / "passwd"), "/etc/passwd"),
            *("--ro-bind", str(self.artifact), "/in"),
        ]
        if scratch:
            line += ["--bind", str(self._made("scratch")), "/scratch"]
        for name in shared:
            line += ["--bind", str(self._made(f"shared-{name}")), f"/shared/{name}"]
        for name, value in (environment or {}).items():
            line += ["--setenv", name, value]
        return [*line, "--remount-ro", "/dev", "--remount-ro", "/", *argv]

    def _made(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(exist_ok=True, mode=0o700)
        return path

    def run(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str] = (),
        stdin: Path | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: int,
        output_limit: int = 1 << 20,
    ) -> Completed:
        self.cancel.raise_if_set()
        self.runs.append(list(argv))
        text = stdin.read_bytes() if isinstance(stdin, Path) else stdin
        try:
            done = subprocess.run(
                self._argv(argv, scratch, shared, environment),
                env={},
                capture_output=True,
                input=text if text is not None else b"",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TimedOut("phase_limit") from error
        return Completed(
            returncode=done.returncode,
            stdout=done.stdout[:output_limit],
            stderr=done.stderr[:output_limit],
            truncated=len(done.stdout) > output_limit,
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: str,
    ) -> LocalServer:
        with (self.directory / f"{log}.log").open("wb") as output:
            process = subprocess.Popen(
                self._argv(argv, scratch, shared, environment),
                env={},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        server = LocalServer(process)
        self.servers.append(server)
        return server

    def write(self, path: PurePosixPath, content: bytes) -> None:
        name = path.parts[1] if path.parts[1] == "scratch" else f"shared-{path.parts[2]}"
        start = 2 if path.parts[1] == "scratch" else 3
        self._made(name).joinpath(*path.parts[start:]).write_bytes(content)

    def read(self, path: PurePosixPath, limit: int) -> bytes:
        name = path.parts[1] if path.parts[1] == "scratch" else f"shared-{path.parts[2]}"
        start = 2 if path.parts[1] == "scratch" else 3
        return self._made(name).joinpath(*path.parts[start:]).read_bytes()[:limit]

    def log(self, name: str, limit: int) -> bytes:
        return (self.directory / f"{name}.log").read_bytes()[-limit:]

    def host_traces(self) -> bytes:
        """Everything the sandbox left for the host to read: the servers' own output."""
        return b"".join(path.read_bytes() for path in self.directory.glob("*.log"))


@contextmanager
def local_sandbox(directory: Path, artifact: Path) -> Iterator[LocalSandbox]:
    directory.mkdir(parents=True)
    (directory / "passwd").write_text("sandbox:x:1000:1000::/tmp:/bin/sh\n")
    sandbox = LocalSandbox(directory, artifact)
    try:
        yield sandbox
    finally:
        for server in sandbox.servers:
            with suppress(ProcessLookupError):
                server.process.kill()
            server.process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


class LocalTools:
    """Runs what recognition and disposal need."""

    def which(self, program: str) -> Path | None:
        found = shutil.which(program)
        return Path(found) if found else None

    def run(self, command: Command) -> Completed:
        done = subprocess.run(list(command.argv), capture_output=True, check=False)
        return Completed(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass
class NothingKnown:
    standing: Sequence[Any] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def points(self, job: str, repository: str) -> Sequence[Any]:
        return self.standing

    def latest(self, kind: str, subject: str) -> Any:
        return self.facts.get(kind)

    def coverage(self, repository: str) -> Mapping[str, Any]:
        return {}


@dataclass
class LocalContext:
    work: Path
    tools: Any = field(default_factory=LocalTools)
    cancel: LocalCancel = field(default_factory=LocalCancel)
    known: Any = field(default_factory=NothingKnown)
    http: Any = None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    steps: list[tuple[int, int | None, str]] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    def progress(self, done: int, total: int | None, unit: str) -> None:
        self.steps.append((done, total, unit))

    def secret(self, reference: Any) -> Any:
        raise AssertionError("a restore test reads no secret")

    def remember(self, name: str) -> Path:
        path = self.work / "cache" / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def ordinary_user() -> bool:
    return os.geteuid() != 0
