"""Whether restored data can be read off a disk: every way scratch and swap may lie, and its twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.sandbox import scratch_protection
from backupguard.sandbox.protection import all_encrypted, clear_swap, mount_of
from tests.unit.hosts import MadeHost

CRYPT = "CRYPT-LUKS2-abc-scratch"


@pytest.fixture
def host(tmp_path: Path) -> MadeHost:
    return MadeHost(tmp_path / "root")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    place = tmp_path / "scratch"
    place.mkdir()
    return place


def test_a_plain_disk_is_clear_and_one_below_dm_crypt_is_not(host: MadeHost, scratch: Path) -> None:
    host.block("sda", "8:0")
    host.block("sda1", "8:1", part_of="sda")
    host.mount("/")
    assert scratch_protection(scratch, host.root) == "clear"
    host.block("dm-0", "254:0", uuid=CRYPT, of=("sda1",))
    host.mount(scratch, device="254:0")
    assert scratch_protection(scratch, host.root) == "encrypted"


def test_volumes_and_raid_on_encrypted_disks_are_encrypted_half_of_one_is_not(
    host: MadeHost,
) -> None:
    host.block("sda", "8:0")
    host.block("dm-0", "254:0", uuid=CRYPT, of=("sda",))
    volume = host.block("dm-1", "254:1", uuid="LVM-xyz", of=("dm-0",))
    half = host.block("md0", "9:0", of=("dm-0", "sda"))
    part = host.block("md1", "9:1", of=("dm-0", "dm-1"))
    inside = host.block("md1p1", "259:0", part_of="md1")
    assert all_encrypted(volume, host.root)
    assert all_encrypted(part, host.root)
    assert all_encrypted(inside, host.root)
    assert not all_encrypted(half, host.root)
    assert not all_encrypted(host.root / "sys/class/block/absent", host.root)


@pytest.mark.parametrize("kind", ["INTEGRITY", "VERITY", "SUBDEV"])
def test_integrity_alone_hides_nothing(host: MadeHost, kind: str) -> None:
    host.block("sda", "8:0")
    checked = host.block("dm-0", "254:0", uuid=f"CRYPT-{kind}-scratch", of=("sda",))
    assert not all_encrypted(checked, host.root)
    host.block("dm-1", "254:1", uuid=CRYPT, of=("sda",))
    twin = host.block("dm-2", "254:2", uuid=f"CRYPT-{kind}-scratch", of=("dm-1",))
    assert all_encrypted(twin, host.root)


@pytest.mark.parametrize("kind", ["LUKS1", "PLAIN", "LOOPAES", "TCRYPT", "BITLK", "FVAULT2"])
def test_every_kind_of_encryption_is_known(host: MadeHost, kind: str) -> None:
    host.block("sda", "8:0")
    assert all_encrypted(
        host.block("dm-0", "254:0", uuid=f"CRYPT-{kind}-x", of=("sda",)), host.root
    )


def test_a_circle_of_devices_ends(host: MadeHost) -> None:
    circle = host.block("dm-0", "254:0", uuid="LVM-a", of=("dm-1",))
    host.block("dm-1", "254:1", uuid="LVM-b", of=("dm-0",))
    assert not all_encrypted(circle, host.root)


def test_btrfs_counts_with_all_its_disks(host: MadeHost, scratch: Path) -> None:
    host.block("dm-0", "254:0", uuid=CRYPT, mapped="one")
    host.block("dm-1", "254:1", uuid=CRYPT, mapped="two")
    host.mount(scratch, "btrfs", source="/dev/mapper/one", device="0:40")
    assert scratch_protection(scratch, host.root) == "clear", "its members cannot be told"
    members = host.root / "sys/fs/btrfs/u-u-i-d/devices"
    for name in ("dm-0", "dm-1"):
        (members / name).mkdir(parents=True)
    assert scratch_protection(scratch, host.root) == "encrypted"
    host.block("sdb", "8:16")
    (members / "sdb").mkdir()
    assert scratch_protection(scratch, host.root) == "clear"


def test_an_image_in_a_loop_device_is_what_its_file_lies_on(host: MadeHost, scratch: Path) -> None:
    loop = host.block("loop0", "7:0")
    (loop / "loop").mkdir()
    (loop / "loop/backing_file").write_text("/srv/vault/image\n")
    host.block("dm-0", "254:0", uuid=CRYPT)
    host.mount("/")
    host.mount(scratch, device="7:0")
    assert scratch_protection(scratch, host.root) == "clear"
    host.mount("/srv/vault", device="254:0")
    assert scratch_protection(scratch, host.root) == "encrypted"


@pytest.mark.parametrize("kind", ["overlay", "nfs4", "zfs", "fuse.sshfs"])
def test_what_cannot_be_told_is_clear(host: MadeHost, scratch: Path, kind: str) -> None:
    host.mount(scratch, kind, source="tank/scratch", device="0:51")
    assert scratch_protection(scratch, host.root) == "clear"


def test_memory_is_safe_until_it_can_be_swapped_out_in_clear_text(
    host: MadeHost, scratch: Path
) -> None:
    host.mount(scratch, "tmpfs", source="tmpfs", device="0:30")
    assert scratch_protection(scratch, host.root) == "tmpfs"
    host.block("sdb", "8:16")
    host.block("dm-3", "254:3", uuid="CRYPT-PLAIN-swap", of=("sdb",))
    host.swap("/dev/dm-3")
    assert scratch_protection(scratch, host.root) == "tmpfs"
    host.swap("/dev/sdb")
    assert scratch_protection(scratch, host.root) == "clear"
    host.mount(scratch, "ramfs", source="none", device="0:31")
    assert scratch_protection(scratch, host.root) == "tmpfs", "ramfs is never swapped out"


def test_each_swap_area_is_judged_by_what_it_lies_on(host: MadeHost) -> None:
    assert clear_swap(host.root) == ()
    host.block("sda", "8:0")
    host.block("sda1", "8:1", part_of="sda")
    host.block("sda2", "8:2", part_of="sda")
    host.block("dm-0", "254:0", uuid=CRYPT, mapped="root", of=("sda2",))
    zram = host.block("zram0", "253:0")
    host.mount("/", device="254:0")
    host.mount("/srv", device="8:1")
    host.swap("/dev/zram0")
    host.swap("/dev/mapper/root")
    host.swap("/swapfile", "file")
    assert clear_swap(host.root) == ()
    host.swap("/srv/swap\\040file", "file")
    (zram / "backing_dev").write_text("/dev/sda1\n")
    host.swap("/dev/sda1")
    assert clear_swap(host.root) == ("/dev/zram0", "/srv/swap file", "/dev/sda1")
    (zram / "backing_dev").write_text("none\n")
    assert clear_swap(host.root) == ("/srv/swap file", "/dev/sda1")


def test_a_kernel_without_swap_has_none(host: MadeHost) -> None:
    (host.root / "proc/swaps").unlink()
    assert clear_swap(host.root) == ()


def test_the_last_mount_on_a_point_counts_and_names_are_read_as_they_are(host: MadeHost) -> None:
    host.mount("/")
    host.mount("/srv/a b", device="8:2")
    host.mount("/srv/a b", "tmpfs", device="0:9")
    found = mount_of("/srv/a b/c", host.root)
    assert found is not None
    assert (found.kind, found.point) == ("tmpfs", "/srv/a b")
    beside = mount_of("/srv/a bc", host.root)
    assert beside is not None
    assert beside.point == "/"


def test_an_encrypted_mount_that_a_later_one_covers_protects_nothing(
    host: MadeHost, scratch: Path
) -> None:
    host.block("sda", "8:0")
    host.block("dm-0", "254:0", uuid=CRYPT, of=("sda",))
    host.mount("/", device="8:0")
    host.mount(scratch, device="254:0")
    assert scratch_protection(scratch, host.root) == "encrypted"
    host.mount(scratch.parent, device="8:0")
    assert scratch_protection(scratch, host.root) == "clear"
    host.mount(scratch, device="254:0")
    assert scratch_protection(scratch, host.root) == "encrypted"


@pytest.mark.parametrize("top", ["1", "29"], ids=["of nobody", "of itself"])
def test_the_order_of_lines_says_nothing(host: MadeHost, top: str) -> None:
    """What the first file system of a boot mounted stands before the root that it lies on."""
    host.file(
        "proc/self/mountinfo",
        f"24 29 0:22 / /run rw - tmpfs tmpfs rw\n29 {top} 8:1 / / rw - ext4 /dev/sda1 rw\n",
    )
    found = [mount_of(path, host.root) for path in ("/run/x", "/runs", "/")]
    assert [mount and mount.kind for mount in found] == ["tmpfs", "ext4", "ext4"]


def test_of_this_very_host() -> None:
    assert {
        path: mount and mount.point for path in ("/", "/proc") if (mount := mount_of(path))
    } == {
        "/": "/",
        "/proc": "/proc",
    }
    assert scratch_protection(Path("/proc")) == "clear"
    expected = "clear" if clear_swap() else "tmpfs"
    assert scratch_protection(Path("/dev/shm")) == expected
    with pytest.raises(FileNotFoundError):
        scratch_protection(Path("/proc/absent"))
