"""A stand-in for a vendor's server: HTTPS on loopback, answers from a table, every request kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Given the query and the headers, returns status and body: bytes as they are, all else as JSON.
Answer = Callable[[dict[str, str], dict[str, str]], tuple[int, Any]]


@dataclass
class RestServer:
    """A running server. `requests` are (method, path) in order."""

    url: str = ""
    certificate: Path = Path()
    fingerprint: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def always(self, path: str, status: int, body: Any) -> None:
        """Answer a path always in the same way."""
        self.answers[path] = lambda _query, _headers: (status, body)


def certificate(directory: Path, *, name: str = "localhost", days: int = 30) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key; `days` below 0 makes one that has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / f"{name}{days}.pem", directory / f"{name}{days}.key"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@contextmanager
def serving(directory: Path, **about: Any) -> Iterator[RestServer]:
    """Serve on loopback under the name localhost, with a certificate made for it."""
    made = RestServer()
    made.certificate, key = certificate(directory, **about)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            made.requests.append((self.command, parts.path))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            length = int(self.headers.get("content-length", 0))
            if length:
                form = parse_qs(self.rfile.read(length).decode())
                query |= {name: values[0] for name, values in form.items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = made.answers.get(parts.path)
            status, body = answer(query, headers) if answer else (404, {})
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, key)
    der = ssl.PEM_cert_to_DER_cert(made.certificate.read_text())
    made.fingerprint = hashlib.sha256(der).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        # The handshake is the handler's: a client that gives up must not hold the next one back.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.daemon_threads = True
        made.url = f"https://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
