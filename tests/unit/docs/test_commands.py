"""Every `backupguard …` that a page shows is a command that exists, with options that it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from backupguard.cli.main import app_command
from backupguard.cli.reference import commands, context_of, options

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("config/**/*.md"))
    if "reference" not in path.parts
)
_SHOWN = re.compile(r"(?:^|`)(?: {4,})?backupguard ([a-z-][^`\n]*)", re.MULTILINE)
#: Options of the program itself, with their values.
_GLOBAL = re.compile(r"--(?:config|language) \S+ ?")
#: Where a command ends on its line: a comment, another program, columns of explanation.
_END = re.compile(r"\s#|\s\||\s&&|\s>|\s;|\s--\s| {3,}|\s[—–]|…")


def options_of(command: Any) -> set[str]:
    """The options of a command, and of the one that its group performs where none is named."""
    names = {name for one in options(command) for name in one.opts} | {"--help"}
    if hasattr(command, "list_commands"):
        context = context_of(command)
        below = [command.get_command(context, name) for name in command.list_commands(context)]
        for one in below:
            if one is not None and one.hidden:
                names |= options_of(one)
    return names


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, ...], set[str]]:
    return {path: options_of(command) for path, command in commands(app_command())}


def trouble(line: str, known: dict[tuple[str, ...], set[str]]) -> str | None:
    """What a command line says that the program does not know."""
    path: tuple[str, ...] = ()
    allowed = set(known[()])
    said = _GLOBAL.sub("", _END.split(line, maxsplit=1)[0])
    for word in said.replace("[", " ").replace("]", " ").split():
        if word.startswith("-") and len(word) > 1:
            if word.partition("=")[0].rstrip(".,:;)") not in allowed:
                return word
        elif (*path, word) in known:
            path = (*path, word)
            allowed |= known[path]
        elif not path and re.fullmatch(r"[a-z][a-z-]+", word):
            return word
    return None


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_commands_of_a_page_exist(page: Path, known: dict[tuple[str, ...], set[str]]) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = [(line, trouble(line, known)) for line in _SHOWN.findall(text)]
    assert [(line, word) for line, word in wrong if word is not None] == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("restore-test dpi --repository nas", None),
        ("restore-test dpi --repo nas", "--repo"),
        ("restaure dpi", "restaure"),
        ("evidence export --output DIR", None),
        ("evidence export --to DIR", "--to"),
        ("state export | import", None),
        ("report-run --job a.b --warning-code 1 -- restic backup --tag x", None),
        ("media out usb --holder A   # --and more", None),
    ],
)
def test_a_command_that_does_not_exist_is_found(
    line: str, word: str | None, known: dict[tuple[str, ...], set[str]]
) -> None:
    assert trouble(line, known) == word
