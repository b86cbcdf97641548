# ruff: noqa: INP001 - scripts of script/build-deb, no package
"""Writes the manual pages and the bash completion of `backupguard` from the command line itself.

usage: pages.py DIRECTORY VERSION YYYY-MM-DD

Makes DIRECTORY/man1/*.1 and DIRECTORY/backupguard.bash. What a command does not say in its help is
not in its page: there is one text, and it cannot go stale.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backupguard.cli.main import app_command
from backupguard.cli.reference import (
    EXIT_CODES,
    PROGRAM,
    arguments,
    commands,
    context_of,
    options,
    record,
)

FILES = (
    ("/etc/backupguard/backupguard.toml", "The configuration; conf.d/*.toml beside it is merged."),
    ("/etc/backupguard/credentials/", "Secrets, each a file that only root or the daemon reads."),
    ("/var/lib/backupguard/", "The store, its signing key, what is being restored."),
    ("/run/backupguard/control.sock", "How commands speak to the living daemon."),
    ("/usr/share/doc/backupguard/", "How to do what, a runbook for each alert, an example."),
)


def choices(option: Any, command: Any) -> list[str]:
    """Return the values that an option takes, where they are few and known."""
    found = re.search(r" [<\[]([\w|.-]+\|[\w|.-]+)[>\]]$", record(option, command)[0])
    return found.group(1).split("|") if found else []


# ------------------------------------------------------------------------------------ manual pages


def roff(text: str) -> str:
    """Return text for troff: nothing in it is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    lines = (line.strip() for line in escaped.splitlines())
    return "\n".join("\\&" + line if line.startswith((".", "\\(aq")) else line for line in lines)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text as troff."""
    for part in inspect.cleandoc(text).split("\n\n"):
        yield f".PP\n{roff(part)}"


def synopsis(path: tuple[str, ...], command: Any) -> str:
    """Return a command's synopsis."""
    words = [f"\\fB{roff(' '.join((PROGRAM, *path)))}\\fR"]
    if options(command):
        words.append("[\\fIoptions\\fR]")
    for one in arguments(command):
        words += [f"\\fI{roff(piece)}\\fR" for piece in one.get_usage_pieces(context_of(command))]
    if hasattr(command, "list_commands"):
        words.append("\\fIcommand\\fR [\\fIarguments\\fR]")
    return " ".join(words)


def option_entry(option: Any, command: Any) -> str:
    """Return an option's entry: its names, what it takes, what it does."""
    names, told = record(option, command)
    return f".TP\n\\fB{roff(names)}\\fR\n{roff(told)}".rstrip()


def listed(entries: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Yield entries of a list: a term in bold and what it means."""
    for term, meaning in entries:
        yield f".TP\n\\fB{roff(term)}\\fR\n{roff(meaning)}"


def first_line(command: Any) -> str:
    """Return what a command does, in one line without a full stop."""
    return str(" ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())).rstrip(".")


def page(path: tuple[str, ...], command: Any, version: str, date: str) -> str:
    """Return the manual page of a command with all its sub-commands."""
    name = "-".join((PROGRAM, *path))
    title = first_line(command)
    parts = [
        f'.TH "{roff(name.upper())}" "1" "{date}" "BackupGuard {version}" "BackupGuard"',
        f".SH NAME\n{roff(name)} \\- {roff(title[0].lower() + title[1:])}",
        f".SH SYNOPSIS\n{synopsis(path, command)}",
        ".SH DESCRIPTION",
        *paragraphs(command.help or ""),
    ]
    if options(command):
        parts += [".SH OPTIONS", *(option_entry(one, command) for one in options(command))]
    below = [(where, one) for where, one in commands(command, path) if where != path]
    if not path:
        parts.append(".SH COMMANDS")
        parts += listed(
            (f"{PROGRAM}-{where[0]}(1)", first_line(one) + ".")
            for where, one in below
            if len(where) == 1
        )
    elif below:
        parts.append(".SH COMMANDS")
        for where, one in below:
            parts += [f".SS {synopsis(where, one)}", *paragraphs(one.help or "")]
            parts += (option_entry(each, one) for each in options(one))
    if not path:
        parts += [".SH EXIT STATUS", *listed(EXIT_CODES), ".SH FILES", *listed(FILES)]
        parts += [".SH SEE ALSO", f"\\fBsystemctl\\fR(1), {roff('/usr/share/doc/backupguard/')}"]
    else:
        parts += [".SH SEE ALSO", f"\\fB{PROGRAM}\\fR(1)"]
    return "\n".join(parts) + "\n"


# -------------------------------------------------------------------------------------- completion

_COMPLETION = """\
# bash completion for backupguard(1); made from the command line itself, starts no program.
_backupguard() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} path='' each next
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $each in -*) continue ;; esac
        next=${path:+$path }$each
        case "|$_backupguard_commands|" in *"|$next|"*) path=$next ;; esac
    done
    local words='' values=''
    case $path in
CASES
    esac
    case "$path $previous" in
VALUES
    esac
    if [ -n "$values" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
_backupguard_commands='COMMANDS'
complete -o default -F _backupguard backupguard
"""


def completion() -> str:
    """Return the bash completion: what follows each command, which values an option takes."""
    cases, values, paths = [], [], []
    for path, command in commands(app_command()):
        name = " ".join(path)
        paths.append(name)
        below = []
        if hasattr(command, "list_commands"):
            context = context_of(command)
            below = [
                one
                for one in command.list_commands(context)
                if not command.get_command(context, one).hidden
            ]
        taken = [opt for one in options(command) for opt in one.opts if opt.startswith("--")]
        cases.append(f"        '{name}') words='{' '.join([*below, *taken, '--help'])}' ;;")
        values += [
            f"        '{name} {opt}') values='{' '.join(choices(one, command))}' ;;"
            for one in options(command)
            if choices(one, command)
            for opt in one.opts
        ]
    text = _COMPLETION.replace("CASES", "\n".join(cases)).replace("VALUES", "\n".join(values))
    return text.replace("='COMMANDS'", f"='{'|'.join(path for path in paths if path)}'")


def main(directory: Path, version: str, date: str) -> None:
    """Write everything below `directory`."""
    (directory / "man1").mkdir(parents=True)
    for path, command in commands(app_command()):
        if len(path) <= 1:
            name = "-".join((PROGRAM, *path))
            text = page(path, command, version, date)
            (directory / "man1" / f"{name}.1").write_text(text, encoding="utf-8")
    (directory / f"{PROGRAM}.bash").write_text(completion(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
