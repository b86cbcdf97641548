"""The program of a vantage point, run as it is shipped: alone, and without any package."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Store
from backupguard.daemon.vantage_reports import VantageReports
from backupguard.model import from_us
from backupguard.runs import utc_now
from backupguard.store import open_store
from probes import isolation_vantage as vantage
from tests.integration.isolation.places import KEY, free_port, listening, settings

PROGRAM = Path(vantage.__file__)


class Server(HTTPServer):
    """A BackupGuard that takes reports; `answer` instead when it is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reports: VantageReports | None = None
        self.answer: int | None = None
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(body)
        status, line = 500, ""
        if self.server.answer is not None:
            status = self.server.answer
        elif self.server.reports is not None:
            status, line = self.server.reports.take(
                self.headers["x-backupguard-vantage"],
                self.headers["x-backupguard-signature"],
                body,
            )
        self.server.statuses.append(status)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(line.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store", None, site="x", timezone="UTC")
    yield opened
    opened.close()


class Place:
    """A vantage point: its configuration, its key and its state."""

    def __init__(self, directory: Path, url: str, witness: str, ports: list[int]) -> None:
        self.directory = directory
        self.state = directory / "spool"
        self.state.mkdir()
        self.key = directory / "key"
        self.key.write_text(KEY + "\n")
        self.key.chmod(0o600)
        self.config: dict[str, Any] = {
            "version": 1,
            "vantage": "bureautique",
            "url": url,
            "witness": witness,
            "key-file": str(self.key),
            "max-age-s": 93600,
            "targets": {"coffre": {"hosts": ["127.0.0.1", "::1"], "ports": ports}},
        }

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        file = self.directory / "config.json"
        file.write_text(json.dumps(self.config))
        command = [sys.executable, "-I", "-S", str(PROGRAM), "--config", str(file)]
        command += ["--state", str(self.state), *options]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, env={})
        assert KEY not in told.stdout + told.stderr
        assert "Traceback" not in told.stderr
        return told

    def kept(self) -> list[str]:
        return sorted(p.name for p in self.state.glob("[0-9]*.json"))


def test_from_the_program_to_the_fact(server: Server, store: Store, tmp_path: Path) -> None:
    with listening() as witness, listening() as opened:
        closed = free_port()
        place = Place(
            tmp_path,
            f"http://127.0.0.1:{server.server_port}/api/v1/vantage",
            f"127.0.0.1:{witness}",
            [opened, closed],
        )
        target = {"hosts": ["127.0.0.1", "::1"], "ports": [opened, closed]}
        ours = settings(
            tmp_path,
            witness=f"127.0.0.1:{witness}",
            targets={"coffre": {**target, "repositories": ["coffre"]}},
        )
        server.reports = VantageReports(lambda: ours, store, utc_now)
        told = place.run()
        assert told.returncode == 0, told.stdout
        assert place.run().returncode == 0
    assert server.statuses == [201, 201]
    assert place.kept() == []
    first, second = store.facts(kinds=["isolation.seen"])
    rows = {(row["name"], row["port"]): row for row in first.observation.data["rows"]}
    assert rows["127.0.0.1", opened]["outcome"] == "open"
    assert rows["127.0.0.1", closed]["outcome"] == "refused"
    assert rows["::1", opened]["outcome"] == "refused"
    assert first.observation.data["families"] == ["ipv4"]
    assert second.observation.data["sequence"] > first.observation.data["sequence"]
    assert abs(first.observation.data["skew_ms"]) < 60_000
    sealed = store.sealed()
    assert sealed is not None
    assert sealed[0] == store.head()[0]


def test_what_the_server_did_not_take_is_kept_and_sent_later_in_order(
    server: Server, tmp_path: Path
) -> None:
    place = Place(tmp_path, f"http://127.0.0.1:{server.server_port}/x", "127.0.0.1:1", [1])
    server.answer = 503
    assert place.run().returncode == 2
    assert place.run().returncode == 2
    assert len(place.kept()) == 2
    server.answer = 201
    assert place.run().returncode == 0
    assert place.kept() == []
    sent = [json.loads(body) for body in server.bodies[-3:]]
    assert [one["sequence"] for one in sent] == sorted(one["sequence"] for one in sent)
    assert len({one["nonce"] for one in sent}) == 3
    assert all(one["sent_at"] >= one["ended_at"] for one in sent)


def test_nothing_is_kept_beyond_its_age(tmp_path: Path) -> None:
    spool = vantage.Spool(tmp_path, 3600)
    now = vantage.now_us()
    for number, age_s in enumerate((7200, 3500, 10, -7200), start=1):
        spool.add({"sequence": number, "ended_at": now - age_s * 1_000_000})
    (tmp_path / f"{9:020d}.json").write_text("{half")
    assert [seen["sequence"] for _, seen in spool.waiting()] == [2, 3]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_clock_that_was_far_ahead_is_forgotten(tmp_path: Path) -> None:
    spool = vantage.Spool(tmp_path, 3600)
    (tmp_path / "sequence").write_text(str(2 * vantage.now_us()))
    first = spool.sequence()
    assert abs(first - vantage.now_us()) < 60_000_000
    assert spool.sequence() > first
    assert from_us(first).year >= 2024


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_what_will_never_be_taken_is_not_sent_for_ever(
    server: Server, tmp_path: Path, status: int
) -> None:
    place = Place(tmp_path, f"http://127.0.0.1:{server.server_port}/x", "127.0.0.1:1", [1])
    server.answer = status
    assert place.run().returncode == 2
    assert place.kept() == []


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path, f"http://127.0.0.1:{free_port()}/x", "127.0.0.1:1", [1])
    told = place.run()
    assert told.returncode == 2
    assert "not sent" in told.stdout
    assert len(place.kept()) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    place = Place(tmp_path, "http://127.0.0.1:1/x", "127.0.0.1:1", [1])
    place.key.chmod(mode)
    told = place.run()
    assert told.returncode == 78
    assert "others may read it" in told.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"witness": "dc"}, "HOST:PORT"),
        ({"targets": {"coffre": {"hosts": ["a"]}}}, "targets"),
        ({"targets": []}, "targets"),
        ({"vantage": None}, "vantage"),
    ],
    ids=["version", "url", "witness", "ports", "no-table", "no-id"],
)
def test_a_configuration_that_cannot_be_used_is_told(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    place = Place(tmp_path, "http://127.0.0.1:1/x", "127.0.0.1:1", [1])
    place.config |= change
    told = place.run()
    assert told.returncode == 78
    assert words in told.stdout


def test_it_can_show_without_sending_or_a_key(server: Server, tmp_path: Path) -> None:
    place = Place(tmp_path, f"http://127.0.0.1:{server.server_port}/x", "127.0.0.1:1", [1])
    place.key.unlink()
    told = place.run("--show")
    assert told.returncode == 0
    assert {row["outcome"] for row in json.loads(told.stdout)["rows"]} == {"refused"}
    assert server.bodies == []
