"""Between the first and the second part: what runs here is discovered, and an attached disk is read.

All of it in the unit with every drop-in. The disk is a loop device of the host's, whose node and udev's
notes about it are put into the machine by hand: a container gets neither from the kernel.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine
from tests.system.site import UNIT, main_pid, nothing_left, ready, restored

#: Of its own each time: other machines of this host see the same disks.
USB = str(uuid.uuid4())
DISK = "/etc/backupguard/conf.d/disk.toml"
CONTENT = f"""\
[media.usb-a]
kind = "removable"
filesystem-uuid = "{USB}"
may-stay = "12h"
every = "7d"

[repositories.usb-a]
type = "directory"
medium = "usb-a"
path = "{{medium}}/exports"
failure-domain = "coffre"
off-site = true

[applications.disque]
name = "Laboratoire, sur disque"
criticality = "C2"
rpo = "8d"
rto = "24h"

[applications.disque.backups.usb-a]
repository = "usb-a"
select.pattern = "labo.sqlite3"
every = "7d"

[applications.disque.restore-test]
engine = "sqlite"

[[applications.disque.restore-test.checks]]
name = "results"
sql = "select count(*) from results"
at-least = 100
"""


def _said(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disk(machine: Machine) -> Iterator[str]:
    """Attach a disk with a backup on it; return its name."""
    image, content = machine.work / "usb.img", machine.work / "usb"
    (content / "exports").mkdir(parents=True)
    kept = machine.root / "srv" / "exports" / "labo.sqlite3"
    _said("cp", "--preserve=timestamps,mode", kept, content / "exports")
    with image.open("wb") as file:
        file.truncate(16 << 20)
    _said("mkfs.ext4", "-q", "-U", USB, "-d", content, image)
    device = Path(_said("losetup", "--find", "--show", image))
    number = device.name.removeprefix("loop")
    nodes = "[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237\n"
    nodes += "for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done\n"
    noted = f"E:ID_FS_UUID={USB}\\nE:ID_FS_TYPE=ext4\\nE:ID_BUS=usb\\n"
    udev = (
        f"mkdir -p /run/udev/data /dev/disk/by-uuid\nprintf '{noted}' >/run/udev/data/b7:{number}\n"
    )
    link = f"ln -sf ../../{device.name} /dev/disk/by-uuid/{USB}\n"
    try:
        machine.shell(nodes + udev + link)
        yield device.name
    finally:
        machine.shell(f"rm -f /run/udev/data/b7:{number} /dev/disk/by-uuid/{USB} {DISK}")
        _said("losetup", "--detach", device)


def test_discovery_sees_what_runs_here(machine: Machine) -> None:
    machine.run("systemctl", "start", "postgresql")
    machine.shell("su postgres -c 'psql -qc \"create role backupguard login in role pg_monitor\"'")
    told = machine.run("backupguard", "discover", "--json", check=False, timeout=240)
    machine.run("systemctl", "stop", "postgresql")
    seen = json.loads(told.stdout)
    assert any("dpi" in one.values() for one in seen["databases"]), told.stdout
    assert seen["lacking"] == []


def test_an_attached_disk_is_mounted_by_the_helper_and_restored_from(
    machine: Machine, disk: str
) -> None:
    pid = main_pid(machine)
    machine.write(DISK, CONTENT)
    machine.run("systemctl", "start", "backupguard-helper.socket")
    machine.run("systemctl", "reload", UNIT)
    loaded = f"journalctl -u {UNIT} -o cat | grep -c configuration.loaded"
    machine.wait("the medium is known", f"[ $({loaded}) -ge 2 ]")
    machine.run("backupguard", "probe", "offline", check=False, timeout=240)
    (row,) = json.loads(machine.run("backupguard", "media", "--json").stdout)
    asked = machine.shell("journalctl -t backupguard-helper -o cat --no-pager || true")
    assert (row["where"], row["copies"][0]["verdict"]) == ("attached", "passed"), (row, asked)
    restored(machine, "disque")
    assert " /run/backupguard-helper/media" not in machine.shell("cat /proc/mounts")
    assert main_pid(machine) == pid
    nothing_left(machine)
    machine.run("rm", DISK)
    machine.run("systemctl", "stop", "backupguard-helper.socket")
    machine.run("systemctl", "restart", UNIT, timeout=120)
    ready(machine)
    assert disk
