"""The pages of commands and settings say what the code says; others are tested beside their code."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.cli import reference as of_commands
from backupguard.cli.main import COMMANDS
from backupguard.settings import reference as of_settings
from backupguard.settings.loading import full_model

PAGES = Path(__file__).parents[3] / "docs/reference"
MADE = {"commands.md": of_commands.reference, "settings.md": of_settings.reference}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return {name: write() for name, write in MADE.items()}


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_page_is_current(name: str, made: dict[str, str]) -> None:
    written = (PAGES / name).read_text(encoding="utf-8")
    assert written.rstrip("\n") == made[name].rstrip("\n"), "run script/reference"


def test_no_command_is_missing(made: dict[str, str]) -> None:
    shown = {f"## `backupguard {one.name}`" for one in COMMANDS if not one.hidden}
    assert shown - set(made["commands.md"].splitlines()) == set()
    assert "`--escrowed-key`" in made["commands.md"]


def test_no_setting_is_missing(made: dict[str, str]) -> None:
    schema = full_model().model_json_schema(by_alias=True)
    tables = [schema, *schema["$defs"].values()]
    keys = {
        key
        for table in tables
        for key, node in table.get("properties", {}).items()
        if "$ref" not in node and "additionalProperties" not in node
    }
    page = made["settings.md"]
    missing = {key for key in keys if f"`{key}`" not in page and f".{key}" not in page}
    assert {key for key in missing if f"[{key}" not in page} == set()


@pytest.mark.parametrize(
    "line",
    [
        "| `name` | text | *needed* |",
        "| `max-bytes` | a size | `20GB` |",
        "| `refresh-timeout` | a duration | `5m` |",
        "| `port` | 1 to 65535 | `5432` |",
        "| `language` | `fr` · `en` | `fr` |",
        "### `[repositories.ID]`: `restic`",
    ],
)
def test_a_row_reads_as_people_write_it(line: str, made: dict[str, str]) -> None:
    assert line in made["settings.md"].splitlines()
