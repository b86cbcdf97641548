"""What commands share: global options, settings, words, the store, output, errors.

Importing this costs next to nothing; every function imports what it needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.errors import BackupGuardError, ConfigurationError
    from backupguard.language import Words
    from backupguard.model import Json, Message
    from backupguard.settings import Settings

SERVICE_USER = "backupguard"


class Language(StrEnum):
    """The languages of everything that is shown."""

    FR = "fr"
    EN = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the global options said."""

    config: Path | None = None
    language: str | None = None
    quiet: bool = False
    verbose: bool = False


_options = Options()
_settings: Settings | None = None


def options() -> Options:
    """Return the global options of this call."""
    return _options


def set_options(new: Options) -> None:
    """Remember the global options; settings loaded under others are forgotten."""
    global _options, _settings
    _options, _settings = new, None


def settings(*, check_secrets: bool = False) -> Settings:
    """Return the effective settings, loaded once per call of the program.

    `check_secrets` also demands that the files of secrets exist and are private. Raises
    ConfigurationError.
    """
    global _settings
    if _settings is None or check_secrets:
        from backupguard.settings import load

        _settings = load(_options.config, check_secrets=check_secrets)
    return _settings


def use_settings(loaded: Settings) -> None:
    """Let the rest of this call use settings that were loaded in another way."""
    global _settings
    _settings = loaded


def language() -> str:
    """Return the language to speak: the option's, else the site's, else the locale's.

    Settings that were not loaded, or cannot be, still say which language the site speaks.
    """
    if _options.language is not None:
        return _options.language
    if _settings is not None:
        return _settings.site.language
    from backupguard.cli import status_file

    of_site = status_file.language(_options.config, os.environ)
    if of_site in list(Language):
        return of_site
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return "fr" if locale.lower().startswith("fr") else "en"


def words() -> Words:
    """Return what puts messages into the effective language, in the site's time zone."""
    from backupguard.language import Words

    return Words(language(), _settings.site.timezone if _settings is not None else "UTC")


def store(settings: Settings, *, replace_corrupt: bool = True) -> Store:
    """Open the store these settings name, as its owner and never as root; made when absent."""
    become_owner(settings)
    from backupguard.store import open_store

    return open_store(
        settings.state_directory,
        settings.store.url,
        site=settings.site.name,
        timezone=settings.site.timezone,
        channels=settings.channels,
        replace_corrupt=replace_corrupt,
    )


def become_owner(settings: Settings) -> None:
    """Started as root, become the owner of the state directory for good; otherwise do nothing.

    Nothing works as root. Call it before anything is opened. A state directory that does not exist
    is made for the service's user, where there is one. Raises Unreachable or AccessRefused when
    there is nobody to become.
    """
    if os.geteuid() != 0:
        return
    import pwd

    from backupguard import processes

    directory = settings.state_directory
    if not directory.exists():
        user = next((entry for entry in pwd.getpwall() if entry.pw_name == SERVICE_USER), None)
        if user is not None and user.pw_uid != 0:
            directory.mkdir(mode=0o700, parents=True)
            os.chown(directory, user.pw_uid, user.pw_gid)
    processes.become_owner(directory)


# ------------------------------------------------------------------------------------------ output


def say(message: Message | str, **values: int | str) -> None:
    """Print a sentence, unless `--quiet`: a message, or a message id and its values."""
    if not _options.quiet:
        result(message, **values)


def result(message: Message | str, **values: int | str) -> None:
    """Print a sentence that is the command's result, even with `--quiet`."""
    from backupguard.model import Message

    wanted = Message(id=message, values=values) if isinstance(message, str) else message
    print(words().say(wanted))


def complain(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)


def print_json(data: Json) -> None:
    """Print JSON, indented, non-ASCII as it is: what every `--json` gives."""
    import json

    print(json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True, default=str))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table: with rules on a terminal, plain aligned columns elsewhere.

    `columns` and cells are texts already put into words. Control characters in cells are shown as
    "�": names come from files and tools, and must not steer a terminal.
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():  # a pipe has no width: nothing is folded or cut there
        lines = ([[title]] if title else []) + [list(columns), *safe]
        widths = [max(map(len, column)) for column in zip(columns, *safe, strict=True)]
        for line in lines:
            print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=False)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in safe:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def printable(text: str) -> str:
    """Return a text without characters that could steer a terminal."""
    # French puts no-break spaces before its punctuation; they steer nothing.
    return "".join(c if c.isprintable() or c in "\u00a0\u202f" else "�" for c in text)


# ------------------------------------------------------------------------------------------ errors


#: Values that say what they are by themselves.
_PLAIN = frozenset({"name", "subject", "path", "file", "program"})


def show_usage(error: Any) -> None:
    """Print how a command was called wrongly: an error of the command line's library, in words.

    The library speaks English only; what it has no sentence for here is shown as it says it.
    """
    context = error.ctx
    if context is not None and _options == Options():  # it failed before they were remembered
        given = context.find_root().params
        spoken_in = given.get("language")
        set_options(Options(config=given.get("config"), language=spoken_in and spoken_in.value))
    spoken = words()
    if context is not None:
        complain(context.get_usage().replace("Usage:", spoken.text("cli.usage"), 1))
        complain(spoken.text("cli.usage.help", command=context.command_path))
    plain = error.format_message()
    near = plain.partition(" Did you mean ")[2]
    kind, hint = type(error).__name__, ""
    if kind == "NoSuchOption":
        wrong, hint = "no-option", error.option_name
    elif plain.startswith("No such command '"):
        wrong, hint = "no-command", plain.split("'")[1]
    elif kind in {"MissingParameter", "BadParameter"} and error.param is not None:
        wrong = "missing" if kind == "MissingParameter" else "bad-value"
        hint = error.param_hint or error.param.get_error_hint()
    said = printable(plain)
    if hint:
        found = printable(error.message.removeprefix("Value error, ").rstrip("."))
        said = spoken.text(f"cli.usage.{wrong}", what=printable(hint.strip("'")), found=found)
        if near:
            near = near.rstrip("?").replace("'", "")
            said += spoken.text("cli.usage.near", near=printable(near))
    complain(f"backupguard: {said}")


def show_error(error: BackupGuardError) -> None:
    """Print an expected error on standard error: a sentence, and what to do about it."""
    from backupguard.errors import ConfigurationError

    if isinstance(error, ConfigurationError):
        show_problems(error)
    else:
        spoken = words()
        complain(f"backupguard: {printable(sentence_of(spoken, error.message))}")
        remedy = error.remedy or usual_remedy(spoken, error.code)
        if remedy is not None:
            complain(f"  → {printable(spoken.say(remedy))}")
    if _options.verbose:
        _traceback(error)


def sentence_of(spoken: Words, message: Message) -> str:
    """Return a message's sentence, and behind it the values that have no place in it.

    The sentence of a code is one for all who raise it; what each of them knows differs.
    """
    from string import Formatter

    from backupguard.language import catalogue

    raw = catalogue(spoken.language).get(message.id)
    if raw is None:
        return spoken.say(message)
    named = {name for _, name, _, _ in Formatter().parse(raw) if name}
    rest = {name: value for name, value in message.values.items() if name not in named}
    told = ", ".join(f"{name}={value}" for name, value in rest.items())
    if len(rest) == 1 and rest.keys() <= _PLAIN:
        told = str(*rest.values())
    return spoken.say(message) + (f" ({told})" if told else "")


def usual_remedy(spoken: Words, code: str) -> Message | None:
    """Return what helps against a code wherever it comes from; None where nothing is known."""
    from backupguard.language import catalogue
    from backupguard.model import Message

    known = f"remedy.{code}" in catalogue(spoken.language)
    return Message(id=f"remedy.{code}") if known else None


def show_problems(error: ConfigurationError) -> None:
    """Print every problem as FILE:LINE:COLUMN: KEY: sentence, its remedy below it."""
    spoken = words()
    for problem in error.problems:
        place = ":".join(
            str(part) for part in (problem.file, problem.line, problem.column) if part is not None
        )
        key = f" {problem.key}:" if problem.key else ""
        complain(f"{place}:{printable(key)} {printable(spoken.say(problem.message))}")
        if problem.remedy is not None:
            complain(f"  → {printable(spoken.say(problem.remedy))}")
    complain(spoken.say(error.message))


def problems_json(error: ConfigurationError) -> list[Mapping[str, Any]]:
    """Return every problem as JSON values, sentences included."""
    spoken = words()
    return [
        {
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "key": problem.key,
            "id": problem.message.id,
            "message": spoken.say(problem.message),
            "remedy": spoken.say(problem.remedy) if problem.remedy is not None else None,
        }
        for problem in error.problems
    ]


def show_bug(error: BaseException) -> None:
    """Print a defect of ours: one line, the traceback with `--verbose` only.

    The error's own text may quote what must not be shown; its class may not.
    """
    spoken = words()
    complain(f"backupguard: {spoken.text('error.bug', what=type(error).__name__)}")
    if _options.verbose:
        _traceback(error)
    else:
        complain(f"  → {spoken.text('remedy.bug')}")


def _traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)
