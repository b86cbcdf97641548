"""Attacks files of this host as the account that writes the backups (`backup-user`).

A canary is made where the data lies, and tampered with: overwritten, truncated, renamed, unlinked;
and an empty directory beside the repository's own is moved. What came of it says something about the
backups where a backup would be treated alike; where it would not, nothing is concluded:

- the newest files carry chattr's +i or +a: a canary without says nothing of them. One is left there
  until whatever flags the backups has flagged it too, and that one is then tried.
- they belong to somebody else, and the canary to the backup user: likewise.
- the place is mounted read-only: that proves something only where the whole file system is, or where
  it is a btrfs snapshot; another mount of it, or another host, may write.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from backupguard.contracts import (
    Attacker,
    AttackerKind,
    Attempt,
    Bearing,
    CanaryPlace,
    Context,
    ProtectionState,
    Weakness,
)
from backupguard.errors import AccessRefused, MissingMeans, Misunderstood, Unreachable
from backupguard.helper import tampering
from backupguard.helper.client import Helper
from backupguard.repositories.attempting import Came, attempted, refused, untried, worked

#: Makes one attempt: (token, attempt, remembered canaries).
Perform = Callable[[str, str, Sequence[str]], Mapping[str, Any]]

_OF_CONTENT = ("overwrite-canary", "truncate-canary")
_OF_NAMES = ("rename-canary", "delete-canary")
#: So many names the helper takes at a time; more than one is rarely left.
_REMEMBERED = 64
_BEYOND = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse", "glusterfs", "lustre"})


class FilesAttacker(Attacker):
    """Tries what is said above."""

    kind = AttackerKind.BACKUP_WRITER

    def __init__(self, identifier: str, perform: Perform) -> None:
        self._identifier = identifier
        self._perform = perform
        self._seen: Mapping[str, Any] = {}
        self._put: Mapping[str, Any] = {}
        self._code: str | None = None
        self._credentials = "unknown"

    def attempts(self, canary: CanaryPlace) -> Iterator[Attempt]:
        """Yield intents and results. Raises MissingMeans (helper_missing), AccessRefused."""
        token = canary.token
        names = [target.rpartition("/")[2] for target in canary.remembered]
        ours = [name for name in names if tampering.NAME.match(name)]
        self._seen = self._perform(token, "look", ours[:_REMEMBERED])
        if self._seen["uid"] == 0:
            self._credentials = "administrator"
        left: Mapping[str, str] = self._seen["canaries"]
        target = self._target(left)
        if target is None:
            target = f"{tampering.CANARY}{token}"
            put = partial(self._try_to_put, token)
            yield from attempted("put-canary", self._shown(target), put, destructive=False)
        else:
            self._put, self._credentials = {"worked": True}, "writer"
        waits = self._all_flagged and left.get(target) != "flagged"
        for name in (*_OF_CONTENT, *_OF_NAMES):
            act = partial(self._tamper, token, name, target, waits=waits)
            yield from attempted(name, self._shown(target), act)
        beside = f"{tampering.CANARY}{token}.d"
        yield from attempted("rename-directory", f"../{beside}", partial(self._move, token))

    def bearing(self) -> Bearing:
        """Return whose rights these are, and what stands in the way of a proof."""
        return Bearing(reaches_data=True, credentials=self._credentials, code=self._code)

    # ---- which canary, and whether it stands for the data

    @property
    def _all_flagged(self) -> bool:
        return bool(0 < self._seen["files"] == self._seen["flagged"])

    def _target(self, left: Mapping[str, str]) -> str | None:
        """Return a canary of an earlier run that will do, None where a new one is needed."""
        flagged = [name for name, state in left.items() if state == "flagged"]
        if self._all_flagged:
            return next(iter(flagged or left), None)
        return next((name for name, state in left.items() if state == "plain"), None)

    def _shown(self, name: str) -> str:
        where = self._seen["place"]
        return name if where == "." else f"{where}/{name}"

    def _read_only(self) -> bool:
        """Tell whether nobody on this host can write there, and no other host either."""
        seen = self._seen
        if seen["filesystem"].partition(".")[0] in _BEYOND:
            return False
        if seen["filesystem"] == "btrfs" and not seen["mounted_read_only"]:
            return bool(not seen["own_subvolume"])  # a read-only snapshot
        return bool(seen["read_only"])

    # ---- the attempts

    def _try_to_put(self, token: str) -> Came:
        self._put = self._perform(token, "put-canary", ())
        code = self._put["code"]
        if self._put["worked"]:
            self._credentials = "writer"
            return worked()
        if code == "EROFS" and self._read_only():
            self._credentials = "writer"  # the place refuses, whoever asks
            return refused(code)
        if code == "EROFS":
            owner = self._seen["own_subvolume"] and not self._seen["mounted_read_only"]
            self._code = "snapshot_owner" if owner else "read_only_here"
        elif code in {"EACCES", "EPERM"}:
            self._credentials = "read_only"
        else:
            self._code = "canary_refused"
        return refused(code)

    def _tamper(self, token: str, name: str, target: str, *, waits: bool) -> Came:
        if not self._put.get("worked"):
            if self._put["code"] == "EROFS" and self._code is None:
                return refused("EROFS")
            return untried(self._code or "canary_refused")
        if waits:
            self._code = "canary_unflagged"
            return untried("canary_unflagged")
        came = self._perform(token, name, (target,))
        if not came["worked"]:
            refusal = came["code"] in {"EACCES", "EPERM", "EROFS"}
            return refused(came["code"]) if refusal else untried(came["code"] or "?")
        reach = self._seen["writable" if name in _OF_CONTENT else "removable"]
        if self._seen["files"] and not reach:
            return untried("others_files")
        return worked()

    def _move(self, token: str) -> Came:
        came = self._perform(token, "rename-directory", ())
        if came["worked"]:
            return worked()
        return refused(came["code"])


def protection_state(identifier: str, path: Path) -> ProtectionState:
    """Return how the newest files are flagged; raises Unreachable, AccessRefused.

    Only flags are a protection of the files themselves: who owns them, and who may write beside them,
    is what the attempts are for.
    """
    seen = _here(identifier, path, "0" * 16, "look", ())
    files, flagged = seen["files"], seen["flagged"]
    weak = Weakness(code="files_unflagged", values={"count": files - flagged, "files": files})
    return ProtectionState(
        mechanism="file-attributes" if flagged else "none",
        weaknesses=(weak,) if 0 < flagged < files else (),
        settings={
            "flagged": flagged > 0,
            "directory-flagged": bool(seen["directory_flagged"]),
            "read-only": bool(seen["read_only"]),
        },
    )


def attack(
    identifier: str, path: Path, backup_user: str | None, context: Context
) -> AbstractContextManager[Attacker] | None:
    """Return the attacker of a directory; None where nobody says who writes there.

    Where this process is not that account, the privileged helper becomes it. Raises MissingMeans
    (user_missing) for an account this host does not have.
    """
    if backup_user is None:
        return None
    try:
        uid = pwd.getpwnam(backup_user).pw_uid
    except KeyError as error:
        raise MissingMeans("user_missing", user=backup_user) from error
    if uid == os.geteuid():
        return nullcontext(FilesAttacker(identifier, partial(_here, identifier, path)))
    helper = Helper()

    def ask(token: str, attempt: str, remembered: Sequence[str]) -> Mapping[str, Any]:
        context.cancel.raise_if_set()
        return helper.try_files(identifier, token=token, attempt=attempt, remembered=remembered)

    return nullcontext(FilesAttacker(identifier, ask))


def _here(
    identifier: str, path: Path, token: str, attempt: str, remembered: Sequence[str]
) -> Mapping[str, Any]:
    """Make one attempt in this process; raises Unreachable, AccessRefused, Misunderstood."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError as error:
        raise AccessRefused("permission", repository=identifier) from error
    except OSError as error:
        raise Unreachable("not_found", repository=identifier) from error
    try:
        return tampering.perform(directory, token, attempt, remembered)
    except OSError as error:
        raise Misunderstood("check_unanswered", repository=identifier) from error
    finally:
        os.close(directory)
