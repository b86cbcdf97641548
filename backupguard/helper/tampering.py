"""Attempts against canary files, made by whoever runs this: the account that writes the backups.

Standard library only, and no rights of its own. One call is one attempt, in a directory that is open
already; nothing but canaries is ever opened for writing, renamed or removed. `look` only reads: what
stands for the backups (flags, owners, modes of the newest files), so that it can be said whether what
happens to a canary could happen to them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

CANARY: Final = "backupguard-canary-"
NAME: Final = re.compile(r"backupguard-canary-[0-9a-f]{16}\Z")
_CONTENT: Final = b"BackupGuard canary\n"
#: Where restic and borg keep their data; a directory of dumps has none of these.
_DATA: Final = ("data/00", "data/0")
_NEWEST: Final = 20
_LOOKED_AT: Final = 20_000
#: What was changed later may still be written, or wait for the job that flags it.
_SETTLED_S: Final = 3600
#: statx(2): attributes of a file, read without opening it.
_IMMUTABLE: Final = 0x10
_APPEND: Final = 0x20
_NOFOLLOW: Final = 0x100
#: The number of every btrfs subvolume's own directory.
_SUBVOLUME: Final = 256
_DEEPEST: Final = 64
_ATTRIBUTES: Final = slice(8, 16)


def perform(
    directory: int, token: str, attempt: str, remembered: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Make one attempt in an open directory and return what came of it.

    `put-canary` makes `backupguard-canary-TOKEN`; `overwrite-canary`, `truncate-canary`,
    `rename-canary` and `delete-canary` tamper with the first of `remembered`, with that one where
    there is none; `rename-directory` makes, moves and removes an empty canary directory beside this
    one. They return `worked` (True, False, None: nobody can tell) and `code`, the kernel's word
    ("EPERM"). `look` returns what `_look` says. Raises ValueError for any other name.
    """
    if attempt == "rename-directory":
        return _came(lambda: _rename_directory(directory, token))
    with _place(directory) as (place, where):
        if attempt == "look":
            return _look(directory, place, where, remembered)
        act = _ACTS.get(attempt)
        name = remembered[0] if remembered else f"{CANARY}{token}"
        if act is None or NAME.match(name) is None:
            raise ValueError(attempt)
        return _came(lambda: act(place, name))


@contextmanager
def _place(directory: int) -> Iterator[tuple[int, str]]:
    """Open the directory that the data itself lies in; links are not followed."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    for where in _DATA:
        try:
            middle = os.open("data", flags, dir_fd=directory)
        except OSError:
            break
        try:
            place = os.open(where.partition("/")[2], flags, dir_fd=middle)
        except OSError:
            continue
        finally:
            os.close(middle)
        try:
            yield place, where
        finally:
            os.close(place)
        return
    yield directory, "."


def _came(act: Callable[[], bool | None]) -> Mapping[str, Any]:
    try:
        return {"worked": act(), "code": None}
    except OSError as error:
        return {"worked": False, "code": errno.errorcode.get(error.errno or 0, "?")}


# ---- the attempts


def _put(place: int, name: str) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags, 0o600, dir_fd=place)
    try:
        os.write(handle, _CONTENT)
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


def _overwrite(place: int, name: str) -> bool:
    handle = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        os.pwrite(handle, b"overwritten", 0)
    finally:
        os.close(handle)
    return True


def _truncate(place: int, name: str) -> bool:
    handle = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
    return True


def _rename(place: int, name: str) -> bool:
    os.rename(name, f"{name}.moved", src_dir_fd=place, dst_dir_fd=place)
    os.rename(f"{name}.moved", name, src_dir_fd=place, dst_dir_fd=place)
    return True


def _delete(place: int, name: str) -> bool:
    os.unlink(name, dir_fd=place)
    return True


_ACTS: Final[Mapping[str, Callable[[int, str], bool]]] = {
    "put-canary": _put,
    "overwrite-canary": _overwrite,
    "truncate-canary": _truncate,
    "rename-canary": _rename,
    "delete-canary": _delete,
}


def _rename_directory(directory: int, token: str) -> bool:
    """Tell whether the directory itself could be moved away; only a canary beside it ever is."""
    above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        here, there = os.fstat(directory), os.fstat(above)
        if here.st_dev != there.st_dev or here.st_ino == there.st_ino:
            raise OSError(errno.EBUSY, "a mount point")
        name = f"{CANARY}{token}.d"
        os.mkdir(name, 0o700, dir_fd=above)
        try:
            os.rename(name, f"{name}.moved", src_dir_fd=above, dst_dir_fd=above)
            os.rename(f"{name}.moved", name, src_dir_fd=above, dst_dir_fd=above)
        finally:
            os.rmdir(name, dir_fd=above)
        if _flags(directory, "") & (_IMMUTABLE | _APPEND) or not _may_remove(there, here):
            raise OSError(errno.EPERM, "it is another's, or flagged")
        return True
    finally:
        os.close(above)


# ---- what stands for the backups


def _look(directory: int, place: int, where: str, remembered: Sequence[str]) -> dict[str, Any]:
    """Return what the newest files are like, the canaries that are left, and how this is mounted.

    `files` counts the newest that have settled; of these `flagged` cannot be removed or changed by
    anybody (chattr +i; +a), `removable` could be unlinked and `writable` written by this account.
    """
    above = os.fstat(place)
    newest = _newest(place if where == "." else directory, where)
    counts = {"files": 0, "flagged": 0, "removable": 0, "writable": 0}
    for status, flags in newest:
        counts["files"] += 1
        if flags & (_IMMUTABLE | _APPEND):
            counts["flagged"] += 1
            continue
        counts["removable"] += _may_remove(above, status)
        counts["writable"] += _may_write(status)
    canaries = {name: _canary(place, name) for name in remembered if NAME.match(name)}
    mount = _mount(place)
    return {
        **counts,
        "uid": os.geteuid(),
        "place": where,
        "directory_flagged": bool(_flags(place, "") & (_IMMUTABLE | _APPEND)),
        "canaries": {name: state for name, state in canaries.items() if state is not None},
        **mount,
        "own_subvolume": mount["filesystem"] == "btrfs" and _owns_subvolume(place),
    }


def _newest(directory: int, where: str) -> list[tuple[os.stat_result, int]]:
    """Return status and flags of the newest entries that have settled, newest first."""
    found: list[tuple[float, os.stat_result, int]] = []
    before = time.time() - _SETTLED_S
    for handle, name in _entries(directory, where):
        if name.startswith((CANARY, ".")):
            continue
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if status.st_mtime <= before and not stat.S_ISLNK(status.st_mode):
                found.append((status.st_mtime, status, _flags(handle, name)))
        except OSError:
            continue
    found.sort(key=lambda one: -one[0])
    return [(status, flags) for _, status, flags in found[:_NEWEST]]


def _entries(directory: int, where: str) -> Iterator[tuple[int, str]]:
    """Yield what lies where the data is: in all directories beside `where`, or in this one."""
    left = _LOOKED_AT
    if where == ".":
        for name in sorted(os.listdir(directory))[:left]:
            yield directory, name
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    data = os.open("data", flags, dir_fd=directory)
    try:
        for bucket in sorted(os.listdir(data)):  # noqa: PTH208
            try:
                handle = os.open(bucket, flags, dir_fd=data)
            except OSError:
                continue
            try:
                for name in os.listdir(handle)[:left]:  # noqa: PTH208
                    left -= 1
                    yield handle, name
            finally:
                os.close(handle)
    finally:
        os.close(data)


def _canary(place: int, name: str) -> str | None:
    """Return "flagged" or "plain" for a canary that is there, None for one that is not."""
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
        return "flagged" if _flags(place, name) & (_IMMUTABLE | _APPEND) else "plain"
    except OSError:
        return None


def _may_remove(above: os.stat_result, status: os.stat_result) -> bool:
    """Tell what the sticky bit allows in a directory that may be written (unlink(2), EPERM)."""
    return not above.st_mode & stat.S_ISVTX or os.geteuid() in {status.st_uid, above.st_uid}


def _may_write(status: os.stat_result) -> bool:
    """Tell whether this account owns a file, and may give itself any right, or has the right."""
    mode = status.st_mode
    if status.st_uid == os.geteuid():
        return True
    if status.st_gid in {os.getegid(), *os.getgroups()}:
        return bool(mode & stat.S_IWGRP)
    return bool(mode & stat.S_IWOTH)


def _flags(directory: int, name: str) -> int:
    """Return the attributes of an entry, of the directory itself without a name (statx(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    at = _NOFOLLOW | (0x1000 if not name else 0)  # AT_EMPTY_PATH
    if libc.statx(directory, os.fsencode(name), at, 0, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int.from_bytes(buffer.raw[_ATTRIBUTES], "little")


def _owns_subvolume(place: int) -> bool:
    """Tell whether this account owns the subvolume: it may make it writable (SUBVOL_SETFLAGS)."""
    handle = os.dup(place)
    try:
        for _ in range(_DEEPEST):
            status = os.fstat(handle)
            if status.st_ino == _SUBVOLUME:
                return status.st_uid == os.geteuid()
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = above
    finally:
        os.close(handle)
    return True


def _mount(handle: int) -> dict[str, Any]:
    """Return file system and whether all of it, or only this mount of it, is read-only."""
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:  # noqa: PTH123
        number = re.search(r"^mnt_id:\s*(\d+)", file.read(), re.MULTILINE)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        for line in file:
            words = line.split()
            if number is not None and words[0] == number.group(1):
                tail = words[words.index("-") + 1 :]
                return {
                    "filesystem": tail[0],
                    "mounted_read_only": "ro" in words[5].split(","),
                    "read_only": "ro" in tail[2].split(","),
                }
    return {"filesystem": "?", "mounted_read_only": False, "read_only": False}
