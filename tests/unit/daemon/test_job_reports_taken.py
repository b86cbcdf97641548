"""Reports over HTTP: whose token speaks for which job, and what strangers learn (nothing)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backupguard.daemon import job_reports
from backupguard.daemon.job_reports import JobReports
from backupguard.job_reports import REPORT_LIMIT
from backupguard.settings import Settings
from backupguard.settings.loading import model_for
from backupguard.web.app import create_app
from backupguard.web.published import Outputs

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)
TOKEN = "a-long-and-random-token"
OTHER_TOKEN = "the-token-of-ged"


def body(**changes: Any) -> bytes:
    values = {
        "job": "dpi.nightly",
        "id": "run-5",
        "state": "complete",
        "started_at": "2026-03-05T22:00:00Z",
        "ended_at": "2026-03-06T01:00:00Z",
        "exit_code": 0,
    }
    return json.dumps({k: v for k, v in (values | changes).items() if v is not None}).encode()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name, token in (("dpi", TOKEN), ("ged", OTHER_TOKEN)):
        (tmp_path / name).write_text(token + "\n")
        (tmp_path / name).chmod(0o600)
    backups = {"repository": "scripts", "every": "24h"}
    data = {
        "site": {"name": "x"},
        "repositories": {
            "scripts": {
                "type": "reported",
                "spool": str(tmp_path / "spool"),
                "tokens": {
                    "dpi.nightly": {"file": str(tmp_path / "dpi")},
                    "ged.nightly": {"file": str(tmp_path / "ged")},
                    "lost.nightly": {"file": str(tmp_path / "lost")},
                },
            },
            "nas": {"type": "directory", "path": "/srv"},
        },
        "applications": {
            "dpi": {"name": "DPI", "criticality": "C1", "backups": {"nightly": backups}},
            "ged": {"name": "GED", "criticality": "C2", "backups": {"nightly": backups}},
            "lost": {"name": "L", "criticality": "C3", "backups": {"nightly": backups}},
            "mute": {"name": "M", "criticality": "C3", "backups": {"nightly": backups}},
            "seen": {
                "name": "S",
                "criticality": "C3",
                "backups": {"nightly": backups | {"repository": "nas"}},
            },
        },
    }
    return model_for(data).model_validate(data)


@pytest.fixture
def taken(settings: Settings) -> JobReports:
    return JobReports(lambda: settings, lambda: NOW)


def test_a_report_is_laid_into_the_spool_once(taken: JobReports, tmp_path: Path) -> None:
    assert taken.take(TOKEN, body())[0] == 201
    assert (tmp_path / "spool/dpi.nightly/run-5.json").exists()
    assert taken.take(TOKEN, body())[0] == 200


@pytest.mark.parametrize("token", [None, "", "wrong", OTHER_TOKEN, TOKEN + "x", "é"])
def test_a_wrong_token_speaks_for_nobody(
    taken: JobReports, tmp_path: Path, token: str | None
) -> None:
    assert taken.take(token, body())[0] == 401
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("job", ["ged.nightly", "mute.nightly", "seen.nightly", "no.such", "dpi"])
def test_strangers_learn_no_names_of_jobs(taken: JobReports, job: str) -> None:
    assert taken.take(TOKEN, body(job=job)) == taken.take("wrong", body())


def test_a_job_without_a_token_takes_no_empty_one(taken: JobReports) -> None:
    assert taken.take("", body(job="mute.nightly"))[0] == 401
    assert taken.take(None, body(job="mute.nightly"))[0] == 401


def test_a_token_that_cannot_be_read_is_our_trouble(taken: JobReports) -> None:
    assert taken.take(TOKEN, body(job="lost.nightly"))[0] == 503


def test_a_token_that_others_may_read_is_not_used(taken: JobReports, tmp_path: Path) -> None:
    (tmp_path / "dpi").chmod(0o644)
    assert taken.take(TOKEN, body())[0] == 503


def test_a_second_story_of_a_run_is_refused(taken: JobReports) -> None:
    assert taken.take(TOKEN, body(state="failed", exit_code=2))[0] == 201
    assert taken.take(TOKEN, body())[0] == 409


@pytest.mark.parametrize("hours", [-1, 24 * 8])
def test_a_run_of_the_future_or_of_long_ago_is_refused(taken: JobReports, hours: int) -> None:
    began = NOW - timedelta(hours=hours)
    changed = body(started_at=began.isoformat(), ended_at=(began).isoformat())
    assert taken.take(TOKEN, changed)[0] == 422


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", body(patient="DUPONT")])
def test_what_is_no_report_is_refused_without_its_values(taken: JobReports, text: bytes) -> None:
    status, line = taken.take(TOKEN, text)
    assert status == 400
    assert "DUPONT" not in line


def test_a_flood_is_slowed_down(taken: JobReports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reports, "PER_MINUTE", 3)
    answers = [taken.take("wrong", body())[0] for _ in range(6)]
    assert answers.count(401) >= 3
    assert 429 in answers
    assert taken.take(TOKEN, body())[0] == 201, "strangers use up nothing of a job's"
    answers = [taken.take(TOKEN, body())[0] for _ in range(6)]
    assert 429 in answers


def test_a_spool_that_cannot_be_written_is_our_trouble(taken: JobReports, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    assert taken.take(TOKEN, body())[0] == 503


# ------------------------------------------------------------------------------------- over HTTP


def post(
    take: Callable[[str | None, bytes], tuple[int, str]] | None,
    content: bytes,
    *,
    client: str = "127.0.0.1",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    outputs = Outputs(reports=Path("/nowhere"), runbooks=None, take_report=take)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(outputs), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return await http.request(method, "/api/v1/runs", content=content, headers=headers)

    return asyncio.run(ask())


def test_the_bearer_token_is_handed_on(taken: JobReports) -> None:
    answer = post(taken.take, body(), headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.text) == (201, "taken\n")


@pytest.mark.parametrize("headers", [{}, {"authorization": TOKEN}, {"authorization": "Basic eA=="}])
def test_without_a_bearer_token_nothing_is_taken(
    taken: JobReports, headers: dict[str, str]
) -> None:
    answer = post(taken.take, body(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("client", ["192.0.2.7", "::ffff:192.0.2.7", "strange"])
def test_a_token_that_crossed_a_network_in_clear_is_refused(taken: JobReports, client: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert post(taken.take, body(), client=client, headers=headers).status_code == 403


def test_too_much_is_refused_before_it_is_read_whole(taken: JobReports) -> None:
    assert post(taken.take, b" " * (REPORT_LIMIT + 1)).status_code == 413


def test_only_a_post_is_taken_and_only_where_somebody_takes_it(taken: JobReports) -> None:
    assert post(taken.take, b"", method="GET").status_code == 405
    assert post(taken.take, b"", method="DELETE").status_code == 405
    assert post(None, body()).status_code == 404
