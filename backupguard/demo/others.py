"""What of the hospital lives in no PostgreSQL: its directory, its invoices, its sterile goods."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupguard.demo import programs
from backupguard.demo.layout import Layout

SUFFIX = "dc=belle-rive,dc=example"
_PEOPLE = 300
_INVOICES = 20_000
_SETS = 4_000
_SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "{suffix}"
rootdn "cn=admin,{suffix}"
directory {directory}
"""
_PERSON = """\
dn: uid=agent{number},ou=agents,{suffix}
objectClass: inetOrgPerson
uid: agent{number}
cn: Agent {number}
sn: Inventé
userPassword: {{SSHA}}{password}
"""
_BILLING = """\
set names utf8mb4;
create database facturation character set utf8mb4;
use facturation;
create table debtors (id int primary key auto_increment, name varchar(120) not null) engine=innodb;
create table invoices (id int primary key auto_increment, debtor int not null,
  issued_at datetime not null, amount decimal(10, 2) not null, key (issued_at),
  constraint of_debtor foreign key (debtor) references debtors (id)) engine=innodb;
insert into debtors (name) select concat('Débiteur inventé ', seq) from seq_1_to_500;
insert into invoices (debtor, issued_at, amount)
  select 1 + seq mod 500, '{now}' - interval seq minute, seq mod 900 + 0.5 from seq_1_to_{invoices};
create view unpaid as select * from invoices where amount > 100;
"""


def directory(layout: Layout) -> Path:
    """Make the directory of the staff and dump it as `slapcat` does; return the LDIF."""
    place = layout.source / "ldap"
    (place / "db").mkdir(parents=True)
    configuration = place / "slapd.conf"
    text = _SLAPD.format(suffix=SUFFIX, directory=place / "db")
    configuration.write_text(text, encoding="utf-8")
    entries = [
        f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: CHB\ndc: belle-rive\n",
        f"dn: ou=agents,{SUFFIX}\nobjectClass: organizationalUnit\nou: agents\n",
        *(
            _PERSON.format(number=number, suffix=SUFFIX, password=f"{number:032x}")
            for number in range(1, _PEOPLE + 1)
        ),
    ]
    source = place / "in.ldif"
    source.write_text("\n".join(entries), encoding="utf-8")
    programs.call(["/usr/sbin/slapadd", "-q", "-f", configuration, "-l", source])
    dump = layout.dumps / "annuaire.ldif"
    programs.call(["/usr/sbin/slapcat", "-f", configuration, "-l", dump])
    return dump


def sterile_goods(layout: Layout) -> Path:
    """Make the database of sterilised sets, one SQLite file; return it."""
    path = layout.dumps / "sterilisation.db"
    now = datetime.now(UTC)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table cycles (id integer primary key, ended_at datetime)")
        connection.execute(
            "create table sets (id integer primary key, cycle integer, name text, used_at datetime)"
        )
        connection.executemany(
            "insert into cycles (ended_at) values (?)",
            (((now - timedelta(hours=n)).isoformat(),) for n in range(400)),
        )
        connection.executemany(
            "insert into sets (cycle, name, used_at) values (?, ?, ?)",
            (
                (1 + n % 400, f"Boîte {n}", (now - timedelta(minutes=5 * n)).isoformat())
                for n in range(_SETS)
            ),
        )
        connection.commit()
    return path


def invoices(layout: Layout, timezone_now: datetime) -> Path:
    """Make the invoices in a MariaDB server of their own, and dump them; return the dump."""
    place = layout.source / "mariadb"
    meeting = Path(tempfile.mkdtemp(prefix="backupguard-demo-"))
    socket = meeting / "socket"
    dump = layout.dumps / "facturation.sql"
    programs.call(
        [
            *("mariadb-install-db", "--no-defaults", "--force", f"--datadir={place}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
        ]
    )
    server = (
        *(programs.required("mariadbd", "mariadb-server"), "--no-defaults", f"--datadir={place}"),
        *(f"--socket={socket}", "--skip-networking", f"--pid-file={place}/pid", "--skip-log-bin"),
        *("--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"),
    )
    client = ["--no-defaults", f"--socket={socket}", "--user=root"]
    ping = ["mariadb-admin", *client, "ping"]

    def answers() -> bool:
        return subprocess.run(ping, capture_output=True, check=False, timeout=10).returncode == 0

    try:
        with programs.running(server, answers, layout.log / "mariadb.log"):
            text = _BILLING.format(now=f"{timezone_now:%Y-%m-%d %H:%M:%S}", invoices=_INVOICES)
            programs.call(["mariadb", *client], stdin=text)
            options = ("--single-transaction", "--routines", "--events", f"--result-file={dump}")
            programs.call(["mariadb-dump", *client, *options, "facturation"])
    finally:
        shutil.rmtree(meeting, ignore_errors=True)
    return dump
