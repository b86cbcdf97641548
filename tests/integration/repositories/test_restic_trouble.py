"""Everything that can stand between us and a healthy repository: never `failed`, never empty."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.contracts import Credentials, FetchRequest, SecretReference, VerifyPlan
from backupguard.errors import (
    AccessRefused,
    BackupGuardError,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import Verdict
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext
from tests.integration.repositories.restic_maker import Restic
from tests.integration.repositories.test_restic_reading import script


def refusals(restic: Restic, here: TestContext, into: Path, **settings) -> set[tuple[type, str]]:
    """Return what listing, inspecting, verifying and fetching raise."""
    with RESTIC.open("nas", restic.settings(), here) as healthy:
        point = next(healthy.points([restic.selector(restic.source)]))
    into.mkdir(exist_ok=True)
    request = FetchRequest(point=point, selector=restic.selector(restic.source))
    acts = (
        lambda one: list(one.points([restic.selector(restic.source)])),
        lambda one: one.inspect(),
        lambda one: list(one.verify(VerifyPlan())),
        lambda one: one.fetch(request, into),
    )
    seen = set()
    for act in acts:
        with (
            pytest.raises(BackupGuardError) as caught,
            RESTIC.open("nas", restic.settings(**settings), here) as repository,
        ):
            act(repository)
        assert caught.value.verdict is Verdict.COULD_NOT_VERIFY
        seen.add((type(caught.value), caught.value.code))
    return seen


def test_a_wrong_password(restic: Restic, here: TestContext, tmp_path: Path):
    wrong = tmp_path / "wrong"
    wrong.write_text("battery staple")
    credentials = Credentials(reader=SecretReference(file=wrong))
    seen = refusals(restic, here, tmp_path / "into", credentials=credentials)
    assert seen == {(AccessRefused, "wrong_key")}


def test_a_repository_that_is_gone(restic: Restic, here: TestContext, tmp_path: Path):
    seen = refusals(restic, here, tmp_path / "into", url=str(tmp_path / "gone"))
    assert seen == {(Unreachable, "not_found")}


def test_a_repository_that_may_not_be_read(here: TestContext, restic_018: Restic, tmp_path: Path):
    config = restic_018.root / "config"
    mode = config.stat().st_mode
    try:
        with RESTIC.open("nas", restic_018.settings(), here) as repository:
            config.chmod(0)
            with pytest.raises(AccessRefused) as caught:
                repository.inspect()
    finally:
        config.chmod(mode)
    assert caught.value.code == "permission"


def test_restic_is_missing(restic_018: Restic, here: TestContext, tmp_path: Path):
    seen = refusals(restic_018, here, tmp_path / "into", program=tmp_path / "no-restic")
    assert seen == {(MissingMeans, "program_missing")}


@pytest.mark.parametrize("says", ["restic 0.9.6 compiled with go1.13", "restic 0.20.0", "hello"])
def test_a_version_that_is_not_known(
    restic_018: Restic, here: TestContext, tmp_path: Path, says: str
):
    seen = refusals(
        restic_018, here, tmp_path / "into", program=script(tmp_path, f"echo '{says}'\n")
    )
    assert seen == {(MissingMeans, "version_unsupported")}


def test_a_restic_that_is_killed_before_it_says_its_version_is_no_other_version(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    seen = refusals(restic_018, here, tmp_path / "into", program=script(tmp_path, "kill -9 $$\n"))
    assert seen == {(Misunderstood, "program_killed")}


@pytest.mark.parametrize("status", [1, 2, 3, 77])
def test_an_ending_that_nobody_explains(
    restic_018: Restic, here: TestContext, tmp_path: Path, status: int
):
    odd = script(
        tmp_path,
        '[ "$1" = version ] && { echo restic 0.18.0; exit; }\n'
        f"echo Fatal: something new >&2\nexit {status}\n",
    )
    seen = refusals(restic_018, here, tmp_path / "into", program=odd)
    assert {cls for cls, _ in seen} == {Misunderstood}


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize(
    "url", ["rest:http://127.0.0.1:{}/dpi", "s3:http://127.0.0.1:{}/bucket/dpi"]
)
def test_a_server_that_never_answers(
    restic_018: Restic,
    here: TestContext,
    tmp_path: Path,
    silent_server: int,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("backupguard.repositories.restic_state._HTTP_TIMEOUT_S", 1)
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    credentials = {"reader": SecretReference(file=restic_018.password)}
    if url.startswith("s3"):
        credentials["backend"] = SecretReference(file=keys)
    settings = restic_018.settings(
        url=url.format(silent_server),
        refresh_timeout=timedelta(seconds=3),
        credentials=Credentials(**credentials),
    )
    began = time.monotonic()
    with (
        RESTIC.open("nas", settings, here) as repository,
        pytest.raises(Unreachable) as caught,
    ):
        list(repository.points([restic_018.selector(restic_018.source)]))
    assert caught.value.code == "timeout"
    assert time.monotonic() - began < 15


def test_a_server_that_refuses_is_asked_once(restic: Restic, here: TestContext):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    settings = restic.settings(url=f"rest:http://127.0.0.1:{port}/dpi")
    with (
        RESTIC.open("nas", settings, here) as repository,
        pytest.raises(Unreachable) as caught,
    ):
        list(repository.points([restic.selector(restic.source)]))
    assert caught.value.code == "refused"
    assert time.monotonic() - began < 10
