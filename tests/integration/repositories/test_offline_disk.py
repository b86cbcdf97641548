"""A disk with a restic repository: attached, read, taken away; loop devices where root may."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard import runs, settings
from backupguard.contracts import Store
from backupguard.daemon import custody
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.model import SITE, Run, Verdict
from backupguard.processes import Cancellation
from backupguard.store import open_store
from probes.offline_blocks import blocks, recognise
from probes.offline_found import MediumPlan, Roots
from probes.offline_unknown import unknown
from tests.programs import program

TOOLS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}
FS = str(uuid.uuid4())

_CONFIGURATION = """
[site]
name = "CH des essais"
[store]
directory = "{root}/state"
[scratch]
clear-text-accepted-by = "tests: invented data"
reserve = "1MB"
reserve-percent = 0
[probes.offline]
data-percent = 100
[media.usb-a]
kind = "removable"
image = "{root}/attached.img"
filesystem-uuid = "{uuid}"
[repositories.usb]
type = "restic"
medium = "usb-a"
url = "{{medium}}/restic"
program = "{restic}"
data-buckets = 1
credentials.reader.file = "{root}/password"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
[applications.dpi.backups.weekly]
repository = "usb"
select.paths = ["{dumps}"]
every = "7d"
"""


def _restic(root: Path, *arguments: str) -> None:
    command = [program("restic-0.18"), "-r", root / "disk" / "restic", "--no-cache"]
    environment = {**TOOLS, "RESTIC_PASSWORD_FILE": str(root / "password")}
    subprocess.run([*command, *arguments], check=True, env=environment, capture_output=True)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk's content: a restic repository with one snapshot of a dump."""
    made = tmp_path_factory.mktemp("disk")
    (made / "password").write_text("invented")
    (made / "password").chmod(0o600)
    (made / "dumps").mkdir()
    (made / "dumps" / "dpi.dump").write_bytes(os.urandom(300_000))
    (made / "disk").mkdir()
    _restic(made, "init")
    _restic(made, "backup", str(made / "dumps"))
    return made


@pytest.fixture
def root(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(healthy, tmp_path / "copy")
    return tmp_path / "copy"


def _plug_in(root: Path) -> None:
    with (root / "attached.img").open("wb") as file:
        file.truncate(16 << 20)
    made = ["mke2fs", "-q", "-t", "ext4", "-U", FS, "-d", root / "disk", root / "attached.img"]
    subprocess.run(made, check=True, env=TOOLS)


@pytest.fixture
def site(root: Path, healthy: Path) -> Iterator[tuple[Store, settings.Settings]]:
    restic = program("restic-0.18")
    (root / "backupguard.toml").write_text(
        _CONFIGURATION.format(root=root, uuid=FS, restic=restic, dumps=healthy / "dumps")
    )
    store = open_store(root / "state", None, site="CH des essais", timezone="Europe/Paris")
    yield store, settings.load(root / "backupguard.toml")
    store.close()


def _perform(site: tuple[Store, settings.Settings], task: str) -> Run:
    store, effective = site
    asked = request(task, SITE, requested_by="tests", due_at=datetime.now(UTC))
    run = store.enqueue(asked)
    runs.perform(run, effective, store, Cancellation(), TASKS)
    ended = store.run(run.id)
    assert ended is not None
    return ended


def _row(site: tuple[Store, settings.Settings]) -> dict[str, object]:
    return dict(custody.register(*site, datetime.now(UTC))[0])


def test_an_ordinary_user_reads_a_whole_restic_repository_on_a_disk_image(
    root: Path, site: tuple[Store, settings.Settings]
) -> None:
    assert _perform(site, "offline").verdict is Verdict.PASSED
    assert _row(site)["where"] == "undeclared"  # absent, and nothing else is known
    _plug_in(root)
    assert _perform(site, "offline").verdict is Verdict.PASSED
    row = _row(site)
    assert (row["where"], row["may_leave"]) == ("attached", True)
    (copy,) = row["copies"]  # type: ignore[misc]
    assert copy["verdict"] == "passed"
    fact = site[0].latest(["repository/usb"])["repository/usb"]
    assert fact["medium.copy"].observation.data["bytes_read"] > 300_000
    inspected = _inspected(site)
    assert (inspected["reachable"], inspected["device"]) == (True, f"fs:{FS}")
    (root / "attached.img").unlink()
    assert _perform(site, "offline").verdict is Verdict.PASSED
    assert _perform(site, "inventory").code == "medium_away"
    assert _inspected(site)["code"] == "medium_away"
    assert _row(site)["where"] == "undeclared"


def test_a_pack_that_rotted_on_the_disk_is_found_when_it_is_attached(
    root: Path, site: tuple[Store, settings.Settings]
) -> None:
    pack = max((root / "disk/restic/data").rglob("??*"), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    _plug_in(root)
    assert _perform(site, "offline").verdict is Verdict.FAILED
    row = _row(site)
    assert row["may_leave"] is False
    (copy,) = row["copies"]  # type: ignore[misc]
    assert copy["verdict"] == "failed"


def _inspected(site: tuple[Store, settings.Settings]) -> dict[str, object]:
    fact = site[0].latest(["repository/usb"], ["repository.inspected"])["repository/usb"]
    return dict(fact["repository.inspected"].observation.data)


# -------------------------------------------------------------------------------------- loop devices


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk with what looks like a repository of restic's."""
    for name in ("config", "data", "index", "keys", "snapshots"):
        (tmp_path / "disk" / "restic" / name).mkdir(parents=True)
    _plug_in(tmp_path)
    return tmp_path


@pytest.fixture
def loop(disk: Path) -> Iterator[str]:
    """The disk as a loop device of the kernel's; it is gone after the test."""
    made = subprocess.run(
        ["losetup", "-f", "--show", "-r", disk / "attached.img"],
        check=True,
        env=TOOLS,
        capture_output=True,
        text=True,
    )
    device = made.stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True, env=TOOLS)


@pytest.mark.root
def test_a_loop_device_is_seen_attached_mounted_and_detached(disk: Path, loop: str) -> None:
    plan = MediumPlan(id="usb-a", kind="removable", root=Path("/x"), filesystem_uuid=FS)
    name = Path(loop).name
    look = recognise(plan, blocks(Roots()))
    assert (look.attached, look.device, look.mount) == (True, name, None)
    place = disk / "place"
    place.mkdir()
    subprocess.run(["mount", "-o", "ro", loop, place], check=True, env=TOOLS)
    try:
        seen = blocks(Roots())
        assert recognise(plan, seen).mount == place
        # to a register that does not know it, it is somebody's backup
        (found,) = [one for one in unknown(seen, []) if one["device"] == name]
        assert (found["tool"], found["value"]) == ("restic", FS)
        assert not [one for one in unknown(seen, [plan]) if one["device"] == name]
        other = MediumPlan(
            id="usb-b",
            kind="removable",
            root=Path("/x"),
            filesystem_uuid=str(uuid.uuid4()),
            mount=place,
        )
        assert recognise(other, seen).mismatch == "filesystem-uuid"
    finally:
        subprocess.run(["umount", place], check=True, env=TOOLS)
    assert recognise(plan, blocks(Roots())).mount is None


@pytest.mark.root
def test_a_detached_loop_device_is_away(disk: Path) -> None:
    plan = MediumPlan(id="usb-a", kind="removable", root=Path("/x"), filesystem_uuid=FS)
    made = ["losetup", "-f", "--show", "-r", disk / "attached.img"]
    device = subprocess.run(made, check=True, env=TOOLS, capture_output=True, text=True)
    assert recognise(plan, blocks(Roots())).attached
    subprocess.run(["losetup", "-d", device.stdout.strip()], check=True, env=TOOLS)
    deadline = datetime.now(UTC) + timedelta(seconds=10)  # the kernel detaches when all let go
    while recognise(plan, blocks(Roots())).attached:
        assert datetime.now(UTC) < deadline
