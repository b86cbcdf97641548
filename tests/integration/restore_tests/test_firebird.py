"""Firebird databases come back to life in the sandbox: clean ones pass, each broken one is named."""

from __future__ import annotations

import gzip
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backupguard.model import Baseline, RestoreTestResult, Verdict
from restore_tests.firebird import FIREBIRD
from restore_tests.settings import FirebirdSettings
from tests.firebird import Firebird, blood_bank
from tests.integration.restore_tests.harness import NOW, Trials

AT = NOW - timedelta(hours=4)
NEWEST = AT - timedelta(minutes=20)
PARIS = ZoneInfo("Europe/Paris")
MANY = {"name": "poches", "sql": "select count(*) from bags", "at-least": 1000}
RECENT = {"name": "récentes", "sql": "select max(taken_at) from bags", "newer-than": "26h"}


def written(moment: Any) -> str:
    return f"{moment.astimezone(PARIS):%Y-%m-%d %H:%M:%S}"


class Bank:
    """A blood bank's database, and what gbak makes of it."""

    def __init__(self, place: Path) -> None:
        self.firebird = Firebird(place / "firebird")
        self.database = self.firebird.create(place / "sang.fdb", *blood_bank(written(NEWEST)))
        self.backup = self.firebird.backup(self.database, place / "sang.fbk")

    def changed(self, into: Path, *statements: str) -> Path:
        database = self.firebird.variant(self.database, into / "changed.fdb", *statements)
        made = self.firebird.backup(database, into / "sang.fbk")
        database.unlink()
        return made


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return Bank(tmp_path_factory.mktemp("sang"))


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path, engines={"firebird": FIREBIRD})


def settings(*checks: dict[str, Any], **values: Any) -> FirebirdSettings:
    return FirebirdSettings.model_validate({"engine": "firebird", "checks": checks, **values})


def restored(trials: Trials, path: Path, *checks: dict[str, Any], **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings(*checks))
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def codes(result: RestoreTestResult) -> dict[str, str]:
    return {check.name: check.code for check in result.checks}


def accepted(result: RestoreTestResult) -> Baseline:
    assert result.fingerprint is not None, result
    return Baseline(fingerprint=result.fingerprint, accepted=True, seq=1)


def test_a_sound_backup_proves_its_content(trials: Trials, bank: Bank) -> None:
    first = restored(trials, bank.backup, MANY, RECENT)
    assert judged(first) == (Verdict.PASSED, None), first
    assert first.level == 2
    assert first.fingerprint is not None
    assert first.fingerprint.tables == {"main.DONORS": 600, "main.BAGS": 1500, "main.SETTINGS": 20}
    objects = {
        k: v for k, v in first.fingerprint.objects.items() if "text" not in k and "names" not in k
    }
    assert objects == {
        "routine": 1, "trigger": 1, "sequence": 1, "constraint": 3, "index": 4, "view": 1,
        "foreign-table": 0,
    }  # fmt: skip
    assert first.data_loss_ms == 20 * 60 * 1000
    assert first.freshness_heuristic == NEWEST
    assert all(not code.startswith("warning_") for code in codes(first).values()), codes(first)
    again = restored(
        trials,
        bank.backup,
        settings=settings(MANY, RECENT, **{"required-tables": ["bags", "DONORS"]}),
        baseline=accepted(first),
    )
    assert (again.verdict, again.level) == (Verdict.PASSED, 3), again
    assert b"ZZSECRETZZ" not in repr((again, trials.facts)).encode() + trials.traces


def test_compressed_and_copied_as_a_file(trials: Trials, bank: Bank, tmp_path: Path) -> None:
    packed = tmp_path / "sang.fbk.gz"
    packed.write_bytes(gzip.compress(bank.backup.read_bytes()))
    assert judged(restored(trials, packed, MANY)) == (Verdict.PASSED, None)
    plain = restored(trials, bank.database, MANY)
    assert judged(plain) == (Verdict.PASSED, None), plain
    assert codes(plain)["plain-copy"] == "warning_plain_copy"


def test_a_copy_under_the_lock_of_nbackup(trials: Trials, bank: Bank, tmp_path: Path) -> None:
    live = bank.firebird.variant(bank.database, tmp_path / "live.fdb")
    bank.firebird.run("nbackup", "-L", live)
    copy = tmp_path / "copy" / "sang.fdb"
    copy.parent.mkdir()
    shutil.copy(live, copy)
    result = restored(trials, copy, MANY)
    assert judged(result) == (Verdict.PASSED, None), result
    assert codes(result)["plain-copy"] == "ok"


def test_questions_only_read_and_say_what_they_found(trials: Trials, bank: Bank) -> None:
    asked = {
        "few": {"sql": "select count(*) from bags", "at-most": 3},
        "none": {"sql": "select null from rdb$database", "equals": 1},
        "unknown": {"sql": "select count(*) from nowhere", "at-least": 1},
        "words": {"sql": "select v from settings where k = 'k1' -- ;", "equals": "v"},
        "yes": {"sql": "select 1 = 1 from rdb$database", "equals": True},
        "future": {"sql": "select timestamp '2099-01-01' from rdb$database", "newer-than": "1h"},
        "called": {"sql": "select n from nothing", "equals": 1},
        "nonsense": {"sql": "select 1 / 0 from rdb$database", "equals": 1},
        "two": {"sql": "select 1 from rdb$database; delete from bags", "equals": 1},
    }
    result = restored(trials, bank.backup, *({"name": n, **q} for n, q in asked.items()))
    told = codes(result)
    assert {name: told[name] for name in asked} == {
        "few": "check_failed", "none": "check_no_answer", "unknown": "check_undefined",
        "words": "ok", "yes": "ok", "future": "check_future_time", "called": "ok",
        "nonsense": "check_error", "two": "check_error",
    }  # fmt: skip


def test_what_reaches_out_of_the_database_gets_nothing(
    trials: Trials, bank: Bank, tmp_path: Path
) -> None:
    bank.firebird.sql(
        bank.firebird.variant(bank.database, tmp_path / "v.fdb"),
        f"create table reaching external file '{tmp_path}/reached' (a char(10))",
        "declare external function shell cstring(255) returns cstring(255) free_it"
        " entry_point 'system' module_name 'libc.so.6'",
        "create trigger woken on connect as begin in autonomous transaction do"
        " delete from settings; end",
        "create procedure takes returns (n integer) as begin insert into reaching values ('x');"
        " delete from settings; n = 1; suspend; end",
    )
    path = bank.firebird.backup(tmp_path / "v.fdb", tmp_path / "v.fbk")
    takes = {"name": "takes", "sql": "select n from takes", "equals": 1}
    kept = {"name": "kept", "sql": "select count(*) from settings", "equals": 20}
    calls = {"name": "calls", "sql": "select shell('true') from rdb$database", "equals": "0"}
    result = restored(trials, path, kept, takes, calls)
    told = codes(result)
    assert told["outside-the-database"] == "warning_outside_left_out"
    assert {name: told[name] for name in ("kept", "takes", "calls")} == {
        "kept": "ok", "takes": "check_error", "calls": "check_error",
    }  # fmt: skip
    assert not (tmp_path / "reached").exists()


def test_a_character_set_of_the_old_world(trials: Trials, bank: Bank, tmp_path: Path) -> None:
    database = bank.firebird.create(
        tmp_path / "old.fdb",
        "create table p (n varchar(40) character set win1252, s varchar(20) character set none)",
        "insert into p values ('Lefèvre', 'x')",
        charset="WIN1252",
    )
    path = bank.firebird.backup(database, tmp_path / "old.fbk")
    name = {"name": "lettres", "sql": "select n from p", "equals": "Lefèvre"}
    assert judged(restored(trials, path, name)) == (Verdict.PASSED, None)


def test_the_backup_is_not_touched(trials: Trials, bank: Bank) -> None:
    before = [(p, p.stat().st_size, p.stat().st_mtime_ns) for p in (bank.backup, bank.database)]
    bank.backup.chmod(0o400)
    assert judged(restored(trials, bank.backup)) == (Verdict.PASSED, None)
    after = [(p, p.stat().st_size, p.stat().st_mtime_ns) for p in (bank.backup, bank.database)]
    assert after == before


def test_a_format_of_later_versions_accuses_nobody(
    trials: Trials, bank: Bank, tmp_path: Path
) -> None:
    later = tmp_path / "later.fbk"
    content = bytearray(bank.backup.read_bytes())
    assert content[1] == 2
    content[3] = 40
    later.write_bytes(content)
    unsupported = (Verdict.COULD_NOT_VERIFY, "version_unsupported")
    assert judged(restored(trials, later)) == unsupported
    file = tmp_path / "later.fdb"
    content = bytearray(bank.database.read_bytes())
    content[18] = 14
    file.write_bytes(content)
    result = restored(trials, file)
    assert (judged(result), result.lacked) == (unsupported, "firebird (ODS 14)")
    content[18] = 13
    file.write_bytes(content)
    result = restored(trials, file)
    assert (judged(result), result.lacked) == (unsupported, "firebird4.0-server (4.0)")
