"""What pg_dumpall writes comes back to life: every database of it, and the application's is asked."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import RestoreTestResult, Verdict
from restore_tests.settings import PostgresqlSettings
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.hospital import Hospital

PASSED = (Verdict.PASSED, None)


@pytest.fixture(scope="session")
def dumped(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A dump of all databases: the hospital's, a small one with an odd name, a role's settings."""
    hospital.cluster.create("Petite base")
    hospital.sql(
        "Petite base", "create table t as select 1 as n; comment on table t is '$$ \\connect'"
    )
    hospital.sql("dpi", "alter role lecteur set statement_timeout = '1h'")
    # Databases that other tests left in this cluster are not what is tried here.
    known = {"dpi", "Petite base", "postgres", "template0", "template1"}
    named = hospital.cluster.run("psql", "-XAtc", "select datname from pg_database", "postgres")
    others = set(bytes(named.stdout).decode().split("\n")) - known - {""}
    try:
        return bytes(
            hospital.cluster.run(
                "pg_dumpall", *(f'--exclude-database="{name}"' for name in sorted(others))
            ).stdout
        )
    finally:
        hospital.cluster.run("dropdb", "Petite base")


def restored(
    trials: Trials, tmp_path: Path, content: bytes, name: str = "all.sql", **more: Any
) -> RestoreTestResult:
    path = tmp_path / name
    path.write_bytes(content)
    settings = PostgresqlSettings.model_validate(
        {"engine": "postgresql", "memory": 600_000_000, "jobs": 2, **more}
    )
    return trials.restore(path, settings=settings)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def test_every_database_is_loaded_and_the_biggest_asked(
    trials: Trials, tmp_path: Path, dumped: bytes, clean_fingerprint: Any
) -> None:
    check = {"name": "séjours", "sql": "select count(*) from clinic.stays", "equals": 4000}
    result = restored(trials, tmp_path, gzip.compress(dumped), "all.sql.gz", checks=[check])
    assert judged(result) == PASSED, result
    assert result.fingerprint is not None
    assert result.fingerprint.tables == clean_fingerprint.tables
    codes = {one.name: one.code for one in result.checks}
    assert codes["databases"] == "warning_database_unnamed"
    assert codes["engine-consistency"] == "ok"


def test_the_database_that_is_named_is_asked(trials: Trials, tmp_path: Path, dumped: bytes) -> None:
    check = {"name": "séjours", "sql": "select count(*) from clinic.stays", "equals": 4000}
    result = restored(trials, tmp_path, dumped, database="dpi", checks=[check])
    assert judged(result) == PASSED, result
    assert {one.name: one.code for one in result.checks}["databases"] == "ok"
    result = restored(trials, tmp_path, dumped, database="pharmacie")
    assert judged(result) == (Verdict.FAILED, "wrong_content")


@pytest.mark.parametrize(
    "keep",
    [
        lambda text: text[: text.index(b"COPY clinic.observations") + 4000],
        lambda text: text[: text.rindex(b"-- PostgreSQL database cluster dump complete")],
        lambda text: text[: text.index(b'-- Database "dpi" dump')],
    ],
    ids=["within a table", "without its last line", "before the application's database"],
)
def test_a_dump_of_all_that_was_cut(
    trials: Trials, tmp_path: Path, dumped: bytes, keep: Any
) -> None:
    assert judged(restored(trials, tmp_path, keep(dumped))) == (Verdict.FAILED, "truncated")


def test_rows_that_break_their_key(trials: Trials, tmp_path: Path, dumped: bytes) -> None:
    start = dumped.index(b"\n", dumped.index(b"COPY clinic.stays")) + 1
    row = dumped[start : dumped.index(b"\n", start) + 1]
    broken = dumped[:start] + row + dumped[start:]
    assert judged(restored(trials, tmp_path, broken)) == (Verdict.FAILED, "load_refused")


def test_roles_alone_hold_no_data(trials: Trials, tmp_path: Path, hospital: Hospital) -> None:
    roles = bytes(hospital.cluster.run("pg_dumpall", "--globals-only").stdout)
    assert judged(restored(trials, tmp_path, roles)) == (Verdict.FAILED, "empty")


def test_a_hand_of_somebody_else(trials: Trials, tmp_path: Path, dumped: bytes) -> None:
    place = dumped.index(b"COPY clinic.patients")
    evil = dumped[:place] + b"COPY clinic.patients FROM PROGRAM 'id';\n" + dumped[place:]
    assert judged(restored(trials, tmp_path, evil)) == (Verdict.FAILED, "hostile")
