"""What the daemon has done in another unit: runs, and the few tools it asks itself.

The other end is `attendant`. Where the unit names no socket (a daemon in a terminal, in a test, in a
unit of one's own) everything is done in the daemon's own place.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backupguard import errors
from backupguard.contracts import Cancel, Command, Completed, Tools
from backupguard.daemon.attendant import SHARED
from backupguard.daemon.tool import ANSWER_LIMIT
from backupguard.errors import BackupGuardError, TimedOut
from backupguard.model import Message
from backupguard.processes import Jail
from backupguard.processes.bubblewrap import anonymous_file, sandbox_unavailable
from backupguard.processes.programs import find_program

#: The variable in which the unit says where runners are started; a path, no secret.
VARIABLE = "BACKUPGUARD_RUNNERS"
#: systemd accepts at once; what follows is asynchronous, or has a time-out of its own.
_CONNECT_S = 5.0
#: So soon a tool ends once its daemon does.
_SLICE_S = 1.0
#: A unit and an interpreter are started around a tool.
_AROUND_S = 30.0


def place(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the socket behind which runners are started; None when they are started here."""
    named = environ.get(VARIABLE)
    return Path(named) if named else None


def _credentials(environ: Mapping[str, str]) -> int:
    """Return a descriptor of this unit's credentials, -1 when it has none."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        with suppress(OSError):
            return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return -1


def ask(path: Path, request: Mapping[str, str], **brought: int) -> socket.socket:
    """Connect and send a request with the descriptors it brings; raises OSError.

    `brought` are `input` and `output`, both the caller's to close; credentials go along by themselves.
    """
    given = {name: brought[name] for name in ("input", "output") if brought.get(name, -1) >= 0}
    credentials = _credentials(os.environ)
    if credentials >= 0:
        given["credentials"] = credentials
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_CONNECT_S)
        connection.connect(str(path))
        shared = {name: os.environ[name] for name in SHARED if name in os.environ}
        told = {**request, "environment": shared, "brings": list(given)}
        line = json.dumps(told).encode() + b"\n"
        sent = socket.send_fds(connection, [line], list(given.values()))
        connection.sendall(line[sent:])
    except BaseException:
        connection.close()
        raise
    finally:
        if credentials >= 0:
            os.close(credentials)
    return connection


class Attended:
    """A runner in a unit of its own, known by its connection."""

    def __init__(self, path: Path, run: str, settings_file: Path, key: int | None) -> None:
        """Have a run performed; raises OSError when nobody is there to do it."""
        self.pid = 0  # not ours to know: its unit's name is in the journal
        request = {"do": "run", "run": run, "settings": str(settings_file)}
        self._connection = ask(path, request, input=-1 if key is None else key)
        self._connection.setblocking(False)
        self._said = b""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is something to know."""
        return self._connection.fileno()

    def send(self, number: signal.Signals) -> None:
        """Have a signal sent to the runner; one that has ended is left alone."""
        with suppress(OSError):
            self._connection.send(bytes([number]))

    def status(self) -> int | None:
        """Return how the runner ended, None while it has not said all; it was killed without a word."""
        try:
            more = self._connection.recv(64)
        except BlockingIOError:
            return None
        except OSError:
            more = b""
        self._said += more
        if self._said.endswith(b"\n"):
            with suppress(ValueError):
                return int(self._said)
        return None if more else -signal.SIGKILL

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


class Elsewhere:
    """Implements `contracts.Tools` for the daemon itself: each call in the jail of another unit."""

    def __init__(self, path: Path, work: Path, cancel: Cancel) -> None:
        self._path = path
        self._work = work
        self._cancel = cancel

    def which(self, program: str) -> Path | None:
        """Return where `program` is found on the fixed path, or None."""
        return find_program(program)

    def run(self, command: Command) -> Completed:
        """Run `command` to its end; see `contracts.Tools.run`. It has neither sink nor network.

        Raises what the jail there raised, MissingMeans (sandbox_unavailable) when nobody answers.
        """
        self._cancel.raise_if_set()
        if command.sink is not None or command.network:
            raise ValueError("a tool of the daemon has neither sink nor network")
        asked = anonymous_file("command", _told(command))
        answer = anonymous_file("answer", b"")
        try:
            request = {"do": "tool", "work": str(self._work)}
            try:
                connection = ask(self._path, request, input=asked, output=answer)
            except OSError as error:  # a time-out too: the tool has not begun
                raise self._nobody(error.strerror or str(error)) from error
            with connection:
                status = self._status(connection, command)
            if not status:
                raise self._nobody("EOF")
            if status != b"0\n":
                raise sandbox_unavailable(f"status {status.decode('ascii', 'replace').strip()}")
            return _answered(os.pread(answer, ANSWER_LIMIT, 0))
        finally:
            os.close(asked)
            os.close(answer)

    def _status(self, connection: socket.socket, command: Command) -> bytes:
        """Return what the attendant says at the end; the end of the connection ends the tool."""
        until = time.monotonic() + command.timeout_s + _AROUND_S
        connection.settimeout(_SLICE_S)
        while True:
            self._cancel.raise_if_set()
            try:
                return connection.recv(64)
            except TimeoutError as error:
                if time.monotonic() >= until:
                    raise TimedOut("phase_limit", _late(command)) from error
            except OSError as error:
                raise self._nobody(error.strerror or str(error)) from error

    def _nobody(self, why: str) -> BackupGuardError:
        return sandbox_unavailable(f"{self._path}: {why}")


def tools(work: Path, cancel: Cancel) -> Tools:
    """Return the daemon's own tools: in a jail of another unit where there is one, else in one here."""
    path = place()
    return Jail(work, cancel) if path is None else Elsewhere(path, work, cancel)


def _late(command: Command) -> Message:
    values: dict[str, int | str] = {"program": command.argv[0], "seconds": command.timeout_s}
    return Message(id="processes.phase_limit", values=values)


def _told(command: Command) -> bytes:
    """Return a command for the other process; its secrets are in memory that has no name."""
    return json.dumps(
        {
            "argv": command.argv,
            "read": [str(path) for path in command.read],
            "write": [str(path) for path in command.write],
            "secrets": {
                name: base64.b64encode(secret.reveal()).decode()
                for name, secret in command.secrets.items()
            },
            "environment": dict(command.environment),
            "timeout_s": command.timeout_s,
        }
    ).encode()


def _answered(text: bytes) -> Completed:
    """Return how the tool ended, or raise the error the jail raised."""
    told = json.loads(text)
    if "error" in told:
        kind = getattr(errors, told["error"])
        assert issubclass(kind, BackupGuardError)
        raise kind(told["code"], _message(told["message"]), _message(told["remedy"]))
    return Completed(
        returncode=told["returncode"],
        stdout=base64.b64decode(told["stdout"]),
        stderr=base64.b64decode(told["stderr"]),
        truncated=told["truncated"],
        duration_ms=told["duration_ms"],
    )


def _message(told: Mapping[str, Any] | None) -> Message | None:
    return None if told is None else Message(id=told["id"], values=told["values"])
