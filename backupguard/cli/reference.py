"""What the command line says of itself, for manual pages and documentation.

`python -m backupguard.cli.reference` prints the page docs/reference/commands.md; script/reference
writes it. packaging/pages.py makes the manual pages and the completion of the same.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from backupguard.cli.main import app_command

PROGRAM = "backupguard"
#: What a command's exit status means; every command keeps to them.
EXIT_CODES = (
    ("0", "Done; for status: everything is compliant."),
    ("1", "What was tested failed; for status: a warning."),
    ("2", "It could not be done or not be proved; for status: something is not compliant."),
    ("3", "Only of status: something cannot be measured."),
    ("64", "The command was called wrongly."),
    ("78", "The configuration is missing or wrong."),
)
_HEAD = """\
# Commands

Made from the command line itself by `script/reference`; a test fails when the two differ. The
package has the same as manual pages: `man backupguard`, `man backupguard-restore-test`. Options
of `backupguard` itself stand before the command: `backupguard --language fr status`.

| exit status | means |
|---|---|
"""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that is shown, with its path, its group before it."""
    yield path, command
    if not hasattr(command, "list_commands"):
        return
    context = context_of(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from commands(found, (*path, name))


def options(command: Any) -> list[Any]:
    """Return a command's options that are shown, `--help` apart."""
    return [
        one
        for one in command.params
        if one.param_type_name == "option" and not getattr(one, "hidden", False)
    ]


def arguments(command: Any) -> list[Any]:
    """Return a command's arguments."""
    return [one for one in command.params if one.param_type_name == "argument"]


def context_of(command: Any) -> Any:
    """Return what a command's help is asked with."""
    return command.make_context(PROGRAM, [], resilient_parsing=True)


def record(option: Any, command: Any) -> tuple[str, str]:
    """Return an option as help shows it: its names with what it takes, and what it does."""
    shown = option.get_help_record(context_of(command)) or (", ".join(option.opts), "")
    return str(shown[0]), " ".join(str(shown[1]).split())


def help_of(command: Any) -> list[str]:
    """Return the paragraphs of a command's help."""
    return inspect.cleandoc(command.help or "").split("\n\n")


def _synopsis(path: tuple[str, ...], command: Any) -> str:
    words = [" ".join((PROGRAM, *path))]
    if options(command):
        words.append("[OPTIONS]")
    for one in arguments(command):
        words += one.get_usage_pieces(context_of(command))
    if hasattr(command, "list_commands"):
        words.append("COMMAND")
    return " ".join(words)


def _name(argument: Any, command: Any) -> str:
    return " ".join(argument.get_usage_pieces(context_of(command))).strip("[]. ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    name = " ".join((PROGRAM, *path))
    yield f"\n{'##' if len(path) < 2 else '###'} `{name}`\n"
    yield f"\n    {_synopsis(path, command)}\n"
    for paragraph in help_of(command):
        yield f"\n{' '.join(paragraph.split())}\n"
    rows = [
        *((_name(one, command), one.help) for one in arguments(command) if one.help),
        *(record(one, command) for one in options(command)),
    ]
    if rows:
        yield "\n| option | does |\n|---|---|\n"
    for names, told in rows:
        yield f"| `{_cell(names)}` | {_cell(told)} |\n"


def reference() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, *(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES)]
    for path, command in commands(app_command()):
        parts += _section(path, command)
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
