"""MariaDB dumps come back to life in the sandbox: clean ones pass, each broken one is named."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from restore_tests.mariadb import MARIADB
from restore_tests.settings import MariadbSettings
from tests.integration.restore_tests.harness import NOW, Trials
from tests.mariadb import MariaDB, start_mariadb

AT = NOW - timedelta(hours=4)
NEWEST = AT - timedelta(minutes=30)

SCHEMA = """
set names utf8mb4;
create database {name} character set utf8mb4;
use {name};
create table patients (id int primary key auto_increment, name varchar(200), seen_at datetime)
  engine=innodb;
create table letters (id int primary key auto_increment, patient int, body text, at timestamp,
  constraint of_patient foreign key (patient) references patients (id)) engine=innodb;
create table codes (code varchar(20) primary key, label varchar(200)) engine=aria;
insert into patients (name, seen_at) select concat('Patient numéro ', seq, ' du service 😀 ZZSECRETZZ'),
  '{newest}' - interval seq minute from seq_1_to_600;
insert into letters (patient, body, at) select 1 + seq mod 600, concat('Lettre de sortie numéro ', seq),
  '{newest}' - interval seq minute from seq_1_to_900;
insert into codes values ('A00', 'Choléra'), ('B00', 'Herpès');
create view recent as select * from patients where seen_at > '2000-01-01';
create function doubled(n int) returns int deterministic return 2 * n;
create trigger stamped before insert on letters for each row set new.at = coalesce(new.at, now());
create event nightly on schedule every 1 day do delete from codes where code = '';
"""


class Clinic:
    """A server of the tests, and the dumps of its databases."""

    def __init__(self, server: MariaDB, directory: Path) -> None:
        self.server, self.directory, self.count = server, directory, 0

    def database(self, name: str, *statements: str) -> str:
        local = NEWEST.astimezone(ZoneInfo("Europe/Paris"))
        self.server.run("set global time_zone = '+01:00'")
        script = SCHEMA.format(name=name, newest=f"{local:%Y-%m-%d %H:%M:%S}")
        self.server.run(script + "".join(f"{statement};\n" for statement in statements))
        return name

    def dump(self, *options: str) -> Path:
        self.count += 1
        path = self.directory / f"dump-{self.count}.sql"
        with path.open("wb") as file:
            subprocess.run(
                [
                    *("mariadb-dump", "--no-defaults", f"--socket={self.server.socket}"),
                    *("--user=root", "--single-transaction", "--routines", "--events", *options),
                ],
                check=True,
                stdout=file,
            )
        return path


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    directory = tmp_path_factory.mktemp("mariadb")
    server = start_mariadb(directory / "data")
    try:
        made = Clinic(server, directory)
        made.database("clinic")
        yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def dump(clinic: Clinic) -> Path:
    return clinic.dump("clinic")


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    # One for all: the copy of an empty server is made once.
    return Trials(tmp_path_factory.mktemp("trials"), engines={"mariadb": MARIADB})


def settings(*checks: dict[str, Any], **values: Any) -> MariadbSettings:
    return MariadbSettings.model_validate(
        {"engine": "mariadb", "memory": "600MB", "checks": checks, **values}
    )


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings())
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def accepted(shape: Fingerprint | None) -> Baseline:
    assert shape is not None
    return Baseline(fingerprint=shape, accepted=True, seq=1)


RECENT = {"name": "vus", "sql": "select max(seen_at) from patients", "newer-than": "26h"}
MANY = {"name": "lettres", "sql": "select count(*) from letters", "at-least": 800}


@pytest.fixture(scope="module")
def shape(dump: Path, trials: Trials) -> Fingerprint:
    result = restored(trials, dump)
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    return result.fingerprint


def test_a_sound_dump_proves_its_content(trials: Trials, dump: Path, shape: Fingerprint) -> None:
    assert shape.tables == {
        "restored.codes": 2,
        "restored.letters": 900,
        "restored.patients": 600,
    }
    wanted = {"view": 1, "routine": 1, "trigger": 1, "event": 1}
    assert {kind: shape.objects[kind] for kind in wanted} == wanted
    result = restored(trials, dump, settings=settings(RECENT, MANY), baseline=accepted(shape))
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.level == 3
    assert result.data_loss_ms == 31 * 60 * 1000
    assert result.freshness_heuristic == NEWEST - timedelta(minutes=1)
    assert {check.code for check in result.checks} == {"ok"}
    told = repr((result, trials.facts)).encode() + trials.traces
    assert b"ZZSECRETZZ" not in told


def test_a_trigger_that_names_its_database_finds_it(trials: Trials, clinic: Clinic) -> None:
    clinic.database(
        "named_2026",
        "create trigger named_2026.kept before update on named_2026.codes"
        " for each row set new.label = coalesce(new.label, old.label)",
        "create function labels() returns int return (select count(*) from named_2026.codes)",
    )
    path = clinic.dump("named_2026")
    clinic.server.run("drop database named_2026")  # a test counts what all databases hold
    result = restored(trials, path, settings=settings(RECENT, MANY))
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    assert result.fingerprint.objects["trigger"] == 2
    # what a trigger names is not there where the dump is another database's
    text = path.read_text(encoding="utf-8").replace("Database: named_2026", "Database: other")
    path.write_text(text, encoding="utf-8")
    assert judged(restored(trials, path)) == (Verdict.FAILED, "load_refused")


def test_all_databases_of_a_server(trials: Trials, clinic: Clinic) -> None:
    path = clinic.dump("--all-databases", "--flush-privileges")
    result = restored(trials, path, settings=settings(MANY, RECENT))
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    assert "clinic.letters" in result.fingerprint.tables


def test_a_compressed_dump_and_one_that_was_cut(trials: Trials, dump: Path, tmp_path: Path) -> None:
    content = dump.read_bytes()
    packed = tmp_path / "dump.sql.gz"
    packed.write_bytes(gzip.compress(content))
    assert judged(restored(trials, packed)) == (Verdict.PASSED, None)
    packed.write_bytes(packed.read_bytes()[:-500])
    assert judged(restored(trials, packed)) == (Verdict.FAILED, "truncated")
    cut = tmp_path / "cut.sql"
    for share in (30, 60, 99):
        cut.write_bytes(content[: len(content) * share // 100])
        assert judged(restored(trials, cut)) == (Verdict.FAILED, "truncated")


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        (("drop table letters",), "tables_lost"),
        (("set foreign_key_checks = 0", "delete from letters where id > 20"), "rows_lost"),
        (("update letters set body = hex(random_bytes(60))",), "random_text"),
    ],
    ids=["a-table", "rows", "encrypted-column"],
)
def test_a_loss_is_named(
    trials: Trials, clinic: Clinic, shape: Fingerprint, statements: tuple[str, ...], code: str
) -> None:
    name = clinic.database(f"broken_{code}", *statements)
    result = restored(trials, clinic.dump(name), baseline=accepted(shape))
    assert judged(result) == (Verdict.FAILED, code), result


def test_definitions_alone_are_no_backup(trials: Trials, clinic: Clinic) -> None:
    result = restored(trials, clinic.dump("--no-data", "clinic"))
    assert judged(result) == (Verdict.FAILED, "schema_only")


def test_a_row_that_is_refused(trials: Trials, dump: Path, tmp_path: Path) -> None:
    text = dump.read_text(encoding="utf-8")
    broken = tmp_path / "twice.sql"
    broken.write_text(text.replace("('B00','Herpès')", "('A00','Herpès')"), encoding="utf-8")
    assert judged(restored(trials, broken)) == (Verdict.FAILED, "load_refused")


def test_accounts_that_views_belong_to_are_named(
    trials: Trials, dump: Path, tmp_path: Path
) -> None:
    text = dump.read_text(encoding="utf-8")
    other = tmp_path / "definer.sql"
    other.write_text(text.replace("`root`@`localhost`", "`dpi`@`%`"), encoding="utf-8")
    result = restored(trials, other)
    assert result.verdict is Verdict.PASSED
    assert {"warning_definers_missing"} == {c.code for c in result.checks if c.code != "ok"}


@pytest.mark.parametrize(
    "line",
    [
        "\\! touch /tmp/owned",
        "system id",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE codes;",
        "SELECT 1 INTO OUTFILE '/scratch/none/../x';",
        "/**/ SELECT 'x' INTO DUMPFILE '/scratch/owned';",
        "CREATE FUNCTION evil RETURNS STRING SONAME 'udf.so';",
    ],
    ids=["shell", "system", "local-file", "outfile", "dumpfile", "library"],
)
def test_what_reaches_out_is_hostile(trials: Trials, dump: Path, tmp_path: Path, line: str) -> None:
    text = dump.read_text(encoding="utf-8")
    attack = tmp_path / "attack.sql"
    attack.write_text(
        text.replace("-- Dump completed", f"{line}\n-- Dump completed"), encoding="utf-8"
    )
    assert judged(restored(trials, attack)) == (Verdict.FAILED, "hostile")


def test_versions_that_this_host_lacks(trials: Trials, dump: Path, tmp_path: Path) -> None:
    text = dump.read_text(encoding="utf-8")
    newer = tmp_path / "newer.sql"
    newer.write_text(
        text.replace("Server version\t10.", "Server version\t99.", 1), encoding="utf-8"
    )
    assert judged(restored(trials, newer)) == (Verdict.COULD_NOT_VERIFY, "version_unsupported")
    mysql = tmp_path / "mysql.sql"
    head = (
        "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n--\n-- Server version\t8.0.36\n"
    )
    mysql.write_text(head + "-- Dump completed\n", encoding="utf-8")
    assert judged(restored(trials, mysql)) == (Verdict.COULD_NOT_VERIFY, "version_unsupported")


def test_old_data_under_a_fresh_point_and_questions_without_an_answer(
    trials: Trials, clinic: Clinic
) -> None:
    name = clinic.database("old", "update patients set seen_at = seen_at - interval 3 day")
    asked = settings(
        RECENT,
        {"name": "absent", "sql": "select count(*) from nowhere", "at-least": 1},
        {"name": "slow", "sql": "select sleep(30)", "equals": 0},
        {"name": "writes", "sql": "select doubled(21)", "equals": 42},
        **{"statement-timeout": "1s"},
    )
    result = restored(trials, clinic.dump(name), settings=asked)
    codes = {check.name: check.code for check in result.checks if check.configured}
    assert codes == {
        "vus": "stale_data",
        "absent": "check_undefined",
        "slow": "check_timeout",
        "writes": "ok",
    }
    assert judged(result) == (Verdict.FAILED, "stale_data")


def test_a_key_that_is_there_twice_is_told(trials: Trials, dump: Path, tmp_path: Path) -> None:
    text = dump.read_text(encoding="utf-8")
    broken = tmp_path / "broken.sql"
    for before, after in (("('B00','Herpès')", "('A00','Herpès')"), ("\n(600,", "\n(599,")):
        assert before in text
        broken.write_text(text.replace(before, after), encoding="utf-8")
        assert judged(restored(trials, broken)) == (Verdict.FAILED, "load_refused")


def test_several_databases_with_bodies_that_look_like_sections(
    trials: Trials, clinic: Clinic
) -> None:
    body = "create procedure odd() select '\n-- Table structure for table `codes`\n'"
    name = clinic.database("second", body, "create sequence numbers")
    path = clinic.dump("--add-drop-database", "--databases", "clinic", name)
    result = restored(trials, path, settings=settings(MANY, RECENT, database=name))
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    assert result.fingerprint.tables["clinic.letters"] == 900
    assert result.fingerprint.tables["second.letters"] == 900
    assert {k: result.fingerprint.objects[k] for k in ("view", "routine", "trigger", "event")} == {
        "view": 2, "routine": 3, "trigger": 2, "event": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("status", "level"), [(0, 4), (1, 2)], ids=["passed", "failed"])
def test_the_application_is_replayed_against_the_restored_database(
    trials: Trials, dump: Path, shape: Fingerprint, tmp_path: Path, status: int, level: int
) -> None:
    program = tmp_path / "site" / "open"
    program.parent.mkdir()
    ask = (
        'mariadb --no-defaults -u "$BACKUPGUARD_USER" "$BACKUPGUARD_DATABASE" '
        '-N -e "select 1 from patients limit 1" >/dev/null || exit 9'
    )
    program.write_text(f"#!/bin/sh\n{ask}\nexit {status}\n")
    program.chmod(0o755)
    wanted = settings(RECENT, MANY, application={"program": str(program)})
    result = restored(trials, dump, settings=wanted, baseline=accepted(shape))
    expected = (Verdict.FAILED, "command_failed") if status else (Verdict.PASSED, None)
    assert judged(result) == expected, result
    assert result.level == level
