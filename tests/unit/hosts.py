"""A host made of files: what /proc, /sys, /etc and /run show of one, below a directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class MadeHost:
    """A host below `root`. Nothing is mounted and there is no swap until a test says so."""

    root: Path
    _mounts: list[str] = field(default_factory=list)
    _points: list[str] = field(default_factory=list)
    _swaps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file("proc/self/mountinfo", "")
        self.file("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def mount(
        self,
        point: Path | str,
        kind: str = "ext4",
        *,
        source: str = "/dev/sda1",
        device: str = "8:1",
        options: str = "rw",
    ) -> None:
        number = len(self._mounts) + 20
        plain = str(point).replace(" ", r"\040")
        # What is mounted later lies on the newest that holds its point.
        holding = [
            place + 20
            for place, other in enumerate(self._points)
            if f"{point}/".startswith(f"{other.rstrip('/')}/")
        ]
        self._points.append(str(point))
        parent = holding[-1] if holding else 1
        self._mounts.append(
            f"{number} {parent} {device} / {plain} rw - {kind} {source} {options}\n"
        )
        self.file("proc/self/mountinfo", "".join(self._mounts))

    def swap(self, name: str, kind: str = "partition") -> None:
        self._swaps.append(f"{name:<40}{kind}\t1000\t0\t-2\n")
        head = "Filename\tType\tSize\tUsed\tPriority\n"
        self.file("proc/swaps", head + "".join(self._swaps))

    def block(
        self,
        name: str,
        number: str,
        *,
        uuid: str | None = None,
        mapped: str | None = None,
        of: tuple[str, ...] = (),
        part_of: str | None = None,
        under: str = "",
    ) -> Path:
        """Add a block device: of the mapper with `uuid`, made `of` others, or a part of a disk."""
        parent = self.root / "sys/devices" / under
        if part_of is not None:
            parent = (self.root / "sys/class/block" / part_of).resolve()
        directory = parent / name
        (directory / "slaves").mkdir(parents=True)
        if part_of is not None:
            (directory / "partition").write_text("1\n")
        if uuid is not None or mapped is not None:
            (directory / "dm").mkdir()
            (directory / "dm/uuid").write_text(f"{uuid or 'LVM-x'}\n")
            (directory / "dm/name").write_text(f"{mapped or name}\n")
        for part in of:
            (directory / "slaves" / part).symlink_to(self.root / "sys/class/block" / part)
        for place in ("sys/class/block/" + name, "sys/dev/block/" + number):
            link = self.root / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(directory)
        return directory
