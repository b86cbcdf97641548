"""First part of the service's life: installed, explained, configured, and its first restore tests."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.system.machine import Machine
from tests.system.site import (
    BACKUPS,
    CONFIGURATION,
    EVERY_DROP_IN,
    RIGHTS,
    RUNNERS,
    UNIT,
    installed,
    main_pid,
    ready,
    restored,
    site,
)

PACKAGE = Path(os.environ.get("SYSTEM_PACKAGE", ""))
PREVIOUS = Path(os.environ.get("SYSTEM_PREVIOUS", ""))
PEERS = Path(os.environ.get("SYSTEM_PEERS", ""))
MEGABYTE = 10**6
RUNNER_1 = RUNNERS.replace("@", "@1")
EXPOSED = re.compile(r"exposure level for .*: ([\d.]+)")

Figure = Callable[[str, object], None]


def test_the_package_is_small(figure: Figure) -> None:
    size = PACKAGE.stat().st_size / MEGABYTE
    figure(".deb, MB", f"{size:.1f}")
    assert size <= 120


def test_install_explains_itself(machine: Machine, before: set[str], figure: Figure) -> None:
    assert before
    began = time.monotonic()
    said = installed(machine, PREVIOUS)
    figure("installed, s", f"{time.monotonic() - began:.1f}")
    assert "backupguard setup" in said
    assert machine.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert machine.show(UNIT, "ActiveState") == "inactive"
    assert machine.show("backupguard-helper.socket", "ActiveState") == "inactive"
    assert machine.run("backupguard", "--version").stdout.startswith("backupguard ")


def test_what_was_installed_is_as_the_package_says(machine: Machine) -> None:
    assert machine.run("dpkg", "--verify", "backupguard").stdout == ""
    python = "/usr/lib/backupguard/bin/python"
    # The compiled modules are this interpreter's: none is compiled again.
    seen = machine.run(python, "-I", "-v", "-c", "import backupguard.cli.main").stderr
    ours = [line for line in seen.splitlines() if "/usr/lib/backupguard" in line]
    assert any("code object from" in line and "__pycache__" in line for line in ours)
    assert not [line for line in ours if re.match(r"# (code object from .*\.py'?$|wrote)", line)]


def _verified(machine: Machine) -> None:
    sockets = ["backupguard-runner.socket", "backupguard-helper.socket"]
    units = [UNIT, RUNNER_1, "backupguard-helper@1.service", *sockets]
    looked = machine.run("systemd-analyze", "verify", *units)
    assert (looked.stderr, looked.returncode) == ("", 0)


def test_units_are_right(machine: Machine) -> None:
    _verified(machine)


def _exposed(machine: Machine, *arguments: str) -> float:
    told = machine.run("systemd-analyze", "security", "--no-pager", *arguments, check=False)
    score = EXPOSED.search(told.stdout)
    assert score is not None, told.stderr
    return float(score[1])


def test_exposure_beside_others(machine: Machine, figure: Figure) -> None:
    for unit in (UNIT, RUNNER_1):
        figure(f"systemd-analyze security, {unit}", _exposed(machine, unit))
    for peer in sorted(PEERS.glob("*.service")):
        place = f"/run/peers/{peer.name}"
        machine.write(place, peer.read_text(encoding="utf-8"))
        figure(f"systemd-analyze security, {peer.name}", _exposed(machine, "--offline=true", place))


def test_start_without_configuration_is_78_and_words(machine: Machine) -> None:
    started = machine.run("systemctl", "start", UNIT, check=False)
    assert started.returncode != 0
    assert machine.show(UNIT, "ExecMainStatus") == "78"
    assert machine.show(UNIT, "NRestarts") == "0"
    assert "backupguard setup" in machine.journal()
    machine.run("systemctl", "reset-failed", UNIT)


def test_setup_without_questions(machine: Machine) -> None:
    machine.shell(BACKUPS)
    machine.shell(f"cp -a {CONFIGURATION} /root/conffile")
    said = machine.run("backupguard", "setup", "--non-interactive", "--name", "CH d'essai")
    written = machine.shell(f"cat {CONFIGURATION}")
    assert "CH d'essai" in written, said.stdout
    machine.run("backupguard", "config", "check")
    again = machine.run("backupguard", "setup", "--non-interactive", check=False)
    assert again.returncode == 64
    assert machine.shell(f"cat {CONFIGURATION}") == written


def test_exposure_with_every_drop_in(machine: Machine, figure: Figure) -> None:
    machine.shell(RIGHTS)
    machine.shell(EVERY_DROP_IN)
    _verified(machine)
    for unit in (UNIT, RUNNER_1):
        figure(f"with every drop-in, {unit}", _exposed(machine, unit))
    assert _exposed(machine, UNIT) <= 2.0


def test_first_restore_tests_inside_the_hardened_unit(machine: Machine, figure: Figure) -> None:
    machine.write(CONFIGURATION, site(by_hand=True))
    began = time.monotonic()
    machine.run("backupguard", "config", "check")
    machine.run("systemctl", "start", UNIT, timeout=120)
    ready(machine)
    figure("first start, s", f"{time.monotonic() - began:.1f}")
    for application in ("labo", "dpi"):
        restored(machine, application)
    status = machine.run("backupguard", "status", "--json", check=False).stdout
    found = {
        one["subject"]: one["status"]
        for one in json.loads(status)["findings"]
        if one["control"] == "RST-01"
    }
    assert found == {"application/labo": "compliant", "application/dpi": "compliant"}
    told = machine.shell(f"cat /proc/{main_pid(machine)}/status /proc/{main_pid(machine)}/cgroup")
    assert "/system.slice/backupguard.service" in told
    assert "NoNewPrivs:\t1" in told
    assert "CapEff:\t0000000000000000" in told
