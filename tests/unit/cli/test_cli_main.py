from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from backupguard import __version__, errors
from backupguard.cli import common
from backupguard.cli import main as cli
from backupguard.errors import BackupGuardError

HEAVY = (
    "pydantic",
    "sqlalchemy",
    "babel",
    "rich",
    "alembic",
    "boto3",
    "starlette",
    "uvicorn",
    "cryptography",
    "asyncio",
    "psutil",
)

#: The commands the design lists for now, in its order.
IN_HELP = [
    "run", "setup", "config", "doctor", "discover", "inventory", "probe", "vantage", "restore-test",
    "prepare-instance", "baseline", "canary", "pause", "status", "why", "plan", "report",
    "report-run", "evidence", "attest", "waive", "override", "state", "engines",
    "controls", "media",
    "alerts", "demo",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("BACKUPGUARD_CONFIG", raising=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from backupguard.cli.main import main; status = main({arguments!r});"
        f"print([m for m in {HEAVY!r} if m in sys.modules], status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[] 0"


def test_help_lists_the_commands_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    commands = lines[lines.index("Commands:") + 1 :]
    assert [line.split()[0] for line in commands if line[:3].strip()] == IN_HELP


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"backupguard {__version__}\n"


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_every_command_exists_and_has_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--help"]) == 0

    text = capsys.readouterr().out
    assert text.startswith(f"Usage: backupguard {command}")
    told = text.partition("\n\n")[2].splitlines()[0]  # after the usage, which may take two lines
    assert len(told.strip()) > 10, "it says what it does"


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_place_in_the_table_is_real(command: cli.Command) -> None:
    module, _, attribute = command.place.partition(":")

    assert hasattr(import_module(module), attribute)


# ------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["--nosuch"],
        ["config", "nosuch"],
        ["config", "check", "--nosuch"],
        ["--language", "de", "doctor"],
        [],
    ],
)
def test_wrong_calls_exit_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 64

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: backupguard" in captured.err


def test_a_mistyped_command_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inventry"]) == 64

    assert "Did you mean inventory?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inventry"], "Il n’y a pas de commande « inventry ». Vouliez-vous dire inventory ?"),
        (["status", "--nosuch"], "Il n’y a pas d’option --nosuch."),
        (["why", "RST-01"], "Il manque SUBJECT."),
    ],
)
def test_a_wrong_call_is_told_in_the_language_of_the_site(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backupguard.toml"
    path.write_text('[site]\nname = "x"\nlanguage = "fr"\ntimezone = "UTC"\n')

    assert cli.main(["--config", str(path), *arguments]) == 64

    told = capsys.readouterr().err
    assert told.startswith("Emploi : backupguard")
    assert said in told


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def doctor() -> None:
        raise error

    monkeypatch.setattr("backupguard.cli.doctor.app", doctor)


@pytest.mark.parametrize("code", sorted(errors.all_codes()))
def test_each_error_leaves_as_a_sentence_with_the_code_of_its_class(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = errors.all_codes()[code]
    error: BackupGuardError
    if owner is errors.ConfigurationError:
        error = errors.ConfigurationError([])
    else:
        error = owner(code, group="g", name="n", exists="e", cause="c", found="f", program="restic")
    raising(error, monkeypatch)

    assert cli.main(["--language", "fr", "doctor"]) == owner.exit_code

    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error.{code}" not in captured.err
    assert "Traceback" not in captured.err
    if owner is not errors.ConfigurationError:
        assert captured.err.startswith("backupguard: ")
        assert "program=restic" in captured.err


def test_a_remedy_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(errors.AccessRefused("wrong_key", repository="nas"), monkeypatch)

    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "backupguard: The repository's password or key is wrong. (repository=nas)\n"
        "  → Check the secret that credentials.reader names.\n"
    )


def test_a_defect_of_ours_is_short_and_quotes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(RuntimeError("MARTIN Jeanne"), monkeypatch)

    assert cli.main(["doctor"]) == 2
    short = capsys.readouterr().err
    assert "RuntimeError" in short
    assert "MARTIN" not in short
    assert "Traceback" not in short

    assert cli.main(["--verbose", "doctor"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(KeyboardInterrupt(), monkeypatch)

    assert cli.main(["doctor"]) == 130


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_what_a_command_returns_is_the_exit_code(
    returned: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backupguard.cli.doctor.app", lambda: returned)

    assert cli.main(["doctor"]) == code


# ------------------------------------------------------------------------------------ shared parts


@pytest.mark.parametrize(
    ("locale", "expected"),
    [("fr_FR.UTF-8", "fr"), ("fr", "fr"), ("en_US.UTF-8", "en"), ("de_DE", "en"), ("C", "en")],
)
def test_the_locale_decides_until_settings_do(
    locale: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    common.set_options(common.Options())
    assert common.language() == expected

    path = tmp_path / "c.toml"
    path.write_text('[site]\nname = "x"\nlanguage = "fr"\ntimezone = "Indian/Reunion"\n')
    common.set_options(common.Options(config=path))
    common.settings()
    assert common.language() == "fr"
    assert str(common.words().timezone) == "Indian/Reunion"

    common.set_options(common.Options(config=path, language="en"))
    common.settings()
    assert common.language() == "en"


def test_a_table_in_a_pipe_is_aligned_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    common.print_table(["Name", "N"], [["a\x1b[31m", "1"], ["longer than that", "2"]])

    assert capsys.readouterr().out == (
        "Name              N\na�[31m            1\nlonger than that  2\n"
    )


def test_quiet_shows_results_only(capsys: pytest.CaptureFixture[str]) -> None:
    common.set_options(common.Options(quiet=True))
    common.say("cli.doctor.ok")
    common.result("cli.doctor.all-well")

    assert capsys.readouterr().out == "Everything needed works here.\n"
