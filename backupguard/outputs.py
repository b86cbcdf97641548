"""How the words and exit statuses of foreign programs are understood.

Plug-ins may import this module beside `backupguard.contracts`: it starts nothing and opens nothing.
What a program said and this module does not understand is `Misunderstood`, never a success.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from backupguard.errors import BackupGuardError, MissingMeans, Misunderstood

# -------------------------------------------------------------------------------------------- JSON


def _parsed(text: bytes) -> Any:
    """Return the JSON object or array that `text` is, None when it is neither."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # a hostile depth is no document either
        return None
    return value if isinstance(value, dict | list) else None


def json_lines(output: bytes, *, program: str = "", may_be_empty: bool = False) -> list[Any]:
    """Given output with one JSON object or array per line, return them, skipping stray lines.

    Programs mix warnings and progress among their JSON; a line that is no object or array is passed
    over. Raise Misunderstood (output_unparsable) when no line parses; with `may_be_empty`, output of
    blank lines only is an empty list. Example: `b'warning: x\\n{"a": 1}\\n'` gives `[{"a": 1}]`.
    """
    if may_be_empty and not output.strip():
        return []
    values = [
        value
        for line in output.splitlines()
        if line.strip() and (value := _parsed(line)) is not None
    ]
    if not values:
        raise Misunderstood("output_unparsable", program=program)
    return values


def last_json(output: bytes, *, program: str = "") -> Any:
    """Given output that ends in one JSON document, on one line or several, return that document.

    Stray lines before and after it are passed over. Raise Misunderstood (output_unparsable) when
    nothing parses.
    """
    whole = _parsed(output)
    if whole is not None:
        return whole
    lines = output.splitlines()
    for line in reversed(lines):
        if line[:1] in b"{[" and (value := _parsed(line)) is not None:
            return value
    return _last_document(lines, program)


def _last_document(lines: Sequence[bytes], program: str) -> Any:
    """Return the last JSON document that spans lines and begins at the start of one."""
    decoder = json.JSONDecoder()
    starts = [number for number, line in enumerate(lines) if line.rstrip() in (b"{", b"[")]
    found, past = None, -1
    for start in starts:
        if start < past:
            continue  # inside the document before
        text = b"\n".join(lines[start:]).decode("utf-8", "replace")
        try:
            found, length = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            continue
        past = start + text.count("\n", 0, length)
    if found is None:
        raise Misunderstood("output_unparsable", program=program)
    return found


# ------------------------------------------------------------------------------------ exit statuses

Version = tuple[int, ...]

#: The status of a program that SIGKILL has ended.
KILLED = 137


def parse_version(text: str) -> Version:
    """Given text with a version in it, return its numbers: "restic 0.14.0 compiled" is (0, 14, 0).

    Raise Misunderstood (output_unparsable) when there is none.
    """
    found = re.search(r"(?<![\w.])v?(\d+(?:\.\d+)+|\d+)", text)
    if found is None:
        raise Misunderstood("output_unparsable", program=text.split(" ", maxsplit=1)[0][:40])
    return tuple(int(number) for number in found[1].split("."))


class Ending(StrEnum):
    """How a program ended, when it did not fail."""

    SUCCESS = "success"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The error an exit status stands for: its class and a code of that class."""

    error: type[BackupGuardError]
    code: str

    def __post_init__(self) -> None:
        if self.code not in self.error.codes:
            raise ValueError(f"{self.code!r} is not a code of {self.error.__name__}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRule:
    """One row of an exit table.

    It applies when the status is one of `returncodes` (none = any), a version is at least `since`
    and below `before` (where given), and `pattern` (where given) is found in the standard error.
    """

    meaning: Ending | Failure
    returncodes: frozenset[int] | None = None
    pattern: re.Pattern[bytes] | None = None
    since: Version | None = None
    before: Version | None = None

    def applies(self, returncode: int, stderr: bytes, version: Version | None) -> bool:
        """Tell whether this row speaks of that ending. An unknown version meets no version limit."""
        if self.returncodes is not None and returncode not in self.returncodes:
            return False
        if self.since is not None and (version is None or version < self.since):
            return False
        if self.before is not None and (version is None or version >= self.before):
            return False
        return self.pattern is None or self.pattern.search(stderr) is not None


def rule(
    meaning: Ending | type[BackupGuardError],
    code: str = "",
    *,
    returncodes: Iterable[int] | int | None = None,
    pattern: str | None = None,
    since: Version | None = None,
    before: Version | None = None,
) -> ExitRule:
    """Make a row of an exit table; `pattern` is a regular expression, case ignored, by lines.

    Example: `rule(AccessRefused, "wrong_key", returncodes=1, pattern="wrong password")`.
    """
    codes = [returncodes] if isinstance(returncodes, int) else returncodes
    return ExitRule(
        meaning=meaning if isinstance(meaning, Ending) else Failure(error=meaning, code=code),
        returncodes=None if codes is None else frozenset(codes),
        pattern=None
        if pattern is None
        else re.compile(pattern.encode(), re.IGNORECASE | re.MULTILINE),
        since=since,
        before=before,
    )


class Ended(Protocol):
    """What an exit table looks at; `contracts.Completed` is one."""

    @property
    def returncode(self) -> int:
        """The exit status; 128 + N when signal N ended the program."""

    @property
    def stderr(self) -> bytes:
        """What it wrote to standard error."""

    @property
    def oom(self) -> bool:
        """Whether it was killed for want of memory."""


def unknown_ending(ended: Ended) -> str:
    """Return the code of an ending that nothing else explains."""
    return "program_killed" if ended.returncode == KILLED else "unknown_exit"


def require_not_killed(ended: Ended, program: str, **values: int | str) -> None:
    """Raise for a program that ended by SIGKILL, whose output says nothing then.

    MissingMeans (no_memory) where the kernel killed it for want of memory, else Misunderstood
    (program_killed).
    """
    if ended.oom:
        raise MissingMeans("no_memory", None, None, program=program, **values)
    if ended.returncode == KILLED:
        raise Misunderstood("program_killed", None, None, program=program, **values)


class ExitTable:
    """What the exit statuses of one program mean; the first row that applies decides.

    Success stands in the table too: a status that no row names, 0 included, is unknown. Write rows
    with a `pattern` before the rows without one.
    """

    def __init__(self, program: str, rules: Sequence[ExitRule]) -> None:
        self.program = program
        self.rules = tuple(rules)

    def meaning(self, ended: Ended, version: Version | None = None) -> Ending | Failure | None:
        """Return what this ending means, None when no row speaks of it."""
        for row in self.rules:
            if row.applies(ended.returncode, ended.stderr, version):
                return row.meaning
        return None

    def check(self, ended: Ended, version: Version | None = None, **values: int | str) -> Ending:
        """Return SUCCESS or WARNING, or raise the error this ending stands for.

        Raises MissingMeans (no_memory) for a program killed for want of memory, Misunderstood
        (program_killed) for one killed by whomever, (unknown_exit) for an ending that no row names.
        `values` go into the message beside `program` and `returncode`.
        """
        if ended.oom:
            raise MissingMeans("no_memory", None, None, program=self.program, **values)
        meaning = self.meaning(ended, version)
        if meaning is None:
            require_not_killed(ended, self.program, **values)
            raise Misunderstood(
                "unknown_exit",
                None,
                None,
                program=self.program,
                returncode=ended.returncode,
                **values,
            )
        if isinstance(meaning, Failure):
            raise meaning.error(meaning.code, None, None, program=self.program, **values)
        return meaning
