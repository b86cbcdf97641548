"""`setup` as root where systemd is: a credential sealed to this host, from its prompt to its use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine
from tests.system.site import CONFIGURATION, UNIT, installed, ready

PACKAGE = Path(os.environ.get("SYSTEM_PACKAGE", ""))
SECRET = "canary-of-this-machine"
NAME = "restic-restic"
CREDENTIALS = "/etc/backupguard/credentials"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/credentials.conf"
#: A nightly job of restic's, and what it left.
JOB = f"""\
python3 -c 'import sqlite3
d = sqlite3.connect("/srv/labo.sqlite3")
d.execute("create table results (id integer primary key)")
d.executemany("insert into results values (?)", [(n,) for n in range(100)])
d.commit()'
umask 022
export RESTIC_PASSWORD={SECRET}
restic -q init -r /srv/restic
restic -q backup -r /srv/restic /srv/labo.sqlite3
chown -R backupguard: /srv/restic
mkdir -p /etc/cron.d
echo '0 2 * * * root restic -r /srv/restic backup /srv/labo.sqlite3' >/etc/cron.d/labo
chmod 644 /etc/cron.d/labo
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    found = Machine(Path(os.environ["SYSTEM_BASE"]))
    try:
        found.boot()
        yield found
    finally:
        found.close()


def test_from_nothing_to_a_restore_test_by_setup_alone(machine: Machine) -> None:
    installed(machine, PACKAGE)
    machine.shell(JOB)
    told = machine.run("backupguard", "setup", "--non-interactive", "--dry-run").stdout
    assert f"Credential {NAME} is still lacking" in told, told
    options = ("--non-interactive", "--credential", f"{NAME}=-")
    said = machine.run("backupguard", "setup", *options, text=SECRET).stdout
    assert f"{CREDENTIALS}/{NAME}.cred" in said
    assert "passed" in said
    assert SECRET not in said
    listed = machine.shell(f"find {CREDENTIALS} -printf '%p %m %u\\n' | sort").splitlines()
    assert listed == [f"{CREDENTIALS} 700 root", f"{CREDENTIALS}/{NAME}.cred 600 root"]
    assert not machine.shell(f"grep -rl {SECRET} /etc /var/lib/backupguard /run || true")
    assert not machine.shell("ls -d /run/backupguard-setup-* 2>/dev/null || true")


def test_the_service_is_handed_what_was_sealed(machine: Machine) -> None:
    machine.run("systemctl", "start", UNIT, timeout=120)
    ready(machine)
    assert f"LoadCredentialEncrypted={NAME}:" in machine.run("systemctl", "cat", UNIT).stdout
    done = machine.run("backupguard", "restore-test", timeout=240)
    assert "passed" in done.stdout


def test_a_service_that_is_gone_is_noticed(machine: Machine) -> None:
    assert "No daemon is alive" not in machine.run("backupguard", "status", check=False).stdout
    machine.run("systemctl", "stop", UNIT)
    gone = machine.run("backupguard", "status", "--nagios", check=False)
    assert gone.returncode in {2, 3}
    assert "No daemon is alive" in gone.stdout


def test_a_purge_takes_the_drop_in(machine: Machine) -> None:
    machine.run("dpkg", "--purge", "backupguard")
    assert not machine.shell(f"ls -d {Path(DROP_IN).parent} {CREDENTIALS} 2>/dev/null || true")
    assert machine.shell(f"ls {Path(CONFIGURATION).parent} 2>/dev/null || true") == ""
