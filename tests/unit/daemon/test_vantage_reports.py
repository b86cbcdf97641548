"""What a vantage point posts: believed when it is signed, fresh, new, and of the targets of now."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backupguard.daemon import vantage_reports
from backupguard.daemon.vantage_reports import VantageReports
from backupguard.errors import StoreError
from backupguard.evidence.kinds import check_payload
from backupguard.model import Fact, Observation, to_us
from backupguard.settings import Settings
from backupguard.web.app import VANTAGE_LIMIT, create_app
from backupguard.web.published import Outputs
from probes.isolation_vantage import signature
from tests.integration.isolation.places import KEY, settings

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)
ROW = {
    "target": "coffre",
    "name": "localhost",
    "address": "127.0.0.1",
    "family": "ipv4",
    "port": 445,
    "outcome": "refused",
}


def body(at: datetime = NOW, **changes: Any) -> bytes:
    moment = to_us(at)
    values = {
        "version": 1,
        "vantage": "bureautique",
        "nonce": "ab" * 16,
        "sequence": moment,
        "sent_at": moment,
        "began_at": moment - 2_000_000,
        "ended_at": moment - 1_000_000,
        "witness": "localhost:1",
        "families": ["ipv4"],
        "rows": [ROW, ROW | {"address": "::1", "family": "ipv6", "outcome": "filtered"}],
    }
    return json.dumps(values | changes).encode()


def signed(content: bytes, key: str = KEY) -> str:
    return signature(key.encode(), content)


class Facts:
    """The little of a store that is asked for; the real one takes part in `test_vantage_program`."""

    def __init__(self) -> None:
        self.kept: list[Fact] = []
        self.sealed = 0

    def append(self, new: list[Observation]) -> None:
        for one in new:
            check_payload(one.kind, one.kind_version, one.data)
            seq = len(self.kept) + 1
            self.kept.append(
                Fact(seq=seq, recorded_at=NOW, run=None, author=None, hash=b"", observation=one)
            )

    def latest(self, subjects: list[str], kinds: list[str]) -> Any:
        return {subjects[0]: {kinds[0]: self.kept[-1]} if self.kept else {}}

    def seal(self) -> None:
        self.sealed = len(self.kept)


@pytest.fixture
def store() -> Facts:
    return Facts()


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return settings(tmp_path)


@pytest.fixture
def reports(store: Facts, place: Settings) -> VantageReports:
    return VantageReports(lambda: place, store, lambda: NOW)  # type: ignore[arg-type]


def take(reports: VantageReports, content: bytes, vantage: str = "bureautique") -> tuple[int, str]:
    return reports.take(vantage, signed(content), content)


def seen(store: Facts) -> Any:
    return [fact.observation for fact in store.kept]


def test_a_report_becomes_one_fact(reports: VantageReports, store: Facts) -> None:
    assert take(reports, body()) == (201, "taken")
    (found,) = seen(store)
    assert found.subject == "vantage/bureautique"
    assert found.data["zone"] == "bureautique"
    assert found.data["witness"] is True
    assert found.data["code"] is None
    assert [row["outcome"] for row in found.data["rows"]] == ["refused", "filtered"]
    assert store.sealed == 1
    assert KEY not in json.dumps(found.data)


def test_a_report_is_taken_once(reports: VantageReports, store: Facts) -> None:
    assert take(reports, body())[0] == 201
    assert take(reports, body()) == (200, "known")
    assert take(reports, body(nonce="cd" * 16)) == (200, "known"), "the same look, sent again"
    older = to_us(NOW) - 60_000_000
    assert take(reports, body(sequence=older))[0] == 409
    assert len(seen(store)) == 1


def test_a_report_of_yesterday_cannot_be_played_again_today(
    reports: VantageReports, store: Facts, place: Settings
) -> None:
    yesterday = body(NOW - timedelta(days=1))
    status, line = take(reports, yesterday)
    assert (status, line) == (422, "its clock differs by -86400 s")
    assert seen(store) == []


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_may_differ_and_the_age_is_counted_by_one(
    reports: VantageReports, store: Facts, minutes: int
) -> None:
    assert take(reports, body(NOW + timedelta(minutes=minutes)))[0] == 201
    (found,) = seen(store)
    assert found.observed_at == NOW - timedelta(seconds=1)
    assert found.data["skew_ms"] == minutes * 60_000


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sent_at": to_us(NOW + timedelta(minutes=6))}, 422),
        ({"sent_at": to_us(NOW - timedelta(minutes=6))}, 400),  # sent before it ended
        ({"ended_at": to_us(NOW - timedelta(hours=27)), "began_at": 0}, 422),
        ({"began_at": to_us(NOW - timedelta(hours=2))}, 422),
        ({"sequence": to_us(NOW + timedelta(days=3650))}, 422),
    ],
    ids=["ahead", "disordered", "old", "long", "sequence"],
)
def test_times_that_cannot_be_are_refused(
    reports: VantageReports, store: Facts, changes: dict[str, Any], status: int
) -> None:
    assert take(reports, body(**changes))[0] == status
    assert seen(store) == []


def test_what_waited_for_the_server_counts_for_when_it_was_seen(
    reports: VantageReports, store: Facts
) -> None:
    ended = to_us(NOW - timedelta(hours=20))
    assert take(reports, body(began_at=ended, ended_at=ended, sequence=ended))[0] == 201
    (found,) = seen(store)
    assert found.observed_at == NOW - timedelta(hours=20)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": []},
        {"rows": [ROW, ROW | {"port": 22}]},
        {"rows": [ROW | {"port": 22}]},
        {"rows": [ROW | {"target": "ancien"}]},
        {"witness": "127.0.0.1:1"},
    ],
    ids=["nothing", "more", "other-port", "other-target", "other-witness"],
)
def test_yesterdays_targets_prove_nothing_for_todays(
    reports: VantageReports, store: Facts, changes: dict[str, Any]
) -> None:
    status, line = take(reports, body(**changes))
    assert status == 409
    assert "configuration" in line
    assert seen(store) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"patient": "DUPONT"},
        {"rows": [ROW | {"patient": "DUPONT"}]},
        {"rows": [ROW | {"outcome": "DUPONT"}]},
        {"rows": [ROW | {"address": "DUPONT"}]},
        {"rows": [ROW | {"address": None}]},
        {"rows": [ROW | {"family": "ipv6"}]},
        {"rows": [ROW | {"port": "445"}]},
        {"nonce": ""},
        {"vantage": "dmz"},
        {"sequence": 1.5},
    ],
    ids=str,
)
def test_what_is_no_report_is_refused_without_its_values(
    reports: VantageReports, store: Facts, changes: dict[str, Any]
) -> None:
    status, line = take(reports, body(**changes))
    assert status == 400
    assert "DUPONT" not in line
    assert seen(store) == []


def test_a_forged_report_is_refused(reports: VantageReports, store: Facts) -> None:
    content = body()
    closed = content.replace(b"refused", b"filtered")
    assert reports.take("bureautique", signed(content), closed)[0] == 401
    assert reports.take("bureautique", signed(content, "x" * 64), content)[0] == 401
    assert seen(store) == []


def test_strangers_learn_no_names(reports: VantageReports) -> None:
    """Unknown, known with a wrong signature, known with a key that cannot be read: one answer."""
    answers = {
        reports.take(name, sign, body())
        for name in (None, "", "bureautique", "dmz", "self", "../x")
        for sign in (None, "", "é", "0" * 64)
    }
    assert len(answers) == 1


def test_without_a_usable_key_nothing_is_believed(
    reports: VantageReports, store: Facts, tmp_path: Path
) -> None:
    content = body(vantage="dmz")
    for key in (b"-", b"", b"short"):
        assert reports.take("dmz", signature(key, content), content)[0] == 401
    (tmp_path / "missing.key").write_text("short\n")
    (tmp_path / "missing.key").chmod(0o600)
    assert reports.take("dmz", signature(b"short", content), content)[0] == 401
    (tmp_path / "vantage.key").chmod(0o644)
    assert take(reports, body())[0] == 401


def test_a_flood_of_strangers_uses_up_nothing_of_a_vantage_point(
    reports: VantageReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vantage_reports, "PER_MINUTE", 3)
    answers = [reports.take("bureautique", "0" * 64, body())[0] for _ in range(6)]
    assert 429 in answers
    assert take(reports, body())[0] == 201
    assert 429 in [take(reports, body())[0] for _ in range(6)]


def test_a_silent_witness_is_recorded_as_such(reports: VantageReports, store: Facts) -> None:
    assert take(reports, body(families=[]))[0] == 201
    (found,) = seen(store)
    assert found.data["witness"] is False
    assert found.data["code"] == "witness_silent"


def test_a_window_is_known_by_the_server_in_local_time(store: Facts, tmp_path: Path) -> None:
    target = {"hosts": ["localhost"], "ports": [445], "repositories": ["coffre"]}
    for windows, expected in (
        (["Fri 09:30-10:30"], True),  # 09:00 UTC is 10:00 in Paris
        (["Fri 08:30-09:30"], False),
        ([], False),
    ):
        place = settings(tmp_path, targets={"coffre": {**target, "windows": windows}})
        reports = VantageReports(lambda place=place: place, store, lambda: NOW)  # type: ignore[misc]
        number = to_us(NOW) + len(seen(store))
        assert take(reports, body(sequence=number))[0] == 201
        assert seen(store)[-1].data["rows"][0]["announced"] is expected


def test_a_store_that_cannot_record_is_our_trouble(place: Settings, store: Facts) -> None:
    def full(_work: object) -> tuple[int, str]:
        raise StoreError("full")

    assert take(VantageReports(lambda: place, store, lambda: NOW, full), body())[0] == 503


# ------------------------------------------------------------------------------------- over HTTP


def post(
    reports: VantageReports | None,
    content: bytes,
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> httpx.Response:
    take = reports.take if reports is not None else None
    outputs = Outputs(reports=Path("/nowhere"), runbooks=None, take_vantage=take)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(outputs), client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return await http.request(method, "/api/v1/vantage", content=content, headers=headers)

    return asyncio.run(ask())


def test_over_http_headers_carry_name_and_signature(reports: VantageReports) -> None:
    content = body()
    headers = {
        "X-BackupGuard-Vantage": "bureautique",
        "X-BackupGuard-Signature": signed(content),
    }
    answer = post(reports, content, headers)
    assert (answer.status_code, answer.text) == (201, "taken\n")
    assert post(reports, content).status_code == 401
    assert post(reports, b" " * (VANTAGE_LIMIT + 1), headers).status_code == 413
    assert post(reports, content, headers, "PUT").status_code == 405
    assert post(reports, content, headers, "GET").status_code == 405
    assert post(None, content, headers).status_code == 404
