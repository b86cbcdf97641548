"""Whether BackupGuard stands on what it verifies: its hypervisor, its array, a repository's own disk.

Measured is what /proc and /sys show: the server of a network file system, the portal of an iSCSI disk,
the disk below a file system. What a machine cannot know of itself (the cluster that it runs on, the
array behind a virtual disk) is declared: `host.failure-domains`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.cli.doctor_host import judged
from backupguard.cli.doctor_needs import Result
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.contracts import RepositorySettings
    from backupguard.settings import Settings

#: Types that hold no copies: what others wrote about theirs.
_TOLD = frozenset({"import", "reported"})
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs"})
#: As systemd-detect-virt(1): what firmware says of the machine, and the hypervisor behind it.
_VENDORS = (
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("Microsoft Corporation", "microsoft"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("Nutanix", "nutanix"),
    ("Amazon EC2", "amazon"),
    ("Google", "google"),
)
_FIRMWARE = ("product_name", "sys_vendor", "board_vendor", "bios_vendor")
_SESSION = re.compile(r"/(session\d+)/")

Resolve = Callable[[str], Iterable[str]]


def addresses(host: str) -> set[str]:
    """Return the addresses of a host, the name itself included; only the name where none is known."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return {host.lower()}
    return {host.lower(), *(str(entry[4][0]) for entry in found)}


# ------------------------------------------------------------------------------------ the machine


def virtual(root: Path) -> str:
    """Return what this machine runs on: "kvm", "vmware", "container docker"…; "" for hardware."""
    container = _text(root / "run/systemd/container")
    if container or (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return f"container {container or 'docker'}"
    if _text(root / "sys/hypervisor/type") == "xen":
        return "xen"
    firmware = [_text(root / "sys/class/dmi/id" / name) for name in _FIRMWARE]
    for beginning, name in _VENDORS:
        # Microsoft and Google make hardware too: only their virtual machines have the flag below.
        if any(said.startswith(beginning) for said in firmware):
            hardware = name in {"microsoft", "google", "nutanix"} and not _flagged(root)
            if not hardware:
                return name
    return "?" if _flagged(root) else ""


def _flagged(root: Path) -> bool:
    """Tell whether the processor says that a hypervisor is below."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            return "hypervisor" in line.split()
    return False


def virtualisation(settings: Settings, root: Path) -> Result:
    """Tell on what this machine runs; a virtual one has to be told which cluster that is."""
    words = common.words()
    machine = virtual(root)
    domains = ", ".join(settings.host.failure_domains)
    if not machine:
        hardware = words.text("cli.doctor.host.hardware")
        found = f"{hardware}, {domains}" if domains else hardware
        return Result(check="virtualisation", state="ok", found=found)
    if domains:
        return Result(check="virtualisation", state="ok", found=f"{machine}, {domains}")
    remedy = Message(id="cli.doctor.do.failure-domains")
    state = "unproven" if _declared(settings) or _hypervisors(settings) else "note"
    return Result(check="virtualisation", state=state, found=machine, remedy=remedy)


def _hypervisors(settings: Settings) -> bool:
    """Tell whether backups of a hypervisor are verified from here."""
    return any(place.type in {"proxmox", "veeam"} for place in settings.repositories.values()) or (
        any("hypervisor" in owner.provides for owner in settings.applications.values())
    )


# ---------------------------------------------------------------------------------- what is shared


def place(settings: Settings, root: Path, today: date, resolve: Resolve | None = None) -> Result:
    """Tell what this host shares with the backups that it verifies: what would be lost together."""
    shared = [*_by_declaration(settings), *_by_looking(settings, root, resolve or addresses)]
    if not shared:
        return Result(check="place", state="ok")
    remedy = Message(id="cli.doctor.do.place")
    return judged(settings, "place", today, found="; ".join(shared), remedy=remedy)


def _declared(settings: Settings) -> dict[str, list[str]]:
    """Return the failure domains of what is verified, each with who lies in it."""
    found: dict[str, list[str]] = {}
    for family, table in (
        ("repositories", settings.repositories),
        ("applications", settings.applications),
    ):
        for name, one in table.items():
            domain = getattr(one, "failure_domain", None)
            if domain:
                found.setdefault(domain.casefold(), []).append(f"{family}.{name}")
    return found


def _by_declaration(settings: Settings) -> list[str]:
    others = _declared(settings)
    return [
        f"{domain}: {', '.join(others[domain.casefold()])}"
        for domain in settings.host.failure_domains
        if domain.casefold() in others
    ]


def _by_looking(settings: Settings, root: Path, resolve: Resolve) -> list[str]:
    """Return what the store or scratch lies on that a repository lies on as well."""
    ours: dict[str, set[str]] = {}
    for key, path in (
        ("store.directory", settings.state_directory),
        ("scratch.directory", settings.runs_directory),
    ):
        for ground in grounds(path, root):
            ours.setdefault(ground, set()).add(key)
    hosts = {ground for ground in ours if ground.startswith("host:")}
    found = []
    for name, repository in settings.repositories.items():
        if repository.type in _TOLD:
            continue
        for ground in sorted(_grounds_of(repository, root)):
            for same in sorted(_same(ground, ours, hosts, resolve)):
                keys = ", ".join(sorted(ours[same]))
                found.append(f"{same.partition(':')[2]}: {keys}, repositories.{name}")
    return found


def _same(
    ground: str, ours: Iterable[str], hosts: Iterable[str], resolve: Resolve
) -> Iterable[str]:
    if ground in ours:
        return [ground]
    if not ground.startswith("host:"):
        return []
    names = set(resolve(ground.partition(":")[2])) if hosts else set()
    return [host for host in hosts if names & set(resolve(host.partition(":")[2]))]


def _grounds_of(repository: RepositorySettings, root: Path) -> set[str]:
    path = getattr(repository, "path", None)
    if isinstance(path, Path):
        return grounds(path, root)
    from backupguard.cli.flows import remote_host

    host = remote_host(repository)
    return {f"host:{host.lower()}"} if host else set()


def grounds(path: Path, root: Path = Path("/")) -> set[str]:
    """Return what a directory stands on: "host:SERVER" behind a network, "disk:NAME" of this host.

    A directory that does not exist yet stands on what its parent stands on. Memory stands on nothing.
    """
    from backupguard.sandbox.protection import devices_of, mount_of

    try:
        whole = path.resolve()
    except OSError:
        whole = path
    mount = mount_of(str(whole), root)
    if mount is None:
        return set()
    if mount.kind in _NETWORK:
        return {f"host:{server}" for server in _servers(mount.source)}
    return {ground for device in devices_of(mount, root) for ground in _disks(device, root, 0)}


def _servers(source: str) -> list[str]:
    """Return the servers in "server:/path", "user@server:/path", "[v6]:/path" or "//server/share"."""
    if source.startswith("//"):
        return [source[2:].partition("/")[0].lower()]
    place, colon, _ = source.rpartition(":/")
    if not colon:
        return []
    # Several monitors of one Ceph stand side by side, with or without a port.
    return [_bare(server) for server in place.rpartition("@")[2].split(",") if server]


def _bare(server: str) -> str:
    name = server.strip("[]").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.partition(":")[0]


def _disks(device: Path, root: Path, depth: int) -> set[str]:
    """Return the disks below a block device; one that iSCSI brings is its portal's host."""
    from backupguard.sandbox.protection import below

    parts = below(device) if depth < 8 else []
    if parts:
        return {ground for part in parts for ground in _disks(part, root, depth + 1)}
    whole = device.resolve()
    session = _SESSION.search(str(whole))  # where iSCSI hangs its disks in /sys/devices
    if session is not None:
        portals = _portals(session[1], root)
        if portals:
            return {f"host:{portal}" for portal in portals}
    return {f"disk:{whole.name}"}


def _portals(session: str, root: Path) -> set[str]:
    """Return the addresses that the connections of an iSCSI session go to (sysfs, iscsi_connection)."""
    number = session.removeprefix("session")
    connections = (root / "sys/class/iscsi_connection").glob(f"connection{number}:*")
    return {
        _bare(address)
        for connection in connections
        if (address := _text(connection / "persistent_address") or _text(connection / "address"))
    }


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
