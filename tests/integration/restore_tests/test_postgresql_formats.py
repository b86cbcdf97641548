"""Every format of a sound dump passes, every cut one fails, and nothing is left behind."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.model import Baseline, Fingerprint, Phase, Verdict
from restore_tests.settings import PostgresqlSettings
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.hospital import Hospital

CHECKS = [
    {"name": "admissions", "sql": "select max(admitted_at) from clinic.stays", "newer-than": "26h"},
    {"name": "patients", "sql": "select count(*) from clinic.patients", "at-least": 1000},
]


def settings(**values: object) -> PostgresqlSettings:
    return PostgresqlSettings.model_validate(
        {"engine": "postgresql", "memory": "600MB", "jobs": 2, **values}
    )


def accepted(shape: Fingerprint) -> Baseline:
    return Baseline(fingerprint=shape, accepted=True, seq=1)


def warnings(result) -> list[str]:
    return [check.code for check in result.checks if check.code != "ok"]


def test_a_sound_dump_reaches_level_three_and_tells_how_much_was_lost(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    result = trials.restore(
        hospital.dump(),
        settings=settings(checks=CHECKS, **{"required-tables": ["patients", "clinic.present"]}),
        baseline=accepted(clean_fingerprint),
        rpo=timedelta(hours=24),
    )
    assert (result.verdict, result.code, result.level) == (Verdict.PASSED, None, 3)
    assert warnings(result) == []
    assert [done.phase for done in result.phases] == list(Phase)
    assert [fact.data["phase"] for fact in trials.facts] == [phase.value for phase in Phase]
    # The newest stay lies 20 minutes before the source's newest moment, 30 before the point.
    assert result.data_loss_ms == 50 * 60 * 1000
    assert result.fingerprint.tables["clinic.observations"] == 20000
    assert result.fingerprint.objects["large-object"] == 20
    assert result.tools["postgresql"].startswith("15.")


@pytest.mark.parametrize("form", ["directory", "tar", "plain"])
def test_every_format_restores_the_same(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint, form: str
) -> None:
    result = trials.restore(
        hospital.dump(form=form), settings=settings(), baseline=accepted(clean_fingerprint)
    )
    assert (result.verdict, result.code, result.level) == (Verdict.PASSED, None, 2)
    assert warnings(result) == []
    assert result.fingerprint == clean_fingerprint


@pytest.mark.parametrize(
    ("form", "how"), [("plain", "gz"), ("plain", "xz"), ("plain", "zst"), ("tar", "gz")]
)
def test_every_compression_restores_the_same(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint, form: str, how: str
) -> None:
    dump = hospital.compressed(hospital.dump(form=form), how)
    result = trials.restore(dump, baseline=accepted(clean_fingerprint))
    assert (result.verdict, result.code) == (Verdict.PASSED, None)
    assert result.fingerprint == clean_fingerprint


@pytest.mark.parametrize(
    "options", [("--clean",), ("--create", "--clean"), ("--inserts", "--rows-per-insert=100")]
)
def test_what_pg_dump_may_add_to_a_plain_dump_is_no_defect(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint, options: tuple[str, ...]
) -> None:
    result = trials.restore(
        hospital.dump("dpi", "plain", *options), baseline=accepted(clean_fingerprint)
    )
    assert (result.verdict, result.code) == (Verdict.PASSED, None)
    assert result.fingerprint == clean_fingerprint


def test_a_directory_that_holds_one_dump_is_that_dump(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    shutil.copy(hospital.dump(), folder / "dpi.dump")
    (folder / "README").write_text("every night at ten")
    assert trials.restore(folder).verdict is Verdict.PASSED
    shutil.copy(hospital.dump(form="tar"), folder / "dpi.tar")
    result = trials.restore(folder)
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "ambiguous_artifact")


def cut(source: Path, target: Path, percent: int = 60) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: len(data) * percent // 100])
    return target


@pytest.mark.parametrize("form", ["custom", "tar", "plain", "plain.gz", "plain.xz", "plain.zst"])
def test_a_dump_cut_at_sixty_percent_fails(
    hospital: Hospital, trials: Trials, tmp_path: Path, form: str
) -> None:
    base, _, how = form.partition(".")
    dump = hospital.dump(form=base)
    dump = hospital.compressed(dump, how) if how else dump
    result = trials.restore(cut(dump, tmp_path / dump.name))
    assert result.verdict is Verdict.FAILED
    assert result.code in {"truncated", "corrupt"}
    assert result.level == 1


def test_a_directory_dump_that_was_cut_fails(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    whole = hospital.dump(form="directory")
    largest = max(whole.glob("*.dat.gz"), key=lambda path: path.stat().st_size)
    shutil.copytree(whole, tmp_path / "cut")
    cut(largest, tmp_path / "cut" / largest.name)
    result = trials.restore(tmp_path / "cut")
    assert (result.verdict, result.code in {"truncated", "corrupt"}) == (Verdict.FAILED, True), (
        result
    )
    shutil.copytree(whole, tmp_path / "lacking")
    (tmp_path / "lacking" / largest.name).unlink()
    result = trials.restore(tmp_path / "lacking")
    assert (result.verdict, result.code) == (Verdict.FAILED, "missing_object")


def test_a_plain_dump_cut_at_a_line_end_inside_a_copy_fails(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    lines = hospital.dump(form="plain").read_bytes().splitlines(keepends=True)
    start = next(n for n, line in enumerate(lines) if line.startswith(b"COPY clinic.observations"))
    path = tmp_path / "cut.sql"
    path.write_bytes(b"".join(lines[: start + 12000]))
    result = trials.restore(path)
    assert (result.verdict, result.code) == (Verdict.FAILED, "truncated")


def test_a_flipped_byte_fails(hospital: Hospital, trials: Trials, tmp_path: Path) -> None:
    data = bytearray(hospital.dump().read_bytes())
    data[len(data) * 2 // 3] ^= 0xFF
    (tmp_path / "flipped.dump").write_bytes(data)
    result = trials.restore(tmp_path / "flipped.dump")
    assert (result.verdict, result.code) == (Verdict.FAILED, "corrupt")


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00" + bytes(8)]
)
def test_an_empty_dump_fails(trials: Trials, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.dump").write_bytes(content)
    result = trials.restore(tmp_path / "empty.dump")
    assert (result.verdict, result.code, result.level) == (Verdict.FAILED, "empty", 1)


def test_an_error_message_in_place_of_a_dump_fails(
    trials: Trials, tmp_path: Path, clean_fingerprint: Fingerprint
) -> None:
    path = tmp_path / "dpi.sql"
    path.write_text('pg_dump: error: connection failed: FATAL: role "Dupont" does not exist\n')
    result = trials.restore(path)
    assert (result.verdict, result.code) == (Verdict.FAILED, "not_a_dump")
    unnamed = trials.restore(path, settings=None)
    assert (unnamed.verdict, unnamed.code) == (Verdict.COULD_NOT_VERIFY, "unrecognised_artifact")
    known = trials.restore(path, settings=None, previous=clean_fingerprint)
    assert (known.verdict, known.code) == (Verdict.FAILED, "not_a_dump")


def test_a_dump_of_a_newer_postgresql_cannot_be_verified_here(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    newer = hospital.dump().read_bytes().replace(b"\x0015.", b"\x0098.", 2)
    (tmp_path / "newer.dump").write_bytes(newer)
    result = trials.restore(tmp_path / "newer.dump")
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "version_unsupported")
    text = hospital.dump(form="plain").read_text().replace("version 15.", "version 98.")
    (tmp_path / "newer.sql").write_text(text)
    result = trials.restore(tmp_path / "newer.sql")
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "version_unsupported")


def test_an_archive_format_of_the_future_cannot_be_verified_here(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    data = bytearray(hospital.dump().read_bytes())
    # Same head otherwise: versions from 1.15 on hold the compression in one byte, not in five.
    data[6] = 15
    data[11:16] = b"\x01"
    (tmp_path / "future.dump").write_bytes(data)
    result = trials.restore(tmp_path / "future.dump")
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "version_unsupported")


def test_an_extension_that_is_not_installed_is_no_defect(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    statement = "CREATE EXTENSION IF NOT EXISTS timescale_of_nowhere WITH SCHEMA public;\n"
    text = hospital.dump(form="plain").read_text()
    path = tmp_path / "extension.sql"
    path.write_text(
        text.replace("CREATE TYPE clinic.sexe", statement + "CREATE TYPE clinic.sexe", 1)
    )
    result = trials.restore(path)
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "extension_missing")


def test_an_extension_in_an_archive_is_missed_before_anything_is_loaded(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    database = hospital.variant("extended", "create extension pg_trgm")
    assert trials.restore(hospital.dump(database)).verdict is Verdict.PASSED
    data = hospital.dump(database).read_bytes().replace(b"pg_trgm", b"pg_tr_m")
    (tmp_path / "extended.dump").write_bytes(data)
    result = trials.restore(tmp_path / "extended.dump")
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "extension_missing")
    assert result.phases[-2].phase is Phase.PREPARE
