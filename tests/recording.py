"""A forwarder in front of an HTTP server that keeps what every request asked for."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_ONE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class Request:
    """What one request asked for."""

    method: str
    path: str  # without quoting
    query: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def changes(self) -> bool:
        """Tell whether it may change anything."""
        return self.method not in _READING


@dataclass
class Recorder:
    """Where to send requests, and those that came, in order."""

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    #: Set: answers are altered, "METHOD path" → what to do with the headers and body of an answer.
    alter: Any = None

    @property
    def changing(self) -> list[Request]:
        return [one for one in self.requests if one.changes]


@contextmanager
def recorded(target: str) -> Iterator[Recorder]:
    """Forward to the server at `target` ("http://127.0.0.1:8333") and record every request."""
    address = urlsplit(target)

    class Forwarder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            recorder.requests.append(Request(self.command, unquote(parts.path), query, body))
            connection = http.client.HTTPConnection(
                address.hostname or "", address.port, timeout=30
            )
            try:
                # The Host header is what the client signed, and stays as it is.
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in ("expect", "connection"):
                        connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
                status, headers = answer.status, answer.getheaders()
            finally:
                connection.close()
            if recorder.alter is not None:
                status, headers, content = recorder.alter(
                    recorder.requests[-1], status, headers, content
                )
            self.send_response_only(status)
            told = {name.lower(): value for name, value in headers}
            for name, value in headers:
                if name.lower() not in _OF_ONE_HOP:
                    self.send_header(name, value)
            length = told.get("content-length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                with suppress(ConnectionError):  # whoever asked may have been killed meanwhile
                    self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Forwarder) as server:
        server.daemon_threads = True
        recorder = Recorder(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
