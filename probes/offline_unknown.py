"""Backups on disks that no register knows: looked for by the marks that tools leave, not deeply."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from probes.offline_blocks import DISKS, Block
from probes.offline_found import MediumPlan

_DEEPEST = 3
_MOST_DIRECTORIES = 2000
_MOST_NAMES = 5000


def tool_of(names: Iterable[str]) -> str | None:
    """Given the names in a directory, return the tool whose repository it looks like."""
    found = set(names)
    for tool, marks in (
        ("restic", {"config", "data", "index", "keys", "snapshots"}),
        ("borg", {"README", "config", "data"}),
        ("pgbackrest", {"backup.info"}),
        ("barman", {"base", "wals"}),
        ("kopia", {"kopia.repository.f"}),
        ("proxmox", {".chunks"}),
    ):
        if marks <= found:
            return tool
    for name in found:
        if name.endswith((".vbk", ".vib", ".vbm")):
            return "veeam"
        if ".duplicati." in name or name.startswith("duplicity-"):
            return "duplicati" if "duplicati" in name else "duplicity"
        if name.endswith((".dump", ".sql.gz", ".sql.zst", ".dump.gz")):
            return "dump"
    return None


def unknown(found: Sequence[Block], media: Iterable[MediumPlan]) -> Iterator[dict[str, str]]:
    """Yield the mounted removable disks that no medium of the register is, with what is on them."""
    known = {
        value.lower()
        for medium in media
        for value in (medium.filesystem_uuid, medium.luks_uuid, medium.serial)
        if value
    }
    for block in found:
        kind = block.mounted_as
        if block.mount is None or not block.removable or kind not in DISKS:
            continue
        uuid = block.content.uuid if block.content is not None else None
        below = {one.content.uuid for one in found if one.name in block.below and one.content}
        if {uuid, (block.serial or "").lower(), *below} & known:
            continue
        tool = _look_below(block.mount)
        if tool is not None:
            yield {
                "device": block.name,
                "identity": "filesystem-uuid" if uuid else "serial",
                "value": uuid or block.serial or "",
                "tool": tool,
            }


def _look_below(root: Path) -> str | None:
    """Return the tool of the first repository that is found near the top; follows no link."""
    waiting = [(root, 0)]
    seen = 0
    while waiting and seen < _MOST_DIRECTORIES:
        directory, depth = waiting.pop(0)
        seen += 1
        names, directories = _listed(directory)
        tool = tool_of(names)
        if tool is not None and (tool != "borg" or _is_borg(directory)):
            return tool
        if depth < _DEEPEST:
            waiting += [(directory / name, depth + 1) for name in directories]
    return None


def _is_borg(directory: Path) -> bool:
    try:
        with (directory / "README").open("rb") as file:
            return b"Borg" in file.read(200)
    except OSError:
        return False


def _listed(directory: Path) -> tuple[list[str], list[str]]:
    names: list[str] = []
    directories: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                if len(names) >= _MOST_NAMES:
                    break
    except OSError:
        return names, directories
    return names, sorted(directories)
