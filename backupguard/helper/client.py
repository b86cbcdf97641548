"""The unprivileged side: asks the helper for one act and says how that ended in our errors."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupguard.contracts import Secret
from backupguard.errors import (
    AccessRefused,
    BackupGuardError,
    Busy,
    MissingMeans,
    Misunderstood,
    TimedOut,
    Unreachable,
    UsageError,
)
from backupguard.helper import protocol
from backupguard.model import Message

#: The helper gives up before; a disk that spins up takes its time.
TIMEOUT_S = 150.0

_ERRORS: Mapping[str, tuple[type[BackupGuardError], str]] = {
    "usage": (UsageError, "usage"),
    "peer": (AccessRefused, "permission"),
    "configuration": (AccessRefused, "permission"),
    "unknown": (UsageError, "unknown_subject"),
    "undeclared": (UsageError, "usage"),
    "absent": (Unreachable, "not_found"),
    "ambiguous": (Misunderstood, "check_unanswered"),
    "other": (Misunderstood, "check_unanswered"),
    "mounted_elsewhere": (Busy, "already_running"),
    "in_use": (Busy, "already_running"),
    "filesystem": (MissingMeans, "version_unsupported"),
    "locked": (AccessRefused, "authentication"),
    "wrong_key": (AccessRefused, "wrong_key"),
    "device_mapper_missing": (MissingMeans, "device_mapper_missing"),
    "program_missing": (MissingMeans, "program_missing"),
    "root": (AccessRefused, "permission"),
    "busy": (Busy, "already_running"),
    "timeout": (TimedOut, "phase_limit"),
    "failed": (Misunderstood, "unknown_exit"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A medium that is mounted read-only: where, from which device, since this request or before."""

    path: Path
    device: str  # as the kernel names it: "/dev/sdb1", or the image's path
    filesystem: str  # "ext4"
    uuid: str
    already: bool


@dataclass(frozen=True, slots=True)
class Helper:
    """The privileged helper behind its socket; every call is one connection and one act.

    All raise MissingMeans (helper_missing) where there is none, AccessRefused (permission) where it
    does not serve this account, and what `helper.REASON` says in words besides.
    """

    path: Path = protocol.SOCKET
    timeout_s: float = TIMEOUT_S

    def present(self) -> bool:
        """Tell whether a helper answers, and serves this account. Raises AccessRefused if not so."""
        try:
            self._ask({"verb": protocol.PING})
        except MissingMeans:
            return False
        return True

    def mount(self, medium: str) -> Mounted:
        """Mount a declared medium read-only, or return where it is already.

        Raises Unreachable (not_found) for one that is not attached, AccessRefused (authentication)
        for a LUKS container nobody opened, Busy where somebody else mounted it.
        """
        told = self._ask({"verb": protocol.MOUNT, "id": medium})
        try:
            return Mounted(
                path=Path(told["path"]),
                device=str(told["device"]),
                filesystem=str(told["filesystem"]),
                uuid=str(told["uuid"]),
                already=bool(told["already"]),
            )
        except (KeyError, TypeError) as error:
            raise Misunderstood("output_unparsable") from error

    def unmount(self, medium: str) -> bool:
        """Unmount it; False when it was not mounted by the helper. Raises Busy while it is used."""
        return bool(self._ask({"verb": protocol.UNMOUNT, "id": medium}).get("done"))

    def luks_open(self, medium: str, key: Secret) -> bool:
        """Open a medium's LUKS container read-only; False when it was open already.

        The key goes as an anonymous descriptor. Raises AccessRefused (wrong_key) and MissingMeans
        (device_mapper_missing) on a kernel without device-mapper.
        """
        # a pipe is kernel memory, which never gets into swap; it holds 64 KiB without a reader
        descriptor, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                whole = os.write(writing, key.reveal()) == len(key.reveal())
            finally:
                os.close(writing)
            if not whole:
                raise UsageError("usage")
            os.set_blocking(descriptor, True)
            told = self._ask({"verb": protocol.LUKS_OPEN, "id": medium}, descriptor)
        finally:
            os.close(descriptor)
        return bool(told.get("done"))

    def luks_close(self, medium: str) -> bool:
        """Close it again; False when it was not open."""
        return bool(self._ask({"verb": protocol.LUKS_CLOSE, "id": medium}).get("done"))

    def mtx_status(self, medium: str) -> str:
        """Return what `mtx status` says of the library a tape belongs to."""
        return str(self._ask({"verb": protocol.MTX_STATUS, "id": medium}).get("text", ""))

    def try_files(
        self, repository: str, *, token: str, attempt: str, remembered: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        """Make one attempt against a canary in a repository's directory, as its backup user.

        Returns what `backupguard.helper.tampering.perform` returned. One call is one act, so that its
        intent can be recorded before. Raises AccessRefused (permission) where that user is root.
        """
        told = self._ask(
            {
                "verb": protocol.TRY_FILES,
                "id": repository,
                "token": token,
                "attempt": attempt,
                "remembered": list(remembered),
            }
        )
        result = told.get("result")
        if not isinstance(result, dict):
            raise Misunderstood("output_unparsable")
        return result

    def _ask(self, request: Mapping[str, object], descriptor: int | None = None) -> dict[str, Any]:
        content = json.dumps(request).encode() + b"\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self.timeout_s)
            try:
                connection.connect(os.fspath(self.path))
                rights = array.array("i", [] if descriptor is None else [descriptor])
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
                sent = connection.sendmsg([content], ancillary)
                if sent < len(content):  # even nothing cannot be sent to who answered and left
                    connection.sendall(content[sent:])
                text = _answer(connection)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise MissingMeans(
                    "helper_missing", remedy=Message(id="remedy.helper_missing")
                ) from error
            except PermissionError as error:
                raise AccessRefused("permission", message=Message(id="helper.peer")) from error
            except TimeoutError as error:
                raise TimedOut("phase_limit") from error
            except OSError as error:
                raise Unreachable("refused") from error
        return _understood(text)


def _answer(connection: socket.socket) -> bytes:
    content = bytearray()
    while part := connection.recv(65536):
        content += part
        if len(content) > protocol.ANSWER_LIMIT:
            raise Misunderstood("output_unparsable")
    return bytes(content)


def _understood(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise Misunderstood("output_unparsable") from error
    if not isinstance(told, dict):
        raise Misunderstood("output_unparsable")
    if told.get("ok") is True:
        return told
    reason = str(told.get("code"))
    if reason not in _ERRORS:
        raise Misunderstood("output_unparsable")
    kind, code = _ERRORS[reason]
    raise kind(code, message=Message(id=f"helper.{reason}"))
