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
DAEMON, RUNNER = "backupguard.service", "backupguard-runner@.service"
SOCKET, SLICE = "backupguard-runner.socket", "system-backupguard.slice"
HELPER = ("backupguard-helper@.service", "backupguard-helper.socket")
DROP_INS = sorted(path.relative_to(UNITS / "drop-ins") for path in UNITS.glob("drop-ins/*/*.conf"))

#: Exposure as `systemd-analyze security` counts it, in tenths, with every drop-in that is shipped.
#: The runner has what bubblewrap needs (docs/hardening.md); the helper is root.
THRESHOLDS = {DAEMON: 20, RUNNER: 30, HELPER[0]: 50}


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a copy among all the others, whose programs exist here."""
    for name in (DAEMON, RUNNER, SOCKET, SLICE, *HELPER):
        text = (UNITS / name).read_text(encoding="utf-8")
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / DAEMON


def with_drop_ins(units: Path, *chosen: Path) -> None:
    """Lay drop-ins beside the units, as they lie below /etc/systemd/system."""
    for drop_in in chosen:
        place = units / drop_in
        place.parent.mkdir(exist_ok=True)
        shutil.copy(UNITS / "drop-ins" / drop_in, place)


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


def exposed(unit: Path) -> int:
    """Return the exposure of a unit, in tenths, as it stands and with its drop-ins."""
    told = analyze("security", "--offline=true", "--no-pager", unit)
    found = re.search(r"exposure level for \S+: (\d+)\.(\d)", told.stdout)
    assert found is not None, told.stderr
    return int(found[1] + found[2])


@pytest.mark.parametrize("name", [DAEMON, RUNNER, SOCKET, SLICE])
def test_systemd_knows_every_key(unit: Path, name: str) -> None:
    assert problems(unit.parent / name) == ""


def test_a_misspelt_key_is_seen(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPriviledges="))
    assert "NoNewPriviledges" in problems(unit)


def test_systemd_knows_every_key_of_the_drop_ins(unit: Path) -> None:
    with_drop_ins(unit.parent, *DROP_INS)
    assert {str(path.parent) for path in DROP_INS} == {f"{name}.d" for name in THRESHOLDS}
    for name in THRESHOLDS:
        assert problems(unit.parent / name) == ""
    place = unit.parent / DROP_INS[0]
    place.write_text(place.read_text() + "Loosen=yes\n")
    assert "Loosen" in problems(unit.parent / str(DROP_INS[0].parent).removesuffix(".d"))


@pytest.mark.parametrize("name", THRESHOLDS)
def test_exposure_stays_below_the_threshold_with_every_drop_in(unit: Path, name: str) -> None:
    with_drop_ins(unit.parent, *DROP_INS)
    assert exposed(unit.parent / name) <= THRESHOLDS[name]


@pytest.mark.parametrize("drop_in", DROP_INS, ids=str)
def test_no_drop_in_loosens_more_than_is_documented(unit: Path, drop_in: Path) -> None:
    name = str(drop_in.parent).removesuffix(".d")
    before = exposed(unit.parent / name)
    with_drop_ins(unit.parent, drop_in)
    after = exposed(unit.parent / name)
    page = (UNITS.parent / "docs" / "hardening.md").read_text(encoding="utf-8")
    row = re.search(
        rf"^\| `{re.escape(drop_in.stem)}` \| `{re.escape(name)}` \|.*\| (\d\.\d) → (\d\.\d) \|$",
        page,
        re.MULTILINE,
    )
    assert row is not None, f"no row of {drop_in}"
    told = [int(score.replace(".", "")) for score in row.groups()]
    assert told == [before, after]


def test_a_lost_protection_is_seen(unit: Path) -> None:
    text = unit.read_text()
    for key in ("ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter", "User"):
        text = re.sub(rf"^{key}=.*$", "", text, flags=re.MULTILINE)
    unit.write_text(text)
    assert exposed(unit) > THRESHOLDS[DAEMON]


def lines_of(name: str | Path) -> list[str]:
    return (UNITS / name).read_text(encoding="utf-8").splitlines()


def test_what_the_sandbox_needs_is_left_to_it_and_to_nobody_else() -> None:
    names = "user pid net ipc uts cgroup mnt"
    for line in (f"RestrictNamespaces={names}", "ProcSubset=all", "RestrictSUIDSGID=no"):
        assert line in lines_of(RUNNER)
    assert "RestrictNamespaces=yes" in lines_of(DAEMON)
    granted = [line for line in lines_of(DAEMON) if line.startswith("SystemCallFilter=")]
    assert "@mount" not in " ".join(granted)


def test_the_daemon_asks_where_systemd_listens() -> None:
    from backupguard.daemon import elsewhere

    place = next(line for line in lines_of(SOCKET) if line.startswith("ListenStream="))
    assert f"Environment={elsewhere.VARIABLE}={place.partition('=')[2]}" in lines_of(DAEMON)
    assert "SocketMode=0600" in lines_of(SOCKET)
    assert f"Requires={SOCKET}" in lines_of(DAEMON)


def test_the_group_of_sandboxes_lies_in_the_slice() -> None:
    runner = lines_of(RUNNER)
    assert f"Slice={SLICE}" in runner
    assert f"ReadWritePaths=-/sys/fs/cgroup/system.slice/{SLICE}/%n" in runner
    assert "Delegate=memory pids" in runner


@pytest.mark.parametrize(
    "name", [DAEMON, RUNNER, SOCKET, SLICE, *(Path("drop-ins", path) for path in DROP_INS)], ids=str
)
def test_every_hardening_has_its_reason_above_it(name: str | Path) -> None:
    lines = lines_of(name)
    start = next(
        number for number, line in enumerate(lines) if line in {"[Service]", "[Socket]", "[Slice]"}
    )
    block: list[str] = []
    for line in lines[start + 1 :]:
        if line.startswith("["):
            break
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
