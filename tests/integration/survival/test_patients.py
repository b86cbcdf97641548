"""Not one value of a patient outside the sandbox, wherever it stood and whatever went wrong."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from backupguard.daemon import client
from backupguard.model import Verdict, application_subject
from tests.counts import FULL
from tests.integration.survival.engines import Backups, EnginesPlace, instance, strangers
from tests.integration.survival.patients import EVERY, TOKEN, value
from tests.integration.survival.patients_servers import HEAVY, SERVERS
from tests.integration.survival.places import Place, Source

SCHEMA = """
create schema clinic;
create table clinic.patients (id int primary key, nom text not null, prenom text not null,
  ne text not null, nir numeric(20) not null unique, note text, photo bytea);
create table clinic.stays (id int primary key, patient_id int not null references clinic.patients,
  admitted_at timestamptz not null, service varchar(40) not null);
create table clinic.raw (id serial primary key, line text not null);
create view clinic.present as select nom, prenom from clinic.patients;
create function clinic.told() returns trigger language plpgsql as $body$
  begin
    raise notice 'patient %', new.nom using detail = new.prenom, hint = new.note;
    raise warning 'patient %', new.nom using detail = new.prenom;
    return new;
  end $body$;
create trigger told before insert on clinic.patients for each row execute function clinic.told();
alter table clinic.patients enable always trigger told;
"""


def literal(*values: str) -> str:
    return ", ".join(f"'{one}'" for one in values)


def rows(count: int) -> str:
    """Return statements that fill the tables, each text of them its own."""
    told = []
    for number in range(1, count + 1):
        nir = f"90706050{number:06d}"
        told.append(
            f"insert into clinic.patients values ({number}, "
            + literal(value(), value(), value(), nir, value())
            + f", convert_to('{value()}', 'UTF8'));"
        )
        told.append(
            f"insert into clinic.stays values ({number}, {number}, "
            f"now() - {number} * interval '1 hour', '{value()}');"
        )
        told.append(f"insert into clinic.raw (line) values ('{value()}');")
    told += [
        f"comment on table clinic.patients is '{value()}';",
        f"comment on column clinic.patients.nom is '{value()}';",
        f"comment on function clinic.told() is '{value()}';",
        f"comment on view clinic.present is '{value()}';",
        f"alter table clinic.raw alter line set default '{value()}';",
        f"alter table clinic.raw add constraint not_that check (line <> '{value()}');",
        f"create function clinic.quoting() returns text language sql as $$ select '{value()}' $$;",
    ]
    return "\n".join(told)


#: Questions of a site's that go wrong, each error quoting what it stumbled on.
CHECKS = """
[[applications.{application}.restore-test.checks]]
name = "nombre"
sql = "select count(*) from clinic.patients"
at-least = 1
[[applications.{application}.restore-test.checks]]
name = "nom"
sql = "select nom from clinic.patients order by id limit 1"
equals = "Personne"
[[applications.{application}.restore-test.checks]]
name = "entier"
sql = "select nom::int from clinic.patients"
at-least = 1
[[applications.{application}.restore-test.checks]]
name = "date"
sql = "select ne::timestamptz from clinic.patients"
newer-than = "1h"
[[applications.{application}.restore-test.checks]]
name = "jour"
sql = "select 1 / (length(nom) - length(nom)) from clinic.patients where nom like 'Z%'"
at-least = 1
"""

PASSING = """
[[applications.{application}.restore-test.checks]]
name = "nombre"
sql = "select count(*) from clinic.patients"
at-least = 1
"""


def plain_with_errors(text: str) -> bytes:
    """Return a plain dump in which rows, dates, bytes and statements are wrong in every way."""
    wrong = (
        # a date that is none, inside COPY and outside
        f"COPY clinic.stays (id, patient_id, admitted_at, service) FROM stdin;\n"
        f"9001\t1\t{value()}\t{value()}\n\\.\n"
        f"INSERT INTO clinic.stays VALUES (9002, 1, '{value()}', '{value()}');\n"
        # keys, lengths, nulls, duplicates
        f"INSERT INTO clinic.stays VALUES (9003, 90706050777, now(), '{value()}');\n"
        f"INSERT INTO clinic.stays VALUES (9004, 1, now(), '{value() * 4}');\n"
        f"INSERT INTO clinic.patients (id, nom, prenom) VALUES (9005, '{value()}', '{value()}');\n"
        f"INSERT INTO clinic.patients SELECT 9006, '{value()}', prenom, ne, nir FROM clinic.patients;\n"
        # bytes that are no text
        "COPY clinic.raw (id, line) FROM stdin;\n9007\tENCODING\n\\.\n"
        # too many columns, too few, the end of a row that never comes
        f"COPY clinic.raw (id, line) FROM stdin;\n9008\t{value()}\t{value()}\n{value()}\n\\.\n"
        # statements that are none, and names that are not there
        f"INSERT INTO clinic.{value()} VALUES ('{value()}');\n"
        f"SELECT {value()};\n{value()} {value()};\nSELECT '{value()};\n';\n"
        f"SELECT setval('{value()}', 1);\nSET {value()} = '{value()}';\n"
        f"DO $$ begin raise exception '{value()}' using errcode = 'XV123', detail = '{value()}', "
        f"hint = '{value()}', column = '{value()}', table = '{value()}'; end $$;\n"
        f"DO $$ begin raise log '{value()}'; raise info '{value()}'; end $$;\n"
        f"DO $$ begin perform '{value()}'::int; end $$;\n"
        f"ALTER TABLE clinic.raw ADD CONSTRAINT c CHECK (line = '{value()}');\n"
        f"CREATE UNIQUE INDEX u ON clinic.patients ((left(nom, 1)));\n"
        f'ALTER TABLE clinic.raw OWNER TO "{value()}";\n'
    )
    marker = "--\n-- PostgreSQL database dump complete"
    content = text.replace(marker, f"-- {value()}\n{wrong}\n{marker}").encode()
    return content.replace(b"ENCODING", value().encode() + b"\xe9\xff" + value().encode())


@pytest.fixture(scope="module")
def patients(source: Source) -> Source:
    source.create("patients", SCHEMA + rows(60))
    source.keep("patients", source.dumped("patients", "-Fc"))
    plain = source.dumped("patients", "-Fp").decode()
    source.keep("errors", plain_with_errors(plain))
    # the same errors where pg_restore meets them: rows that break what is made after them
    source.create(
        "broken",
        SCHEMA
        + rows(60)
        + f"""
        set session_replication_role = replica;
        insert into clinic.stays values (9001, 90706050, now(), '{value()}');
        alter table clinic.raw add constraint never check (line like 'A%') not valid;
        """,
    )
    source.keep("broken", source.dumped("broken", "-Fc"))
    return source


class Watcher(threading.Thread):
    """Collects command lines and environments of every process there is, while the thread runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    for name in ("cmdline", "environ", "comm"):
                        with suppress(OSError):
                            self.seen.add((entry / name).read_bytes())


@contextmanager
def watching() -> Iterator[Watcher]:
    watcher = Watcher()
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.over.set()
        watcher.join()


def inflated(content: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompress(content, wbits=47)
    return b""


def everything(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a directory, compressed ones also as what they are made of."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            yield str(path), content
            yield f"{path}, inflated", inflated(content)


def table_contents(database: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every value of every table: a value may be spread over several pages of the file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as one:
        tables = [
            name for (name,) in one.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        for table in tables:
            for row in one.execute(f'SELECT * FROM "{table}"'):
                for item in row:
                    raw = item if isinstance(item, bytes) else str(item).encode()
                    yield f"table {table}", raw
                    yield f"table {table}, inflated", inflated(raw)


def unpacked(bundle: Path, into: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a bundle, as somebody else would find them."""
    into.mkdir()
    subprocess.run(["tar", "-xzf", bundle, "-C", into], check=True)
    yield from everything(into)


#: What everybody who may read the port is shown, whatever was restored.
PAGES = (
    "/metrics", "/", "/-/healthy", "/-/ready", "/reports/", "/findings/", "/restore-tests/",
    "/media/", "/evidence/", "/runbooks/",
)  # fmt: skip

DUMPS = {
    "passing": ("patients", Verdict.PASSED, None),
    "asked": ("patients", Verdict.FAILED, "check_failed"),
    "errors": ("errors", Verdict.FAILED, None),
    "broken": ("broken", Verdict.FAILED, "load_refused"),
}
MADE = (*EVERY, *SERVERS, *(HEAVY if FULL else ()))
#: What else is asked for, and how its test ends.
OTHERS = {
    "physical": (Verdict.FAILED, "check_failed"),
    "instance": (Verdict.FAILED, "check_failed"),
    "instance-broken": (Verdict.FAILED, "load_refused"),
}


@pytest.fixture
def clinic(patients: Source, backups: Backups, tmp_path: Path) -> Iterator[EnginesPlace]:
    """A site whose applications are backups full of patients, sound and broken, of every engine."""
    place = EnginesPlace(tmp_path, backups)
    place.manager.settimeout(120)
    kept: list[tuple[str, str, Path, str]] = []
    for name, (dump, _, _) in DUMPS.items():
        checks = {"asked": CHECKS, "passing": PASSING}.get(name, "").format(application=name)
        kept.append((name, "postgresql", patients.dump(dump), checks))
    copy = tmp_path / "made" / "base"
    copy.parent.mkdir()
    patients.cluster.run("pg_basebackup", "-D", str(copy), "-Ft", "-z", "-X", "fetch", "-c", "fast")
    asked = 'database = "patients"\n' + CHECKS.format(application="physical")
    kept.append(("physical", "postgresql-physical", copy, asked))
    checks = CHECKS.format(application="instance")
    kept.append(("instance", "instance", patients.dump("patients"), checks))
    kept.append(("instance-broken", "instance", patients.dump("broken"), ""))
    place.parts.append(instance(backups.scratch()))
    for one in MADE:
        made = tmp_path / "made" / one.name
        made.mkdir()
        content = one.make(backups.sources, made)
        kept.append((one.name, one.engine, content, one.checks.format(application=one.name)))
    place.keep("clinic", *dict.fromkeys(content for _, _, content, _ in kept))
    for name, engine, content, checks in kept:
        place.restore(name, engine, "clinic", content, checks)
        place.parts[-1] = place.parts[-1].replace(
            str(backups.place("command")), str(tmp_path / "made" / name)
        )
    place.write()
    yield place
    place.end()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_value_of_a_patient_is_anywhere(clinic: EnginesPlace, patients: Source) -> None:
    place, told = clinic, list[tuple[str, bytes]]()
    temporary = place.directory / "tmp"
    temporary.mkdir()
    with watching() as watcher:
        place.start(more={"TMPDIR": str(temporary)})
        place.closed("inventory", 1)
        settings = place.settings
        runs = {
            name: client.enqueue(settings, "restore-test", application_subject(name))
            for name in (*DUMPS, *OTHERS, *(one.name for one in MADE))
        }
        for name, run in runs.items():
            ended = place.ended(run)
            verdict, code = OTHERS.get(name) or DUMPS.get(name, ("", ended.verdict, None))[1:]
            result = place.result(application_subject(name))
            assert ended.verdict is verdict, (name, ended, result)
            assert code in (None, ended.code), (name, ended.code)
            assert ended.code != "bug", (name, result)
            told.append((f"result {name}", repr((ended.verdict, ended.code)).encode()))
            told.append((f"socket {name}", repr(client.run(settings, run)).encode()))
        verdicts = {name: place.store.run(run).verdict for name, run in runs.items()}  # type: ignore[union-attr]
        sound = {one.name for one in MADE if one.passes} | {"passing"}
        assert {name for name, verdict in verdicts.items() if verdict is Verdict.PASSED} >= sound
        told.append(("socket", repr([client.about(settings), client.runs(settings)]).encode()))
        time.sleep(6)  # until everything has been judged and published
        told += [(path, place.get(path)[1].encode()) for path in PAGES]
        tests = re.findall(r'href="(/restore-tests/\d+)"', place.get("/restore-tests/")[1])
        assert len(tests) >= len(DUMPS)
        about = [f"/applications/{name}" for name in runs]
        for path in (*tests, *about, *(f"{one}/calendar" for one in about)):
            status, page = place.get(path)
            assert status == 200, (path, page)
            told.append((path, page.encode()))
        told += commands(place)
        # once more without a daemon: what the command itself does and says
        place.processes[-1].terminate()
        assert place.processes[-1].wait(60) == 0
        done = place.command("--verbose", "restore-test", "errors")
        assert done.returncode == 1, done
        told.append(("restore-test", (done.stdout + done.stderr).encode()))
    told += [("a process", seen) for seen in watcher.seen]
    told += (
        list(everything(temporary))
        + list(everything(place.state))
        + list(table_contents(place.state / "store.sqlite3"))
    )
    told += list(unpacked(place.directory / "bundle.tar.gz", place.directory / "unpacked"))
    told += [(str(path), path.read_bytes()) for path in (place.log, place.config)]
    assert strangers(place.backups.scratch()) == set()
    found = {(where, match.group()) for where, text in told if (match := TOKEN.search(text))}
    assert found == set()
    # the search itself works: it finds what is in the dumps
    assert TOKEN.search(source_text(patients))
    assert any("status.json" in where for where, _ in told)
    assert any(where.endswith(".html") for where, _ in told)
    assert len(told) > 100


def commands(place: Place) -> Iterator[tuple[str, bytes]]:
    """Yield what each command of an operator says."""
    asked: list[tuple[str, ...]] = [
        ("status",),
        ("status", "--json"),
        ("--verbose", "inventory"),
        ("baseline", "show", "passing"),
        ("report", "--month", "2026-11", "--format", "html", "--format", "json"),
        ("evidence", "export", "--output", str(place.directory / "bundle.tar.gz")),
        *(("why", "RST-01", name) for name in ("asked", "errors")),
        ("why", "RST-02", "errors", "--json"),
    ]
    for words in asked:
        done: subprocess.CompletedProcess[str] = place.command(*words)
        assert "Traceback" not in done.stderr, done.stderr
        yield " ".join(words), (done.stdout + done.stderr).encode()


def source_text(source: Source) -> bytes:
    return source.dump("errors").read_bytes()
