"""Backends over the network: a real rest-server that only appends, a real sshd."""

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupguard.contracts import Credentials, FetchRequest, SecretReference, VerifyPlan
from backupguard.errors import AccessRefused
from backupguard.model import Verdict
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext, listing
from tests.integration.repositories.restic_maker import Restic
from tests.integration.repositories.servers import await_port, free_port
from tests.programs import program


@pytest.fixture
def rest_server(restic: Restic, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """URL and directory of an append-only server with one user."""
    root = tmp_path / "served"
    root.mkdir()
    shutil.copytree(restic.root, root / "dpi")
    # user "reader", password "p@ss:word/ü" as SHA, which rest-server reads besides bcrypt
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha1("p@ss:word/ü".encode()).digest()).decode()
    (root / ".htpasswd").write_text(f"reader:{{SHA}}{digest}\n")
    port = free_port()
    server = subprocess.Popen(
        [
            *(program("restic-rest-server"), "--listen", f"127.0.0.1:{port}", "--path", root),
            *("--append-only", "--htpasswd-file", root / ".htpasswd"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port)
        yield f"rest:http://127.0.0.1:{port}/dpi", root / "dpi"
    finally:
        server.kill()
        server.wait()


def use(restic: Restic, here: TestContext, settings, into: Path):
    into.mkdir()
    selector = restic.selector(restic.source)
    with RESTIC.open("nas", settings, here) as repository:
        points = sorted(repository.points([selector]), key=lambda point: point.at)
        state = repository.inspect()
        fetched = repository.fetch(FetchRequest(point=points[-1], selector=selector), into)
        units = list(repository.verify(VerifyPlan(data_percent=1)))
    assert len(points) == 2
    assert fetched.files == 5
    assert {unit.verdict for unit in units} == {Verdict.PASSED}
    return state


def test_an_append_only_rest_server(
    restic: Restic, rest_server: tuple[str, Path], here: TestContext, tmp_path: Path
):
    url, root = rest_server
    secret = tmp_path / "user"
    secret.write_text("reader:p@ss:word/ü\n")
    credentials = Credentials(
        reader=SecretReference(file=restic.password), backend=SecretReference(file=secret)
    )
    commands = []
    run = here.tools.run

    class Watching:
        which = here.tools.which

        def run(self, command):
            commands.append(command)
            return run(command)

    here.tools = Watching()
    before = listing(root)
    state = use(restic, here, restic.settings(url=url, credentials=credentials), tmp_path / "into")
    assert listing(root) == before
    assert state.device == f"host:{socket.gethostname().lower()}"
    for command in commands:
        said = " ".join(command.argv) + repr(command.environment) + repr(command.secrets)
        assert "p@ss" not in said
        assert "word" not in said.replace("PASSWORD", "").replace("password", "")


def test_a_rest_server_that_refuses_us(
    restic: Restic, rest_server: tuple[str, Path], here: TestContext
):
    url, _ = rest_server
    with (
        RESTIC.open("nas", restic.settings(url=url), here) as repository,
        pytest.raises(AccessRefused) as caught,
    ):
        list(repository.points([restic.selector(restic.source)]))
    assert caught.value.code == "authentication"


def sftp(restic: Restic, port: int, key: Path, known: Path):
    return restic.settings(
        url=f"sftp://{getpass.getuser()}@127.0.0.1:{port}/{restic.root}",
        known_hosts=known,
        credentials=Credentials(
            reader=SecretReference(file=restic.password), backend=SecretReference(file=key)
        ),
    )


def test_sftp_with_a_key(
    restic: Restic, here: TestContext, tmp_path: Path, sshd: tuple[int, Path, Path]
):
    before = listing(restic.root)
    state = use(restic, here, sftp(restic, *sshd), tmp_path / "into")
    assert listing(restic.root) == before
    assert state.device == f"host:{socket.gethostname().lower()}"


def test_sftp_with_a_key_that_nobody_knows(
    restic_018: Restic, here: TestContext, tmp_path: Path, sshd: tuple[int, Path, Path]
):
    port, _, known = sshd
    with (
        RESTIC.open("nas", sftp(restic_018, port, tmp_path / "other", known), here) as repository,
        pytest.raises(AccessRefused) as caught,
    ):
        list(repository.points([]))
    assert caught.value.code == "authentication"
