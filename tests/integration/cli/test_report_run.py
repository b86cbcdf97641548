"""`backupguard report-run -- COMMAND`: the command as it is, and a report of how it went."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

TOKEN = "a-long-and-random-token"


def command(*arguments: str) -> list[str]:
    program = "from backupguard.cli.main import main; raise SystemExit(main())"
    return [sys.executable, "-c", program, "report-run", "--job", "dpi.nightly", *arguments]


def ran(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, **more)


def told(spool: Path) -> dict[str, Any]:
    (path,) = (spool / "dpi.nightly").glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_success_is_reported_with_what_it_made(tmp_path: Path) -> None:
    made = tmp_path / "out"
    script = f"mkdir {made}; printf 12345 > {made}/a; printf 12 > {made}/b; echo hello"
    done = ran("--spool", str(tmp_path / "s"), "--artifact", str(made), "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    report = told(tmp_path / "s")
    assert (report["state"], report["exit_code"]) == ("complete", 0)
    assert (report["bytes"], report["files"]) == (7, 2)
    assert report["started_at"] <= report["ended_at"]


def test_a_success_that_made_nothing_says_so(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    ran("--spool", str(tmp_path / "s"), "--artifact", nothing, "--", "true")
    report = told(tmp_path / "s")
    assert (report["state"], report["bytes"], report["files"]) == ("complete", 0, 0)


@pytest.mark.parametrize(
    ("arguments", "script", "code", "state"),
    [
        ([], "exit 3", 3, "failed"),
        (["--warning-code", "1"], "exit 1", 1, "warning"),
        (["--warning-code", "1"], "exit 2", 2, "failed"),
        ([], "kill -9 $$", 137, "failed"),
    ],
)
def test_the_exit_code_is_the_command_s_own(
    tmp_path: Path, arguments: list[str], script: str, code: int, state: str
) -> None:
    done = ran("--spool", str(tmp_path), *arguments, "--", "sh", "-c", script)
    assert done.returncode == code
    assert (told(tmp_path)["state"], told(tmp_path)["exit_code"]) == (state, code)


def test_a_command_that_is_not_there_has_failed(tmp_path: Path) -> None:
    assert ran("--spool", str(tmp_path), "--", "no-such-program-here").returncode == 127
    assert told(tmp_path)["state"] == "failed"


def test_options_of_the_command_are_its_own(tmp_path: Path) -> None:
    done = ran("--spool", str(tmp_path), "--", "echo", "--job", "x", "--spool")
    assert done.stdout == "--job x --spool\n"


def test_the_beginning_is_reported_and_a_signal_passed_on(tmp_path: Path) -> None:
    script = "trap 'exit 9' TERM; touch ready; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        command("--spool", str(tmp_path / "s"), "--", "sh", "-c", script), cwd=tmp_path
    )
    try:
        limit = time.monotonic() + 30
        while not (tmp_path / "ready").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        assert told(tmp_path / "s")["state"] == "running"
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 9
    finally:
        running.kill()
    assert told(tmp_path / "s")["state"] == "failed"


def test_a_spool_that_is_not_there_spoils_no_backup(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file")
    done = ran("--spool", str(tmp_path / "s"), "--", "true")
    assert done.returncode == 0
    assert "could not be reported" in done.stderr


def test_a_wrong_name_is_told_before_the_backup_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    arguments = ["--job", "../etc", "--spool", str(tmp_path), "--", "touch", str(marker)]
    done = ran(*arguments)
    assert done.returncode == 64
    assert not marker.exists()


class _Taker(BaseHTTPRequestHandler):
    taken: list[tuple[str, dict[str, Any]]]
    status = 201

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.headers["authorization"], json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def taker() -> Iterator[tuple[str, type[_Taker]]]:
    handler = type("Taker", (_Taker,), {"taken": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v1/runs", handler
        server.shutdown()
        thread.join()


def test_a_report_goes_over_http_with_the_token_of_a_file(
    tmp_path: Path, taker: tuple[str, type[_Taker]]
) -> None:
    url, handler = taker
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    done = ran("--url", url, "--token-file", str(token), "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert [said["state"] for _, said in handler.taken] == ["running", "complete"]
    assert {authorization for authorization, _ in handler.taken} == {f"Bearer {TOKEN}"}


def test_a_refused_report_is_told_and_shows_no_token(
    tmp_path: Path, taker: tuple[str, type[_Taker]]
) -> None:
    url, handler = taker
    handler.status = 401
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    done = ran("--url", url, "--token-file", str(token), "--", "sh", "-c", "exit 4")
    assert done.returncode == 4
    assert "HTTP 401" in done.stderr
    assert TOKEN not in done.stderr


def test_a_token_that_others_may_read_is_not_sent(
    tmp_path: Path, taker: tuple[str, type[_Taker]]
) -> None:
    url, handler = taker
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)
    done = ran("--url", url, "--token-file", str(token), "--", "true")
    assert done.returncode == 0
    assert handler.taken == []
    assert TOKEN not in done.stderr


def test_two_ways_at_once_are_refused(tmp_path: Path) -> None:
    done = ran("--url", "http://127.0.0.1:1/", "--spool", str(tmp_path), "--", "true")
    assert done.returncode == 64
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["spool", "url"])
def test_what_kept_a_report_back_is_said_once_in_words(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    ways = {
        "spool": ["--spool", str(tmp_path / "file/spool")],
        "url": ["--url", "http://127.0.0.1:9/api", "--token-file", str(tmp_path / "token")],
    }
    done = ran(*ways[way], "--", "true")
    assert done.returncode == 0
    assert done.stderr.count("could not be reported") == 1
    assert {"spool": "not found", "url": "connection refused"}[way] in done.stderr
