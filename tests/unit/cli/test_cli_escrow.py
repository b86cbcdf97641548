"""The escrowed key is typed without an echo or read from standard input, and from nowhere else."""

from __future__ import annotations

import getpass
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.cli import escrow
from backupguard.contracts import Credentials, SecretReference
from backupguard.errors import UsageError

READER, ESCROW = SecretReference(credential="nas"), SecretReference(credential="safe")


def place(is_key: bool = True, **credentials: Any) -> Any:
    found = SimpleNamespace(reader_is_key=is_key, credentials=Credentials(**credentials))
    return SimpleNamespace(repositories={"nas": found})


class Input(io.TextIOWrapper):
    def __init__(self, content: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_it_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Input("la clé\n".encode()))
    key = escrow.brought_key(place(reader=READER), "nas")
    assert key is not None
    assert key.reveal() == "la clé".encode()


def test_or_typed_without_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", Input(b"", terminal=True))
    monkeypatch.setattr(getpass, "getpass", lambda text: asked.append(text) or "secret")
    key = escrow.brought_key(place(reader=READER), "nas")
    assert key is not None
    assert key.reveal() == b"secret"
    assert "nas" in asked[0]


def test_the_configuration_may_say_where_it_will_lie() -> None:
    assert escrow.brought_key(place(reader=READER, escrow=ESCROW), "nas") is None


@pytest.mark.parametrize(
    ("settings", "repository"),
    [
        (place(reader=READER), None),
        (place(is_key=False, reader=READER), "nas"),
        (place(), "nas"),
    ],
    ids=["no repository", "not its key", "no key"],
)
def test_what_cannot_be_tried_is_said_at_once(settings: Any, repository: str | None) -> None:
    with pytest.raises(UsageError):
        escrow.brought_key(settings, repository)


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 20_000], ids=["none", "empty", "too long"])
def test_no_key(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", Input(content))
    with pytest.raises(UsageError):
        escrow.brought_key(place(reader=READER), "nas")
