"""`backupguard media`: the register, and who took which medium where."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from backupguard.cli.main import main
from tests.sabotage.offline_site import made


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    site = made(tmp_path)
    site.a.write(site.now)
    site.a.attach()
    site.store.close()
    return tmp_path / "backupguard.toml"


def _call(configuration: Path, *arguments: str) -> int:
    return main(["--config", str(configuration), "--language", "en", *arguments])


def test_the_register_is_shown_and_an_exit_is_declared_under_the_account_that_asks(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(configuration, "media") == 0
    assert "never looked for" in capsys.readouterr().out
    _call(configuration, "--quiet", "probe", "offline")
    capsys.readouterr()
    custody = ("--holder", "M. Martin", "--place", "coffre", "--seal", "0042")
    assert _call(configuration, "media", "out", "usb-a", *custody) == 0
    said = capsys.readouterr().out
    assert "usb-a went out, M. Martin has it" in said
    assert "Unplug it" in said
    assert _call(configuration, "media", "--json") == 0
    (row, other) = json.loads(capsys.readouterr().out)
    me = pwd.getpwuid(os.getuid()).pw_name
    assert row["moved"]["author"] == f"uid/{os.getuid()} ({me})"
    assert (row["moved"]["seal"], row["attached"]) == ("0042", True)
    assert row["copies"][0]["verdict"] == "passed"
    assert other["where"] == "undeclared"
    assert _call(configuration, "media", "in", "usb-b", *custody) == 0
    assert _call(configuration, "media") == 0
    assert "M. Martin, coffre, 0042" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("out", "usb-z", "--holder", "M", "--place", "P"),
        ("out", "usb-a", "--holder", " ", "--place", "P"),
        ("out", "usb-a", "--holder", "M", "--place", "P", "--at", "yesterday"),
        ("out", "usb-a", "--holder", "M", "--place", "P", "--at", "2999-01-01T00:00+00:00"),
        ("out", "usb-a", "--holder", "M"),
    ],
    ids=["unknown", "nobody", "no-time", "future", "nowhere"],
)
def test_what_cannot_be_said_is_refused(configuration: Path, arguments: tuple[str, ...]) -> None:
    assert _call(configuration, "media", *arguments) == 64
