"""A program of the site's in the sandbox: as an engine, and against a restored database (level 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backupguard.model import Baseline, Fingerprint, RestoreTestResult
from restore_tests.command import COMMAND
from restore_tests.settings import CommandSettings, ContentCheck, PostgresqlSettings, SiteProgram
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.hospital import Hospital

GOOD = 'echo \'{"check": "lisible", "verdict": "passed", "numbers": {"count": 12}}\''
CHECKS = ({"name": "lisible"},)
SHAPE = Baseline(fingerprint=Fingerprint(tables={"lisible": 12}), accepted=True, seq=3)


def script(directory: Path, *lines: str) -> Path:
    place = directory / "site"
    place.mkdir(exist_ok=True)
    program = place / "look"
    program.write_text("\n".join(("#!/bin/sh", *lines)) + "\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def tried(directory: Path, *lines: str, **changed: Any) -> RestoreTestResult:
    artifact = directory / "export.bin"
    artifact.write_bytes(b"ZZSECRETZZ" * 100)
    program = script(directory, *lines)
    trials = Trials(directory / "trials", engines={"command": COMMAND})
    trials.directory.mkdir(exist_ok=True)
    settings = CommandSettings(engine="command", program=program, checks=CHECKS, **changed)
    return trials.restore(artifact, settings=settings, baseline=SHAPE)


def told(result: RestoreTestResult) -> tuple[str, int, str | None]:
    return result.verdict.value, result.level, result.code


def test_a_program_that_answers_reaches_level_3_and_sees_nothing_else(tmp_path: Path) -> None:
    result = tried(
        tmp_path,
        'test "$(head -c 10 "$BACKUPGUARD_ARTIFACT")" = ZZSECRETZZ || exit 1',
        f'test ! -e "{tmp_path}" || exit 1',  # the host's own files
        "touch /scratch/room && ! touch /site/x 2>/dev/null || exit 1",
        GOOD,
    )
    assert told(result) == ("passed", 3, None)
    assert result.fingerprint == SHAPE.fingerprint
    assert [check.name for check in result.checks if check.configured] == ["lisible"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("exit 1",), ("failed", 1, "command_failed")),
        ((GOOD, "exit 7"), ("could_not_verify", 1, "unknown_exit")),
        ((GOOD.replace("passed", "failed"),), ("failed", 2, "command_failed")),
        (("true",), ("could_not_verify", 2, "check_unanswered")),
        (("echo ZZSECRETZZ", GOOD), ("could_not_verify", 2, "check_unanswered")),
        ((GOOD, GOOD), ("could_not_verify", 2, "check_unanswered")),
        ((GOOD.replace("lisible", "ZZSECRETZZ"),), ("could_not_verify", 2, "check_unanswered")),
        ((GOOD.replace("count", "ZZSECRETZZ"),), ("could_not_verify", 2, "check_unanswered")),
        (("yes ZZSECRETZZ | head -c 300000",), ("could_not_verify", 1, "unknown_exit")),
    ],
    ids=["refused", "exit-7", "wrong", "silent", "noise", "twice", "name", "number", "flood"],
)
def test_an_answer_that_is_not_one_proves_nothing_and_lets_nothing_out(
    tmp_path: Path, lines: tuple[str, ...], expected: tuple[str, int, str]
) -> None:
    result = tried(tmp_path, *lines)
    assert told(result) == expected
    assert "ZZSECRETZZ" not in repr(result)


@pytest.mark.parametrize(
    "changed",
    [
        {"program": "look"},
        {"program": "/usr/bin/env"},
        {"program": "/opt/site/look", "directory": "/opt/other"},
        {"program": "/opt/site/../../etc/passwd"},
        {"program": "/opt/site/look", "exit_codes": [0, 1]},
        {"program": "/opt/site/look", "checks": [{"name": "a"}, {"name": "a"}]},
    ],
    ids=["relative", "usr", "elsewhere", "dots", "both", "twice"],
)
def test_a_program_that_would_show_too_much_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SiteProgram.model_validate(changed)


QUERY = "/usr/bin/psql -X -A -t -c 'select count(*) from pg_class' >/dev/null || exit 1"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((QUERY, 'test ! -e "$PWD/../scratch/data" || exit 1', GOOD), ("passed", 4, None)),
        (("exit 1",), ("failed", 2, "command_failed")),
        (("exit 3", GOOD), ("could_not_verify", 2, "check_unanswered")),
    ],
    ids=["passed", "failed", "unknown"],
)
def test_the_application_is_replayed_against_the_restored_database(
    hospital: Hospital,
    clean_fingerprint: Fingerprint,
    trials: Trials,
    tmp_path: Path,
    lines: tuple[str, ...],
    expected: tuple[str, int, str | None],
) -> None:
    settings = PostgresqlSettings(
        engine="postgresql", memory=600_000_000, jobs=2,
        checks=(ContentCheck(name="vivant", sql="select 1", equals=1),),
        application=SiteProgram(program=script(tmp_path, *lines), checks=CHECKS),
    )  # fmt: skip
    baseline = Baseline(fingerprint=clean_fingerprint, accepted=True, seq=3)
    result = trials.restore(hospital.dump(), settings=settings, baseline=baseline)
    assert told(result) == expected
