"""The healthy sources that the corpus breaks copies of; a server is started when first used."""

from __future__ import annotations

import gzip
import itertools
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.firebird import Firebird, blood_bank
from tests.integration.restore_tests import hospital
from tests.integration.restore_tests.harness import NOW
from tests.integration.restore_tests.physical import Copies
from tests.integration.restore_tests.physical import make as make_copies
from tests.mariadb import MariaDB, start_mariadb
from tests.postgres import Cluster, start_cluster
from tests.samba import backed_up, provisioned

#: When every copy was made, unless a case says otherwise; and the newest moment of its data.
AT = NOW - timedelta(hours=4)
NEWEST = AT - timedelta(minutes=30)
#: The copy that is known was made a day before.
YESTERDAY = timedelta(days=1)

_MARIADB = """
set names utf8mb4;
create database {name} character set utf8mb4;
use {name};
create table drugs (code varchar(20) primary key, label varchar(200)) engine=aria;
create table patients (id int primary key auto_increment, name varchar(200), born date,
  note text, seen_at datetime) engine=innodb;
create table dispensations (id int primary key auto_increment, patient int not null,
  drug varchar(20), dose varchar(100), at timestamp null,
  constraint of_patient foreign key (patient) references patients (id)) engine=innodb;
create table audit (id int primary key auto_increment, what varchar(100)) engine=innodb;
insert into drugs select concat('C', seq), concat('Molécule numéro ', seq) from seq_1_to_150;
insert into patients (name, born, note, seen_at) select concat('Lefèvre ', seq, ' 😀'),
  '1930-01-01' + interval seq day, concat('Allergie à surveiller, dossier suivi numéro ', seq),
  '{newest}' - interval seq minute from seq_1_to_{patients};
insert into dispensations (patient, drug, dose, at) select 1 + seq mod {patients},
  concat('C', seq mod 150), concat('un comprimé matin et soir, ligne ', seq),
  '{newest}' - interval seq minute from seq_1_to_1500;
insert into audit (what) select concat('lecture du dossier ', seq) from seq_1_to_400;
create view current as select * from patients where seen_at > '2000-01-01';
create function doubled(n int) returns int deterministic return 2 * n;
create procedure nothing() select 1;
create trigger stamped before insert on dispensations for each row
  set new.at = coalesce(new.at, now());
create event nightly on schedule every 1 day do delete from audit where id < 0;
create event weekly on schedule every 7 day do delete from audit where id < 0;
"""

_LDAP = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
maxsize 1073741824
suffix "{suffix}"
rootdn "cn=admin,{suffix}"
directory {directory}
"""
SUFFIX = "dc=hopital,dc=example"


class Sources:
    """Servers and makers of healthy copies; everything lies below one directory."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        self._serial = itertools.count()

    def place(self) -> Path:
        """Return a new empty directory."""
        made = self.directory / f"m{next(self._serial)}"
        made.mkdir()
        return made

    def stopped_at_the_end(self, server: Cluster) -> None:
        """Stop one more server when the sources are closed."""
        self._stack.callback(server.stop)

    # -- PostgreSQL

    @cached_property
    def postgresql(self) -> hospital.Hospital:
        """A server with the database `dpi` of yesterday, and `dpi_today`."""
        cluster = start_cluster(self.directory / "postgresql")
        self._stack.callback(cluster.stop)
        made = hospital.Hospital(cluster, self.directory)
        cluster.create("dpi")
        made.sql("dpi", hospital.SCHEMA, hospital.ROWS.format(now=NEWEST.isoformat()))
        made.variant(
            "dpi_today",
            "insert into clinic.observations (stay_id, at, code, value, comment) select 1 + i % 4000,"
            f" timestamptz '{NEWEST.isoformat()}' - i * interval '1 minute', 'C1', 1,"
            " 'Constante du jour ' || i from generate_series(1, 200) i",
        )
        return made

    def pg_dump(
        self, into: Path, *statements: str, form: str = "custom", options: tuple[str, ...] = ()
    ) -> Path:
        """Dump today's database, or a copy of it that statements were run on."""
        source, name = self.postgresql, "dpi_today"
        if statements:
            name = source.variant(f"v{next(self._serial)}", *statements, template="dpi_today")
        path = into / ("dpi.sql" if form == "plain" else "dpi.dump")
        kind = hospital.FORMATS[form]
        source.cluster.run("pg_dump", f"-F{kind}", "-f", str(path), *options, name)
        if statements:
            source.cluster.run("dropdb", name)
        return path

    def pg_dumpall(self, into: Path) -> Path:
        """Dump all databases of the server, yesterday's and today's."""
        path = into / "tout.sql"
        path.write_bytes(self.postgresql.cluster.run("pg_dumpall").stdout)
        return path

    @cached_property
    def physical(self) -> Copies:
        """Physical copies of a server that is gone, and its log."""
        return make_copies(self.directory / "physical")

    # -- MariaDB

    @cached_property
    def mariadb(self) -> MariaDB:
        """A server with the database `pharmacie`."""
        server = start_mariadb(self.directory / "mariadb")
        self._stack.callback(server.stop)
        server.run("set global time_zone = '+01:00'; set global max_allowed_packet = 67108864")
        self.pharmacy(server, "pharmacie")
        return server

    def pharmacy(self, server: MariaDB, name: str, patients: int = 600) -> None:
        """Make the pharmacy's database on a server."""
        local = NEWEST.astimezone(ZoneInfo("Europe/Paris"))
        newest = f"{local:%Y-%m-%d %H:%M:%S}"
        server.run(_MARIADB.format(name=name, newest=newest, patients=patients))

    def mariadb_dump(
        self,
        into: Path,
        *statements: str,
        options: tuple[str, ...] = ("--routines", "--events"),
        name: str | None = None,
        check: bool = True,
    ) -> Path:
        """Dump the pharmacy, or a copy of it that statements were run on, with some options."""
        server = self.mariadb
        if statements:
            name = f"v{next(self._serial)}"
            self.pharmacy(server, name)
            server.run(f"use {name};\n" + ";\n".join(statements))
        path = into / "pharmacie.sql"
        argv = ["mariadb-dump", "--no-defaults", f"--socket={server.socket}", "--user=root"]
        argv += ["--single-transaction", "--max-allowed-packet=64M", *options, name or "pharmacie"]
        with path.open("wb") as file:
            subprocess.run(argv, check=check, stdout=file, stderr=subprocess.PIPE)
        if statements:
            server.run(f"drop database {name}")
        return path

    # -- SQLite

    def sqlite(
        self, path: Path, *statements: str, mode: str = "delete", age: timedelta = AT - NEWEST
    ) -> Path:
        """Make a database file, then run statements on it."""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"pragma journal_mode = {mode}")
            connection.executescript(_SQLITE)
            newest = AT - age
            connection.executemany(
                "insert into samples (tube, taken_at) values (?, ?)",
                (
                    (f"Tube numéro {n} 😀", (newest - timedelta(minutes=n)).isoformat(" "))
                    for n in range(600)
                ),
            )
            connection.executemany(
                "insert into results (sample, comment, at) values (?, ?, ?)",
                (
                    (1 + n % 600, f"Résultat {n} sans particularité", newest.timestamp() - n * 60)
                    for n in range(900)
                ),
            )
            connection.executemany(
                "insert into settings values (?, ?)", ((f"k{n}", "v") for n in range(20))
            )
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return path

    # -- Firebird

    @cached_property
    def firebird(self) -> tuple[Firebird, Path]:
        """Firebird's programs, and the database of a blood bank."""
        programs = Firebird(self.directory / "firebird")
        newest = f"{NEWEST.astimezone(ZoneInfo('Europe/Paris')):%Y-%m-%d %H:%M:%S}"
        return programs, programs.create(self.directory / "sang.fdb", *blood_bank(newest))

    def firebird_file(self, path: Path, *statements: str, locked: bool = False) -> Path:
        """Copy the blood bank's file as it lies, or under the lock of nbackup."""
        programs, database = self.firebird
        programs.variant(database, path, *statements)
        if locked:
            programs.run("nbackup", "-L", path)
            path.with_name(f"{path.name}.delta").unlink(missing_ok=True)
        return path

    def firebird_backup(self, into: Path, *statements: str, options: tuple[str, ...] = ()) -> Path:
        """Have gbak back up the blood bank, or a copy of it that statements were run on."""
        programs, database = self.firebird
        if statements:
            database = self.firebird_file(self.place() / "sang.fdb", *statements)
        made = into / "sang.fbk"
        programs.run("gbak", "-backup_database", "-nodbtriggers", *options, database, made)
        return made

    # -- Samba

    @cached_property
    def samba(self) -> Path:
        """What `samba-tool domain backup offline` makes of a small domain."""
        return backed_up(provisioned(self.directory / "samba"), self.directory)

    # -- OpenLDAP

    @cached_property
    def ldif(self) -> str:
        """What slapcat says of a directory of 150 agents and two groups."""
        return self._slapcat(SUFFIX, self.directory / "ldap")

    @property
    def mdb(self) -> Path:
        """The directory's own store."""
        assert self.ldif
        return self.directory / "ldap" / "data.mdb"

    def other_ldif(self, suffix: str) -> str:
        """What slapcat says of another directory of the same shape."""
        return self._slapcat(suffix, self.place())

    def _slapcat(self, suffix: str, place: Path) -> str:
        place.mkdir(exist_ok=True)
        conf = place / "slapd.conf"
        conf.write_text(_LDAP.format(suffix=suffix, directory=place))
        stamp = NEWEST.strftime("%Y%m%d%H%M%SZ")
        top = suffix.partition(",")[0].partition("=")[2]
        people = [f"uid=u{n},ou=people,{suffix}" for n in range(150)]
        entries = [
            f"dn: {suffix}\nobjectClass: dcObject\nobjectClass: organization\no: CH\ndc: {top}\n",
            f"dn: ou=people,{suffix}\nobjectClass: organizationalUnit\nou: people\n",
            *(
                f"dn: {dn}\nobjectClass: inetOrgPerson\nuid: u{n}\ncn: Agent {n} 😀\nsn: Noël\n"
                f"userPassword: {{SSHA}}x{n}\n"
                for n, dn in enumerate(people)
            ),
            *(
                f"dn: cn=g{n},{suffix}\nobjectClass: groupOfNames\ncn: g{n}\n"
                + "".join(f"member: {dn}\n" for dn in people[n::8])
                for n in range(8)
            ),
        ]
        source = place / "in.ldif"
        source.write_text("\n".join(f"{entry}modifyTimestamp: {stamp}\n" for entry in entries))
        for argv in (
            ["/usr/sbin/slapadd", "-q", "-f", conf, "-l", source],
            ["/usr/sbin/slapcat", "-f", conf, "-l", place / "out.ldif"],
        ):
            subprocess.run(argv, check=True, capture_output=True)
        return (place / "out.ldif").read_text(encoding="utf-8")


_SQLITE = """
create table samples (id integer primary key, tube text, taken_at datetime);
create table results (id integer primary key, sample integer references samples, comment text,
  at timestamp);
create table settings (k text, v text);
create index results_by_sample on results (sample, at);
create index samples_by_tube on samples (tube);
create view recent as select * from results;
create trigger kept before delete on settings begin select raise(abort, 'kept'); end;
"""


def gzipped(path: Path) -> Path:
    """Compress a file in its place, as `gzip` would, and return its new path."""
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 6, mtime=0))
    path.unlink()
    return packed


def noise(size: int, seed: int = 7) -> bytes:
    """Return bytes that look encrypted, the same each time."""
    return random.Random(seed).randbytes(size)


@contextmanager
def opened(directory: Path) -> Iterator[Sources]:
    """Yield sources below a directory, and stop every server they started."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            yield Sources(directory, stack)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
