"""Offline media are recognised by what udev, sysfs, superblocks and mtx say, without any right."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.errors import MissingMeans, Misunderstood, Unreachable
from backupguard.testing import contexts
from probes.offline_blocks import blocks, content_in, content_of, recognise, recognise_image
from probes.offline_found import Look, MediumPlan, Roots
from probes.offline_places import content, find
from probes.offline_tapes import elements, unread
from probes.offline_unknown import unknown

FS, OTHER = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c644", "11111111-2222-4333-8444-555555555555"
LUKS = "c1f34552-84d1-4e0e-834d-be6a5c93bcc6"
TOOLS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass
class Host:
    """What a host shows of its devices, below a directory."""

    root: Path

    @property
    def roots(self) -> Roots:
        return Roots(
            dev=self.root / "dev",
            blocks=self.root / "blocks",
            udev=self.root / "udev",
            mounts=self.root / "mounts",
        )

    def disk(self, name: str, number: str, *, bus: str = "usb0", serial: str = "") -> Path:
        real = self.root / "devices" / bus / name
        real.mkdir(parents=True)
        (real / "dev").write_text(f"{number}\n")
        (real / "size").write_text("2048\n")
        if serial:
            (real / "device").mkdir()
            (real / "device" / "serial").write_text(f"{serial}\n")
        self._show(name, real)
        return real

    def part(self, disk: Path, name: str, number: str, **udev: str) -> None:
        real = disk / name
        real.mkdir()
        (real / "partition").write_text("1\n")
        (real / "dev").write_text(f"{number}\n")
        (real / "size").write_text("1024\n")
        self._show(name, real)
        self.udev(number, **udev)

    def udev(self, number: str, **properties: str) -> None:
        self.roots.udev.mkdir(exist_ok=True)
        lines = [f"E:{name}={value}\n" for name, value in properties.items()]
        (self.roots.udev / f"b{number}").write_text("S:disk\n" + "".join(lines))

    def mount(self, number: str, path: Path, source: str = "/dev/sdb1", kind: str = "ext4") -> None:
        where = str(path).replace(" ", "\\040")
        line = f"40 30 {number} / {where} ro,relatime shared:1 - {kind} {source} ro\n"
        with self.roots.mounts.open("a") as file:
            file.write(line)

    def _show(self, name: str, real: Path) -> None:
        self.roots.blocks.mkdir(exist_ok=True)
        (self.roots.blocks / name).symlink_to(real)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def medium(**changed: Any) -> MediumPlan:
    given: dict[str, Any] = {
        "id": "usb-a",
        "kind": "removable",
        "root": Path("/run/backupguard/media/usb-a"),
        "filesystem_uuid": FS,
    }
    return MediumPlan(**{**given, **changed})


def usb(host: Host, uuid: str = FS, serial: str = "WX11", kind: str = "ext4") -> Path:
    disk = host.disk("sdb", "8:16", serial=serial)
    host.part(disk, "sdb1", "8:17", ID_FS_UUID=uuid, ID_FS_TYPE=kind)
    return disk


def test_a_disk_is_found_by_its_file_system_and_where_it_is_mounted(
    host: Host, tmp_path: Path
) -> None:
    usb(host)
    host.mount("8:17", tmp_path / "my disk")
    look = recognise(medium(), blocks(host.roots))
    assert look == Look(
        attached=True, device="sdb1", mount=tmp_path / "my disk", identity="filesystem-uuid"
    )


def test_without_udev_its_link_tells_the_uuid(host: Host) -> None:
    host.disk("sdc", "8:32")
    (host.roots.dev / "disk" / "by-uuid").mkdir(parents=True)
    (host.roots.dev / "sdc").touch()
    (host.roots.dev / "disk" / "by-uuid" / FS.upper()).symlink_to("../../sdc")
    assert recognise(medium(), blocks(host.roots)).device == "sdc"


def test_a_disk_that_is_not_there_is_not_attached(host: Host) -> None:
    assert recognise(medium(), blocks(host.roots)) == Look()  # nothing of it can even be read
    usb(host, OTHER, serial="")
    assert recognise(medium(), blocks(host.roots)) == Look()


@pytest.mark.parametrize(
    ("declared", "mismatch"),
    [
        ({"serial": "WX11"}, None),
        ({"serial": "wx11", "filesystem_uuid": None}, None),
        ({"serial": "WX99"}, "serial"),  # the data was copied to another disk
        ({"serial": "WX11", "filesystem_uuid": OTHER}, "filesystem-uuid"),  # formatted, or swapped
    ],
    ids=["right", "by-serial", "other-disk", "other-content"],
)
def test_every_identity_that_is_declared_must_be_right(
    host: Host, declared: Mapping[str, Any], mismatch: str | None
) -> None:
    usb(host)
    look = recognise(medium(**declared), blocks(host.roots))
    assert (look.attached, look.mismatch) == (True, mismatch)


def test_another_file_system_at_the_place_of_a_medium_is_a_swapped_disk(
    host: Host, tmp_path: Path
) -> None:
    usb(host, OTHER, serial="")
    host.mount("8:17", tmp_path / "place")
    look = recognise(medium(mount=tmp_path / "place"), blocks(host.roots))
    assert (look.attached, look.mismatch) == (True, "filesystem-uuid")


def test_a_container_and_the_file_system_in_it_are_one_medium(host: Host, tmp_path: Path) -> None:
    usb(host, LUKS, kind="crypto_LUKS")
    mapped = host.disk("dm-0", "253:0", bus="virtual")
    (mapped / "slaves").mkdir()
    (mapped / "slaves" / "sdb1").symlink_to(host.roots.blocks / "sdb1")
    host.udev("253:0", ID_FS_UUID=FS, ID_FS_TYPE="ext4")
    host.mount("253:0", tmp_path / "open", source="/dev/mapper/usb-a")
    wanted = medium(luks_uuid=LUKS, serial="WX11")
    look = recognise(wanted, blocks(host.roots))
    assert (look.attached, look.mismatch, look.mount) == (True, None, tmp_path / "open")
    closed = recognise(medium(filesystem_uuid=None, luks_uuid=LUKS), blocks(host.roots))
    assert (closed.identity, closed.mismatch) == ("luks-uuid", None)


# --------------------------------------------------------------------------------------- superblocks


def test_file_systems_and_containers_tell_their_uuid_as_blkid_does(tmp_path: Path) -> None:
    ext4, luks = tmp_path / "ext4.img", tmp_path / "luks.img"
    for image, size in ((ext4, 2 << 20), (luks, 20 << 20)):
        with image.open("wb") as file:
            file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-U", FS, ext4], check=True, env=TOOLS)
    quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--uuid", LUKS]
    subprocess.run(
        ["cryptsetup", "luksFormat", "-q", "--type", "luks2", *quick, luks, "-"],
        check=True,
        env=TOOLS,
        input=b"invented",
    )
    for image, kind, uuid in ((ext4, "ext4", FS), (luks, "crypto_LUKS", LUKS)):
        found = content_of(image)
        assert found is not None
        assert (found.kind, found.uuid) == (kind, uuid)
        said = subprocess.run(
            ["blkid", "-p", "-s", "UUID", "-o", "value", image],
            check=True,
            env=TOOLS,
            capture_output=True,
            text=True,
        )
        assert said.stdout.strip() == uuid
    look = recognise_image(medium(filesystem_uuid=None, luks_uuid=LUKS), luks)
    assert (look.attached, look.identity, look.mismatch) == (True, "luks-uuid", None)


@pytest.mark.parametrize("head", [b"", b"\0" * 70_000, b"LUKS\xba\xbe", b"XFS"], ids=len)
def test_what_is_no_superblock_is_nothing(head: bytes) -> None:
    assert content_in(head) is None


def test_an_image_that_is_no_file_system_is_not_the_medium(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    assert recognise_image(medium(), image) == Look()
    image.write_bytes(b"\0" * 9000)
    assert recognise_image(medium(), image).mismatch == "filesystem-uuid"


# --------------------------------------------------------------------------------------------- tapes


class Library:
    """A helper that says what a library once said."""

    def __init__(self, text: str) -> None:
        self.text = text

    def mtx_status(self, medium: str) -> str:
        return self.text

    def mount(self, medium: str) -> Any:
        raise MissingMeans("helper_missing")

    def unmount(self, medium: str) -> bool:
        return False


def recorded(name: str) -> str:
    return (Path(__file__).parent / "mtx" / f"{name}.txt").read_text()


def tape(barcode: str) -> MediumPlan:
    return medium(kind="tape", filesystem_uuid=None, barcode=barcode, library="/dev/sg3")


@pytest.mark.parametrize(
    ("barcode", "slot"),
    [("HBR007L6", "drive 0"), ("HBR001L6", "1"), ("HBR024L6", "mail slot 24"), ("HBR002L6", None)],
    ids=["drive", "slot", "mail", "away"],
)
def test_a_tape_that_the_library_can_reach_is_online(
    tmp_path: Path, barcode: str, slot: str | None
) -> None:
    context = contexts.context(tmp_path)
    look = find(tape(barcode), context, Library(recorded("two-drives")), Roots())
    assert (look.attached, look.slot, look.code) == (slot is not None, slot, None)


def test_a_tape_without_a_barcode_may_be_any_tape(tmp_path: Path) -> None:
    text = recorded("without-a-barcode")
    assert unread(text) == 2
    look = find(tape("HBR009L6"), contexts.context(tmp_path), Library(text), Roots())
    assert (look.attached, look.code) == (False, "barcode_unread")
    assert find(tape("HBR001L6"), contexts.context(tmp_path), Library(text), Roots()).attached


def test_what_mtx_never_said_is_not_understood() -> None:
    with pytest.raises(Misunderstood):
        elements("cannot open SCSI device '/dev/sg3' - No such file or directory")


def test_without_a_helper_a_library_cannot_be_told(tmp_path: Path) -> None:
    look = find(tape("HBR001L6"), contexts.context(tmp_path), None, Roots())
    assert (look.attached, look.code) == (False, "helper_missing")


# -------------------------------------------------------------------------------- opening, and others


def test_an_attached_disk_that_nobody_mounted_is_told_from_one_that_is_away(
    host: Host, tmp_path: Path
) -> None:
    context = contexts.context(tmp_path)
    with pytest.raises(Unreachable) as away, content(medium(), context, None, host.roots):
        pass
    assert away.value.code == "medium_away"
    usb(host)
    with pytest.raises(Unreachable) as shut, content(medium(), context, None, host.roots):
        pass
    assert shut.value.code == "medium_unmounted"
    copied = medium(serial="WX99")
    with pytest.raises(Unreachable) as other, content(copied, context, None, host.roots):
        pass
    assert other.value.code == "medium_mismatch"


def test_the_helper_mounts_for_as_long_as_it_is_read(host: Host, tmp_path: Path) -> None:
    usb(host)
    calls: list[str] = []

    class Mounter(Library):
        def mount(self, medium: str) -> Any:
            calls.append(f"mount {medium}")
            return SimpleNamespace(path=tmp_path / "mounted", already=False)

        def unmount(self, medium: str) -> bool:
            calls.append(f"unmount {medium}")
            return True

    with content(medium(), contexts.context(tmp_path), Mounter(""), host.roots) as directory:
        assert directory == tmp_path / "mounted"
        assert calls == ["mount usb-a"]
    assert calls == ["mount usb-a", "unmount usb-a"]


@pytest.mark.parametrize(
    ("names", "tool"),
    [
        (("config", "data/", "index/", "keys/", "snapshots/"), "restic"),
        (("README", "config", "data/"), "borg"),
        (("photos/", "notes.txt"), None),
    ],
    ids=["restic", "borg", "photos"],
)
def test_a_backup_on_a_disk_that_nobody_registered(
    host: Host, tmp_path: Path, names: tuple[str, ...], tool: str | None
) -> None:
    usb(host, OTHER)
    place = tmp_path / "stick"
    for name in names:
        path = place / "deep" / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text("This is a Borg Backup repository.\n")
    host.mount("8:17", place)
    found = list(unknown(blocks(host.roots), [medium()]))
    expected = {"device": "sdb1", "identity": "filesystem-uuid", "value": OTHER, "tool": tool}
    assert found == ([expected] if tool else [])
    assert not list(unknown(blocks(host.roots), [medium(filesystem_uuid=OTHER)]))  # registered


def test_a_disk_that_nobody_takes_away_is_not_looked_at(host: Host, tmp_path: Path) -> None:
    host.disk("sda", "8:0", bus="pci0")
    (tmp_path / "srv" / "x").mkdir(parents=True)
    (tmp_path / "srv" / "a.sql.gz").touch()
    host.mount("8:0", tmp_path / "srv", source="/dev/sda")
    assert not list(unknown(blocks(host.roots), []))
