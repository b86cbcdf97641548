"""What a borg repository looks like from outside: reachable, locked by whom, moved meanwhile."""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil

from backupguard.contracts import LockSeen, RepositoryState
from backupguard.errors import AccessRefused, BackupDefect, Changing, MissingMeans, Unreachable
from backupguard.repositories.borg_archives import Listed, list_archives
from backupguard.repositories.borg_calls import BorgProgram
from backupguard.repositories.devices import device_of_host, device_of_path

#: borg writes data and then its index; so long a second look waits for that.
_SETTLE_S = 2.0
_HOLDER = re.compile(r"(?P<host>.+)\.(?P<pid>\d+)-[0-9a-f]+\Z")

_Result = TypeVar("_Result")


class BorgState:
    """Looks at one repository from outside, and through borg's own listing."""

    def __init__(self, program: BorgProgram) -> None:
        self._program = program

    def reach(self) -> None:
        """Raise unless a local repository's `config` can be read; nothing for ssh."""
        path, identifier = self._program.settings.path, self._program.identifier
        if path is None:
            return
        try:
            with (path / "config").open("rb") as file:
                file.read(1)
            with os.scandir(path / "data"):
                pass
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Unreachable("not_found", repository=identifier) from error
        except IsADirectoryError as error:  # as borg 2 lays it out
            raise MissingMeans("version_unsupported", repository=identifier) from error
        except PermissionError as error:
            raise AccessRefused("permission", repository=identifier) from error
        except OSError as error:
            raise Unreachable("refused", repository=identifier) from error

    def listed(self) -> Listed:
        """List the archives, twice where the first listing failed; raises like `surely`."""
        return self.surely(lambda: list_archives(self._program), None)

    def segments(self) -> frozenset[str] | None:
        """Return the names of all segments of a local repository, None where they cannot be seen."""
        path = self._program.settings.path
        if path is None:
            return None
        return frozenset(
            f"{directory}/{name}"
            for directory, _, names in os.walk(path / "data")
            for name in names
        )

    def surely(
        self,
        act: Callable[[], _Result],
        archive: str | None,
        clean: Callable[[], None] = lambda: None,
    ) -> _Result:
        """Return what `act` returns, at the second look if need be; `clean` is called in between.

        Damage is believed only when two looks saw it, with the archive (an id) still standing and
        nothing taken away in between: no segment of a local repository; behind ssh, where segments
        cannot be seen, when both looks named the same objects. Else raises Changing.
        """
        program = self._program
        try:
            return act()
        except (BackupDefect, Changing) as error:
            if error.code == "selection_absent":
                raise
            first = error
        program.context.cancel.raise_if_set()
        self._standing(archive, first)
        segments = self.segments()
        if isinstance(first, Changing):
            program.context.cancel.wait(_SETTLE_S)
            program.context.cancel.raise_if_set()
        clean()
        try:
            return act()
        except (BackupDefect, Changing) as error:
            if error.code == "selection_absent":
                raise
            second = error
        self._standing(archive, second)
        if isinstance(second, BackupDefect):
            now = self.segments()
            same = isinstance(first, BackupDefect) and first.message == second.message
            if same if segments is None or now is None else segments <= now:
                raise second
        raise Changing("repository_changed", repository=program.identifier) from second

    def _standing(self, archive: str | None, error: Exception) -> None:
        """Raise Changing unless the archive is still there."""
        if archive is None:
            return
        try:
            standing = {one.id for one in list_archives(self._program).archives}
        except BackupDefect:
            return  # the list itself is damaged: who can say that it has gone
        if archive not in standing:
            raise Changing("repository_changed", repository=self._program.identifier) from error

    # ---- state

    def state(self, listed: Listed) -> RepositoryState:
        """Return the whole state of a repository that was listed just now."""
        path = self._program.settings.path
        free = None
        if path is not None:
            room = os.statvfs(path)
            free = room.f_bavail * room.f_frsize
        return RepositoryState(
            tool="borg",
            tool_version=self._program.version_text,
            repository_id=listed.repository_id,
            format_version="1",  # the only one that borg 1 opens
            encrypted=listed.encrypted,
            locks=locks(path) if path is not None else (),
            free_bytes=free,
            device=(
                device_of_path(path)
                if path is not None
                else device_of_host(self._program.settings.host or "")
            ),
        )


def locks(path: Path) -> tuple[LockSeen, ...]:
    """Return who holds a local repository, since when, and whether they live; nothing is broken.

    An exclusive holder has a file in `lock.exclusive`; all holders are on the list `lock.roster`.
    """
    seen: dict[tuple[str, int], LockSeen] = {}
    try:
        for name in sorted(os.listdir(path / "lock.exclusive")):  # noqa: PTH208
            match = _HOLDER.match(name)
            if match is not None:
                since = (path / "lock.exclusive" / name).stat().st_mtime
                holder = match["host"], int(match["pid"])
                seen[holder] = _seen(*holder, since=since, exclusive=True)
    except OSError:
        pass  # released, or not ours to see
    for exclusive, host, pid in _roster(path / "lock.roster"):
        if (host, pid) not in seen:
            seen[host, pid] = _seen(host, pid, since=None, exclusive=exclusive)
    return tuple(seen.values())


def _roster(path: Path) -> list[tuple[bool, str, int]]:
    try:
        roster = json.loads(path.read_bytes())
        return [
            (kind == "exclusive", str(host), int(pid))
            for kind in ("exclusive", "shared")
            for host, pid, *_ in roster.get(kind, ())
        ]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _seen(host: str, pid: int, *, since: float | None, exclusive: bool) -> LockSeen:
    return LockSeen(
        holder_host=host.rpartition("@")[0] or host,
        holder_pid=pid,
        since=datetime.fromtimestamp(since, UTC) if since is not None else None,
        exclusive=exclusive,
        alive=_alive(host, pid, since),
    )


def _alive(host: str, pid: int, since: float | None) -> bool | None:
    """Tell whether a holder lives; None on another host. borg names hosts `NAME@HARDWARE-ADDRESS`."""
    name, _, node = host.rpartition("@")
    names = {socket.gethostname(), socket.getfqdn()}
    if name not in names or node != str(uuid.getnode()):
        return None
    try:
        process = psutil.Process(pid)
        # a process that began after the lock was taken has inherited only its number
        return since is None or process.create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return None
