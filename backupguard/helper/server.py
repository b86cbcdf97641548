"""The helper itself: serves one request of the daemon's account on an accepted socket, and ends.

systemd starts it per connection (backupguard-helper.socket, Accept=yes) with the socket as standard
input. It imports the standard library and its own few modules, reads only what root declared, and
logs every request to standard error, which is the journal.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import pwd
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from backupguard.helper import configuration, files, media, protocol
from backupguard.helper.protocol import Refusal

USER: Final = "backupguard"
_REQUEST_S: Final = 5
_WHOLE_S: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the helper works and for whom; everything here is root's, nothing a caller's."""

    callers: frozenset[int]
    trust: configuration.Trust = field(default_factory=configuration.Trust)
    media: media.Media = field(default_factory=media.Media)
    perform: Callable[[], files.Perform] = files.shipped
    request_s: float = _REQUEST_S
    whole_s: int = _WHOLE_S


@dataclass(slots=True, kw_only=True)
class _Request:
    verb: str = "?"
    identifier: str = ""
    asked: files.Attempted | None = None
    descriptors: list[int] = field(default_factory=list)


def serve(connection: socket.socket, place: Place) -> bool:
    """Serve one request: answer it in one line and log it. Returns whether it was done."""
    request = _Request()
    pid, uid = _peer(connection)
    try:
        with _within(place.whole_s):
            if uid not in place.callers:
                raise Refusal("peer", "not the daemon's account")
            _receive(connection, place, request)
            answer: dict[str, Any] = {"ok": True, **_perform(request, place)}
    except Refusal as refusal:
        answer = {"ok": False, "code": refusal.code, "detail": refusal.detail[:500]}
    except Exception as error:  # noqa: BLE001 - a caller gets an answer, whatever went wrong
        answer = {"ok": False, "code": "failed", "detail": type(error).__name__}
    finally:
        for descriptor in request.descriptors:
            with suppress(OSError):
                os.close(descriptor)
    _log(request, pid, uid, answer)
    _answer(connection, place, answer)
    return bool(answer["ok"])


def _answer(connection: socket.socket, place: Place, answer: dict[str, Any]) -> None:
    with suppress(OSError):
        connection.settimeout(place.request_s)
        connection.sendall(json.dumps(answer).encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        # what was not read would make the kernel reset the connection before the answer is read
        connection.setblocking(False)
        for _ in range(8):
            if not connection.recv(65536):
                break


class _within:  # noqa: N801 - reads as a word at its use
    """Raise Refusal (timeout) when what is inside takes longer."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        def over(_number: int, _frame: FrameType | None) -> NoReturn:
            raise Refusal("timeout", "the request")

        signal.signal(signal.SIGALRM, over)
        signal.alarm(self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, as the kernel knows them (unix(7))."""
    layout = struct.Struct("=iII")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    pid, uid, _ = layout.unpack(raw)
    return pid, uid


def _receive(connection: socket.socket, place: Place, into: _Request) -> None:
    """Read one line and the descriptors beside it; raises Refusal (usage) for anything odd."""
    connection.settimeout(place.request_s)
    line = bytearray()
    room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
    try:
        while b"\n" not in line:
            part, ancillary, flags, _ = connection.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(data) - len(data) % array.array("i").itemsize
                    into.descriptors.extend(array.array("i", data[:whole]))
            line += part
            if not part or flags & socket.MSG_CTRUNC or len(line) > protocol.REQUEST_LIMIT:
                raise Refusal("usage", "no request of reasonable length")
    except TimeoutError as error:
        raise Refusal("usage", "no whole request came in time") from error
    except OSError as error:
        raise Refusal("usage", "the caller went away") from error
    _understand(bytes(line), into)


def _understand(line: bytes, into: _Request) -> None:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refusal("usage", "no JSON") from error
    verb = asked.get("verb") if isinstance(asked, dict) else None
    if not isinstance(verb, str) or verb not in protocol.VERBS:
        raise Refusal("usage", "unknown verb")
    into.verb = verb
    if set(asked) - {"verb"} != protocol.VERBS[verb]:
        raise Refusal("usage", "missing or unknown keys")
    if "id" in asked:
        into.identifier = _matching(protocol.ID, asked["id"])
    if verb == protocol.TRY_FILES:
        names = asked["remembered"]
        if not isinstance(names, list) or len(names) > protocol.MOST_REMEMBERED:
            raise Refusal("usage", "remembered")
        into.asked = files.Attempted(
            token=_matching(protocol.TOKEN, asked["token"]),
            attempt=_matching(protocol.ATTEMPT, asked["attempt"]),
            remembered=tuple(_matching(protocol.CANARY, name) for name in names),
        )
    if len(into.descriptors) != (1 if verb == protocol.LUKS_OPEN else 0):
        raise Refusal("usage", "descriptors")


def _matching(pattern: Any, value: object) -> str:
    if not isinstance(value, str) or pattern.match(value) is None:
        raise Refusal("usage", "a value out of its pattern")
    return value


def _perform(request: _Request, place: Place) -> dict[str, Any]:
    """Do what a verb stands for; what is not here is not done."""
    verb, name = request.verb, request.identifier
    if verb == protocol.PING:
        return {}
    table = "repositories" if verb == protocol.TRY_FILES else "media"
    declared = configuration.declared(place.trust, table, name)
    if verb == protocol.MOUNT:
        return place.media.mount(name, declared)
    if verb == protocol.UNMOUNT:
        return place.media.unmount(name, declared)
    if verb == protocol.LUKS_OPEN:
        return media.luks_open(name, declared, request.descriptors[0])
    if verb == protocol.LUKS_CLOSE:
        return media.luks_close(name, declared)
    if verb == protocol.MTX_STATUS:
        return media.changer_status(declared)
    if verb == protocol.TRY_FILES and request.asked is not None:
        return files.try_files(declared, request.asked, place.perform())
    raise Refusal("usage", "unknown verb")


def _log(request: _Request, pid: int, uid: int, answer: dict[str, Any]) -> None:
    """Say who asked for what and how it ended, with the journal's level in front (sd-daemon(3))."""
    level = 6 if answer["ok"] else 4
    attempt = f" attempt={request.asked.attempt}" if request.asked else ""
    end = "done" if answer["ok"] else f"refused code={answer['code']}"
    detail = json.dumps(str(answer.get("detail", "")))
    sys.stderr.write(
        f"<{level}>helper.request verb={request.verb} id={request.identifier}{attempt}"
        f" peer_uid={uid} peer_pid={pid} {end} detail={detail}\n"
    )
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the connection that is standard input; the exit status is 0 whenever it was answered."""
    parser = argparse.ArgumentParser(prog="backupguard-helper", description=__doc__)
    parser.add_argument("--configuration", type=Path, default=configuration.FILE)
    chosen = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        account = pwd.getpwnam(USER)
    except KeyError:
        sys.stderr.write(f"<3>helper.no-account user={USER}\n")
        return 1
    place = Place(
        callers=frozenset({account.pw_uid}),
        trust=configuration.Trust(file=chosen.configuration),
        media=media.Media(gid=account.pw_gid),
    )
    try:
        connection = socket.socket(fileno=os.dup(0))
    except OSError:
        sys.stderr.write("<3>helper.no-socket\n")
        return 1
    with connection:
        serve(connection, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
