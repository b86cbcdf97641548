"""Bounded HTTP: what a server may do to us."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
        else:
            body = self.headers.get("X-Wanted", "").encode()
            self.send_response(500 if self.path == "/broken" else 200)
            self.send_header("Content-Length", str(len(body)))
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
