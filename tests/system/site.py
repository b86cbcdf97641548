"""What the service of the cases watches, and what is asked of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.system.machine import Machine

UNIT = "backupguard.service"
CONFIGURATION = "/etc/backupguard/backupguard.toml"
UNITS = "/etc/systemd/system"
RUNNERS = "backupguard-runner@.service"
#: Where the package has its drop-ins, a directory for each unit.
DROP_INS = "/usr/share/doc/backupguard/examples/drop-ins"
#: One that is for a host without databases: with it discovery sees none that runs here.
NOT_HERE = "backupguard-runner@.service.d/processes-unseen.conf"
STORE = "/var/lib/backupguard/store.sqlite3"
RUNNER = "backupguard.daemon.runner"
#: A server process of a restored PostgreSQL that answers a question: nothing else runs one here.
ANSWERING = "pgrep -f '^postgres: .*SELECT'"

_HEAD = """\
[site]
name = "CH d'essai"
timezone = "Europe/Paris"
language = "en"

[scratch]
reserve-percent = 1
reserve = "64MB"
clear-text-accepted-by = "a test machine, no patient in it"

[repositories.nas]
type = "restic"
url = "/srv/restic"
credentials.reader.credential = "restic-nas"
failure-domain = "salle-1"

[repositories.exports]
type = "directory"
path = "/srv/exports"
failure-domain = "salle-2"

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
"""
_POSTGRESQL = """
[applications.{name}]
name = "{name}"
criticality = "C2"
rpo = "26h"
rto = "8h"

[applications.{name}.backups.nightly]
repository = "nas"
select.paths = ["/srv/dumps/dpi.dump"]
every = "24h"

[applications.{name}.restore-test]
engine = "postgresql"

[[applications.{name}.restore-test.checks]]
name = "stays"
sql = "{sql}"
at-least = 1000
"""
#: Makes the two backups: what nightly jobs leave.
BACKUPS = """\
mkdir -p /srv/exports /srv/dumps
python3 - <<'PYTHON'
import sqlite3
database = sqlite3.connect("/srv/exports/labo.sqlite3")
database.execute("create table results (id integer primary key, value real)")
database.executemany("insert into results (value) values (?)", [(n / 7,) for n in range(500)])
database.commit()
PYTHON
touch -d '1 hour ago' /srv/exports/labo.sqlite3
systemctl start postgresql
until su postgres -c 'psql -qc "select 1"' >/dev/null 2>&1; do sleep 0.3; done
su postgres -c 'createdb dpi'
su postgres -c 'psql -qd dpi -c "create table stays as select generate_series(1, 2000) as id"'
su postgres -c 'pg_dump -Fc dpi' >/srv/dumps/dpi.dump
systemctl stop postgresql
(umask 077; echo a-password-of-this-machine >/root/restic-password)
export RESTIC_PASSWORD_FILE=/root/restic-password
restic -q -r /srv/restic init
restic -q -r /srv/restic backup /srv/dumps/dpi.dump
"""
#: What the service's account needs: to read the files, and the password by its unit, sealed.
RIGHTS = """\
chgrp -R backupguard /srv/restic
chmod -R g+rX /srv/restic
place=/etc/backupguard/credentials
systemd-creds --quiet encrypt --name=restic-nas /root/restic-password $place/restic-nas.cred
"""
#: All that the package has for its units, one excepted; credentials are among them.
EVERY_DROP_IN = f"""\
cp -r {DROP_INS}/. {UNITS}/
rm -f {UNITS}/{NOT_HERE}
systemctl daemon-reload
"""
#: Everything on the disk but what any package leaves in logs and lists.
FILES = r"""find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
  -o -path /var/tmp -o -path /root -o -path /srv -o -path /var/log/journal -o -path /var/lib/dpkg \
  -o -path /var/lib/systemd -o -path /var/cache/ldconfig -o -path /var/lib/postgresql \
  -o -path /var/log/postgresql \) -prune -o -print \
  | grep -Ev '^/(etc/(passwd|shadow|group|gshadow)-|etc/.pwd.lock|var/cache/apt)' \
  | grep -Ev '^/var/log/(apt|dpkg|btmp|wtmp|lastlog)' | sort"""
#: What systemd keeps of units and timers: only what names us counts.
KEPT_BY_SYSTEMD = (
    "find /etc/systemd /var/lib/systemd /run/systemd /run/backupguard* -name '*backupguard*'"
)


def postgresql(name: str, sql: str = "select count(*) from stays") -> str:
    """Return the tables of an application that is restored from the dump in the restic repository."""
    return _POSTGRESQL.format(name=name, sql=sql)


def site(*, by_hand: bool) -> str:
    """Return a configuration: a dump in restic and a SQLite file.

    `by_hand`: nothing is tested but what a case asks for, since the only window was two days ago.
    """
    text = _HEAD + postgresql("dpi")
    if by_hand:
        day = (datetime.now(UTC) - timedelta(days=2)).strftime("%a")
        text += f'\n[daemon]\nwindows = ["{day} 01:00-03:00"]\n'
    return text


def installed(machine: Machine, package: Path) -> str:
    """Install or upgrade a package and return what was said."""
    place = machine.bring(package)
    return machine.run("dpkg", "-i", "--force-confold", place, timeout=300).stdout


def ready(machine: Machine, seconds: float = 90) -> None:
    """Wait until the service is up."""
    machine.wait("the service is up", f"systemctl -q is-active {UNIT}", seconds)


def main_pid(machine: Machine) -> int:
    """Return the daemon's main process."""
    return int(machine.show(UNIT, "MainPID"))


def recorded(machine: Machine) -> int:
    """Return how many records the store's chain has."""
    return int(stored(machine, "select seq from chain_head"))


def stored(machine: Machine, query: str) -> str:
    """Return the first value that the store answers; the query has no double quotes."""
    script = f'import sqlite3; print(sqlite3.connect("{STORE}").execute("{query}").fetchone()[0])'
    return machine.run("python3", "-c", script).stdout.strip()


def restored(machine: Machine, application: str, codes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Have an application restored now; without `codes`, it must pass, else end with one of them."""
    done = machine.run(
        "backupguard", "restore-test", application, "--json", check=False, timeout=240
    )
    assert done.stdout, done.stderr
    (run,) = json.loads(done.stdout)
    found: dict[str, Any] = run
    verdict = "could_not_verify" if codes else "passed"
    assert found["verdict"] == verdict, (found, machine.journal()[-4000:])
    assert found["code"] in (codes or (None,)), found
    return found


class Asked:
    """A restore test that was asked for and goes on while the case does something else."""

    def __init__(self, machine: Machine, application: str) -> None:
        self.machine = machine
        self.name = f"asked-{application}"
        machine.shell(f"rm -f /root/{self.name}.*")
        place = f"/root/{self.name}"
        asks = f"backupguard restore-test {application} --json >{place}.json 2>{place}.err"
        machine.shell(f"setsid sh -c '{asks}; echo $? >{place}.status' >/dev/null 2>&1 &")
        machine.wait("a restored server answers", ANSWERING, 90)

    def end(self, seconds: float = 120) -> dict[str, Any]:
        """Wait for it and return the run; empty when the daemon that performed it was gone."""
        self.machine.wait("the run ends", f"[ -s /root/{self.name}.status ]", seconds)
        told = self.machine.shell(f"cat /root/{self.name}.json")
        if not told.strip():
            return {}
        (run,) = json.loads(told)
        found: dict[str, Any] = run
        return found


def nothing_left(machine: Machine) -> None:
    """Assert that no sandbox, no restored server and no restored data is there."""
    machine.wait("no process is left", "! pgrep -x 'bwrap|postgres'", 30)
    left = "find /var/lib/backupguard/runs -mindepth 1 -maxdepth 1 2>/dev/null | grep -q ."
    machine.wait("no restored data is left", f"! {left}", 60)
