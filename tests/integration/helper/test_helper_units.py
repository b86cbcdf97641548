"""The helper's units as systemd reads them, hardened as far as mounting for the host allows."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupguard.errors import AccessRefused, UsageError
from backupguard.helper.client import Helper

UNITS = Path(__file__).parents[3] / "systemd"
SOCKET, SERVICE = "backupguard-helper.socket", "backupguard-helper@.service"
#: In tenths; what mounts for the host as root cannot come much lower.
THRESHOLD = 50
#: Each of them gives a unit a view of files of its own: what it mounts, nobody else would see.
HIDES_MOUNTS = (
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables",
    "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectHostname",
    "ProtectProc", "ProcSubset", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths",
    "TemporaryFileSystem", "RootDirectory", "PrivateUsers", "PrivateIPC", "MountFlags",
    "RuntimeDirectory", "StateDirectory", "DynamicUser",
)  # fmt: skip


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a directory with copies whose program exists here."""
    for name in (SOCKET, SERVICE):
        text = (UNITS / name).read_text(encoding="utf-8")
        text = text.replace("/usr/bin/backupguard-helper", "/bin/true")
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is missing"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_knows_every_key(units: Path) -> None:
    told = analyze("verify", "--man=no", units / SOCKET, units / SERVICE)
    assert (told.returncode, told.stderr) == (0, "")


def test_exposure_stays_below_the_threshold(units: Path) -> None:
    arguments = ("security", "--offline=true", f"--threshold={THRESHOLD}", units / SERVICE)
    assert analyze(*arguments).returncode == 0
    text = re.sub(
        r"^(CapabilityBoundingSet|SystemCallFilter|DevicePolicy|DeviceAllow)=.*$",
        "", (units / SERVICE).read_text(), flags=re.MULTILINE,
    )  # fmt: skip
    (units / SERVICE).write_text(text)
    assert analyze(*arguments).returncode != 0, "a lost protection is seen"


def test_mounts_are_made_for_the_host() -> None:
    lines = (UNITS / SERVICE).read_text(encoding="utf-8").splitlines()
    assert "PrivateMounts=no" in lines
    assert [line for line in lines if line.startswith(HIDES_MOUNTS)] == []


def test_no_disk_may_be_written() -> None:
    allowed = re.findall(
        r"^DeviceAllow=(\S+) (\w+)$", (UNITS / SERVICE).read_text(encoding="utf-8"), re.MULTILINE
    )
    written = {device for device, rights in allowed if rights != "r"}
    assert written == {"/dev/loop-control", "/dev/mapper/control"}


@pytest.mark.parametrize("name", [SOCKET, SERVICE])
def test_every_hardening_has_its_reason_above_it(name: str) -> None:
    lines = (UNITS / name).read_text(encoding="utf-8").splitlines()
    start = lines.index("[Socket]" if name == SOCKET else "[Service]")
    block: list[str] = []
    for line in lines[start + 1 :]:
        if not line:
            block = []
            continue
        block.append(line)
        if not line.startswith(("#", "[", "WantedBy=", "Type=", "ExecStart=")):
            assert any(entry.startswith("# ") for entry in block), line


def test_the_door_is_where_the_daemon_knocks() -> None:
    from backupguard.helper import protocol

    text = (UNITS / SOCKET).read_text(encoding="utf-8")
    assert f"ListenStream={protocol.SOCKET}" in text.splitlines()
    for line in ("SocketUser=root", "SocketGroup=backupguard", "SocketMode=0660", "Accept=yes"):
        assert line in text.splitlines()


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Path]:
    """Return the socket of a helper that systemd starts per connection, serving this user."""
    program = shutil.which("systemd-socket-activate")
    assert program is not None, "systemd-socket-activate is missing"
    path = tmp_path / "helper.sock"
    start = "import sys; from backupguard.helper import server; server.USER = sys.argv[1]; "
    me = pwd.getpwuid(os.getuid()).pw_name
    process = subprocess.Popen(
        [program, f"--listen={path}", "--accept", "--inetd",
         sys.executable, "-c", start + "sys.exit(server.main([]))", me],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.05)
    yield path
    process.terminate()
    process.wait()


def test_it_serves_what_systemd_accepts(activated: Path) -> None:
    helper = Helper(activated, timeout_s=20)
    assert helper.present()
    with pytest.raises(
        (AccessRefused, UsageError)
    ):  # no configuration of root's here, or no medium
        helper.unmount("no-such-medium")


def test_without_its_account_it_serves_nobody() -> None:
    code = "import sys; from backupguard.helper import server; server.USER = 'no-such-account'; "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit(server.main([]))"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "helper.no-account" in done.stderr
