"""Reports of jobs: what is one, what a spool may hold, and what an attacker in it can do."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard import job_reports
from backupguard.errors import Misunderstood
from backupguard.job_reports import (
    REPORT_LIMIT,
    JobReport,
    OpenToAll,
    read_report,
    spooled,
    too_far_ahead,
    write_report,
)
from backupguard.model import PointState

BEGAN = datetime(2026, 3, 5, 22, 0, tzinfo=UTC)
JOB = "dpi.nightly"


def report(**changes: Any) -> JobReport:
    values: dict[str, Any] = {
        "job": JOB,
        "id": "run-1",
        "state": "complete",
        "started_at": BEGAN,
        "ended_at": BEGAN + timedelta(hours=3),
        "exit_code": 0,
        "bytes": 1000,
        "files": 3,
        "host": "srv-dpi",
    }
    return JobReport.model_validate(values | changes)


def running() -> JobReport:
    return report(state="running", ended_at=None, exit_code=None, bytes=None, files=None)


def laid(spool: Path, name: str, content: bytes, job: str = JOB) -> Path:
    (spool / job).mkdir(parents=True, exist_ok=True)
    path = spool / job / name
    path.write_bytes(content)
    return path


def reports(spool: Path) -> list[JobReport | None]:
    return [found.report for found in spooled(spool, JOB)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write_report(tmp_path, report())
    assert path == tmp_path / JOB / "run-1.json"
    assert reports(tmp_path) == [report()]
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"job": "../../etc"}, "job"),
        ({"id": "../x"}, "id"),
        ({"id": ""}, "id"),
        ({"state": "fine"}, "state"),
        ({"started_at": "2026-03-05T22:00:00"}, "started_at"),
        ({"bytes": -1}, "bytes"),
        ({"bytes": 2**60}, "bytes"),
        ({"patient": "DUPONT"}, "patient"),
        ({"ended_at": None}, "JSON"),
        ({"ended_at": "2026-03-05T21:00:00Z"}, "JSON"),
        ({"exit_code": 1}, "JSON"),
        ({"version": 2}, "version"),
        ({"host": "a\nb"}, "host"),
    ],
)
def test_what_is_no_report_is_refused_by_the_name_of_its_member(
    change: dict[str, Any], where: str
) -> None:
    body = json.loads(report().model_dump_json()) | change
    with pytest.raises(Misunderstood) as caught:
        read_report(json.dumps(body).encode())
    assert str(caught.value.message.values["program"]).startswith(f"{where}: ")
    assert "DUPONT" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"job": "\xff"}', b"x" * 20_000])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(Misunderstood):
        read_report(text)


def test_the_end_of_a_run_replaces_its_beginning_and_nothing_replaces_an_end(
    tmp_path: Path,
) -> None:
    write_report(tmp_path, running())
    write_report(tmp_path, report())
    assert reports(tmp_path) == [report()]
    write_report(tmp_path, report())  # the same again: nothing to do
    for other in (running(), report(bytes=5), report(state="failed", exit_code=2)):
        with pytest.raises(FileExistsError):
            write_report(tmp_path, other)
    assert reports(tmp_path) == [report()]


def test_a_job_without_a_directory_has_no_reports(tmp_path: Path) -> None:
    assert reports(tmp_path) == []


def test_a_file_that_is_not_its_job_s_own_is_no_report(tmp_path: Path) -> None:
    body = report(job="ged.nightly").model_dump_json().encode()
    laid(tmp_path, "run-1.json", body)
    laid(tmp_path, "other-id.json", report().model_dump_json().encode())
    assert reports(tmp_path) == [None, None]


def test_half_written_and_foreign_files_are_not_looked_at(tmp_path: Path) -> None:
    laid(tmp_path, ".run-1.77", b"{")
    laid(tmp_path, "README", b"hello")
    assert reports(tmp_path) == []


def test_links_and_special_files_are_refused_and_never_wait(tmp_path: Path) -> None:
    good = tmp_path / "elsewhere.json"
    good.write_bytes(report().model_dump_json().encode())
    directory = tmp_path / JOB
    directory.mkdir()
    (directory / "run-1.json").symlink_to(good)
    os.link(good, directory / "hard.json")
    os.mkfifo(directory / "pipe.json")
    (directory / "tree.json").mkdir()
    assert reports(tmp_path) == [None, None, None, None]


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with laid(tmp_path, "huge.json", b"").open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would take for ever
    assert reports(tmp_path) == [None]
    laid(tmp_path, "huge.json", b" " * (REPORT_LIMIT + 1))
    assert reports(tmp_path) == [None]


def test_a_directory_that_anybody_may_write_into_is_refused(tmp_path: Path) -> None:
    write_report(tmp_path, report())
    (tmp_path / JOB).chmod(0o777)
    with pytest.raises(OpenToAll):
        reports(tmp_path)


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    write_report(tmp_path / "real", report())
    (tmp_path / JOB).symlink_to(tmp_path / "real" / JOB)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        reports(tmp_path)


def test_a_flood_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reports, "FILES_LIMIT", 20)
    directory = tmp_path / JOB
    directory.mkdir()
    for number in range(25):
        body = report(id=f"a{number:06}").model_dump_json()
        (directory / f"a{number:06}.json").write_text(body)
    assert [found is not None for found in reports(tmp_path)] == [True] * 20 + [False] * 5


def test_a_report_of_the_future_is_told_apart() -> None:
    assert not too_far_ahead(report(), BEGAN + timedelta(hours=3))
    assert not too_far_ahead(running(), BEGAN - timedelta(minutes=9))
    assert too_far_ahead(running(), BEGAN - timedelta(minutes=11))
    assert report().state is PointState.COMPLETE
