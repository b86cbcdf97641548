"""Backups full of invented patients, each value its own, and broken so that errors quote them."""

from __future__ import annotations

import itertools
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.sabotage.corpus.sources import SUFFIX, Sources

#: No two values are the same; any of these parts of one gives it away. A value never stands in the
#: configuration, so that wherever one is found it came out of a backup.
TOKEN = re.compile(rb"Xv\d{5}|\d{5}Jh|90706050\d{3}", re.IGNORECASE)

_serial = itertools.count(10_000)


def value() -> str:
    """Return a value that no other is."""
    return f"Xv{next(_serial):05d}Jh{next(_serial):05d}Jh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One application's backup, its engine, what the site asks of it, how its test must not end."""

    name: str
    engine: str
    make: Callable[[Sources, Path], Path]
    checks: str = ""
    passes: bool = False


def _check(name: str, sql: str, answer: str) -> str:
    table = "[[applications.{application}.restore-test.checks]]"
    return f'{table}\nname = "{name}"\nsql = "{sql}"\n{answer}\n'


# ------------------------------------------------------------------------------------------ MariaDB

_MARIADB = """
create database {name} character set utf8mb4; use {name};
create table patients (id int primary key, nom varchar(60) not null comment '{v0}',
  ne date, nir varchar(40) unique, sexe enum('{v1}', 'f'), note text, photo blob) comment '{v2}';
create table stays (id int primary key, patient int not null, service varchar(40),
  constraint of_patient foreign key (patient) references patients (id));
create view present as select nom, '{v3}' as v from patients;
create function told() returns varchar(60) deterministic return '{v4}';
create event nightly on schedule every 1 day comment '{v5}' do delete from stays where service = '{v6}';
"""


def mariadb_source(sources: Sources, into: Path) -> Path:
    name = f"p{next(_serial)}"
    names = {f"v{n}": value() for n in range(7)}
    rows = [
        f"insert into {name}.patients values ({n}, '{value()}', '1950-01-01', '{value()}', 'f',"
        f" '{value()}', '{value()}'); insert into {name}.stays values ({n}, {n}, '{value()}');"
        for n in range(1, 40)
    ]
    speaks = (  # after the rows, as a dump has it
        f"use {name}; create trigger speaks before insert on stays for each row"
        f" signal sqlstate '45000' set message_text = '{value()}';"
    )
    script = "\n".join((_MARIADB.format(name=name, **names), *rows, speaks))
    sources.mariadb.run(script)
    return sources.mariadb_dump(into, name=name)


def _mariadb_wrong(sources: Sources, into: Path) -> Path:
    path = mariadb_source(sources, into)
    taken = f"(1,'{value()}','1950-01-01','{value()}','f','{value()}','')"
    wrong = [
        "set sql_mode = 'strict_all_tables'",
        f"insert into patients values {taken}",
        f"insert into patients (id, nom, nir) select 801, '{value()}', nir from patients limit 1",
        f"insert into patients (id, nom, ne) values (802, '{value()}', '{value()}')",
        f"insert into patients (id, nom) values (803, '{value() * 4}')",
        f"insert into patients (id, nom, sexe) values (804, '{value()}', '{value()}')",
        f"insert into stays values (805, 90706050, '{value()}')",
        f"insert into stays values (901, 1, '{value()}')",
        f"insert into stays values ('{value()}', 1, 'x')",
        f"insert into {value()} values ('{value()}')",
        f"select {value()} from patients",
        f"{value()} {value()}",
        f"signal sqlstate '45000' set message_text = '{value()}'",
        f"alter table patients add constraint check (nom = '{value()}')",
        f"create unique index one on patients ((left(nom, 1)), '{value()}')",
        f"select cast('{value()}' as int), load_file('{value()}')",
        f"set {value()} = '{value()}'",
        f"use {value()}",
    ]
    text = path.read_text(encoding="utf-8")
    lines = "".join(f"{statement};\n" for statement in wrong)
    path.write_text(text.replace("-- Dump completed", f"{lines}-- Dump completed"), "utf-8")
    return path


ASKED = "".join(
    _check(name, sql, answer)
    for name, sql, answer in (
        ("nombre", "select count(*) from patients", "at-least = 1"),
        ("nom", "select max(nom) from patients", 'equals = "Personne"'),
        ("entier", "select max(nom) + 0 from patients", "at-least = 1"),
        ("date", "select max(nom) from patients", 'newer-than = "1h"'),
        ("plusieurs", "select nom from patients", "at-least = 1"),
    )
)


# ------------------------------------------------------------------------------------------- SQLite


def _sqlite(path: Path, statements: Iterable[str] = ()) -> Path:
    with closing(sqlite3.connect(path)) as one:
        one.executescript(
            "create table patients (id integer primary key, nom text not null, nir text unique,"
            f" note text default '{value()}', check (nom <> '{value()}'));"
            "create table stays (id integer primary key, patient integer references patients,"
            f" at datetime); create view present as select nom, '{value()}' from patients;"
            "create trigger speaks before delete on stays begin"
            f" select raise(abort, '{value()}'); end;"
        )
        for n in range(1, 60):
            row = (n, value(), value(), value())
            one.execute("insert into patients values (?, ?, ?, ?)", row)
            one.execute("insert into stays values (?, ?, ?)", (n, n, value()))
        for statement in statements:
            one.execute(statement)
        one.commit()
    return path


def _sqlite_wrong(_sources: Sources, into: Path) -> Path:
    """A file whose rows break its own rules, so that SQLite's check has something to quote."""
    path = _sqlite(into / "labo.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as one:
        one.execute("pragma ignore_check_constraints = on")
        one.execute("pragma writable_schema = on")
        one.execute(
            "update sqlite_master set sql = replace(sql, 'note text', 'note text not null"
            f" check (length(note) > 99 and note <> ''{value()}'')') where name = 'patients'"
        )
        one.execute("insert into stays values (700, 9999, null)")
    return path


def _sqlite_script(_sources: Sources, into: Path) -> Path:
    with closing(sqlite3.connect(_sqlite(into / "whole.db"))) as one:
        text = "PRAGMA foreign_keys=OFF;\n" + "\n".join(one.iterdump()) + "\n"
    (into / "whole.db").unlink()
    wrong = "\n".join(
        (
            f"INSERT INTO patients VALUES(1,'{value()}','{value()}','{value()}');",
            f"INSERT INTO \"{value()}\" VALUES('{value()}');",
            f"SELECT {value()} FROM patients;",
            f"{value()} {value()};",
            f"INSERT INTO patients(id, nir) VALUES(801,'{value()}');",
            "DELETE FROM stays;",
        )
    )
    path = into / "labo.sql"
    path.write_text(text.replace("COMMIT;", f"{wrong}\nCOMMIT;"), encoding="utf-8")
    return path


# ----------------------------------------------------------------------------------------- OpenLDAP


def _entry(name: str, *more: str) -> str:
    lines = [
        f"dn: uid={name},ou=people,{SUFFIX}",
        "objectClass: inetOrgPerson",
        "structuralObjectClass: inetOrgPerson",
        f"uid: {name}",
        *(f"{attribute}: {value()}" for attribute in ("cn", "sn", "givenName", "description")),
        f"mail: {value()}@{value()}.example",
        f"telephoneNumber: 0{next(_serial)}",
        *more,
    ]
    return "\n".join(lines) + "\n\n"


def _ldif(*entries: str) -> Callable[[Sources, Path], Path]:
    def make(sources: Sources, into: Path) -> Path:
        head = "\n\n".join(sources.ldif.split("\n\n")[:2]) + "\n\n"
        path = into / "annuaire.ldif"
        own = "".join(_entry(value()) for _ in range(30))
        path.write_text(head + own + "".join(entries), encoding="utf-8")
        return path

    return make


def _mdb_wrong(sources: Sources, into: Path) -> Path:
    """A store with entries that break the schema."""
    place = into / "store"
    place.mkdir()
    conf = place / "slapd.conf"
    conf.write_text(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
        "include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\n"
        f'moduleload back_mdb\ndatabase mdb\nmaxsize 10485760\nsuffix "{SUFFIX}"\n'
        f"directory {place}\n"
    )
    ldif = _ldif(_entry(value(), f"employeeNumber: {value()}", f"dc: {value()}"))(sources, place)
    argv = ["/usr/sbin/slapadd", "-q", "-s", "-f", conf, "-l", ldif]
    subprocess.run(argv, check=True, capture_output=True)
    return Path(shutil.copy(place / "data.mdb", into / "data.mdb"))


# -------------------------------------------------------------------------------------------- files


def _tree(_sources: Sources, into: Path) -> Path:
    root = into / "ged"
    for n in range(12):
        place = root / value()
        place.mkdir(parents=True)
        (place / f"{value()}.pdf").write_bytes(value().encode() * 40)
        (place / f"lettre.{value()}").write_text(value())
        (place / f"{value()}.dcm").write_bytes(b"" if n % 2 else value().encode())
        (place / f"HOW_TO_DECRYPT_{value()}.txt").write_text(value())
    (root / f"{value()}.hl7").symlink_to(f"/nowhere/{value()}")
    shut = root / value()
    shut.mkdir()
    (shut / value()).write_text(value())
    return root


_FILES = "".join(
    f'[[applications.{{application}}.restore-test.checks]]\nname = "{name}"\nfiles = "{files}"\n'
    f"{answer}\n"
    for name, files, answer in (
        ("lettres", "*/lettre.*", "at-least = 1"),
        ("canari", "*.dcm", f'sha256 = "{"0" * 64}"'),
        ("messages", "*.pdf", 'newer-than = "1s"'),
    )
)

# ------------------------------------------------------------------------------------------ command


def _program(_sources: Sources, into: Path) -> Path:
    """A program that tells everything it read, in every way it can."""
    place = into / "site"
    place.mkdir()
    program = place / "look"
    program.write_text(
        "#!/bin/sh\ncat /in/*; cat /in/* >&2; cp /in/* /scratch/; cp /in/* /tmp/\n"
        'printf \'{"check": "%s", "verdict": "passed"}\\n\' "$(cat /in/*)"\n'
        'printf \'{"check": "lisible", "verdict": "failed", "numbers": {"%s": 1}}\\n\' "$(cat /in/*)"\n'
        'exec -a "$(head -c 20 /in/*)" sh -c "exit 3"\n'
    )
    program.chmod(stat.S_IRWXU)
    path = into / "export.bin"
    path.write_text(value() + value())
    return path


EVERY = (
    Told(name="mariadb-asked", engine="mariadb", make=mariadb_source, checks=ASKED),
    Told(name="mariadb-wrong", engine="mariadb", make=_mariadb_wrong),
    Told(name="sqlite-sound", engine="sqlite", passes=True,
         make=lambda _sources, into: _sqlite(into / "labo.db"),
         checks=_check("nombre", "select count(*) from patients", "at-least = 1")),
    Told(name="sqlite-wrong", engine="sqlite", make=_sqlite_wrong, checks=ASKED),
    Told(name="sqlite-script", engine="sqlite", make=_sqlite_script, checks=ASKED),
    Told(name="openldap-sound", engine="openldap", make=_ldif(), passes=True),
    *(
        Told(name=f"openldap-{name}", engine="openldap", make=_ldif(*entries))
        for name, entries in {
            "unknown": (_entry("u1", f"{value()}: {value()}"),),
            "twice": (_entry("same"), _entry("same")),
            "syntax": (_entry("u4", f"seeAlso: {value()}"),),
        }.items()
    ),
    Told(name="openldap-store", engine="openldap", make=_mdb_wrong,
         checks=f'suffix = "{SUFFIX}"\n'),
    Told(name="files-asked", engine="files", make=_tree, checks=_FILES),
    Told(name="command-telling", engine="command", make=_program),
)  # fmt: skip
