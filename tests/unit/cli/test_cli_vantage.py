"""What a vantage point needs: its file, its key, its program; and the matrix on the screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.cli import common, isolation_matrix
from backupguard.cli.main import main
from probes import isolation_vantage as vantage
from tests.unit.settings.test_settings_isolation import BASE

URL = "https://backupguard.example/api/v1/vantage"


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    file = tmp_path / "backupguard.toml"
    file.write_text(BASE, encoding="utf-8")
    return file


def test_the_file_is_what_the_program_reads(
    configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(configured), "vantage", "config", "bureautique"]
    assert main([*arguments, "--url", URL]) == 0
    told = tmp_path / "config.json"
    told.write_text(capsys.readouterr().out)
    read = vantage.read_config(told)
    assert (read["url"], read["witness"]) == (URL, "dc1.example:389")
    assert read["max-age-s"] == 26 * 3600
    assert vantage.wanted_of(read) == [
        ("coffre", host, port) for host in ("nas.example", "192.0.2.9") for port in (445, 22)
    ]
    assert main(arguments) == 64, "nobody said where it reports"
    assert main(["--config", str(configured), "vantage", "config", "gone"]) == 64


def test_a_key_is_made_once_and_for_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    assert main(["vantage", "new-key", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    key = vantage.read_key(file)
    assert len(key) == 64
    assert main(["vantage", "new-key", str(file)]) == 64, "a key is never replaced in silence"
    assert vantage.read_key(file) == key
    said = capsys.readouterr()
    assert key.decode() not in said.out + said.err


def test_the_program_is_printed_as_it_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vantage", "program"]) == 0
    assert capsys.readouterr().out == Path(vantage.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("language", "expected"), [("fr", ("OUVERT", "annoncée")), ("en", ("OPEN", "announced"))]
)
def test_the_matrix_says_what_was_reached_from_where(
    capsys: pytest.CaptureFixture[str], language: str, expected: tuple[str, str]
) -> None:
    row = {
        "target": "coffre",
        "name": "nas.example",
        "address": "192.0.2.9",
        "family": "ipv4",
        "port": 445,
        "outcome": "open",
        "announced": True,
    }
    seen = {"seen_at": 1, "witness": True, "families": ["ipv4"], "code": None, "rows": [row]}
    unseen = {**seen, "seen_at": None, "rows": []}
    common.set_options(common.Options(language=language))
    try:
        isolation_matrix.show(
            {
                "looks": [
                    {"vantage": "self", "zone": None, **seen, "witness": False},
                    {"vantage": "bureautique", "zone": "postes", **seen},
                    {"vantage": "dmz", "zone": "DMZ", **unseen},
                ],
                "host": {
                    "host": "srv",
                    "joined": False,
                    "unread": [],
                    "domains": [],
                    "seen_by": [],
                },
            }
        )
    finally:
        common.set_options(common.Options())
    told = capsys.readouterr().out
    for word in (*expected, "nas.example:445", "192.0.2.9", "bureautique (postes)", "dmz (DMZ)"):
        assert word in told
    assert "isolation." not in told
