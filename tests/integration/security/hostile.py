"""Servers that tell back what they were told: passwords in errors, headers in bodies, bytes."""

from __future__ import annotations

import hashlib
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.repositories.rest_server import certificate


@dataclass
class Reflectors:
    """Where they listen, and everything they heard."""

    http: int = 0
    https: int = 0
    postgresql: int = 0
    scratch: int = 0
    tcp: int = 0
    collector: int = 0
    fingerprint: str = ""
    heard: list[bytes] = field(default_factory=list)


class _Http(BaseHTTPRequestHandler):
    """Refuses everything, in words that hold the whole request."""

    protocol_version = "HTTP/1.1"
    into: Reflectors

    def _reflect(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        told = f"{self.requestline}\n{self.headers}".encode() + body
        self.into.heard.append(told)
        answer = b"<Error><Code>AccessDenied</Code><Message>" + told + b"</Message></Error>"
        self.send_response(403, "Forbidden")
        self.send_header("content-length", str(len(answer)))
        self.send_header("www-authenticate", f"Basic realm={self.path!r}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _reflect  # noqa: N815 - its names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Raw(socketserver.BaseRequestHandler):
    """Sends back what came, and goes: drivers of databases meet no protocol at all."""

    into: Reflectors

    def handle(self) -> None:
        self.request.settimeout(5)
        told = self.request.recv(1 << 16)
        self.into.heard.append(told)
        self.request.sendall(told)


class _Postgresql(_Raw):
    """Asks for the password in clear text, and refuses it in words that hold it.

    PostgreSQL's documentation, "Message Formats".
    """

    def handle(self) -> None:
        self.request.settimeout(5)
        while True:
            size, code = struct.unpack("!II", self._exactly(8))
            self._exactly(size - 8)
            if code == 196608:  # 3.0; anything else asks for encryption
                break
            self.request.sendall(b"N")
        self.request.sendall(b"R" + struct.pack("!II", 8, 3))
        self._exactly(1)
        (size,) = struct.unpack("!I", self._exactly(4))
        password = self._exactly(size - 4).rstrip(b"\0")
        self.into.heard.append(password)
        said = b"SFATAL\0VFATAL\0C28P01\0Mpassword " + password + b" is wrong\0\0"
        self.request.sendall(b"E" + struct.pack("!I", 4 + len(said)) + said)

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = self.request.recv(size - len(got))
            if not part:
                raise ConnectionResetError
            got += part
        return got


class _Collector(_Raw):
    """Takes lines of syslog until the client goes."""

    def handle(self) -> None:
        self.request.settimeout(30)
        while part := self.request.recv(1 << 16):
            self.into.heard.append(part)


@contextmanager
def reflectors(directory: Path, collector: ssl.SSLContext) -> Iterator[Reflectors]:
    """Serve on loopback until the block ends; `collector` is what the SOC's collector speaks."""
    made = Reflectors()
    named, key = certificate(directory)
    made.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(named.read_text())).hexdigest()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(named, key)
    with ExitStack() as held:

        def serve(kind: type[Any], handler: type[Any], secured: ssl.SSLContext | None) -> int:
            own = type(handler.__name__, (handler,), {"into": made})
            server = held.enter_context(kind(("127.0.0.1", 0), own))
            server.daemon_threads = True
            server.handle_error = lambda *_: None
            if secured is not None:  # the handshake is the handler's, not the listener's
                server.socket = secured.wrap_socket(
                    server.socket, server_side=True, do_handshake_on_connect=False
                )
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            held.callback(server.shutdown)
            return int(server.server_address[1])

        made.http = serve(ThreadingHTTPServer, _Http, None)
        made.https = serve(ThreadingHTTPServer, _Http, tls)
        made.tcp = serve(socketserver.ThreadingTCPServer, _Raw, None)
        made.postgresql = serve(socketserver.ThreadingTCPServer, _Postgresql, None)
        made.scratch = serve(socketserver.ThreadingTCPServer, _Postgresql, None)
        made.collector = serve(socketserver.ThreadingTCPServer, _Collector, collector)
        yield made
