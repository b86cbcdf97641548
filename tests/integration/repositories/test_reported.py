"""Jobs that report themselves: the letter box, the record that outlives it, and who may speak."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import JobSelector
from backupguard.errors import AccessRefused
from backupguard.job_reports import JobReport, write_report
from backupguard.model import PointState, RecoveryPoint
from backupguard.repositories.reported import REFUSED, REPORTED, ReportedSettings
from backupguard.testing.contexts import TestContext, context
from backupguard.testing.repositories import RepositoryCase, RepositoryContract

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)
NIGHTLY = JobSelector(job="dpi.nightly", application="dpi")
OTHER = JobSelector(job="ged.weekly", application="ged")


def report(day: int, **changes: Any) -> JobReport:
    began = datetime(2026, 3, day, 22, 0, tzinfo=UTC)
    values: dict[str, Any] = {
        "job": NIGHTLY.job,
        "id": f"run-{day}",
        "state": "complete",
        "started_at": began,
        "ended_at": began + timedelta(hours=3),
        "exit_code": 0,
        "bytes": 10**9,
        "files": 12,
        "host": "srv-dpi",
    }
    return JobReport.model_validate(values | changes)


def began(day: int) -> JobReport:
    return report(day, state="running", ended_at=None, exit_code=None, bytes=None, files=None)


@pytest.fixture
def here(tmp_path: Path) -> TestContext:
    made = context(tmp_path / "context")
    made.clock.moment = NOW
    return made


def points(here: TestContext, spool: Path, *jobs: JobSelector) -> list[RecoveryPoint]:
    settings = ReportedSettings(type="reported", spool=spool)
    with REPORTED.open("scripts", settings, here) as repository:
        return sorted(repository.points(jobs or (NIGHTLY,)), key=lambda point: point.at)


def warnings(here: TestContext, spool: Path) -> tuple[str, ...]:
    settings = ReportedSettings(type="reported", spool=spool)
    with REPORTED.open("scripts", settings, here) as repository:
        list(repository.points((NIGHTLY,)))
        return repository.inspect().warnings


def recorded(here: TestContext, *known: RecoveryPoint) -> None:
    here.known.standing_points[NIGHTLY.job, "scripts"] = known


class TestContract(RepositoryContract):
    @pytest.fixture
    def case(self, tmp_path: Path, here: TestContext) -> RepositoryCase:
        spool = tmp_path / "spool"
        for day in (2, 3, 4):
            write_report(spool, report(day))
        write_report(spool, report(5, job=OTHER.job))
        return RepositoryCase(
            kind=REPORTED,
            root=spool,
            settings_at=lambda root: ReportedSettings(type="reported", spool=root),
            jobs=(NIGHTLY, OTHER),
            context=here,
            files=0,
        )


def test_a_report_is_a_point_with_what_it_told(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, report(5))
    (point,) = points(here, tmp_path)
    assert (point.native_id, point.at) == ("run-5", datetime(2026, 3, 5, 22, tzinfo=UTC))
    assert (point.bytes, point.files, point.source_host) == (10**9, 12, "srv-dpi")
    assert point.state is PointState.COMPLETE
    assert warnings(here, tmp_path) == ()


@pytest.mark.parametrize("state", ["warning", "failed"])
def test_what_was_no_success_is_none(tmp_path: Path, here: TestContext, state: str) -> None:
    write_report(tmp_path, report(5, state=state, exit_code=1))
    assert [point.state.value for point in points(here, tmp_path)] == [state]


def test_a_run_that_began_and_never_ended_has_failed(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, began(4))
    write_report(tmp_path, began(5))
    assert [point.state for point in points(here, tmp_path)] == [
        PointState.FAILED,
        PointState.RUNNING,
    ]


def test_the_late_end_of_a_run_is_believed(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, began(4))
    recorded(here, *points(here, tmp_path))
    write_report(tmp_path, report(4))
    assert [point.state for point in points(here, tmp_path)] == [PointState.COMPLETE]


def test_what_is_recorded_leaves_the_letter_box_and_stays_a_point(
    tmp_path: Path, here: TestContext
) -> None:
    path = write_report(tmp_path, report(5))
    seen = points(here, tmp_path)
    assert path.exists(), "it is not recorded yet: a kill now must lose nothing"
    recorded(here, *seen)
    assert points(here, tmp_path) == seen
    assert not path.exists()
    assert points(here, tmp_path) == seen


def test_a_replayed_report_changes_nothing(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, report(5))
    seen = points(here, tmp_path)
    recorded(here, *seen)
    points(here, tmp_path)
    write_report(tmp_path, report(5))  # the same letter again
    assert points(here, tmp_path) == seen
    assert warnings(here, tmp_path) == ()


def test_a_forged_second_story_of_a_run_is_refused_and_told(
    tmp_path: Path, here: TestContext
) -> None:
    write_report(tmp_path, report(5, state="failed", exit_code=2))
    seen = points(here, tmp_path)
    recorded(here, *seen)
    points(here, tmp_path)
    write_report(tmp_path, report(5))  # "it went well after all"
    assert points(here, tmp_path) == seen
    assert warnings(here, tmp_path) == (REFUSED,)


def test_a_hostile_file_hides_no_other_report(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, report(5))
    directory = tmp_path / NIGHTLY.job
    (directory / "a.json").symlink_to("/etc/passwd")
    (directory / "b.json").write_bytes(b"\xff" * 50)
    os.mkfifo(directory / "c.json")
    assert [point.native_id for point in points(here, tmp_path)] == ["run-5"]
    assert warnings(here, tmp_path) == (REFUSED,)


def test_a_run_in_the_future_is_refused_and_told(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, report(20))
    assert points(here, tmp_path) == []
    assert warnings(here, tmp_path) == (REFUSED,)


def test_a_job_speaks_for_itself_only(tmp_path: Path, here: TestContext) -> None:
    path = write_report(tmp_path, report(5))
    (tmp_path / OTHER.job).mkdir()
    path.rename(tmp_path / OTHER.job / path.name)
    assert points(here, tmp_path, OTHER) == []


def test_a_spool_that_everybody_may_write_into_is_no_word_of_the_job(
    tmp_path: Path, here: TestContext
) -> None:
    write_report(tmp_path, report(5))
    (tmp_path / NIGHTLY.job).chmod(0o777)
    with pytest.raises(AccessRefused) as caught:
        points(here, tmp_path)
    assert caught.value.code == "permission"


def test_old_reports_are_forgotten(tmp_path: Path, here: TestContext) -> None:
    write_report(tmp_path, report(5))
    (point,) = points(here, tmp_path)
    recorded(here, replace(point, native_id="old", at=NOW - timedelta(days=401)), point)
    assert [kept.native_id for kept in points(here, tmp_path)] == ["run-5"]
