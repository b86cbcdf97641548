"""`doctor` says whether the privileged helper is there, and what works without it."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.cli.doctor_helper import helper
from backupguard.helper.client import Helper
from backupguard.settings.media import Medium

USB = Medium(kind="removable", serial="S1")


def settings(*media: Medium, user: str | None = None) -> Any:
    place = SimpleNamespace(backup_user=user)
    return SimpleNamespace(media=dict(enumerate(media)), repositories={"nas": place})


def states(configured: Any, path: Path) -> list[tuple[str, str]]:
    found = list(helper(configured, Helper(path, timeout_s=2)))
    return [(result.state, result.remedy.id if result.remedy else "") for result in found]


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory whose name is short: a socket's has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="bgh") as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("configured", "state", "remedy"),
    [
        pytest.param(settings(), "note", "", id="nothing needs it"),
        pytest.param(settings(USB), "missing", "remedy.helper_missing", id="a medium does"),
        pytest.param(settings(user="borg"), "missing", "remedy.helper_missing", id="a canary does"),
        pytest.param(settings(Medium(kind="vault")), "note", "", id="a vault does not"),
    ],
)
def test_an_absent_helper(place: Path, configured: Any, state: str, remedy: str) -> None:
    assert states(configured, place / "helper.sock") == [(state, remedy)]


@pytest.mark.parametrize(
    ("answer", "state"),
    [(b'{"ok": true}\n', "ok"), (b'{"ok": false, "code": "peer"}\n', "bad"), (b"?", "bad")],
    ids=["serves", "refuses", "babbles"],
)
def test_a_helper_that_answers(place: Path, answer: bytes, state: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "helper.sock"))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        served = threading.Thread(target=serve)
        served.start()
        assert states(settings(USB), place / "helper.sock") == [(state, "")]
        served.join()
