"""An attacker against a real rest-server: what it proves, what it refutes, what it leaves behind."""

import base64
import hashlib
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backupguard.contracts import Credentials, SecretReference
from backupguard.errors import AccessRefused, MissingMeans, Unreachable
from backupguard.repositories.restic import RESTIC
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.testing import TestContext, listing
from tests.integration.repositories.attacks import apart_from_canaries, attack
from tests.integration.repositories.restic_maker import Restic
from tests.integration.repositories.servers import await_port, free_port
from tests.programs import program

WRITER = "dpi:p@ss/ü"
DELETES = {"delete-data", "delete-snapshot", "delete-index", "delete-key"}
ALL = {*DELETES, "overwrite-canary", "delete-canary"}


@contextmanager
def serving(root: Path, *options: str) -> Iterator[int]:
    port = free_port()
    digest = base64.b64encode(hashlib.sha1(WRITER.partition(":")[2].encode()).digest()).decode()
    (root.parent / "htpasswd").write_text(f"dpi:{{SHA}}{digest}\n")
    server = subprocess.Popen(
        [
            *(program("restic-rest-server"), "--listen", f"127.0.0.1:{port}", "--path", root),
            *("--htpasswd-file", root.parent / "htpasswd", *options),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port)
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def served(restic_018: Restic, tmp_path: Path) -> Path:
    root = tmp_path / "served"
    shutil.copytree(restic_018.root, root / "dpi")
    return root


@pytest.fixture
def settings(restic_018: Restic, tmp_path: Path) -> Callable[..., ResticSettings]:
    def made(port: int, path: str = "dpi", login: str = WRITER) -> ResticSettings:
        secret = tmp_path / "writer"
        secret.write_text(f"{login}\n")
        return restic_018.settings(
            url=f"rest:http://127.0.0.1:{port}/{path}",
            credentials=Credentials(
                reader=SecretReference(file=restic_018.password),
                backend=SecretReference(file=secret),
                writer_for_probe=SecretReference(file=secret),
            ),
        )

    return made


def canaries(root: Path) -> list[str]:
    return [path.read_text() for path in root.rglob("data/??/*") if "canary" in str(path)]


def test_a_server_that_only_appends_is_proved(served: Path, settings, here: TestContext):
    before = apart_from_canaries(served)
    with serving(served, "--append-only") as port:
        seen = attack(RESTIC, settings(port), here)
    assert seen.proved
    assert seen.refused == ALL
    assert seen.bearing.notes == ("same_as_reader",)
    assert {code for _, code in seen.outcomes.values()} == {"200", "403"}
    assert "127.0.0.1" not in "".join(one.target for one in seen.attempts)
    assert apart_from_canaries(served) == before
    assert canaries(served) == ["BackupGuard canary 0123456789abcdef\n"]


def test_rest_server_without_append_only_is_refuted(served: Path, settings, here: TestContext):
    before = apart_from_canaries(served)
    with serving(served) as port:
        seen = attack(RESTIC, settings(port), here)
    assert seen.worked == {*DELETES, "delete-canary"}
    assert seen.refused == {"overwrite-canary"}  # this server never writes over a file
    assert apart_from_canaries(served) == before
    assert canaries(served) == []


@pytest.mark.parametrize("path", ["dpi", "dpi/nas"])
def test_repositories_of_one_account(
    served: Path, restic_018: Restic, settings, here: TestContext, path: str
):
    shutil.copytree(restic_018.root, served / "dpi" / "nas")
    with serving(served, "--append-only", "--private-repos") as port:
        seen = attack(RESTIC, settings(port, path), here)
    assert seen.proved
    # below the repository, or beside it where the server knows no deeper one
    assert next(one.target for one in seen.attempts if one.name == "delete-canary").startswith(
        "/dpi/backupguard-canary/data/"
    )


def test_the_wrong_password_proves_nothing(served: Path, settings, here: TestContext):
    before = listing(served)
    with serving(served, "--append-only") as port, pytest.raises(AccessRefused) as caught:
        attack(RESTIC, settings(port, login="dpi:wrong"), here)
    assert caught.value.code == "authentication"
    assert listing(served) == before


def test_a_server_that_is_down_proves_nothing(settings, here: TestContext):
    with pytest.raises(Unreachable) as caught:
        attack(RESTIC, settings(free_port()), here)
    assert caught.value.code == "refused"


def test_a_repository_that_is_not_there_proves_nothing(served: Path, settings, here: TestContext):
    with serving(served, "--append-only") as port, pytest.raises(Unreachable) as caught:
        attack(RESTIC, settings(port, "other"), here)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("by", [timedelta(seconds=90), timedelta(seconds=-90)], ids=str)
def test_a_clock_that_is_another_proves_nothing(
    served: Path, settings, here: TestContext, by: timedelta
):
    here.clock.set(datetime.now(UTC) + by)
    with serving(served, "--append-only") as port:
        seen = attack(RESTIC, settings(port), here)
    assert seen.refused == ALL
    assert seen.bearing.code == "clock_skew"
    assert not seen.proved


@contextmanager
def refusing(port: int, methods: Sequence[str], status: int) -> Iterator[int]:
    """A server in front of another one that refuses some methods, and remembers what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            if self.command in methods:
                code, body = status, b""
            else:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}{self.path}",
                    method=self.command,
                    data=sent if self.command == "POST" else None,
                    headers={"Authorization": self.headers["Authorization"]},
                )
                try:
                    with urllib.request.urlopen(request) as answer:
                        code, body = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    code, body = error.code, error.read()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _pass  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield front.server_port
    finally:
        front.shutdown()
        front.server_close()


def test_read_only_credentials_prove_nothing(served: Path, settings, here: TestContext):
    before = listing(served)
    with serving(served) as port, refusing(port, ("POST", "DELETE"), 403) as front:
        seen = attack(RESTIC, settings(front), here)
    assert seen.refused == DELETES
    assert seen.untried == {"overwrite-canary", "delete-canary"}
    assert seen.bearing.credentials == "read_only"
    assert not seen.proved
    assert listing(served) == before


def test_a_server_in_trouble_proves_nothing(served: Path, settings, here: TestContext):
    with serving(served) as port, refusing(port, ("DELETE",), 503) as front:
        seen = attack(RESTIC, settings(front), here)
    assert seen.untried == DELETES
    assert not seen.proved
    assert not seen.worked


def test_a_repository_with_a_login_and_no_writer_is_not_attacked(
    restic_018: Restic, settings, here: TestContext
):
    given = settings(1)
    alone = given.credentials.model_copy(update={"writer_for_probe": None})
    with pytest.raises(MissingMeans) as caught:
        RESTIC.attack("nas", given.model_copy(update={"credentials": alone}), here)
    assert caught.value.code == "writer_missing"
