"""Block devices of this host and what is on them, with the rights of an ordinary user.

Read are sysfs, udev's database (world-readable, also inside a service that sees no devices),
`/dev/disk/by-uuid`, the mount table, and the first bytes of a device where that is allowed. Formats of
superblocks: the kernel's documentation of ext4, XFS and btrfs, and the LUKS on-disk format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from probes.offline_found import Look, MediumPlan, Roots

#: Enough for btrfs, whose superblock begins at 64 KiB.
_HEAD = 65536 + 4096
_LUKS = "crypto_LUKS"
_OCTAL = re.compile(r"\\([0-7]{3})")
#: File systems that are read as somebody's disk; squashfs images of packages are none.
DISKS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "f2fs"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the head of a device or image says it is."""

    kind: str  # "ext4", "xfs", "btrfs", "crypto_LUKS"
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of the mount table."""

    number: str
    path: Path
    kind: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block device. `disk` is the name of the whole disk it is a part of, its own for a disk."""

    name: str
    number: str
    disk: str
    removable: bool
    serial: str | None = None
    content: Content | None = None
    below: tuple[str, ...] = ()  # names of the devices it is made of
    mount: Path | None = None
    mounted_as: str | None = None


def content_of(path: Path) -> Content | None:
    """Return what the first bytes of a device or image file say; None for nothing known.

    Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        return content_in(file.read(_HEAD))


def content_in(head: bytes) -> Content | None:
    """Given the first 68 KiB of a device, return what it is."""
    if head[:6] in (b"LUKS\xba\xbe", b"SKUL\xba\xbe"):
        text = head[168:208].split(b"\0", 1)[0].decode("ascii", "replace").lower()
        return Content(kind=_LUKS, uuid=text) if text else None
    if head[1080:1082] == b"\x53\xef":
        return Content(kind="ext4", uuid=str(UUID(bytes=head[1128:1144])))
    if head[:4] == b"XFSB":
        return Content(kind="xfs", uuid=str(UUID(bytes=head[32:48])))
    if head[65600:65608] == b"_BHRfS_M":
        return Content(kind="btrfs", uuid=str(UUID(bytes=head[65568:65584])))
    return None


def mounts(roots: Roots) -> tuple[Mount, ...]:
    """Return the mount table."""
    try:
        text = roots.mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        mount, about = before.split(), after.split()
        if len(mount) > 4 and len(about) > 1:
            path = _OCTAL.sub(lambda match: chr(int(match[1], 8)), mount[4])
            found.append(Mount(number=mount[2], path=Path(path), kind=about[0], source=about[1]))
    return tuple(found)


def blocks(roots: Roots) -> tuple[Block, ...]:
    """Return every block device that holds anything; what cannot be read of one is left out."""
    named = _by_uuid(roots)
    table = mounts(roots)
    found = []
    for entry in _entries(roots.blocks):
        number = _text(entry / "dev")
        if number is None or _text(entry / "size") in (None, "0"):
            continue
        properties = _properties(roots.udev / f"b{number}")
        disk = _whole(entry)
        mount = next((m for m in table if _mounts(m, number, entry.name, roots)), None)
        found.append(
            Block(
                name=entry.name,
                number=number,
                disk=disk.name,
                removable=_removable(disk, properties),
                serial=_serial(disk, properties),
                content=_content(entry.name, properties, named, roots),
                below=tuple(sorted(one.name for one in _entries(entry / "slaves"))),
                mount=mount.path if mount else None,
                mounted_as=mount.kind if mount else None,
            )
        )
    return tuple(found)


def _mounts(mount: Mount, number: str, name: str, roots: Roots) -> bool:
    # btrfs has numbers that no block device has, but names its device
    if mount.number == number:
        return True
    if not mount.number.startswith("0:") or not mount.source.startswith("/dev/"):
        return False
    link = roots.dev / mount.source.removeprefix("/dev/")
    try:
        return link.resolve().name == name
    except OSError:
        return False


def _entries(path: Path) -> Sequence[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return ()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _whole(entry: Path) -> Path:
    """Return the directory of the whole disk that a partition is on, in sysfs."""
    try:
        real = entry.resolve(strict=True)
    except OSError:
        return entry
    return real.parent if (real / "partition").exists() else real


def _removable(disk: Path, properties: Mapping[str, str]) -> bool:
    """Tell whether a disk is one that people take away: by its bus, or by what it says itself."""
    if properties.get("ID_BUS") == "usb" or "/usb" in str(disk) or disk.name.startswith("loop"):
        return True
    return _text(disk / "removable") == "1"


def _serial(disk: Path, properties: Mapping[str, str]) -> str | None:
    return (
        properties.get("ID_SERIAL_SHORT")
        or _text(disk / "device" / "serial")
        or _text(disk / "serial")
        or properties.get("ID_SERIAL")
    )


def _properties(path: Path) -> dict[str, str]:
    """Return what udev knows of a device: lines "E:NAME=VALUE" of its database."""
    text = _text(path) or ""
    pairs = (line[2:].partition("=") for line in text.splitlines() if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def _by_uuid(roots: Roots) -> dict[str, str]:
    found = {}
    for link in _entries(roots.dev / "disk" / "by-uuid"):
        try:
            found[link.resolve().name] = link.name
        except OSError:
            continue
    return found


def _content(
    name: str, properties: Mapping[str, str], named: Mapping[str, str], roots: Roots
) -> Content | None:
    uuid = properties.get("ID_FS_UUID")
    if uuid:
        return Content(kind=properties.get("ID_FS_TYPE", ""), uuid=uuid.lower())
    try:
        seen = content_of(roots.dev / name)
    except OSError:
        seen = None
    if seen is None and name in named:
        return Content(kind="", uuid=named[name].lower())
    return seen


# ---------------------------------------------------------------------------------------- recognise


def recognise(medium: MediumPlan, found: Iterable[Block]) -> Look:
    """Return whether a disk is attached, by every identity that is declared of it.

    One that is right and one that is another is a mismatch: a disk was swapped, copied or formatted.
    """
    every = list(found)
    wanted = {
        "filesystem-uuid": (medium.filesystem_uuid or "").lower(),
        "luks-uuid": (medium.luks_uuid or "").lower(),
        "serial": (medium.serial or "").lower(),
    }
    wanted = {name: value for name, value in wanted.items() if value}
    for identity, value in wanted.items():
        match = next((one for one in every if _is(one, identity, value)), None)
        if match is None:
            continue
        family = _family(match, every)
        readable = next((one for one in family if one.mount is not None), None)
        return Look(
            attached=True,
            device=match.name,
            mount=readable.mount if readable is not None else None,
            identity=identity,
            mismatch=_mismatch(wanted, family),
        )
    return _at_its_place(medium, wanted, every)


def _at_its_place(medium: MediumPlan, wanted: Mapping[str, str], every: Sequence[Block]) -> Look:
    """Return a mismatch when something else is mounted where the medium belongs."""
    other = next((one for one in every if medium.mount and one.mount == medium.mount), None)
    if other is None or other.content is None or "filesystem-uuid" not in wanted:
        return Look()
    return Look(
        attached=True,
        device=other.name,
        mount=other.mount,
        identity="mount",
        mismatch="filesystem-uuid",
    )


def _is(block: Block, identity: str, value: str) -> bool:
    if identity == "serial":
        return block.serial is not None and block.serial.lower() == value
    if block.content is None or block.content.uuid != value:
        return False
    return (block.content.kind == _LUKS) == (identity == "luks-uuid") or not block.content.kind


def _family(block: Block, every: Sequence[Block]) -> list[Block]:
    """Return a device with what is on the same disk, and what is made of that."""
    names = {block.disk}
    for name in block.below:  # an opened container: the disk below it
        names |= {one.disk for one in every if one.name == name}
    family = [one for one in every if one.disk in names]
    inside = {one.name for one in family}
    return family + [one for one in every if one not in family and inside & set(one.below)]


def _mismatch(wanted: Mapping[str, str], family: Sequence[Block]) -> str | None:
    """Return the first declared identity that is another one here; what is not known is none."""
    contents = [one.content for one in family if one.content is not None]
    plain = {one.uuid for one in contents if one.kind != _LUKS}
    locked = {one.uuid for one in contents if one.kind == _LUKS}
    serials = {one.serial.lower() for one in family if one.serial is not None}
    seen = {"filesystem-uuid": plain, "luks-uuid": locked, "serial": serials}
    # a disk with a readable file system and no container at all is another one, too
    seen["luks-uuid"] = locked or plain if "filesystem-uuid" not in wanted else locked
    return next(
        (name for name, value in wanted.items() if seen[name] and value not in seen[name]), None
    )


def recognise_image(medium: MediumPlan, image: Path) -> Look:
    """Return whether an image file is there, and is the one that is meant."""
    try:
        found = content_of(image)
    except FileNotFoundError:
        return Look()
    except OSError:
        return Look(code="permission")
    if found is None:
        return Look(attached=True, device=str(image), identity="image", mismatch="filesystem-uuid")
    identity = "luks-uuid" if found.kind == _LUKS else "filesystem-uuid"
    declared = medium.luks_uuid if found.kind == _LUKS else medium.filesystem_uuid
    if declared is not None and declared.lower() == found.uuid:
        return Look(attached=True, device=str(image), identity=identity)
    wanted = "filesystem-uuid" if medium.filesystem_uuid is not None else "luks-uuid"
    return Look(attached=True, device=str(image), identity="image", mismatch=wanted)
