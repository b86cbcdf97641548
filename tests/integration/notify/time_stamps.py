"""A real time-stamp authority: `openssl ts -reply` behind HTTP, under an authority of its own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

_CONFIGURATION = """
[tsa]
serial = {directory}/serial
crypto_device = builtin
signer_cert = {directory}/tsa.pem
signer_key = {directory}/tsa.key
certs = {directory}/ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""
_USAGE = "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n"


@dataclass
class TimeStampAuthority:
    """A running authority. `status` is what it answers with; `certificates` whom to believe."""

    directory: Path
    port: int = 0
    status: int = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/tsr"

    @property
    def certificates(self) -> Path:
        return self.directory / "ca.pem"


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make(directory: Path) -> TimeStampAuthority:
    """Make an authority and the certificate of its time stamps."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    _openssl("req", "-x509", *key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=CA", "-days", "30")
    request, usage = directory / "tsa.csr", directory / "usage"
    _openssl("req", *key, "-keyout", directory / "tsa.key", "-out", request, "-subj", "/CN=TSA")
    usage.write_text(_USAGE)
    issued = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", usage, "-days", "30")
    _openssl("x509", "-req", "-in", request, *issued, "-out", directory / "tsa.pem")
    (directory / "serial").write_text("01\n")
    (directory / "tsa.cnf").write_text(_CONFIGURATION.format(directory=directory))
    return TimeStampAuthority(directory)


@contextmanager
def serving(authority: TimeStampAuthority) -> Iterator[TimeStampAuthority]:
    """Answer queries on loopback until the block ends."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            place = authority.directory
            length = int(self.headers["content-length"])
            (place / "query").write_bytes(self.rfile.read(length))
            about = ("-queryfile", place / "query", "-out", place / "answer")
            _openssl("ts", "-reply", "-config", place / "tsa.cnf", "-section", "tsa", *about)
            body = (place / "answer").read_bytes()
            self.send_response(authority.status)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    authority.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield authority
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
