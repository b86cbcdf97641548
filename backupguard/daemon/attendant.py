"""Attends one runner in a systemd unit of its own: `python -m backupguard.daemon.attendant`.

The daemon serves pages, listens on the network and signs; a runner builds sandboxes, for which it
needs user namespaces and mounts. In one unit each would have the other's rights. So the daemon asks
here, over a connection that systemd accepted (backupguard-runner.socket), and the runner starts behind
it in its own unit (backupguard-runner@.service): its own rights, its own control group.

One request is one JSON object on one line, with the descriptors it names; afterwards every byte is the
number of a signal for the runner, and the end of the connection means that the daemon is gone. The
answer is the runner's exit status, in decimal, on one line. Standard library only: it lives as long as
the run, beside a runner that may be large.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds a runner has to close its run after its daemon has gone: as long as the daemon gives it.
GRACE_S = 20.0
#: A request names a run and a file.
REQUEST_LIMIT = 64 << 10
#: Descriptors a request can bring along, in this order.
BROUGHT = ("input", "output", "credentials")
#: What the daemon may have sent to a runner.
SIGNALS = frozenset({signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGKILL})

#: Of the daemon's environment: what a drop-in of its unit may say of places and languages.
SHARED = ("LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
#: What a runner inherits: where things are, how text is written. No secret is among them.
INHERITED = ("PATH", "HOME", *SHARED, "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM")

_RUN = re.compile(r"[0-9A-Za-z]{1,64}")
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


class Refused(Exception):
    """A request that is none, or not from the daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be started, and the descriptors that came with it (-1: none).

    `early` are signals that were sent before the request had been read: a stream knows no borders.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    input: int = -1
    output: int = -1
    credentials: int = -1
    early: bytes = b""

    def close(self) -> None:
        """Close what came with the request."""
        for descriptor in (self.input, self.output, self.credentials):
            if descriptor >= 0:
                os.close(descriptor)


def command(module: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the argv that runs a module of ours."""
    return (sys.executable, "-P", "-m", module, *arguments)


def receive(connection: socket.socket) -> Request:
    """Read the request of the account that this process has itself; raises Refused."""
    size = struct.calcsize("3i")
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    if struct.unpack("3i", peer)[1] != os.geteuid():
        raise Refused("peer")
    line, brought = b"", list[int]()
    try:
        while b"\n" not in line:
            more, descriptors, _, _ = socket.recv_fds(
                connection, REQUEST_LIMIT, len(BROUGHT), socket.MSG_CMSG_CLOEXEC
            )
            brought += descriptors
            line += more
            if not more or len(line) > REQUEST_LIMIT:
                raise Refused("request")
        line, _, early = line.partition(b"\n")
        return _understood(line, brought, early)
    except BaseException:
        for descriptor in brought:
            os.close(descriptor)
        raise


def _understood(line: bytes, brought: list[int], early: bytes) -> Request:
    """Return what a request asks for: one of two things, and nothing else."""
    try:
        asked = json.loads(line)
        names = [name for name in BROUGHT if name in asked["brings"]]
        if len(names) != len(brought):
            raise Refused("descriptors")
        if asked["do"] == "run" and _RUN.fullmatch(asked["run"]):
            module = "backupguard.daemon.runner"
            parent = str(os.getpid())
            arguments = [asked["run"], "--settings", asked["settings"], "--parent", parent]
        elif asked["do"] == "tool":
            module, arguments = "backupguard.daemon.tool", [asked["work"]]
        else:
            raise Refused("verb")
        environment = {n: asked["environment"][n] for n in SHARED if n in asked["environment"]}
        words = (*arguments, *environment.values())
        if not all(isinstance(word, str) and "\0" not in word for word in words):
            raise Refused("argument")
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("request") from error
    return Request(
        argv=command(module, arguments),
        environment=environment,
        early=early,
        **dict(zip(names, brought, strict=True)),
    )


def start(request: Request) -> subprocess.Popen[bytes]:
    """Start what a request asks for, with the daemon's credentials."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= request.environment
    environment.pop(_CREDENTIALS, None)
    passed: tuple[int, ...] = ()
    if request.credentials >= 0:
        # The daemon's own directory, which only its unit sees: by descriptor, not by path.
        environment[_CREDENTIALS] = f"/proc/self/fd/{request.credentials}"
        passed = (request.credentials,)
    return subprocess.Popen(
        request.argv,
        stdin=subprocess.DEVNULL if request.input < 0 else request.input,
        stdout=subprocess.DEVNULL if request.output < 0 else request.output,
        cwd="/",
        env=environment,
        pass_fds=passed,
        start_new_session=True,
    )


def attend(connection: socket.socket, process: subprocess.Popen[bytes], early: bytes = b"") -> int:
    """Pass signals on until the runner has ended; return its status, negative for a signal's number.

    Those of `early` come first.
    """
    _send(early, process)
    ended = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(connection, select.POLLIN)
    deadline: float | None = None
    try:
        while True:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {descriptor for descriptor, _ in poll.poll(wait)}
            if ended in ready:
                return process.wait()
            if connection.fileno() in ready:
                if not _pass_on(connection, process):
                    poll.unregister(connection)
                    process.send_signal(signal.SIGTERM)
                    deadline = time.monotonic() + GRACE_S
            elif deadline is not None and time.monotonic() >= deadline:
                process.kill()
                deadline = None
    finally:
        os.close(ended)


def _pass_on(connection: socket.socket, process: subprocess.Popen[bytes]) -> bool:
    """Send what the daemon asks for to the runner; False when the daemon is gone."""
    try:
        numbers = connection.recv(16)
    except OSError:
        return False
    _send(numbers, process)
    return bool(numbers)


def _send(numbers: bytes, process: subprocess.Popen[bytes]) -> None:
    for number in numbers:
        if number in SIGNALS:
            process.send_signal(number)


def make_room(own: str, mounts: Path = Path("/sys/fs/cgroup")) -> bool:
    """Given /proc/self/cgroup, prepare the unit's delegated group for groups of sandboxes in it.

    Version 2 allows controllers only below a group without processes of its own (cgroups(7), "no
    internal processes"), so this process, and with it the runner, goes one level down. False where
    nothing is delegated: version 1, or a unit without Delegate=.
    """
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), None)
    if path is None:
        return False
    unit = mounts / path.lstrip("/")
    try:
        there = (unit / "cgroup.controllers").read_text(encoding="ascii").split()
        wanted = [f"+{name}" for name in ("memory", "pids") if name in there]
        if "+memory" not in wanted or not os.access(unit / "cgroup.subtree_control", os.W_OK):
            return False
        (unit / "run").mkdir(exist_ok=True)
        (unit / "run" / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        (unit / "cgroup.subtree_control").write_text(" ".join(wanted), encoding="ascii")
    except OSError:
        return False
    return True


def serve(connection: socket.socket) -> int:
    """Serve one connection to its end; return this process' exit status."""
    try:
        request = receive(connection)
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    try:
        process = start(request)
    finally:
        request.close()
    # A stop of this unit alone ends the run in order; the loop goes on until it has.
    signal.signal(signal.SIGTERM, lambda _number, _frame: process.send_signal(signal.SIGTERM))
    status = attend(connection, process, request.early)
    with suppress(OSError):
        connection.sendall(b"%d\n" % status)
    return 0


def main() -> int:
    """Serve the connection that systemd hands over as standard input (systemd.exec(5))."""
    make_room(Path("/proc/self/cgroup").read_text(encoding="ascii"))
    with socket.socket(fileno=os.dup(0)) as connection:
        return serve(connection)


if __name__ == "__main__":
    sys.exit(main())
