"""Bounded HTTP: what a server may do to us."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from backupguard.errors import Cancelled, Misunderstood, Unreachable
from backupguard.http import BODY_LIMIT, BoundedHttp
from backupguard.processes import Cancellation


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/fine")
            self.end_headers()
        elif self.path == "/huge":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(BODY_LIMIT // 65536 + 2):
                    self.wfile.write(bytes(65536))
            except OSError:
                return
        elif self.path == "/bomb":
            self._send(gzip.compress(bytes(1 << 24)), "Content-Encoding", "gzip")
        elif self.path == "/cut":
            self._send(b"half", "Content-Length", "9")
        elif self.path == "/chunks":
            self.protocol_version = "HTTP/1.1"
            self._send(b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n", "Transfer-Encoding", "chunked")
            self.close_connection = True
        elif self.path == "/drip":
            self._send(b"", "Content-Type", "text/plain")
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b".")
                    time.sleep(0.1)
        else:
            body = self.headers.get("X-Wanted", "").encode()
            self.send_response(500 if self.path == "/broken" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _send(self, body: bytes, name: str, value: str) -> None:
        self.send_response(200)
        self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def http() -> BoundedHttp:
    return BoundedHttp(cancel=Cancellation())


def get(http: BoundedHttp, url: str, **headers: str) -> tuple[int, bytes]:
    return http.get(url, headers=headers, timeout_s=2)


def test_returns_status_and_body_and_sends_headers(server: str, http: BoundedHttp) -> None:
    assert get(http, f"{server}/fine", **{"X-Wanted": "yes"}) == (200, b"yes")


def test_an_error_status_is_an_answer(server: str, http: BoundedHttp) -> None:
    assert get(http, f"{server}/broken")[0] == 500


def test_a_redirect_is_not_followed(server: str, http: BoundedHttp) -> None:
    assert get(http, f"{server}/moved")[0] == 302


def test_an_endless_body_is_refused(server: str, http: BoundedHttp) -> None:
    with pytest.raises(Misunderstood):
        get(http, f"{server}/huge")


def test_nothing_is_unpacked(server: str, http: BoundedHttp) -> None:
    status, body = get(http, f"{server}/bomb")
    assert (status, body[:2]) == (200, b"\x1f\x8b")
    assert len(body) < 1 << 20


def test_an_answer_in_pieces_is_whole_and_half_an_answer_is_none(
    server: str, http: BoundedHttp
) -> None:
    assert get(http, f"{server}/chunks") == (200, b"one two")
    with pytest.raises(Unreachable):
        get(http, f"{server}/cut")


def test_a_server_that_drips_is_not_listened_to_for_ever(
    server: str, http: BoundedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backupguard.http._TIMES", 0.3)
    with pytest.raises(Unreachable) as caught:
        get(http, f"{server}/drip")
    assert caught.value.code == "timeout"


def test_a_closed_port_is_unreachable_and_names_no_url(http: BoundedHttp) -> None:
    with pytest.raises(Unreachable) as caught:
        get(http, "http://user:hunter2@127.0.0.1:9/x")
    assert caught.value.code == "refused"
    assert "hunter2" not in str(caught.value)


def test_a_server_that_never_answers_times_out(http: BoundedHttp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable) as caught:
        http.get(f"http://127.0.0.1:{silent.getsockname()[1]}/", headers={}, timeout_s=1)
    assert caught.value.code == "timeout"


def test_a_cancelled_run_asks_nothing(server: str) -> None:
    cancel = Cancellation()
    cancel.set("by_operator")
    with pytest.raises(Cancelled):
        get(BoundedHttp(cancel=cancel), f"{server}/fine")


class _Remembering(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str, bytes]]] = []

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, body))
        self.send_response(403)
        self.send_header("X-Request-Id", "42")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_DELETE = do_PUT = _any  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        pass


def test_an_attacker_changes_what_was_named_and_nothing_else(http: BoundedHttp) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Remembering)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    canary = f"{base}/canary"
    try:
        tampering = http.tampering([canary])
        for method, url in (
            ("DELETE", f"{base}/config"),
            ("POST", f"{canary}/"),
            ("DELETE", f"{canary}?x=1"),
            ("PUT", canary),
        ):
            with pytest.raises(ValueError, match="canaries only"):
                tampering.ask(method, url, headers={}, timeout_s=5)  # type: ignore[arg-type]
        assert _Remembering.asked == []
        answered = tampering.ask("POST", canary, headers={}, body=b"x", timeout_s=5)
        tampering.ask("DELETE", canary, headers={}, timeout_s=5)
        tampering.ask("GET", f"{base}/config", headers={}, body=b"unsent", timeout_s=5)
    finally:
        server.shutdown()
        server.server_close()
    assert (answered.status, answered.headers["x-request-id"]) == (403, "42")
    assert _Remembering.asked == [
        ("POST", "/canary", b"x"),
        ("DELETE", "/canary", b""),
        ("GET", "/config", b""),
    ]
