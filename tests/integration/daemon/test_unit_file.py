"""The unit as systemd reads it: every key known, and hardened as far as the sandbox allows."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "systemd"

#: Exposure as `systemd-analyze security` counts it, in tenths: 3.0 of 10.
THRESHOLD = 30


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a copy whose program exists here."""
    copy = tmp_path / "backupguard.service"
    text = (UNITS / "backupguard.service").read_text(encoding="utf-8")
    copy.write_text(text.replace("/usr/bin/backupguard", "/bin/true"), encoding="utf-8")
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is missing"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def problems(unit: Path) -> str:
    """Return what `verify` says: it ends with 0 on unknown keys and only prints them.

    Whether the manual page is installed says nothing about the unit.
    """
    told = analyze("verify", "--man=no", unit)
    return told.stderr + ("" if told.returncode == 0 else f"exit {told.returncode}")


def test_systemd_knows_every_key(unit: Path) -> None:
    assert problems(unit) == ""


def test_a_misspelt_key_is_seen(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPriviledges="))
    assert "NoNewPriviledges" in problems(unit)


def test_exposure_stays_below_the_threshold(unit: Path) -> None:
    told = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", unit)
    assert told.returncode == 0, told.stdout


def test_a_lost_protection_is_seen(unit: Path) -> None:
    text = unit.read_text()
    for key in ("ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter", "User"):
        text = re.sub(rf"^{key}=.*$", "", text, flags=re.MULTILINE)
    unit.write_text(text)
    told = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", unit)
    assert told.returncode != 0


def test_what_the_sandbox_needs_is_left_to_it() -> None:
    lines = (UNITS / "backupguard.service").read_text(encoding="utf-8").splitlines()
    assert "RestrictNamespaces=user pid net ipc uts cgroup mnt" in lines
    assert "ProcSubset=all" in lines


def test_every_hardening_has_its_reason_above_it() -> None:
    lines = (UNITS / "backupguard.service").read_text(encoding="utf-8").splitlines()
    start = lines.index("[Service]")
    block: list[str] = []
    for line in lines[start + 1 : lines.index("[Install]")]:
        if not line:
            block = []
            continue
        block.append(line)
        if not line.startswith("#"):
            assert any(entry.startswith("# ") for entry in block), line


def test_accounts_are_understood(tmp_path: Path) -> None:
    told = subprocess.run(
        ["systemd-sysusers", "--dry-run", f"--root={tmp_path}", UNITS / "backupguard.sysusers"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    for made in ("user 'backupguard'", "group 'backupguard-operators'"):
        assert made in told.stdout + told.stderr


def test_directories_are_made_as_they_are_meant(tmp_path: Path) -> None:
    # an ordinary user can give files to nobody but itself
    me = pwd.getpwuid(os.getuid()).pw_name
    lines = (UNITS / "backupguard.tmpfiles").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    copy = tmp_path / "backupguard.conf"
    mine = [[kind, path, mode, me, me, age] for kind, path, mode, _, _, age in rules]
    copy.write_text("".join("\t".join(fields) + "\n" for fields in mine), encoding="utf-8")
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        shutil.copy(Path("/etc") / name, tmp_path / "etc" / name)
    told = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", copy],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    for kind, path, mode, *_ in rules:
        if kind == "d":
            assert stat.S_IMODE((tmp_path / path[1:]).stat().st_mode) == int(mode, 8), path


def test_only_a_wrong_configuration_keeps_the_daemon_away() -> None:
    text = (UNITS / "backupguard.service").read_text(encoding="utf-8")
    told = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert told["RestartPreventExitStatus"].split() == ["78"]
    assert told["Restart"] == "on-failure"
    assert (
        told["StartLimitIntervalSec"] == "0"
    )  # a full disk of ten minutes must not end it for good
