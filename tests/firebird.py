"""Makes Firebird databases for the tests: the engine runs inside its own programs, without a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

_CONF = "Providers = Engine12,Engine13\nServerMode = Super\nExternalFileAccess = Full\n"


class Firebird:
    """Firebird's programs, with a place of their own to keep locks and rules in."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "lock").mkdir(parents=True)
        installed = next(Path("/usr/lib").glob("*/firebird/*/firebird.msg")).parent
        for name in ("plugins", "firebird.msg"):
            (place / name).symlink_to(installed / name)
        shutil.copytree(installed / "intl", place / "intl", ignore=shutil.ignore_patterns("*.conf"))
        (place / "firebird.conf").write_text(_CONF)

    def run(self, name: str, *arguments: str | Path, stdin: str = "") -> str:
        """Run one of the programs; raise CalledProcessError when it fails."""
        environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",  # isql-fb leaves letters out that its locale does not know
            "FIREBIRD": str(self.place),
            "FIREBIRD_LOCK": str(self.place / "lock"),
            "FIREBIRD_TMP": str(self.place),
            "ISC_USER": "SYSDBA",
        }
        done = subprocess.run(
            [name, *map(str, arguments)],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return done.stdout

    def sql(self, database: Path, *statements: str) -> None:
        """Run statements on a database."""
        text = "set term ^;\n" + "".join(f"{one}^\ncommit^\n" for one in statements)
        self.run("isql-fb", "-q", "-b", "-nodbtriggers", "-ch", "utf8", database, stdin=text)

    def create(self, database: Path, *statements: str, charset: str = "utf8") -> Path:
        """Make a database, and run statements on it."""
        text = f"create database '{database}' page_size 8192 default character set {charset};\n"
        self.run("isql-fb", "-q", "-b", "-ch", charset, stdin=text)
        self.sql(database, *statements)
        return database

    def variant(self, database: Path, copy: Path, *statements: str) -> Path:
        """Copy a database that nobody uses, and run statements on the copy."""
        shutil.copy(database, copy)
        if statements:
            self.sql(copy, *statements)
        return copy

    def backup(self, database: Path, to: Path) -> Path:
        """Back a database up with gbak."""
        self.run("gbak", "-backup_database", "-nodbtriggers", database, to)
        return to


#: A blood bank: donors, the bags they gave, a procedure, a trigger, a view and keys; then their rows.
SCHEMA = """
create table donors (id integer primary key, name varchar(60), born date)
create table bags (id integer primary key, donor integer not null references donors,
  taken_at timestamp, note varchar(100), letter blob sub_type text)
create table settings (k varchar(20), v varchar(20))
create index bags_by_time on bags (taken_at)
create generator numbers
create view recent as select * from bags
create trigger numbered for bags before insert as begin
  new.note = coalesce(new.note, 'sans'); end
create procedure nothing returns (n integer) as begin n = 1; suspend; end
execute block as declare i integer = 0; begin while (i < 600) do begin
  insert into donors values (:i, 'Lefèvre-' || :i, dateadd(:i day to date '1950-01-01'));
  i = i + 1; end end
execute block as declare i integer = 0; begin while (i < 1500) do begin
  insert into bags values (:i, mod(:i, 600), dateadd(-:i minute to timestamp 'NEWEST'),
  'Prélèvement sans incident numéro ' || :i, 'ZZSECRETZZ lettre ' || :i); i = i + 1; end end
execute block as declare i integer = 0; begin while (i < 20) do begin
  insert into settings values ('k' || :i, 'v'); i = i + 1; end end
"""


def blood_bank(newest: str) -> list[str]:
    """Return the statements that make the blood bank; `newest` is local, without a zone."""
    return re.split(r"\n(?! )", SCHEMA.replace("NEWEST", newest).strip())
