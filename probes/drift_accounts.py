"""Who may administer this host: members of groups, accounts with user id 0, files of sudo's.

Sources: group(5), passwd(5), sudoers(5) (`@includedir`: names with a dot or a tilde at the end are
passed over). Only local files are asked, never a directory server.
"""

from __future__ import annotations

from pathlib import Path

from probes.discovery_files import entries, read_text
from probes.discovery_found import Found
from probes.drift_found import Policies

#: Whose members can do everything here, or tell BackupGuard what to do.
GROUPS = frozenset(
    {"root", "sudo", "wheel", "admin", "disk", "docker", "lxd", "backupguard-operators"}
)
_SOURCE = "accounts"


def look(etc: Path, policies: Policies) -> None:
    """Add every administrator of this host."""
    found = Found(host="")
    group, passwd = (_rows(etc / name, found) for name in ("group", "passwd"))
    if found.lacking or not group or not passwd:
        policies.lack(_SOURCE, "groups")
    else:
        place = policies.read(_SOURCE, "groups")
        numbers = {row[2]: row[0] for row in group if len(row) > 3 and row[0] in GROUPS}
        for row in group:
            if len(row) > 3 and row[0] in GROUPS:
                for member in filter(None, row[3].split(",")):
                    place.element(f"admin.{row[0]}", member)
        for row in passwd:
            if len(row) > 3 and row[3] in numbers:
                place.element(f"admin.{numbers[row[3]]}", row[0])
            if len(row) > 3 and row[2].lstrip("0") == "":
                place.element("admin.uid-0", row[0])
    files = Found(host="")
    names = [path.name for path in entries(etc / "sudoers.d", files)]
    if files.lacking:
        policies.lack(_SOURCE, "sudoers.d")
        return
    place = policies.read(_SOURCE, "sudoers.d")
    for name in names:
        if "." not in name and not name.endswith("~") and name != "README":
            place.element("admin.sudoers.d", name)


def _rows(path: Path, found: Found) -> list[list[str]]:
    text = read_text(path, found) or ""
    return [line.strip().split(":") for line in text.splitlines() if ":" in line]
