"""A host on which nothing was configured yet."""

from __future__ import annotations

import tomllib
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


SEEN = {
    "host": "srv-sauvegarde",
    "databases": [],
    "jobs": [],
    "lacking": [{"what": "cron of root", "need": "root", "code": "root"}],
    "missing": [],
}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which discovery, which has tests of its own, sees what is said here."""
    monkeypatch.setattr("backupguard.daemon.discovery.look_unconfigured", lambda _: SEEN)
    monkeypatch.setattr("backupguard.cli.common.become_owner", lambda _: None)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("there", [False, True])
def test_setup_writes_a_configuration_that_passes_its_check(
    tmp_path: Path, there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backupguard.toml"
    if there:
        path.write_bytes(PACKAGED.read_bytes())
    before = ["--language", "fr", "--config", str(path)]
    options = ["--non-interactive", "--name", 'CH "du Lac"', "--timezone", "Indian/Reunion"]
    assert main([*before, "setup", *options]) == 0
    said = capsys.readouterr().out
    assert str(path) in said
    assert f"backupguard --config {path} run" in said, "what comes next"
    site = tomllib.loads(path.read_text())["site"]
    assert site == {"name": 'CH "du Lac"', "timezone": "Indian/Reunion", "language": "fr"}
    assert main([*before, "config", "check"]) == 0
    content = path.read_bytes()
    assert main([*before, "setup", "--non-interactive"]) == 64
    assert "déjà une configuration" in capsys.readouterr().err
    assert path.read_bytes() == content


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--non-interactive"),
        (["--non-interactive", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
    ],
    ids=["nobody to ask", "no such zone"],
)
def test_setup_refuses_what_it_cannot_use_and_leaves_nothing(
    tmp_path: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backupguard.toml"
    assert main(["--language", "en", "--config", str(path), "setup", *options]) == 64
    assert says in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.usefixtures("host")
def test_setup_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["CH de Belle-Rive", "en", "Europe/Paris"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    path = tmp_path / "backupguard.toml"
    assert main(["--language", "fr", "--config", str(path), "setup"]) == 0
    assert tomllib.loads(path.read_text())["site"] == {
        "name": "CH de Belle-Rive",
        "timezone": "Europe/Paris",
        "language": "en",
    }
