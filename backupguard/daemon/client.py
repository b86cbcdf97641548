"""How the command line speaks to a living daemon: HTTP over its control socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.errors import (
    AccessRefused,
    Busy,
    ConfigurationError,
    ConfigurationProblem,
    Misunderstood,
    Unreachable,
    UsageError,
)
from backupguard.model import Json, Message, RunState, Subject

if TYPE_CHECKING:
    from backupguard.contracts import Secret
    from backupguard.settings import Settings

#: A name of its own, so that the command line need not import the server.
SOCKET_NAME = "control.sock"

TIMEOUT_S = 40.0
POLL_S = 0.5

_OPEN = (RunState.WAITING.value, RunState.RUNNING.value)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket's path, through its directory where the path is too long."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self.path)) <= 107:
            self.sock.connect(str(self.path))
            return
        directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)


def _ask(
    settings: Settings,
    method: str,
    path: str,
    body: Mapping[str, Json] | None = None,
    file: bytes | None = None,
) -> Json:
    connection = _Connection(settings.runtime_directory / SOCKET_NAME)
    content = json.dumps(body).encode() if body is not None else None
    if content is not None and file is not None:  # one line of JSON, then the file as it is
        content = b"\n".join((content, file))
    try:
        connection.request(method, path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except PermissionError as error:
        raise AccessRefused("permission", path=str(connection.path)) from error
    except TimeoutError as error:
        raise Unreachable("timeout") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable("refused") from error
    finally:
        connection.close()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Misunderstood("output_unparsable") from error
    if status < 400:
        return value
    raise _error(status, value)


def _error(status: int, value: Mapping[str, Json]) -> Exception:
    """Return the daemon's refusal as the error it was there."""
    if value.get("problems"):
        return ConfigurationError(
            [
                ConfigurationProblem(
                    file=found["file"],
                    line=found["line"],
                    column=None,
                    key=found["key"],
                    message=Message(id=found["message"], values=found["values"]),
                )
                for found in value["problems"]
            ]
        )
    message = Message(id=value["message"], values=value["values"]) if "message" in value else None
    if status in (404, 422):
        code = "unknown_subject" if value.get("code") == "unknown_subject" else "usage"
        return UsageError(code, message)
    if status == 409 and value.get("code") == "already_running":
        return Busy("already_running", message)
    return Unreachable("http_5xx", message)


def daemon_alive(settings: Settings) -> bool:
    """Tell whether a daemon answers on the control socket.

    Raises AccessRefused (permission) when there is a socket that this user may not open: a daemon
    may well be alive then, and a second one must not work beside it.
    """
    try:
        _ask(settings, "GET", "/")
    except Unreachable as error:
        return error.code == "timeout"
    return True


def about(settings: Settings) -> Mapping[str, Json]:
    """Return what the daemon says of itself: version, pid, since when, pause, runs."""
    found: Mapping[str, Json] = _ask(settings, "GET", "/")
    return found


def modules(settings: Settings) -> list[str]:
    """Return the names of the modules the daemon has imported."""
    return [str(name) for name in _ask(settings, "GET", "/modules")]


def enqueue(
    settings: Settings,
    task: str,
    subject: Subject,
    options: Mapping[str, Json] | None = None,
    key: Secret | None = None,
) -> str:
    """Ask the daemon for a run and return its id.

    Raises UsageError, Unreachable, AccessRefused, and Busy (already_running) for a restore test of an
    application of which one is being performed.

    `key` is the escrowed key for this run alone; the daemon remembers it nowhere.
    """
    body = {"task": task, "subject": subject, "options": dict(options or {})}
    if key is not None:
        body["key"] = key.reveal().decode("utf-8", "surrogateescape")
    return str(_ask(settings, "POST", "/runs", body)["id"])


def runs(settings: Settings) -> list[Mapping[str, Json]]:
    """Return the runs that wait or run, as `requests.run_json` tells them."""
    found: list[Mapping[str, Json]] = _ask(settings, "GET", "/runs")
    return found


def run(settings: Settings, identifier: str) -> Mapping[str, Json]:
    """Return one run as `requests.run_json` tells it. Raises UsageError (unknown_subject)."""
    found: Mapping[str, Json] = _ask(settings, "GET", f"/runs/{identifier}")
    return found


def follow(settings: Settings, identifier: str) -> Iterator[Mapping[str, Json]]:
    """Yield a run whenever something about it changed; the last one yielded has ended."""
    last: Mapping[str, Json] | None = None
    while True:
        found = run(settings, identifier)
        if found != last:
            last = found
            yield found
        if found["state"] not in _OPEN:
            return
        time.sleep(POLL_S)


def cancel(settings: Settings, identifier: str) -> bool:
    """End a run; False when it has ended already. Raises UsageError (unknown_subject)."""
    return bool(_ask(settings, "POST", f"/runs/{identifier}/cancel")["cancelled"])


def pause(settings: Settings, *, until: datetime | None, reason: str) -> None:
    """Pause what the daemon starts by itself."""
    body = {"until": until.isoformat() if until else None, "reason": reason}
    _ask(settings, "POST", "/pause", body)


def end_pause(settings: Settings, *, reason: str) -> bool:
    """End the pause; False when there is none."""
    return bool(_ask(settings, "DELETE", "/pause", {"reason": reason})["ended"])


def reload(settings: Settings) -> None:
    """Have the daemon load its settings again. Raises ConfigurationError when it refuses them."""
    _ask(settings, "POST", "/reload")


def attestations(settings: Settings) -> list[Json]:
    """Return what people stated, as `Statements.attestations` tells it."""
    found: list[Json] = _ask(settings, "GET", "/attestations")
    return found


def attest(settings: Settings, body: Mapping[str, Json]) -> int:
    """Make a statement and return its number. Raises UsageError for one that is not taken."""
    return int(_ask(settings, "POST", "/attestations", body)["seq"])


def statement(settings: Settings, body: Mapping[str, Json]) -> str:
    """Return the exact text of a statement, for its author to sign. Raises UsageError."""
    return str(_ask(settings, "POST", "/attestations/text", body)["text"])


def declare_test(
    settings: Settings, test: Mapping[str, Json], signature: str | None
) -> tuple[int, bool]:
    """Hand in a restore test done elsewhere; return its number, and whether it is new.

    Raises UsageError for one that is not taken.
    """
    found = _ask(settings, "POST", "/restore-tests", {"test": dict(test), "signature": signature})
    return int(found["seq"]), bool(found["new"])


def declared_text(settings: Settings, test: Mapping[str, Json]) -> str:
    """Return the exact text of a restore test, for its author to sign. Raises UsageError."""
    return str(_ask(settings, "POST", "/restore-tests/text", test)["text"])


def withdraw(settings: Settings, seq: int, reason: str) -> None:
    """Take a statement back. Raises UsageError for one that does not stand."""
    _ask(settings, "POST", f"/attestations/{seq}/withdraw", {"reason": reason})


def media(settings: Settings) -> list[Json]:
    """Return the register of offline media, as `custody.register` tells it."""
    found: list[Json] = _ask(settings, "GET", "/media")
    return found


def move_medium(settings: Settings, medium: str, body: Mapping[str, Json]) -> Json:
    """Say that a medium went out or came in; return its row. Raises UsageError if refused."""
    return _ask(settings, "POST", f"/media/{medium}/moves", body)


def overrides(settings: Settings) -> list[Json]:
    """Return the thresholds that people changed, as `overrides.every` tells them."""
    found: list[Json] = _ask(settings, "GET", "/overrides")
    return found


def override(settings: Settings, body: Mapping[str, Json]) -> tuple[int, bool]:
    """Ask for another threshold; return its number, and whether it waits for a second person."""
    made = _ask(settings, "POST", "/overrides", body)
    return int(made["seq"]), bool(made["needs_confirmation"])


def confirm_override(settings: Settings, seq: int) -> None:
    """Confirm another threshold as the second person. Raises UsageError for who may not."""
    _ask(settings, "POST", f"/overrides/{seq}/confirm")


def end_override(settings: Settings, seq: int, reason: str) -> None:
    """End another threshold before its day. Raises UsageError for one that is over."""
    _ask(settings, "POST", f"/overrides/{seq}/end", {"reason": reason})


def acknowledge(settings: Settings, about: Mapping[str, Json], file: bytes) -> dict[str, Json]:
    """Hand in a signed report; return what was recorded. Raises UsageError for one not taken."""
    found: dict[str, Json] = _ask(settings, "POST", "/reports/signed", about, file)
    return found


def waivers(settings: Settings) -> list[Json]:
    """Return the exceptions that were asked for, as `Statements.waivers` tells them."""
    found: list[Json] = _ask(settings, "GET", "/waivers")
    return found


def waive(settings: Settings, body: Mapping[str, Json]) -> tuple[int, bool]:
    """Ask for an exception; return its number, and whether it waits for a second person."""
    made = _ask(settings, "POST", "/waivers", body)
    return int(made["seq"]), bool(made["needs_confirmation"])


def confirm(settings: Settings, seq: int) -> None:
    """Confirm an exception as the second person. Raises UsageError for who may not."""
    _ask(settings, "POST", f"/waivers/{seq}/confirm")


def end_waiver(settings: Settings, seq: int, reason: str) -> None:
    """End an exception before its day. Raises UsageError for one that is over."""
    _ask(settings, "POST", f"/waivers/{seq}/end", {"reason": reason})
