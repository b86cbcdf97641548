"""The helper as root: real filesystems on loop devices, mounted so that not one byte changes."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backupguard.contracts import Secret
from backupguard.errors import (
    AccessRefused,
    Busy,
    MissingMeans,
    Misunderstood,
    TimedOut,
    Unreachable,
    UsageError,
)
from backupguard.helper.client import Helper

pytestmark = pytest.mark.root

SERVING = Path(__file__).with_name("serving.py")
USB, LUKS, XFS = (
    "11111111-2222-3333-4444-555555555555",
    "99999999-2222-3333-4444-555555555555",
    "77777777-2222-3333-4444-555555555555",
)
#: The smallest that mkfs.xfs makes.
XFS_BYTES = 300 * 1024 * 1024


def run(*arguments: str | Path) -> str:
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def loops() -> str:
    return run("losetup", "--list", "--noheadings", "--output", "BACK-FILE")


def settled(image: Path) -> bool:
    """Tell whether no loop device holds the image; the kernel takes a moment to let go."""
    for _ in range(50):
        if str(image) not in loops():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="session")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image of a disk that was pulled out while mounted: its journal wants a replay."""
    directory = tmp_path_factory.mktemp("dirty")
    image, copy, point = directory / "disk.img", directory / "pulled.img", directory / "point"
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    run("mkfs.ext4", "-q", "-U", USB, "-O", "64bit", image)
    point.mkdir()
    run("mount", "-o", "loop", image, point)
    try:
        for number in range(20):
            (point / f"dump-{number}").write_bytes(os.urandom(1000))
        (point / "program").write_bytes(Path("/bin/true").read_bytes())
        (point / "program").chmod(0o4755)
        run("sync", "-f", point)
        shutil.copyfile(image, copy)
    finally:
        run("umount", point)
    assert "needs_recovery" in run("dumpe2fs", "-h", copy)
    return copy


class Place:
    """A helper of the test's own, serving root."""

    gid = 65534

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = directory / "usb.img"
        self.point = directory / "run" / "media" / "usb"
        self.socket = directory / "helper.sock"
        self.configuration = directory / "backupguard.toml"
        self.declare(f'filesystem-uuid = "{USB}"\nimage = "{self.image}"')
        self.server: subprocess.Popen[str] | None = None

    def declare(self, text: str) -> None:
        head = '[repositories.nas]\ntype = "directory"\n'
        user = f'path = "{self.directory}/nas"\nbackup-user = "nobody"\n'
        self.configuration.write_text(f'{head}{user}[media.usb]\nkind = "removable"\n{text}\n')
        self.configuration.chmod(0o644)

    def start(self, caller: int = 0) -> Helper:
        directory = self.directory
        arguments: list[object] = [self.socket, self.configuration, directory, 0, caller]
        arguments += [directory / "run", self.gid]
        self.socket.unlink(missing_ok=True)
        self.server = subprocess.Popen(
            [sys.executable, str(SERVING), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == "ready\n"
        return Helper(self.socket, timeout_s=20)

    def stop(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.communicate()
        while os.path.ismount(self.point):
            run("umount", "-l", self.point)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.stop()


def test_a_dirty_medium_is_mounted_and_stays_as_it_is(place: Place, dirty: Path) -> None:
    shutil.copyfile(dirty, place.image)
    before = sha256(place.image)
    helper = place.start()

    mounted = helper.mount("usb")

    assert (mounted.path, mounted.device, mounted.filesystem, mounted.uuid, mounted.already) == (
        place.point, str(place.image), "ext4", USB, False,
    )  # fmt: skip
    assert (place.point / "dump-3").stat().st_size == 1000
    directory = place.point.parent.stat()
    assert (stat.S_IMODE(directory.st_mode), directory.st_gid) == (0o750, place.gid)
    options = run("findmnt", "--noheadings", "--output", "OPTIONS", "--mountpoint", place.point)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.strip().split(","))
    assert "norecovery" in options
    with pytest.raises(OSError, match="Read-only"):
        (place.point / "new").write_text("")
    assert helper.mount("usb").already
    assert helper.unmount("usb")
    assert not helper.unmount("usb")
    assert not place.point.exists()
    assert settled(place.image)
    assert sha256(place.image) == before


def test_a_plain_read_only_mount_would_have_changed_it(tmp_path: Path, dirty: Path) -> None:
    image, point = tmp_path / "usb.img", tmp_path / "point"
    shutil.copyfile(dirty, image)
    point.mkdir()
    before = sha256(image)
    device = run("losetup", "--find", "--show", image).strip()
    run("mount", "-o", "ro", device, point)
    run("umount", point)
    run("losetup", "--detach", device)
    assert sha256(image) != before


def test_a_medium_in_use_is_not_taken_away(place: Place, dirty: Path) -> None:
    shutil.copyfile(dirty, place.image)
    helper = place.start()
    helper.mount("usb")
    with (place.point / "dump-1").open(), pytest.raises(Busy):
        helper.unmount("usb")
    assert helper.unmount("usb")


def test_xfs_is_mounted_without_its_log(place: Place) -> None:
    with place.image.open("wb") as file:
        file.truncate(XFS_BYTES)
    run("mkfs.xfs", "-q", "-m", f"uuid={XFS}", place.image)
    place.declare(f'filesystem-uuid = "{XFS}"\nimage = "{place.image}"')
    helper = place.start()
    assert helper.mount("usb").filesystem == "xfs"
    assert helper.unmount("usb")


def test_a_device_is_found_by_its_uuid(place: Place, dirty: Path) -> None:
    shutil.copyfile(dirty, place.image)
    place.declare(f'filesystem-uuid = "{USB}"')
    helper = place.start()
    with pytest.raises(Unreachable):
        helper.mount("usb")
    device = run("losetup", "--find", "--show", "--read-only", place.image).strip()
    try:
        assert helper.mount("usb").device == device
        assert helper.unmount("usb")
        second = run("losetup", "--find", "--show", "--read-only", place.image).strip()
        try:
            with pytest.raises(Misunderstood) as ambiguous:
                helper.mount("usb")
            assert ambiguous.value.message.id == "helper.ambiguous"
        finally:
            run("losetup", "--detach", second)
    finally:
        run("losetup", "--detach", device)


def test_another_disk_under_the_same_name_is_refused(place: Place, dirty: Path) -> None:
    shutil.copyfile(dirty, place.image)
    place.declare(f'filesystem-uuid = "{XFS}"\nimage = "{place.image}"')
    with pytest.raises(Misunderstood) as other:
        place.start().mount("usb")
    assert other.value.message.id == "helper.other"
    assert not os.path.ismount(place.point)
    assert settled(place.image)


def test_what_is_no_filesystem_is_refused(place: Place) -> None:
    place.image.write_bytes(os.urandom(1024 * 1024))
    with pytest.raises(MissingMeans) as unknown:
        place.start().mount("usb")
    assert unknown.value.message.id == "helper.filesystem"
    assert settled(place.image)


def test_what_somebody_else_mounted_is_left_to_him(place: Place, dirty: Path) -> None:
    shutil.copyfile(dirty, place.image)
    point = place.directory / "elsewhere"
    point.mkdir()
    run("mount", "-o", "ro,loop,noload", place.image, point)
    try:
        with pytest.raises(Busy) as elsewhere:
            place.start().mount("usb")
        assert elsewhere.value.message.id == "helper.mounted_elsewhere"
    finally:
        run("umount", point)


def test_a_medium_that_was_exchanged_is_noticed(place: Place, dirty: Path) -> None:
    shutil.copyfile(dirty, place.image)
    helper = place.start()
    helper.mount("usb")
    place.image.unlink()
    with pytest.raises(Unreachable):
        helper.mount("usb")
    assert not os.path.ismount(place.point)
    shutil.copyfile(dirty, place.image)
    assert not helper.mount("usb").already


@pytest.mark.parametrize("after_s", [0.002, 0.005, 0.008, 0.011, 0.014, 0.02, 0.05])
def test_a_helper_killed_at_work_leaves_nothing_the_next_cannot_clean(
    place: Place, dirty: Path, after_s: float
) -> None:
    shutil.copyfile(dirty, place.image)
    before = sha256(place.image)
    helper = place.start()
    assert place.server is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(place.socket))
        connection.sendall(b'{"verb": "mount", "id": "usb"}\n')
        time.sleep(after_s)
        pid = place.server.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    if not os.path.ismount(place.point):
        assert settled(place.image)
    assert helper.mount("usb").path == place.point
    assert helper.unmount("usb")
    assert settled(place.image)
    assert sha256(place.image) == before


def test_luks_says_what_this_kernel_lacks(place: Place) -> None:
    with place.image.open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    subprocess.run(
        ["cryptsetup", "luksFormat", "--batch-mode", "--uuid", LUKS, "--pbkdf", "pbkdf2",
         "--pbkdf-force-iterations", "1000", "--key-file", "-", place.image],
        input=b"the key", check=True, timeout=60,
    )  # fmt: skip
    place.declare(f'luks-uuid = "{LUKS}"\nimage = "{place.image}"')
    before = sha256(place.image)
    helper = place.start()

    with pytest.raises(AccessRefused) as locked:
        helper.mount("usb")
    assert locked.value.message.id == "helper.locked"
    if "device-mapper" in Path("/proc/misc").read_text():
        with pytest.raises(AccessRefused) as wrong:
            helper.luks_open("usb", Secret("key", b"another"))
        assert wrong.value.code == "wrong_key"
        assert helper.luks_open("usb", Secret("key", b"the key"))
        assert not helper.luks_open("usb", Secret("key", b"the key"))
        with pytest.raises(MissingMeans):  # nothing was ever made in it
            helper.mount("usb")
        assert helper.luks_close("usb")
    else:
        with pytest.raises(MissingMeans) as missing:
            helper.luks_open("usb", Secret("key", b"the key"))
        assert missing.value.code == "device_mapper_missing"
    assert sha256(place.image) == before


def test_a_library_that_is_not_there_is_absent(place: Place) -> None:
    place.declare('barcode = "LTO001"\nlibrary = "/dev/sg97"')
    with pytest.raises(Unreachable):
        place.start().mtx_status("usb")
    place.declare('barcode = "LTO001"\nlibrary = "/etc/passwd"')
    with pytest.raises(UsageError):
        Helper(place.socket).mtx_status("usb")


def test_attempts_are_made_as_the_backup_user(place: Place) -> None:
    (place.directory / "nas").mkdir(mode=0o700)
    helper = place.start()
    with pytest.raises(Misunderstood):  # its directory is closed to it, as it would be to a thief
        helper.try_files("nas", token="0123456789abcdef", attempt="unlink")
    assert list((place.directory / "nas").iterdir()) == []


def test_a_canary_is_the_backup_users_and_nothing_else_is_touched(place: Place) -> None:
    # below a directory that the account may pass through, unlike the test's own
    with tempfile.TemporaryDirectory(dir="/var/tmp") as open_to_all:
        Path(open_to_all).chmod(0o755)
        nas = Path(open_to_all) / "nas"
        nas.mkdir()
        os.chown(nas, pwd.getpwnam("nobody").pw_uid, -1)
        (nas / "dump.gz").write_bytes(b"a backup")
        text = place.configuration.read_text().replace(f"{place.directory}/nas", str(nas))
        place.configuration.write_text(text)
        helper, token = place.start(), "0123456789abcdef"

        assert helper.try_files("nas", token=token, attempt="look")["uid"] == 65534
        assert helper.try_files("nas", token=token, attempt="put-canary")["worked"]
        (canary,) = [path for path in nas.iterdir() if path.name != "dump.gz"]
        assert (canary.owner(), token in canary.name) == ("nobody", True)
        canary.rename(nas / "kept")
        canary.symlink_to("dump.gz")  # somebody puts a backup into the canary's place
        for attempt in ("overwrite-canary", "truncate-canary"):
            with suppress(Misunderstood):
                helper.try_files("nas", token=token, attempt=attempt, remembered=[canary.name])
            assert (nas / "dump.gz").read_bytes() == b"a backup", attempt
        canary.unlink()
        (nas / "kept").rename(canary)
        gone = helper.try_files(
            "nas", token=token, attempt="delete-canary", remembered=[canary.name]
        )
        assert gone["worked"]
        assert [path.name for path in nas.iterdir()] == ["dump.gz"]
        with pytest.raises(UsageError):
            helper.try_files("nas", token=token, attempt="delete-canary", remembered=["dump.gz"])
        assert (nas / "dump.gz").read_bytes() == b"a backup"


def test_the_daemons_account_is_served_and_no_other(place: Place) -> None:
    place.start(caller=65534)
    with pytest.raises(AccessRefused):
        Helper(place.socket).present()


def test_without_a_helper_it_is_said_so(tmp_path: Path) -> None:
    helper = Helper(tmp_path / "helper.sock")
    assert not helper.present()
    with pytest.raises(MissingMeans) as missing:
        helper.mount("usb")
    assert missing.value.code == "helper_missing"


def test_a_helper_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "helper.sock"))
        listener.listen(1)
        with pytest.raises(TimedOut):
            Helper(tmp_path / "helper.sock", timeout_s=0.1).mount("usb")
