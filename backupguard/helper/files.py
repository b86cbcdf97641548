"""Makes one attempt against a canary as the account that writes the backups, never as root."""

from __future__ import annotations

import importlib
import json
import os
import pwd
import resource
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from backupguard.helper import kernel, protocol
from backupguard.helper.protocol import Refusal

#: Makes one attempt in an open directory: (directory, token, attempt, remembered canaries).
Perform = Callable[[int, str, str, Sequence[str]], Mapping[str, Any]]
_LIMIT_S: Final = 30
_CANARY_BYTES: Final = 1024 * 1024
_RESULT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """What is to be tried; the values were checked against their patterns."""

    token: str
    attempt: str
    remembered: tuple[str, ...]


def shipped() -> Perform:
    """Return the attempts that BackupGuard ships; loaded before any right is given up."""
    module = importlib.import_module("backupguard.helper.tampering")
    perform: Perform = module.perform
    return perform


def try_files(declared: Mapping[str, Any], asked: Attempted, perform: Perform) -> dict[str, Any]:
    """Make one attempt in a repository's directory as its `backup-user`.

    Raises Refusal: undeclared, root, other (the directory or a step to it is a link), absent,
    timeout, failed.
    """
    path, account = _directory_of(declared), _account(declared)
    if account.pw_uid == 0:
        raise Refusal("root", account.pw_name)
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    if 0 in groups:
        raise Refusal("root", f"{account.pw_name} belongs to group 0")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _attempt(path, account, groups, asked, perform, writing)
    os.close(writing)
    try:
        content = _said(reading)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise Refusal("timeout", "the attempt")
    told = _result(content)
    if "code" in told and "result" not in told:
        raise Refusal(str(told["code"]), str(told.get("detail", ""))[:200])
    return {"result": told["result"]}


def _directory_of(declared: Mapping[str, Any]) -> Path:
    place = declared.get("path", declared.get("url"))
    text = place.removeprefix("local:") if isinstance(place, str) else ""
    if not text.startswith("/") or ".." in text.split("/"):
        raise Refusal("undeclared", "no local path")
    return Path(text)


def _account(declared: Mapping[str, Any]) -> pwd.struct_passwd:
    name = declared.get("backup-user")
    if not isinstance(name, str):
        raise Refusal("undeclared", "backup-user")
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise Refusal("undeclared", f"no account {name!r}") from error


def _said(reading: int) -> bytes:
    """Read what the child says until it closes its end."""
    content = bytearray()
    while True:
        ready, _, _ = select.select([reading], [], [], _LIMIT_S + 5)
        if not ready:
            raise Refusal("timeout", "the attempt")
        part = os.read(reading, 65536)
        content += part
        if len(content) > _RESULT_BYTES:
            raise Refusal("failed", "the attempt said too much")
        if not part:
            return bytes(content)


def _result(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except ValueError as error:
        raise Refusal("failed", "the attempt ended without a word") from error
    if not isinstance(told, dict) or not ({"result", "code"} & set(told)):
        raise Refusal("failed", "the attempt said nothing of use")
    if "result" not in told and told["code"] not in protocol.CODES:
        raise Refusal("failed", "the attempt gave an unknown code")
    return told


def _attempt(
    path: Path,
    account: pwd.struct_passwd,
    groups: Sequence[int],
    asked: Attempted,
    perform: Perform,
    writing: int,
) -> NoReturn:
    """Be the backup user, make the attempt, say what came of it, end; never returns."""
    try:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LIMIT_S)
        _become(account, groups, keep=writing)
        directory = _opened(path)
        result = dict(perform(directory, asked.token, asked.attempt, asked.remembered))
        told: dict[str, Any] = {"result": result}
    except Refusal as refusal:
        told = {"code": refusal.code, "detail": refusal.detail}
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent is told and this ends
        told = {"code": "failed", "detail": type(error).__name__}
    try:
        os.write(writing, json.dumps(told).encode()[:_RESULT_BYTES])
    finally:
        os._exit(0)


def _become(account: pwd.struct_passwd, groups: Sequence[int], *, keep: int) -> None:
    """Give up every right but the account's own, and every descriptor but one."""
    os.closerange(0, keep)
    os.closerange(keep + 1, 65536)
    for _ in range(3 if keep > 2 else 0):
        os.open("/dev/null", os.O_RDWR)
    os.umask(0o077)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_FSIZE, (_CANARY_BYTES, _CANARY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kernel.forbid_more_rights()
    if os.geteuid() == 0:
        os.setgroups(groups)
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    if os.getresuid() != (account.pw_uid,) * 3 or os.getresgid() != (account.pw_gid,) * 3:
        raise Refusal("failed", "the account could not be taken")


def _opened(path: Path) -> int:
    """Open a directory step by step, following no link: nobody can have it be another one."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open("/", flags | os.O_PATH)
    steps = path.parts[1:]
    for number, part in enumerate(steps, 1):
        # on the way a directory need only be passed through, not read
        how = flags if number == len(steps) else flags | os.O_PATH
        try:
            step = os.open(part, how, dir_fd=handle)
        except FileNotFoundError as error:
            raise Refusal("absent", str(path)) from error
        except PermissionError as error:
            raise Refusal("failed", f"{path}: {error.strerror}") from error
        except OSError as error:
            raise Refusal("other", f"{path}: {error.strerror}") from error
        os.close(handle)
        handle = step
    return handle
