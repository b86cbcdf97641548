"""Physical copies of a PostgreSQL server come back to life with the server switched off."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import RestoreTestResult, Verdict
from restore_tests.postgresql_physical import POSTGRESQL_PHYSICAL
from restore_tests.settings import PostgresqlPhysicalSettings
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.physical import Copies, make


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    return make(tmp_path_factory.mktemp("physical") / "server")


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    # the copies are of today: a server cannot be told what time it is
    return Trials(
        tmp_path, engines={"postgresql-physical": POSTGRESQL_PHYSICAL}, now=datetime.now(UTC)
    )


def count(**answer: int) -> dict[str, Any]:
    return {"name": "séjours", "sql": "select count(*) from stays", **answer}


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    settings = {
        "engine": "postgresql-physical",
        "memory": 600_000_000,
        "jobs": 2,
        "checks": plan.pop("checks", ()),
    }
    plan.setdefault("point_at", trials.now)
    return trials.restore(
        path, settings=PostgresqlPhysicalSettings.model_validate(settings), **plan
    )


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def codes(result: RestoreTestResult) -> dict[str, str]:
    return {check.name: check.code for check in result.checks}


def failed(code: str) -> tuple[Verdict, str]:
    return Verdict.FAILED, code


PASSED = (Verdict.PASSED, None)


# ---- what is sound


@pytest.mark.parametrize("form", ["plain", "tar"])
def test_a_base_backup_opens_with_its_tablespace(trials: Trials, copies: Copies, form: str) -> None:
    result = restored(trials, copies.place / form, checks=[count(equals=3000)])
    assert judged(result) == PASSED, result
    print({one.phase.value: one.duration_ms for one in result.phases})
    assert result.level == 2  # the shape is nobody's yet
    assert result.fingerprint is not None
    assert result.fingerprint.tables["public.labs"] == 500
    assert result.fingerprint.objects["extension"] == 0
    assert codes(result) | {"recovery": "ok", "manifest": "ok", "page-checksums": "ok"} == codes(
        result
    )
    assert codes(result)["engine-consistency"] == "ok"
    assert result.tools["postgresql"].startswith("15.")
    assert b"ZZSECRET" not in trials.traces


def test_the_log_of_an_archive_is_replayed_to_its_end(trials: Trials, copies: Copies) -> None:
    result = restored(trials, copies.place / "archived", checks=[count(equals=3501)])
    assert judged(result) == PASSED, result
    assert not (copies.place / "obeyed").exists()


def test_a_chosen_time_is_reached_and_not_passed(trials: Trials, copies: Copies) -> None:
    checks = [count(equals=3001)]
    result = restored(trials, copies.place / "archived", checks=checks, at=copies.target,
                      point_at=copies.target - timedelta(minutes=1))  # fmt: skip
    assert judged(result) == PASSED, result
    assert result.target == copies.target
    (recovery,) = [check for check in result.checks if check.name == "recovery"]
    assert recovery.times["target"] == copies.target
    assert recovery.times["replayed"] <= copies.target
    assert recovery.numbers["timeline"] == 2


def test_a_stopped_servers_directory(trials: Trials, copies: Copies, tmp_path: Path) -> None:
    result = restored(trials, copies.place / "cold", checks=[count(equals=3501)])
    assert judged(result) == PASSED, result
    assert codes(result)["backup-label"] == "ok"
    assert codes(result)["manifest"] == "warning_no_manifest"
    broken = copies.copy("cold", tmp_path / "b")
    shutil.rmtree(broken / "data" / "pg_tblspc")  # as a copy that leaves links out
    assert judged(restored(trials, broken)) == failed("missing_object")


def test_a_missing_manifest_is_said_and_fails_nothing(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    broken = copies.copy("plain", tmp_path / "b")
    (broken / "data" / "backup_manifest").unlink()
    result = restored(trials, broken)
    assert judged(result) == PASSED
    assert codes(result)["manifest"] == "warning_no_manifest"


# ---- what is not


def segment(copy: Path, number: int) -> Path:
    """Return a segment of the archive that the backup needs, counted from its beginning."""
    label = (copy / "data" / "backup_label").read_text()
    first = int(label.split("(file ")[1][:24], 16)
    return copy / "wal" / f"{first + number:024X}"


@pytest.mark.parametrize("number", [0, 1], ids=["at its beginning", "on the way"])
def test_a_missing_segment(trials: Trials, copies: Copies, tmp_path: Path, number: int) -> None:
    broken = copies.copy("archived", tmp_path / "b")
    segment(broken, number).unlink()
    assert judged(restored(trials, broken)) == failed("wal_gap")


def test_a_damaged_segment_on_the_way(trials: Trials, copies: Copies, tmp_path: Path) -> None:
    broken = copies.copy("archived", tmp_path / "b")
    path = segment(broken, 1)
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(60)
    path.write_bytes(content)
    assert judged(restored(trials, broken)) == failed("wal_gap")


def test_a_time_beyond_the_log(trials: Trials, copies: Copies) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    result = restored(trials, copies.place / "archived", at=at)
    assert judged(result) == failed("target_not_reached")


def test_a_quiet_night_is_covered_by_the_archives_word(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    at = datetime.now(UTC)
    quiet = copies.copy("archived", tmp_path / "b")
    (quiet / "wal" / "covered-until").write_text((at + timedelta(minutes=1)).isoformat())
    result = restored(trials, quiet, at=at, checks=[count(equals=3501)])
    assert judged(result) == PASSED, result
    assert codes(result)["recovery"] == "warning_target_by_archive"


def test_another_timeline_without_its_history(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    broken = copies.copy("archived", tmp_path / "b")
    last = max((broken / "wal").glob("0" * 7 + "1" + "?" * 16))
    last.rename(last.with_name("00000002" + last.name[8:]))
    assert judged(restored(trials, broken)) == failed("wrong_timeline")
    # a history that leads elsewhere: the backup's place is not on its way
    (broken / "wal" / "00000002.history").write_text("1\t0/1000000\tno recovery target specified\n")
    assert judged(restored(trials, broken)) == failed("wrong_timeline")


def test_a_flipped_byte_against_manifest_and_page_checksum(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    broken = copies.copy("plain", tmp_path / "b")
    path = broken / "data" / copies.heap
    content = bytearray(path.read_bytes())
    content[8192 * 3 + 5000] ^= 0x10
    path.write_bytes(content)
    assert judged(restored(trials, broken)) == failed("corrupt")
    (broken / "data" / "backup_manifest").unlink()  # now the page's own checksum tells
    result = restored(trials, broken)
    assert judged(result) == failed("corrupt")
    assert [one.phase.value for one in result.phases if one.code == "corrupt"] == ["verify"]


def test_what_the_manifest_lists_and_the_copy_lacks(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    broken = copies.copy("plain", tmp_path / "b")
    (broken / "data" / copies.heap).unlink()
    assert judged(restored(trials, broken)) == failed("missing_object")
    shutil.rmtree(broken)
    broken = copies.copy("plain", tmp_path / "b")
    shutil.rmtree(broken / "spaces")
    assert judged(restored(trials, broken)) == failed("missing_object")


def test_a_lost_label(trials: Trials, copies: Copies, tmp_path: Path) -> None:
    broken = copies.copy("archived", tmp_path / "b")
    (broken / "data" / "backup_label").unlink()
    assert judged(restored(trials, broken)) == failed("missing_object")


def test_a_tar_cut_short(trials: Trials, copies: Copies, tmp_path: Path) -> None:
    broken = copies.copy("tar", tmp_path / "b")
    base = broken / "base.tar.gz"
    base.write_bytes(base.read_bytes()[: base.stat().st_size // 2])
    assert judged(restored(trials, broken)) == failed("truncated")


def test_a_tablespaces_tar_that_is_cut_or_gone(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    broken = copies.copy("tar", tmp_path / "b")
    (path,) = [one for one in broken.glob("*.tar.gz") if one.name[0].isdigit()]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert judged(restored(trials, broken)) == failed("truncated")
    path.unlink()
    assert judged(restored(trials, broken)) == failed("missing_object")


def test_another_major_version_that_is_not_installed(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    other = copies.copy("plain", tmp_path / "b")
    (other / "data" / "PG_VERSION").write_text("14\n")
    result = restored(trials, other)
    assert judged(result) == (Verdict.COULD_NOT_VERIFY, "program_missing")
    assert result.lacked == "postgresql-14"


def test_an_incremental_without_its_base(trials: Trials, copies: Copies, tmp_path: Path) -> None:
    broken = copies.copy("plain", tmp_path / "b")
    (broken / "data" / "backup_manifest").unlink()
    with (broken / "data" / "backup_label").open("a") as file:
        file.write("INCREMENTAL FROM LSN: 0/2000028\n")  # as PostgreSQL 17 writes it
    assert judged(restored(trials, broken)) == failed("missing_object")


def test_a_link_of_the_sources_leads_nowhere_outside(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "PG_15_202209061").mkdir()
    broken = copies.copy("plain", tmp_path / "b")
    (link,) = (broken / "data" / "pg_tblspc").iterdir()
    link.unlink()
    link.symlink_to(outside)
    assert judged(restored(trials, broken)) == failed("missing_object")
    assert list(outside.iterdir()) == [outside / "PG_15_202209061"]


def test_a_time_is_refused_where_no_log_can_lead_to_it(tmp_path: Path, copies: Copies) -> None:
    from restore_tests.sqlite import SQLITE

    path = tmp_path / "a.sqlite"
    path.write_bytes(b"SQLite format 3\x00" + bytes(84))
    trials = Trials(tmp_path / "t", engines={"sqlite": SQLITE}, now=datetime.now(UTC))
    (tmp_path / "t").mkdir()
    result = trials.restore(path, settings=None, at=copies.target,
                            point_at=copies.target - timedelta(hours=1))  # fmt: skip
    assert result.verdict is Verdict.COULD_NOT_VERIFY
    assert result.code in {"no_point_in_time", "not_a_dump"}
