"""Where a repository really lies, as text: what two copies must not share to be independent.

A device is one or several words, each naming something that can be lost as a whole:

- `fs:UUID` a file system, by its UUID, or by host and device number where it shows none;
- `disk:HOST/NAME` a whole disk of this host below it (several for a volume over several disks);
- `host:ADDRESS` the machine that keeps it, by address, or by name where the name has many addresses;
- `bucket:ENDPOINT/NAME` a bucket of object storage;
- `record:ID` nothing of the copies themselves: only what somebody recorded of them was seen.

Two repositories whose devices share a word of the first four kinds lie in one place, whatever was
declared of them. Words that differ prove nothing: this can only lower a count of copies.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

_MOUNTS = Path("/proc/self/mountinfo")
_UUIDS = Path("/dev/disk/by-uuid")
_BLOCKS = Path("/sys/dev/block")
#: File systems that lie on another machine, whose source is "server:/path".
_OF_SERVERS = frozenset({"nfs", "nfs4", "ceph", "fuse.sshfs", "fuse.glusterfs"})
#: Those whose source is "//server/share".
_OF_SHARES = frozenset({"cifs", "smb3", "smbfs"})
_DEEPEST = 8  # volumes upon volumes: more is a circle


def device_of_path(path: Path | str) -> str:
    """Return the device of a path of this host: the file system it is on, or the server of a mount.

    Raises OSError when the path cannot be looked at.
    """
    status = os.stat(path)  # noqa: PTH116 - a path or its text
    number = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    kind, source = _mounted(number)
    if kind in _OF_SERVERS and ":" in source:
        # "user@server:/path", "[2001:db8::1]:/path", "mon1,mon2:/"
        server = source.rpartition(":")[0].rpartition("@")[2].split(",", 1)[0]
        return device_of_host(server)
    if kind in _OF_SHARES and source.startswith("//"):
        return device_of_host(source[2:].split("/", 1)[0])
    if kind == "zfs":
        return f"fs:{_here()}/zfs/{source.split('/', 1)[0]}"
    block = _block(source) or number  # btrfs and overlays have numbers that no block device has
    words = [f"fs:{_uuid(block) or f'{_here()}:{block}'}"]
    words += [f"disk:{_here()}/{disk}" for disk in sorted(_disks(_BLOCKS / block))]
    return " ".join(words)


def device_of_host(host: str) -> str:
    """Return the device of a machine: `host:ADDRESS`.

    A name with one address is told by it, one with several private addresses by the lowest of them;
    a public name with several, as clouds give theirs by turns, stays a name. This host is always
    told by its name. A name that cannot be resolved stays as it is.
    """
    name = host.strip().strip("[]").rstrip(".").lower()
    found = _addresses(name)
    if any(address.is_loopback for address in found):
        return f"host:{_here()}"
    if len(found) == 1 or (found and all(address.is_private for address in found)):
        return f"host:{min(found, key=lambda address: (address.version, int(address)))}"
    return f"host:{name}"


def device_of_bucket(endpoint: str, bucket: str) -> str:
    """Return the device of a bucket: `bucket:ENDPOINT/NAME` and the host of the endpoint.

    `endpoint` is a URL or "host[:port]"; it carries no credentials.
    """
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = parts.hostname or endpoint
    where = f"{host}:{parts.port}" if parts.port else host
    return f"bucket:{where}/{bucket} {device_of_host(host)}"


def device_of_record(identifier: str) -> str:
    """Return the device of a repository of which only records can be read: an export, a catalogue.

    Where the record lies says nothing of where the copies are, so it is shared with no other.
    """
    return f"record:{identifier}"


def _here() -> str:
    return socket.gethostname().lower()


def _addresses(name: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # no such name, no resolver, no name at all
        return set()
    return {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}


def _mounted(number: str) -> tuple[str, str]:
    """Return kind and source of the file system with that device number; empty when unknown."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount, about = before.split(), after.split()
        if len(mount) > 2 and mount[2] == number and len(about) > 1:
            return about[0], about[1]
    return "", ""


def _block(source: str) -> str | None:
    """Return the number of the block device a file system was mounted from."""
    if not source.startswith("/dev/"):
        return None
    try:
        device = Path(source).stat().st_rdev
    except OSError:
        return None
    return f"{os.major(device)}:{os.minor(device)}" if device else None


def _uuid(block: str) -> str | None:
    """Return the UUID that udev has read from a block device."""
    try:
        links = sorted(_UUIDS.iterdir())
    except OSError:
        return None
    for link in links:
        try:
            device = link.stat().st_rdev
        except OSError:
            continue
        if f"{os.major(device)}:{os.minor(device)}" == block:
            return link.name.lower()
    return None


def _disks(block: Path, depth: int = 0) -> set[str]:
    """Return the names of the whole disks a block device lies on."""
    try:
        real = block.resolve(strict=True)
    except OSError:
        return set()
    if (real / "partition").exists():
        real = real.parent
    below = sorted((real / "slaves").glob("*"))
    if not below or depth > _DEEPEST:
        return {real.name}
    return {name for part in below for name in _disks(part, depth + 1)}
