"""The vantage point's units as systemd reads them: every key known, and closed to all but its task."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "systemd"
NAME = "backupguard-vantage"
#: Exposure as `systemd-analyze security` counts it, in tenths.
THRESHOLD = 20


@pytest.fixture
def units(tmp_path: Path) -> Path:
    for kind in ("service", "timer"):
        shutil.copy(UNITS / f"{NAME}.{kind}", tmp_path)
    return tmp_path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is missing"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", ["service", "timer"])
def test_systemd_knows_every_key(units: Path, kind: str) -> None:
    told = analyze("verify", "--man=no", units / f"{NAME}.{kind}")
    assert told.stderr == ""
    assert told.returncode == 0


def test_it_may_do_little_else_than_look(units: Path) -> None:
    told = analyze(
        "security", "--offline=true", f"--threshold={THRESHOLD}", units / f"{NAME}.service"
    )
    assert told.returncode == 0, told.stdout


def test_the_key_is_handed_over_and_its_own_rules_are_left_alone(units: Path) -> None:
    lines = (units / f"{NAME}.service").read_text(encoding="utf-8").splitlines()
    assert f"LoadCredential=key:/etc/{NAME}/key" in lines
    assert not any(line.startswith("IPAddressDeny") for line in lines)
