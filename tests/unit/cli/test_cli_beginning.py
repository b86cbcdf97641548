"""A host on which nothing was configured yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.cli.main import main
from backupguard.resources import shipped
from backupguard.settings.presence import says_nothing

PACKAGED = Path(__file__).parents[3] / "packaging/debian/backupguard.toml"


def test_the_daemon_explains_a_missing_configuration_and_exits_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backupguard.toml"
    assert main(["--language", "en", "--config", str(path), "run"]) == 78
    said = capsys.readouterr().err
    assert str(path) in said
    assert "backupguard setup" in said
    assert str(shipped("backupguard.toml")) in said


def test_the_file_of_the_package_is_no_configuration_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backupguard.toml"
    path.write_bytes(PACKAGED.read_bytes())
    assert main(["--language", "fr", "--config", str(path), "run"]) == 78
    assert "backupguard setup" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main_file", "beside", "nothing"),
    [
        (None, None, True),
        ("# words\n", None, True),
        ("# words\n", "# more\n", True),
        ("# words\n", "[site]\nname = 'CH'\n", False),
        ("[site]\nname = 'CH'\n", None, False),
        ("no toml", None, False),
    ],
)
def test_says_nothing(
    tmp_path: Path, main_file: str | None, beside: str | None, nothing: bool
) -> None:
    path = tmp_path / "backupguard.toml"
    if main_file is not None:
        path.write_text(main_file)
    if beside is not None:
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d/site.toml").write_text(beside)
    assert says_nothing(path) is nothing
