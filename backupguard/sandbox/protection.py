"""Who could read restored data off this host's disks: where scratch lies, where memory is swapped to.

Everything is read from /proc and /sys below `root` (of the running system: "/"), so that it needs no
right and sees the same inside a service without devices. Sources: proc(5), the kernel's documentation
of sysfs-block, sysfs-block-dm, sysfs-block-zram and of btrfs in sysfs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HOST = Path("/")
_OCTAL = re.compile(r"\\([0-7]{3})")
#: A chain of devices that is longer than this is a circle.
_DEEPEST = 8
#: File systems that lie in memory. The pages of ramfs are never swapped out.
_MEMORY = frozenset({"tmpfs", "ramfs"})
#: What cryptsetup(8) names the devices it makes; its INTEGRITY, VERITY and SUBDEV hide nothing.
_CRYPT = re.compile(r"CRYPT-(LUKS1|LUKS2|PLAIN|LOOPAES|TCRYPT|BITLK|FVAULT2)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of the mount table. `device` is "MAJOR:MINOR", nobody's for btrfs and networks.

    `parent` is the `number` of the mount that this one lies on.
    """

    number: str
    parent: str
    point: str
    kind: str
    source: str
    device: str


def mounts(root: Path = _HOST) -> list[Mount]:
    """Return what is mounted for this process, in the order of mounting (proc(5), mountinfo)."""
    found = []
    for line in (root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        place, _, rest = line.partition(" - ")
        fields, about = place.split(" "), rest.split(" ")
        if len(fields) > 4 and len(about) > 1:
            found.append(
                Mount(
                    number=fields[0],
                    parent=fields[1],
                    point=_plain(fields[4]),
                    kind=about[0],
                    source=_plain(about[1]),
                    device=fields[2],
                )
            )
    return found


def mount_of(path: str, root: Path = _HOST) -> Mount | None:
    """Return the mount that holds an absolute path without links; None where there is none.

    It is looked for as the kernel does, from the top: neither the longest point nor the last line
    tells, as a later mount on "/srv" covers an earlier one on "/srv/scratch".
    """
    table = mounts(root)
    numbers = {mount.number for mount in table}
    found: Mount | None = None
    for point in (*reversed([str(above) for above in Path(path).parents]), path):
        while (over := _over(found, point, table, numbers)) is not None:
            found = over
    return found


def _over(below: Mount | None, point: str, table: list[Mount], numbers: set[str]) -> Mount | None:
    """Return what is mounted on a point of another mount, or, below nothing, what lies on none."""
    for mount in table:
        if mount.point != point or mount is below:
            continue
        alone = mount.parent == mount.number or mount.parent not in numbers
        if alone if below is None else mount.parent == below.number:
            return mount
    return None


def scratch_protection(path: Path, root: Path = _HOST) -> str:
    """Return how data at rest below `path` is protected: "tmpfs", "encrypted" or "clear".

    "encrypted" means dm-crypt below the file system, whatever lies between (LVM, RAID, btrfs, a loop
    device). A tmpfs that could be swapped out in clear text is "clear", and so is what cannot be told:
    the settings then say who accepted that. Raises FileNotFoundError where there is no such path.
    """
    mount = mount_of(str(path.resolve(strict=True)), root)
    if mount is None:
        return "clear"
    if mount.kind in _MEMORY:
        return "clear" if mount.kind == "tmpfs" and clear_swap(root) else "tmpfs"
    return "encrypted" if _mount_encrypted(mount, root, 0) else "clear"


def clear_swap(root: Path = _HOST) -> tuple[str, ...]:
    """Return the swap areas that anybody who holds their disk can read; () without any."""
    table = root / "proc/swaps"
    try:
        lines = table.read_text("utf-8", "replace").splitlines()[1:]
    except FileNotFoundError:  # a kernel that cannot swap
        return ()
    except OSError:
        return ("/proc/swaps",)
    return tuple(name for name, kind in _areas(lines) if not _area_is_safe(name, kind, root))


def _areas(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, rest = line.partition(" ")
        if name and rest.split():
            yield _plain(name), rest.split()[0]


def _area_is_safe(name: str, kind: str, root: Path) -> bool:
    if kind == "file":
        mount = mount_of(name, root)
        return mount is not None and _mount_encrypted(mount, root, 0)
    device = root / "sys/class/block" / kernel_name(name, root)
    if device.name.startswith(
        "zram"
    ):  # compressed memory, unless what is idle is written to a disk
        behind = _text(device / "backing_dev")
        if behind in {"", "none"}:
            return True
        return all_encrypted(root / "sys/class/block" / kernel_name(behind, root), root)
    return all_encrypted(device, root)


# ----------------------------------------------------------------------------------------- devices


def kernel_name(device: str, root: Path = _HOST) -> str:
    """Return the kernel's name of a device file: "dm-0" for "/dev/mapper/swap". It need not exist."""
    name = device.rpartition("/")[2]
    if not device.startswith("/dev/mapper/"):
        return name
    for place in (root / "sys/class/block").glob("dm-*"):
        if _text(place / "dm/name") == name:
            return place.name
    return name


def devices_of(mount: Mount, root: Path = _HOST) -> list[Path]:
    """Return the block devices a mounted file system lies on directly; [] for none that can be told."""
    if mount.kind == "btrfs":  # its own number says nothing: one file system, several devices
        name = kernel_name(mount.source, root)
        for members in (root / "sys/fs/btrfs").glob("*/devices"):
            names = sorted(member.name for member in members.iterdir())
            if name in names:
                return [root / "sys/class/block" / member for member in names]
        return []
    device = root / "sys/dev/block" / mount.device
    return [device] if device.exists() else []


def below(device: Path) -> list[Path]:
    """Return what a block device is made of: its slaves, or for a partition the whole disk."""
    slaves = device / "slaves"
    made_of = sorted(slaves.iterdir()) if slaves.is_dir() else []
    if not made_of and (device / "partition").exists():
        return [device.resolve().parent]
    return made_of


def _mount_encrypted(mount: Mount, root: Path, depth: int) -> bool:
    devices = devices_of(mount, root)
    return bool(devices) and all(all_encrypted(device, root, depth) for device in devices)


def all_encrypted(device: Path, root: Path = _HOST, depth: int = 0) -> bool:
    """Tell whether a block device, or all that it is made of, is dm-crypt."""
    if _CRYPT.match(_text(device / "dm/uuid")):
        return True
    if depth >= _DEEPEST:
        return False
    image = _text(device / "loop/backing_file")
    if image:
        mount = mount_of(image, root)
        return mount is not None and _mount_encrypted(mount, root, depth + 1)
    parts = below(device)
    return bool(parts) and all(all_encrypted(part, root, depth + 1) for part in parts)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _plain(field: str) -> str:
    """Return a field without the escapes that the kernel puts in place of blanks."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)
