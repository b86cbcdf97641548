"""The life of the service, from its package to its purge, in the order of a server's life.

Each test carries on where the last one ended; `script/test-system` says which machine and packages:
SYSTEM_BASE (a root file system), SYSTEM_PACKAGE (the .deb), SYSTEM_PREVIOUS (an older .deb).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine

UNIT = "backupguard.service"
PACKAGE = Path(os.environ.get("SYSTEM_PACKAGE", ""))
PREVIOUS = Path(os.environ.get("SYSTEM_PREVIOUS", ""))
CONFIGURATION = "/etc/backupguard/backupguard.toml"
STORE = "/var/lib/backupguard/store.sqlite3"
HEAD = "select seq from chain_head"
SITE = """\
[site]
name = "CH d'essai"
timezone = "Europe/Paris"
language = "en"

[repositories.exports]
type = "directory"
path = "/srv/exports"
failure-domain = "salle-1"

[applications.labo]
name = "Laboratoire"
criticality = "C2"
rpo = "26h"
rto = "8h"

[applications.labo.backups.nightly]
repository = "exports"
select.pattern = "labo.sqlite3"
every = "24h"

[applications.labo.restore-test]
engine = "sqlite"

[[applications.labo.restore-test.checks]]
name = "results"
sql = "select count(*) from results"
at-least = 100

[applications.dpi]
name = "Dossier patient"
criticality = "C2"
rpo = "26h"
rto = "8h"

[applications.dpi.backups.nightly]
repository = "exports"
select.pattern = "dpi.dump"
every = "24h"

[applications.dpi.restore-test]
engine = "postgresql"

[[applications.dpi.restore-test.checks]]
name = "stays"
sql = "select count(*) from stays"
at-least = 1000

[scratch]
reserve-percent = 1
reserve = "64MB"
clear-text-accepted-by = "a test machine, no patient in it"
"""
#: Makes the two backups: what a nightly job leaves, an hour ago.
BACKUPS = """\
mkdir -p /srv/exports
python3 - <<'PYTHON'
import sqlite3
database = sqlite3.connect("/srv/exports/labo.sqlite3")
database.execute("create table results (id integer primary key, value real)")
database.executemany("insert into results (value) values (?)", [(n / 7,) for n in range(500)])
database.commit()
PYTHON
systemctl start postgresql
until su postgres -c 'psql -qc "select 1"' >/dev/null 2>&1; do sleep 0.3; done
su postgres -c 'createdb dpi'
su postgres -c 'psql -qd dpi -c "create table stays as select generate_series(1, 2000) as id"'
su postgres -c 'pg_dump -Fc dpi' >/srv/exports/dpi.dump
systemctl stop postgresql
touch -d '1 hour ago' /srv/exports/*
"""
#: Everything on the disk but what any package leaves in logs and lists.
FILES = r"""find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
  -o -path /var/tmp -o -path /root -o -path /srv -o -path /var/log/journal -o -path /var/lib/dpkg \
  -o -path /var/lib/systemd -o -path /var/cache/ldconfig -o -path /var/lib/postgresql \
  -o -path /var/log/postgresql \) -prune -o -print \
  | grep -Ev '^/(etc/(passwd|shadow|group|gshadow)-|etc/.pwd.lock|var/cache/apt)' \
  | grep -Ev '^/var/log/(apt|dpkg|btmp|wtmp|lastlog)' | sort"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    found = Machine(Path(os.environ["SYSTEM_BASE"]))
    try:
        print(f"\nbooted in {found.boot():.1f} s")
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    return set(machine.shell(FILES).splitlines())


def installed(machine: Machine, package: Path) -> str:
    place = machine.bring(package)
    return machine.run("dpkg", "-i", "--force-confold", place, timeout=300).stdout


def ready(machine: Machine, seconds: float = 90) -> None:
    machine.wait("the service is up", f"systemctl -q is-active {UNIT}", seconds)


def main_pid(machine: Machine) -> int:
    return int(machine.show(UNIT, "MainPID"))


def recorded(machine: Machine) -> int:
    """Return how many records the store's chain has."""
    query = f"import sqlite3; print(sqlite3.connect('{STORE}').execute('{HEAD}').fetchone()[0])"
    return int(machine.run("python3", "-c", query).stdout)


def test_install_explains_itself(machine: Machine, before: set[str]) -> None:
    assert before
    began = time.monotonic()
    said = installed(machine, PREVIOUS)
    print(f"installed in {time.monotonic() - began:.1f} s")
    assert "backupguard setup" in said
    assert machine.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert machine.show(UNIT, "ActiveState") == "inactive"
    assert machine.show("backupguard-helper.socket", "ActiveState") == "inactive"
    assert machine.run("backupguard", "--version").stdout.startswith("backupguard ")


def test_units_are_right(machine: Machine) -> None:
    units = [UNIT, "backupguard-helper.socket", "backupguard-helper@1.service"]
    looked = machine.run("systemd-analyze", "verify", *units)
    assert looked.stderr == ""
    told = machine.run("systemd-analyze", "security", "--no-pager", UNIT).stdout
    score = re.search(r"exposure level for .*: ([\d.]+)", told)
    assert score is not None
    print(f"systemd-analyze security: {score[1]}")


def test_start_without_configuration_is_78_and_words(machine: Machine) -> None:
    started = machine.run("systemctl", "start", UNIT, check=False)
    assert started.returncode != 0
    assert machine.show(UNIT, "ExecMainStatus") == "78"
    assert machine.show(UNIT, "NRestarts") == "0"
    assert "backupguard setup" in machine.journal()
    machine.run("systemctl", "reset-failed", UNIT)


def test_first_restore_tests_inside_the_hardened_unit(machine: Machine) -> None:
    machine.shell(BACKUPS)
    machine.write(CONFIGURATION, SITE)
    began = time.monotonic()
    machine.run("backupguard", "config", "check")
    machine.run("systemctl", "start", UNIT, timeout=120)
    ready(machine)
    print(f"started in {time.monotonic() - began:.1f} s")
    for application in ("labo", "dpi"):
        machine.run("backupguard", "restore-test", application, timeout=240)
    print(f"two restore tests after {time.monotonic() - began:.1f} s")
    status = machine.run("backupguard", "status", "--json", check=False).stdout
    tested = {
        found["subject"]: found["status"]
        for found in json.loads(status)["findings"]
        if found["control"] == "RST-01"
    }
    assert tested == {"application/labo": "compliant", "application/dpi": "compliant"}
    assert "/system.slice/backupguard.service" in machine.shell(
        f"cat /proc/{main_pid(machine)}/cgroup"
    )
    assert "NoNewPrivs:\t1" in machine.shell(f"cat /proc/{main_pid(machine)}/status")


def test_the_idle_daemon_is_small(machine: Machine) -> None:
    pid = main_pid(machine)
    size = int(machine.shell(f"awk '/^Pss:/ {{print $2}}' /proc/{pid}/smaps_rollup"))
    print(f"idle: {size / 1024:.0f} MiB (PSS)")
    assert size < 90 * 1024


def test_reload(machine: Machine) -> None:
    pid = main_pid(machine)
    machine.write("/etc/backupguard/conf.d/more.toml", '[applications.labo]\nrpo = "1h"\n')
    machine.run("systemctl", "reload", UNIT)
    machine.wait("it was refused", f"journalctl -u {UNIT} | grep -q configuration.rejected")
    machine.write("/etc/backupguard/conf.d/more.toml", "[daemon]\nparallel-probes = 2\n")
    machine.run("systemctl", "reload", UNIT)
    time.sleep(3)
    assert main_pid(machine) == pid
    assert machine.show(UNIT, "ActiveState") == "active"


def test_killed_it_comes_back_alone(machine: Machine) -> None:
    pid = main_pid(machine)
    machine.run("kill", "-9", str(pid))
    machine.wait("it was started again", f"[ $(systemctl show -P NRestarts {UNIT}) = 1 ]", 90)
    ready(machine)
    assert main_pid(machine) not in {0, pid}
    assert machine.run("pgrep", "-c", "bwrap", check=False).stdout.strip() == "0"
    assert "oom" not in machine.show(UNIT, "Result")


def test_a_stuck_daemon_is_ended_by_the_watchdog(machine: Machine) -> None:
    # The unit's own two minutes are long for a test: the drop-in changes nothing else.
    place = "/run/systemd/system/backupguard.service.d/watchdog.conf"
    machine.write(place, "[Service]\nWatchdogSec=20\nRestartSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    ready(machine)
    pid = main_pid(machine)
    machine.run("kill", "-STOP", str(pid))
    machine.wait("it was replaced", f"[ $(systemctl show -P MainPID {UNIT}) != {pid} ]", 90)
    ready(machine)
    assert "watchdog" in machine.journal().lower()
    machine.run("rm", "-r", str(Path(place).parent))
    machine.run("systemctl", "daemon-reload")


def test_upgrade_keeps_everything(machine: Machine) -> None:
    before = recorded(machine)
    machine.shell(f"echo '# of the site' >>{CONFIGURATION}")
    began = time.monotonic()
    installed(machine, PACKAGE)
    print(f"upgraded in {time.monotonic() - began:.1f} s")
    ready(machine)
    assert "# of the site" in machine.shell(f"cat {CONFIGURATION}")
    assert not machine.shell("find /etc/backupguard -name '*.dpkg-*'")
    assert recorded(machine) > before
    assert machine.run("backupguard", "evidence", "verify", check=False).returncode == 2
    machine.run("backupguard", "restore-test", "labo", timeout=240)


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
    assert machine.shell("ls /var/lib/backupguard/store.sqlite3"), "and the evidence"
    machine.run("dpkg", "--purge", "backupguard")
    assert set(machine.shell(FILES).splitlines()) - before == set()
    assert not machine.shell("grep -l backupguard /etc/passwd /etc/group || true")
    assert not machine.shell("ls -d /run/backupguard* 2>/dev/null || true")
    assert machine.show(UNIT, "LoadState") == "not-found"
