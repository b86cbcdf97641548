"""Third part: upgraded, carried away, purged, and installed anew until the first green test."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.system.machine import Machine
from tests.system.site import (
    CONFIGURATION,
    DROP_INS,
    FILES,
    KEPT_BY_SYSTEMD,
    RIGHTS,
    STORE,
    UNIT,
    UNITS,
    installed,
    ready,
    recorded,
    restored,
    site,
)

PACKAGE = Path(os.environ.get("SYSTEM_PACKAGE", ""))
Figure = Callable[[str, object], None]
#: From the first byte of the package to a proof, as a person who knows what to write would be.
GREEN_WITHIN_S = 300


def test_upgrade_keeps_everything(machine: Machine, figure: Figure) -> None:
    before = recorded(machine)
    machine.shell(f"echo '# of the site' >>{CONFIGURATION}")
    began = time.monotonic()
    installed(machine, PACKAGE)
    figure("upgraded and ready again, s", f"{time.monotonic() - began:.1f}")
    ready(machine)
    assert "# of the site" in machine.shell(f"cat {CONFIGURATION}")
    assert not machine.shell("find /etc/backupguard -name '*.dpkg-*'")
    assert machine.run("dpkg", "--verify", "backupguard").stdout.split() == [
        "??5??????",
        "c",
        CONFIGURATION,
    ]
    assert recorded(machine) > before
    assert machine.run("backupguard", "evidence", "verify", check=False).returncode == 2
    restored(machine, "dpi")


def test_the_state_goes_out_and_comes_back(machine: Machine) -> None:
    alive = machine.run("backupguard", "state", "export", "/root/state", check=False)
    assert alive.returncode == 2
    assert "systemctl stop backupguard" in alive.stderr
    machine.run("systemctl", "stop", UNIT)
    machine.run("rm", "-f", "/root/state")  # where only root may write, an empty file stays
    machine.run("backupguard", "state", "export", "/root/state")
    machine.run("backupguard", "state", "import", "--replace", "/root/state")
    machine.run("systemctl", "start", UNIT, timeout=120)
    ready(machine)
    assert machine.run("backupguard", "evidence", "verify", check=False).returncode == 2


def test_a_store_of_a_newer_version_is_refused_in_words(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    database = f"import sqlite3; d = sqlite3.connect('{STORE}'); "
    change = database + "d.execute({!r}); d.commit()"
    old = machine.run(
        "python3",
        "-c",
        database + "print(d.execute('select version_num from alembic_version').fetchone()[0])",
    ).stdout.strip()
    machine.run("python3", "-c", change.format("update alembic_version set version_num = '9999'"))
    said = machine.run("backupguard", "evidence", "verify", check=False)
    assert said.returncode == 2
    assert "newer version of BackupGuard" in said.stderr
    machine.run("python3", "-c", change.format(f"update alembic_version set version_num = '{old}'"))
    machine.run("chown", "-R", "backupguard:", "/var/lib/backupguard")
    machine.run("systemctl", "start", UNIT, timeout=120)
    ready(machine)


def test_purge_leaves_nothing(machine: Machine, before: set[str]) -> None:
    machine.run("dpkg", "--remove", "backupguard")
    assert machine.shell(f"cat {CONFIGURATION}"), "a removal keeps the configuration"
    assert machine.shell(f"ls {STORE}"), "and the evidence"
    assert not machine.shell("ls -d /usr/lib/backupguard 2>/dev/null || true")
    # What the administrator wrote for himself is his: the drop-ins of these cases.
    machine.shell(f"rm -rf {UNITS}/backupguard*.d; systemctl daemon-reload")
    machine.run("dpkg", "--purge", "backupguard")
    assert set(machine.shell(FILES).splitlines()) - before == set()
    assert machine.shell(f"{KEPT_BY_SYSTEMD} 2>/dev/null || true") == ""
    # The accounts go too: nothing on the disk is theirs any more (docs/install.md).
    assert not machine.shell("grep -l backupguard /etc/passwd /etc/group || true")
    assert machine.show(UNIT, "LoadState") == "not-found"


def test_five_minutes_from_nothing_to_green(machine: Machine, figure: Figure) -> None:
    """Install, `setup`, one file written, the service started: the daemon tests by itself."""
    began = time.monotonic()
    installed(machine, PACKAGE)
    took = time.monotonic() - began
    machine.run("backupguard", "setup", "--non-interactive", "--name", "CH d'essai")
    machine.shell(RIGHTS)
    machine.shell(f"cp -r {DROP_INS}/{UNIT}.d {UNITS}/; systemctl daemon-reload")
    machine.write(CONFIGURATION, site(by_hand=False))
    machine.run("backupguard", "config", "check")
    machine.run("systemctl", "restart", UNIT, timeout=120)
    while not _green(machine, "application/dpi"):
        assert time.monotonic() - began < GREEN_WITHIN_S, machine.journal()[-4000:]
        time.sleep(2)
    figure("newly installed, s", f"{took:.1f}")
    figure("install to first green restore test, s", f"{time.monotonic() - began:.1f}")


def _green(machine: Machine, subject: str) -> bool:
    told = machine.run("backupguard", "status", "--json", check=False).stdout
    findings = json.loads(told)["findings"] if told else []
    return any(
        (one["control"], one["subject"], one["status"]) == ("RST-01", subject, "compliant")
        for one in findings
    )
