"""Mounts, unmounts and opens declared media; nothing that is done here can write to one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backupguard.helper import kernel, protocol
from backupguard.helper.programs import run
from backupguard.helper.protocol import Refusal

#: What is mounted, and with which options: no journal is replayed, and no medium may make the host
#: panic on the first damage ("errors" in its superblock is the medium's own word).
FILESYSTEMS: Final[Mapping[str, str]] = {
    "ext2": "errors=continue",
    "ext3": "noload,errors=continue",
    "ext4": "noload,errors=continue",
    "xfs": "norecovery,nouuid",
    "btrfs": "rescue=nologreplay",
    "vfat": "errors=continue",
    "exfat": "errors=continue",
}
#: Those that know no owners: the daemon's group may read.
_WITHOUT_OWNERS: Final = frozenset({"vfat", "exfat"})
_UUID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{3,63}\Z")
_CHANGER: Final = re.compile(r"/dev/(?:[A-Za-z0-9_:.-]+/){0,4}[A-Za-z0-9_:.-]+\Z")
_NO_PERMISSION = 2  # cryptsetup(8), exit status: the key opens no slot
_EXISTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Where media are mounted, and whose group may look at them."""

    directory: Path = protocol.MEDIA
    gid: int = 0
    wait_s: float = 5.0  # for another request to end

    def mount(self, identifier: str, declared: Mapping[str, Any]) -> dict[str, Any]:
        """Mount a declared medium, or return where the helper has it already."""
        with self._alone():
            point = self.directory / identifier
            uuid = _text(declared, "filesystem-uuid", required="luks-uuid" not in declared)
            standing = _standing(point)
            if standing is not None:
                told = _same(standing, uuid)
                if told is not None:
                    return {**told, "path": str(point), "already": True}
                _take_away(point)  # its disk was pulled out, or is another one by now
            with _device(identifier, declared) as (backing, name):
                _not_mounted_elsewhere(backing, name)
                with kernel.read_only_loop(backing) as loop:
                    found = _filesystem(loop)
                    if uuid is not None and found["UUID"].lower() != uuid.lower():
                        raise Refusal("other", f"UUID {found['UUID']}")
                    self._mount(loop, point, found["TYPE"])
        return {
            "path": str(point),
            "device": name,
            "filesystem": found["TYPE"],
            "uuid": found["UUID"],
            "already": False,
        }

    def _mount(self, loop: Path, point: Path, filesystem: str) -> None:
        options = FILESYSTEMS[filesystem]
        if filesystem in _WITHOUT_OWNERS:
            options += f",uid=0,gid={self.gid},umask=0227"
        point.mkdir(mode=0o750, exist_ok=True)
        try:
            kernel.mount(loop, point, filesystem, options)
        except OSError as error:
            with suppress(OSError):
                point.rmdir()
            raise Refusal("failed", f"mount {filesystem}: {error.strerror}") from error

    def unmount(self, identifier: str, declared: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Unmount a declared medium; nothing to do is no error."""
        with self._alone():
            point = self.directory / identifier
            done = False
            while _standing(point) is not None:
                try:
                    kernel.unmount(point)
                except OSError as error:
                    if error.errno == errno.EBUSY:
                        raise Refusal("in_use", str(point)) from error
                    raise Refusal("failed", f"umount: {error.strerror}") from error
                done = True
            with suppress(OSError):
                point.rmdir()
        return {"done": done}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Serve one request for media at a time; the kernel lets go when a process dies."""
        self.directory.parent.mkdir(mode=0o755, exist_ok=True)
        self.directory.mkdir(mode=0o750, exist_ok=True)
        status = self.directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise Refusal("failed", f"{self.directory} is not the helper's own")
        os.chown(self.directory, -1, self.gid)
        self.directory.chmod(0o750)  # whatever the umask: the daemon's group passes through it
        handle = os.open(
            self.directory.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )  # fmt: skip
        try:
            _lock(handle, time.monotonic() + self.wait_s)
            yield
        finally:
            os.close(handle)


def _lock(handle: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise Refusal("busy") from error
            time.sleep(0.05)
        else:
            return


def luks_open(identifier: str, declared: Mapping[str, Any], key: int | None) -> dict[str, Any]:
    """Open a medium's LUKS container read-only; the key comes by descriptor and is never kept."""
    if key is None:
        raise Refusal("usage", "no key came with it")
    _need_device_mapper()
    if _mapper(identifier).exists():
        return {"done": False}
    with _container(declared) as (backing, _), kernel.read_only_loop(backing) as loop:
        arguments = ("--type", "luks", "--readonly", "--batch-mode", "--tries", "1")
        done = run(
            "cryptsetup", "open", *arguments, "--key-file", "-", str(loop),
            _mapper(identifier).name, stdin=key,
        )  # fmt: skip
    if done.returncode == _NO_PERMISSION:
        raise Refusal("wrong_key")
    if done.returncode not in (0, _EXISTS):
        raise Refusal("failed", f"cryptsetup ended with {done.returncode}")
    return {"done": True}


def luks_close(identifier: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Close a medium's LUKS container."""
    _text(declared, "luks-uuid")
    _need_device_mapper()
    if not _mapper(identifier).exists():
        return {"done": False}
    done = run("cryptsetup", "close", _mapper(identifier).name)
    if done.returncode == _EXISTS:
        raise Refusal("in_use", "cryptsetup close")
    if done.returncode != 0:
        raise Refusal("failed", f"cryptsetup ended with {done.returncode}")
    return {"done": True}


def changer_status(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `mtx status` says of the library that a tape belongs to (mtx(1)); it moves none."""
    library = _text(declared, "library")
    if library is None or _CHANGER.match(library) is None or ".." in library:
        raise Refusal("undeclared", "library is no device")
    try:
        if not stat.S_ISCHR(os.stat(library).st_mode):  # noqa: PTH116 - one look, links of udev allowed
            raise Refusal("undeclared", "library is no device")
    except OSError as error:
        raise Refusal("absent", library) from error
    done = run("mtx", "-f", library, "status")
    if done.returncode != 0:
        raise Refusal("failed", f"mtx ended with {done.returncode}")
    return {"text": done.stdout[: protocol.ANSWER_LIMIT // 4]}


def _mapper(identifier: str) -> Path:
    return Path("/dev/mapper") / f"backupguard-{identifier}"


def _need_device_mapper() -> None:
    try:
        os.close(os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise Refusal("device_mapper_missing", error.strerror or "") from error


def _text(declared: Mapping[str, Any], key: str, *, required: bool = True) -> str | None:
    value = declared.get(key)
    if value is None and not required:
        return None
    if not isinstance(value, str) or (key.endswith("-uuid") and _UUID.match(value) is None):
        raise Refusal("undeclared", key)
    return value


@contextmanager
def _device(identifier: str, declared: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Open what a medium's filesystem lies on: its opened LUKS container, its image or a device."""
    if "luks-uuid" not in declared:
        with _attached(declared, "filesystem-uuid") as found:
            yield found
        return
    mapper = _mapper(identifier)
    if not mapper.exists():
        with _container(declared):  # absent is told before locked
            raise Refusal("locked")
    with _opened(mapper) as handle:
        yield handle, str(mapper)


@contextmanager
def _container(declared: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Open what a medium's LUKS container lies on, having seen that it is that container."""
    uuid = _text(declared, "luks-uuid")
    with _attached(declared, "luks-uuid") as (backing, name):
        with kernel.read_only_loop(backing) as loop:
            found = _probed(loop)
        if found.get("TYPE") != "crypto_LUKS" or found.get("UUID") != uuid:
            raise Refusal("other", f"{found.get('TYPE')} {found.get('UUID')}")
        yield backing, name


@contextmanager
def _attached(declared: Mapping[str, Any], key: str) -> Iterator[tuple[int, str]]:
    """Open a medium's image, or the one device that bears its UUID."""
    uuid, image = _text(declared, key), declared.get("image")
    if image is not None:
        if not isinstance(image, str) or not image.startswith("/"):
            raise Refusal("undeclared", "image")
        with _opened(Path(image)) as handle:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Refusal("other", "the image is no regular file")
            yield handle, image
        return
    told = run("blkid", "-c", "/dev/null", "-t", f"UUID={uuid}", "-o", "device")
    devices = [line for line in told.stdout.splitlines() if line.startswith("/dev/")]
    if not devices:
        raise Refusal("absent", f"no device with UUID {uuid}")
    if len(devices) > 1:
        raise Refusal("ambiguous", " ".join(devices))
    _right_serial(declared, devices[0])
    with _opened(Path(devices[0])) as handle:
        if not stat.S_ISBLK(os.fstat(handle).st_mode):
            raise Refusal("other", "no block device")
        yield handle, devices[0]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if path.parent == Path("/dev/mapper"):
        flags &= ~os.O_NOFOLLOW  # udev's links
    try:
        handle = os.open(path, flags)
    except FileNotFoundError as error:
        raise Refusal("absent", str(path)) from error
    except OSError as error:
        raise Refusal("other", f"{path}: {error.strerror}") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _right_serial(declared: Mapping[str, Any], device: str) -> None:
    """Refuse a device of another serial number, where one is declared and the host can tell."""
    wanted = declared.get("serial")
    if not isinstance(wanted, str):
        return
    told = run("lsblk", "--nodeps", "--inverse", "--noheadings", "--output", "SERIAL", device)
    found = told.stdout.strip()
    if found and found != wanted:
        raise Refusal("other", f"serial {found!r}")


def _probed(device: Path) -> dict[str, str]:
    """Return what blkid reads on a device itself: TYPE, UUID (blkid(8), low-level probing)."""
    told = run("blkid", "-p", "-o", "export", str(device))
    return dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)


def _filesystem(device: Path) -> dict[str, str]:
    found = _probed(device)
    if found.get("TYPE") not in FILESYSTEMS or not found.get("UUID"):
        raise Refusal("filesystem", str(found.get("TYPE")))
    return found


def _standing(point: Path) -> kernel.MountEntry | None:
    """Return the uppermost mount of a place; None where nothing is mounted."""
    found = [entry for entry in kernel.mounts() if entry.point == str(point)]
    return found[-1] if found else None


def _same(standing: kernel.MountEntry, uuid: str | None) -> dict[str, Any] | None:
    """Return what is mounted, when it is a whole, living medium with that UUID, read-only."""
    backing = kernel.backing_of(standing.number) or kernel.backing_of(_number(standing.source))
    if backing is None or not {"ro", "nosuid", "nodev", "noexec"} <= standing.options:
        return None
    found = _probed(Path(standing.source))
    same = found.get("UUID") and (uuid is None or found["UUID"].lower() == uuid.lower())
    if not same or not Path(backing).exists():
        return None
    return {"device": backing, "filesystem": standing.filesystem, "uuid": found["UUID"]}


def _number(source: str) -> str:
    """Return the number of a device by its name: btrfs shows one of its own in the mount table."""
    try:
        number = os.stat(source).st_rdev  # noqa: PTH116
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def _take_away(point: Path) -> None:
    while _standing(point) is not None:
        kernel.unmount(point, detach=True)


def _not_mounted_elsewhere(backing: int, name: str) -> None:
    """Refuse what somebody else has mounted: a second look at it, past its owner, would be torn."""
    status = os.fstat(backing)
    own = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    block = stat.S_ISBLK(status.st_mode)
    for entry in kernel.mounts():
        under = kernel.backing_of(entry.number) or kernel.backing_of(_number(entry.source))
        if (block and own in (entry.number, _number(entry.source))) or under == name:
            raise Refusal("mounted_elsewhere", entry.point)
