"""SQLite files come back to life in the sandbox: clean ones pass, each broken one is named."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from restore_tests.settings import SqliteSettings
from restore_tests.sqlite import SQLITE
from tests.integration.restore_tests.harness import NOW, Trials

AT = NOW - timedelta(hours=4)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path, engines={"sqlite": SQLITE})


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return make(tmp_path / "clinic.db")


def make(
    path: Path, *statements: str, mode: str = "delete", age: timedelta = timedelta(minutes=30)
) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute(
            "create table patients (id integer primary key, name text, seen_at datetime)"
        )
        connection.execute("create table letters (id integer primary key, body text, at timestamp)")
        connection.execute("create index patients_by_name on patients (name)")
        newest = AT - age
        connection.executemany(
            "insert into patients (name, seen_at) values (?, ?)",
            (
                (f"Patient numéro {n} du service", (newest - timedelta(minutes=n)).isoformat(" "))
                for n in range(500)
            ),
        )
        connection.executemany(
            "insert into letters (body, at) values (?, ?)",
            ((f"Lettre de sortie {n}", int(newest.timestamp()) - n) for n in range(300)),
        )
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def settings(*checks: dict[str, Any], **values: Any) -> SqliteSettings:
    return SqliteSettings.model_validate({"engine": "sqlite", "checks": checks, **values})


RECENT = {"name": "vus", "sql": "select max(seen_at) from patients", "newer-than": "26h"}
MANY = {"name": "lettres", "sql": "select count(*) from letters", "at-least": 250}


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings())
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def accepted(shape: Fingerprint | None) -> Baseline:
    assert shape is not None
    return Baseline(fingerprint=shape, accepted=True, seq=1)


def test_a_sound_file_proves_its_content(trials: Trials, clinic: Path) -> None:
    first = restored(trials, clinic, settings=settings(RECENT, MANY))
    assert judged(first) == (Verdict.PASSED, None), first
    assert first.fingerprint is not None
    assert first.fingerprint.tables == {"main.letters": 300, "main.patients": 500}
    assert first.fingerprint.objects["index"] == 1
    assert first.level == 2
    assert first.data_loss_ms == 30 * 60 * 1000
    second = restored(
        trials, clinic, settings=settings(RECENT, MANY), baseline=accepted(first.fingerprint)
    )
    assert second.level == 3
    assert {check.code for check in second.checks} == {"ok"}


def test_without_an_engine_in_the_file_its_checks_are_asked_all_the_same(
    trials: Trials, clinic: Path
) -> None:
    from backupguard.contracts import EngineSettings
    from restore_tests.settings import PostgresqlSettings

    read = PostgresqlSettings.model_validate({"checks": [MANY]})
    result = restored(trials, clinic, settings=read)
    assert [check.name for check in result.checks if check.configured] == ["lettres"]
    assert restored(trials, clinic, settings=EngineSettings()).verdict is Verdict.PASSED


def test_what_was_still_in_the_log_comes_back(trials: Trials, tmp_path: Path) -> None:
    directory = tmp_path / "with-log"
    directory.mkdir()
    make(directory / "live.db", mode="wal")
    copy = tmp_path / "copy"
    copy.mkdir()
    with closing(sqlite3.connect(directory / "live.db")) as connection:
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("insert into letters (body, at) values ('la dernière', 1)")
        connection.commit()
        for name in ("live.db", "live.db-wal"):
            (copy / name).write_bytes((directory / name).read_bytes())
    newest = {"name": "lettres", "sql": "select count(*) from letters", "equals": 301}
    assert judged(restored(trials, copy, settings=settings(newest))) == (Verdict.PASSED, None)
    (copy / "live.db-wal").unlink()  # half of a copy
    assert judged(restored(trials, copy, settings=settings(newest))) == (
        Verdict.FAILED,
        "check_failed",
    )


def test_a_compressed_file_and_a_script(trials: Trials, clinic: Path, tmp_path: Path) -> None:
    packed = tmp_path / "clinic.db.gz"
    packed.write_bytes(gzip.compress(clinic.read_bytes()))
    assert judged(restored(trials, packed)) == (Verdict.PASSED, None)
    with closing(sqlite3.connect(clinic)) as connection:
        text = "PRAGMA foreign_keys=OFF;\n" + "\n".join(connection.iterdump()) + "\n"
    script = tmp_path / "clinic.sql"
    script.write_text(text)
    result = restored(trials, script, settings=settings(MANY))
    assert judged(result) == (Verdict.PASSED, None), result
    script.write_text(text[: len(text) // 2])
    assert judged(restored(trials, script)) == (Verdict.FAILED, "truncated")
    packed.write_bytes(packed.read_bytes()[:-2000])
    assert judged(restored(trials, packed)) == (Verdict.FAILED, "truncated")
    script.write_text(text.replace("COMMIT;", "ATTACH '/scratch/other' AS x;\nCOMMIT;"))
    assert judged(restored(trials, script)) == (Verdict.FAILED, "hostile")


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        (("drop table letters",), "tables_lost"),
        (("delete from patients where id > 20",), "rows_lost"),
        (("delete from patients", "delete from letters"), "schema_only"),
        (
            (
                "drop table letters",
                "drop table patients",
                "create table invoices as select 1 as n",
            ),
            "wrong_content",
        ),
        (("update letters set body = hex(randomblob(40))",), "random_text"),
    ],
    ids=["a-table", "rows", "definitions", "another", "encrypted-column"],
)
def test_a_loss_is_named(
    trials: Trials, clinic: Path, tmp_path: Path, statements: tuple[str, ...], code: str
) -> None:
    shape = restored(trials, clinic).fingerprint
    broken = make(tmp_path / "broken.db", *statements)
    assert judged(restored(trials, broken, baseline=accepted(shape))) == (Verdict.FAILED, code)


def test_damage_is_told_from_the_bytes(trials: Trials, clinic: Path, tmp_path: Path) -> None:
    content = clinic.read_bytes()
    cut = tmp_path / "cut.db"
    cut.write_bytes(content[: len(content) // 2])
    assert judged(restored(trials, cut)) == (Verdict.FAILED, "truncated")
    hurt = bytearray(content)
    middle = 4096 * (len(content) // 4096 // 2)
    hurt[middle : middle + 200] = b"\xa5" * 200
    broken = tmp_path / "hurt.db"
    broken.write_bytes(bytes(hurt))
    assert judged(restored(trials, broken)) == (Verdict.FAILED, "corrupt")
    encrypted = tmp_path / "encrypted.db"
    encrypted.write_bytes(bytes(byte ^ 0x5C for byte in content))
    assert judged(restored(trials, encrypted)) == (Verdict.FAILED, "not_a_dump")


def test_old_data_under_a_fresh_point(trials: Trials, tmp_path: Path) -> None:
    old = make(tmp_path / "old.db", age=timedelta(days=3))
    late = restored(trials, old, settings=settings(RECENT))
    assert judged(late) == (Verdict.FAILED, "stale_data")


def test_a_question_can_only_read(trials: Trials, clinic: Path) -> None:
    asked = [
        {"name": "attach", "sql": "select load_extension('/usr/lib/x.so')", "equals": 1},
        {"name": "absent", "sql": "select count(*) from nowhere", "at-least": 1},
        {
            "name": "endless",
            "sql": "with recursive n(i) as (select 1 union all select i+1 from n)"
            " select count(*) from n",
            "at-least": 1,
        },
    ]
    result = restored(trials, clinic, settings=settings(*asked, **{"statement-timeout": "1s"}))
    codes = {check.name: check.code for check in result.checks if check.configured}
    assert codes == {
        "attach": "check_error",
        "absent": "check_undefined",
        "endless": "check_timeout",
    }
    assert result.verdict is Verdict.COULD_NOT_VERIFY


def test_several_files_are_one_application(trials: Trials, tmp_path: Path) -> None:
    directory = tmp_path / "application"
    directory.mkdir()
    make(directory / "clinic.db")
    make(directory / "archive.db", "drop table letters")
    asked = settings(MANY | {"sql": "select count(*) from patients"}, database="archive")
    result = restored(trials, directory, settings=asked)
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    assert set(result.fingerprint.tables) == {
        "archive.patients",
        "clinic.letters",
        "clinic.patients",
    }


def test_no_value_of_a_patient_leaves_the_sandbox(trials: Trials, tmp_path: Path) -> None:
    path = make(tmp_path / "secret.db", "insert into patients (name) values ('ZZ-DUPONT-ZZ')")
    result = restored(
        trials,
        path,
        settings=settings({"name": "n", "sql": "select max(name) from patients", "at-least": 1}),
    )
    told = repr((result, trials.facts)).encode() + trials.traces
    assert b"DUPONT" not in told
