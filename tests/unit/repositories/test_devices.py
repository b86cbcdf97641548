"""What lies in one place has a word in common; what cannot be told stays as it is called."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from backupguard.repositories import devices
from backupguard.repositories.devices import (
    device_of_bucket,
    device_of_host,
    device_of_path,
    device_of_record,
)


def resolves_to(*addresses: str) -> Any:
    def getaddrinfo(name: str, port: None, **_: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    return getaddrinfo


@pytest.mark.parametrize(
    ("addresses", "device"),
    [
        (("10.0.0.5",), "host:10.0.0.5"),
        (("10.0.0.9", "10.0.0.5"), "host:10.0.0.5"),
        (("fd00::5", "10.0.0.5"), "host:10.0.0.5"),
        (("8.8.8.8",), "host:8.8.8.8"),
        (("8.8.8.8", "8.8.4.4"), "host:nas.example"),
        (("fe80::1%eth0",), "host:fe80::1"),
        ((), "host:nas.example"),
        (("127.0.0.1",), f"host:{socket.gethostname().lower()}"),
        (("127.0.1.1", "10.0.0.5"), f"host:{socket.gethostname().lower()}"),
    ],
)
def test_a_host_is_told_by_its_address(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], device: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to(*addresses))
    assert device_of_host("NAS.example.") == device


def test_two_names_of_one_endpoint_share_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to("10.0.0.5"))
    one = device_of_bucket("https://s3-a.example:9000", "dpi")
    other = device_of_bucket("s3-b.example", "copie")
    assert one == "bucket:s3-a.example:9000/dpi host:10.0.0.5"
    assert set(one.split()) & set(other.split()) == {"host:10.0.0.5"}


def test_two_directories_of_one_file_system_are_one_device(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    device = device_of_path(tmp_path / "a")
    assert device == device_of_path(str(tmp_path / "b"))
    assert device.startswith("fs:")
    assert set(device_of_path("/dev/shm").split()).isdisjoint(device.split())


def test_records_of_copies_say_nothing_of_where_these_are(tmp_path: Path) -> None:
    assert device_of_record("netbackup") != device_of_record("tina")
    assert device_of_record("netbackup") not in device_of_path(tmp_path).split()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        device_of_path(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("kind", "source", "device"),
    [
        ("nfs4", "nas.example:/export/a", "host:10.0.0.5"),
        ("nfs", "[fd00::5]:/export", "host:10.0.0.5"),
        ("fuse.sshfs", "backup@nas.example:/srv", "host:10.0.0.5"),
        ("cifs", "//nas.example/share/sub", "host:10.0.0.5"),
        ("zfs", "tank/backup/dpi", f"fs:{socket.gethostname().lower()}/zfs/tank"),
    ],
)
def test_a_mount_is_told_by_its_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, source: str, device: str
) -> None:
    number = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(
        "nonsense\n1 2 0:9999 / /x rw - ext4 /dev/x rw\n"
        f"3 4 {os.major(number)}:{os.minor(number)} / /srv rw shared:1 - {kind} {source} rw\n"
    )
    monkeypatch.setattr(devices, "_MOUNTS", table)
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to("10.0.0.5"))
    assert device_of_path(tmp_path) == device


def test_volumes_are_followed_to_their_disks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two logical volumes of one disk are one place, even with UUIDs of their own."""
    disk = tmp_path / "devices" / "sda"
    part = disk / "sda2"
    part.mkdir(parents=True)
    (part / "partition").write_text("2\n")
    for name in ("dm-0", "dm-1"):
        slaves = tmp_path / "devices" / name / "slaves"
        slaves.mkdir(parents=True)
        (slaves / "sda2").symlink_to(part)
    blocks = tmp_path / "block"
    blocks.mkdir()
    number = tmp_path.stat().st_dev
    (blocks / f"{os.major(number)}:{os.minor(number)}").symlink_to(tmp_path / "devices" / "dm-0")
    monkeypatch.setattr(devices, "_BLOCKS", blocks)
    monkeypatch.setattr(devices, "_MOUNTS", tmp_path / "none")
    assert f"disk:{socket.gethostname().lower()}/sda" in device_of_path(tmp_path).split()
    assert devices._disks(tmp_path / "devices" / "dm-1") == {"sda"}
