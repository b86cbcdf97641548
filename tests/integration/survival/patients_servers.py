"""Backups full of invented patients of engines whose copies are servers: MariaDB, Firebird, Samba."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests import samba
from tests.firebird import Firebird
from tests.integration.restore_tests.mariabackup import backup
from tests.integration.survival.patients import ASKED, Told, mariadb_source, value
from tests.sabotage.corpus.sources import Sources

# ------------------------------------------------------------------------------------------ MariaDB


def _mariadb_copy(sources: Sources, into: Path) -> Path:
    """A copy of the whole server, with the patients of its own database in every column."""
    mariadb_source(sources, into)
    return backup(sources.mariadb, into / "full")


def _mariadb_copy_wrong(sources: Sources, into: Path) -> Path:
    """The same, with pages of the patients themselves damaged."""
    copy = _mariadb_copy(sources, into)
    for path in copy.glob("p*/patients.ibd"):
        content = bytearray(path.read_bytes())
        content[-16000:-15900] = value().encode() * 7
        path.write_bytes(content)
    return copy


# ----------------------------------------------------------------------------------------- Firebird

_TABLE = (
    "create table patients (id int not null primary key, nom varchar(60) not null,"
    " nir varchar(40) unique, note blob sub_type text, seen timestamp)"
)
_FIREBIRD = (
    _TABLE,
    "create table stays (id int not null primary key, patient int references patients)",
    "create exception refused '{v0}'",
    "create view present as select nom, '{v1}' as v from patients",
    "create procedure told returns (v varchar(60)) as begin v = '{v2}'; suspend; end",
    "comment on table patients is '{v3}'",
    "comment on column patients.nom is '{v4}'",
)


def _firebird_source(sources: Sources, into: Path, numbers: Sequence[str]) -> tuple[Firebird, Path]:
    programs, _ = sources.firebird
    rows = [
        statement
        for n, number in enumerate(numbers)
        for statement in (
            f"insert into patients values ({n}, '{value()}', '{number}', '{value()}', null)",
            f"insert into stays values ({n}, {n})",
        )
    ]
    names = {f"v{n}": value() for n in range(5)}
    made = [statement.format(**names) for statement in _FIREBIRD]
    speaks = (
        f"create trigger speaks before insert on stays as begin exception refused '{value()}'; end"
    )
    return programs, programs.create(into / "patients.fdb", *made, *rows, speaks)


def _gbak(sources: Sources, into: Path) -> Path:
    programs, database = _firebird_source(sources, into, [value() for _ in range(30)])
    return programs.backup(database, into / "patients.fbk")


def _gbak_refused(sources: Sources, into: Path) -> Path:
    """Two patients with one number, as no server would have let them in: the engine quotes it."""
    numbers = [value() for _ in range(30)]
    programs, database = _firebird_source(sources, into, numbers)
    made = programs.backup(database, into / "patients.fbk")
    content, last = made.read_bytes(), numbers[-1].encode()
    assert last in content
    made.write_bytes(content.replace(last, numbers[0].encode()))
    return made


_ASKED_FIREBIRD = ASKED.replace("max(nom) + 0", "cast(max(nom) as integer)")

# --------------------------------------------------------------------------------------------- Samba


def _domain(sources: Sources, into: Path) -> Path:
    """A domain whose people have values in their names and in what is told of them."""
    tree = into / "tree"
    with tarfile.open(sources.samba) as archive:
        archive.extractall(tree)
    names = {f"u{n}": [value() for _ in range(6)] for n in range(12)}
    samba.changed(
        tree / "private",
        f"""
from ldb import FLAG_MOD_REPLACE, Dn, Message, MessageElement
fields = ("description", "displayName", "mail", "telephoneNumber", "title", "department")
for name, values in {names!r}.items():
    found = database.search(expression=f"(sAMAccountName={{name}})", attrs=[])[0]
    change = Message(found.dn)
    for field, one in zip(fields, values):
        change[field] = MessageElement(one, FLAG_MOD_REPLACE, field)
    database.modify(change)
    database.rename(found.dn, Dn(database, f"CN={{values[0]}},{{found.dn.parent()}}"))
""",
    )
    path = into / "samba-backup-x.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(tree, "")
    shutil.rmtree(tree)
    return path


_ASKED_DOMAIN = "".join(
    "[[applications.{application}.restore-test.checks]]\n"
    f'name = "{name}"\nfilter = "{wanted}"\n{answer}\n'
    for name, wanted, answer in (
        ("agents", "(objectClass=user)", "at-least = 1"),
        ("personne", "(displayName=Personne)", "at-least = 1"),
        ("récents", "(sAMAccountName=u7)", 'newer-than = "1h"'),
    )
)

SERVERS = (
    Told(name="firebird-asked", engine="firebird", make=_gbak, checks=_ASKED_FIREBIRD),
    Told(name="firebird-refused", engine="firebird", make=_gbak_refused),
)
#: Tried with BACKUPGUARD_FULL=1: each takes as long as all those of Firebird.
HEAVY = (
    Told(name="mariadb-copy", engine="mariadb-physical", make=_mariadb_copy, passes=True),
    Told(name="mariadb-copy-wrong", engine="mariadb-physical", make=_mariadb_copy_wrong),
    Told(name="samba-asked", engine="samba-ad", make=_domain, checks=_ASKED_DOMAIN),
)
