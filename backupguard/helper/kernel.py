"""The few calls of the kernel for which Python has no words: loop devices, mounts, the mount table."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backupguard.helper.protocol import Refusal

# linux/loop.h
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
#: struct loop_config: descriptor, block size, loop_info64 (of which only the flags), reserved.
_CONFIG = struct.Struct("=II 52x I 176x 64x")
_TRIES = 32

# sys/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME = 1, 2, 4, 8, 1024
_UMOUNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    number: str  # "8:17", of the device
    root: str
    point: str
    options: frozenset[str]
    filesystem: str
    source: str


def mounts() -> list[MountEntry]:
    """Return what is mounted, as this process sees it; the uppermost last."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        found.append(
            MountEntry(
                number=fields[2],
                root=_plain(fields[3]),
                point=_plain(fields[4]),
                options=frozenset(fields[5].split(",")),
                filesystem=rest[0],
                source=_plain(rest[1]),
            )
        )
    return found


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


@contextmanager
def read_only_loop(backing: int) -> Iterator[Path]:
    """Lay a read-only loop device over an open file or device: no write passes through it.

    It clears itself once nobody holds it: whatever was mounted from it keeps it, and a process that
    is killed leaves none behind. Raises Refusal (failed).
    """
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        device = _configured(control, backing)
    finally:
        os.close(control)
    try:
        yield Path(f"/dev/loop{os.minor(os.fstat(device).st_rdev)}")
    finally:
        os.close(device)


def _configured(control: int, backing: int) -> int:
    for _ in range(_TRIES):
        number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
        device = os.open(f"/dev/loop{number}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, _CONFIG.pack(backing, 0, _READ_ONLY | _AUTOCLEAR))
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # somebody else took it in between
                raise
            continue
        return device
    raise Refusal("failed", "no free loop device")


def backing_of(number: str) -> str | None:
    """Return what lies under a loop device ("7:0"); None for another device or none any more."""
    try:
        return Path(f"/sys/dev/block/{number}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return None


def mount(device: Path, point: Path, filesystem: str, options: str) -> None:
    """Mount read-only, without devices, programs or set-uid; raises OSError."""
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME
    _called(
        _libc().mount(
            os.fsencode(device), os.fsencode(point), filesystem.encode(), flags, options.encode()
        )
    )


def unmount(point: Path, *, detach: bool = False) -> None:
    """Unmount the uppermost mount of a place, following no link; raises OSError.

    `detach`: also one that is in use or whose device is gone.
    """
    flags = _UMOUNT_NOFOLLOW | (_UMOUNT_DETACH if detach else 0)
    _called(_libc().umount2(os.fsencode(point), flags))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p,
    )  # fmt: skip
    libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
    return libc


def _called(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def forbid_more_rights() -> None:
    """See to it that no set-uid program gives this process rights again (PR_SET_NO_NEW_PRIVS)."""
    _called(_libc().prctl(38, 1, 0, 0, 0))
