"""What the record of a restore test done elsewhere says, and how its text, times and rows are read.

Readers are pure functions over bytes: no clock, no file. A record that is not whole, or that this
version does not understand, is refused with the line that is wrong; no text of it is ever repeated.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.errors import Misunderstood
from backupguard.model import Message, Verdict

#: A session of a thousand databases has 1 MB; a log of a month of RMAN less than this.
FILE_LIMIT = 4 << 20
#: More databases or machines than this in one record are not one application's.
MOST_PARTS = 200
_MOST_ROWS = 20_000
_LONGEST_NAME = 120
#: What a part of a record shows, as codes of `check.CODE`.
READ, OPENED, CHECKED = "declared_read", "declared_opened", "declared_checked"
FAILED, DAMAGED, SKIPPED = "declared_failed", "declared_damaged", "declared_skipped"
#: What PowerShell 5 makes of a date in JSON, and what 7 does.
_OLD_JSON_DATE = re.compile(r"^/Date\((-?\d{1,16})(?:[+-]\d{4})?\)/$")
_FIRST_YEAR = 1990
_FRACTION = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a record is to be understood: the zone of its local times, and their form (strptime).

    `dates` left out: only times that cannot be mistaken (ISO 8601, PowerShell's JSON, a tool's own
    fixed form) are taken. `tested_at` dates a record that holds no time of its own.
    """

    timezone: str = "UTC"
    dates: str | None = None
    tested_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a record shows of one database or machine: how far it got, and when.

    `level` is what is shown and never more: 1 bytes were read, 2 it was opened, 3 it was checked.
    """

    name: str
    level: int
    verdict: Verdict
    code: str  # of `check.CODE`
    at: datetime
    duration_ms: int | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)


def wrong(why: str, line: int, **values: int | str) -> Misunderstood:
    """Return the error of a line (0: the whole record): `why` is `restore-tests.import.WHY`."""
    message = Message(id=f"restore-tests.import.{why}", values={"line": line, **values})
    return Misunderstood("output_unparsable", message=message)


def text_of(content: bytes) -> str:
    """Return the text of a record: UTF-8, or UTF-16 with its mark, as PowerShell 5 writes it.

    What is neither is taken for Windows-1252: only names outside ASCII depend on it.
    """
    if len(content) > FILE_LIMIT:
        raise wrong("too-large", 0, most=FILE_LIMIT)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            raise wrong("half-written", _line_at(content, len(content))) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\x00" in text:
        raise wrong("no-text", text[: text.index("\x00")].count("\n") + 1)
    return text


def _line_at(content: bytes, offset: int) -> int:
    return content[:offset].count(b"\n") + 1


def name_of(text: str, line: int) -> str:
    """Return a database's or machine's name; refuses what is none."""
    name = text.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise wrong("no-name", line)
    return name


def time_of(text: str, reading: Reading, line: int) -> datetime | None:
    """Return a time in UTC; None for an empty cell. One that could be two times is refused."""
    said = text.strip()
    if not said:
        return None
    old = _OLD_JSON_DATE.match(said.replace("\\/", "/"))
    try:
        if old:
            return datetime.fromtimestamp(int(old[1]) / 1000, UTC)
        if reading.dates is not None:
            moment = datetime.strptime(said, reading.dates)  # noqa: DTZ007 - its zone follows
        else:
            moment = datetime.fromisoformat(_FRACTION.sub(r"\1", said))
    except (ValueError, OverflowError, OSError):
        raise wrong("no-time", line) from None
    if moment.year < _FIRST_YEAR:  # what .NET writes for no time at all
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(reading.timezone))
    return moment.astimezone(UTC)


def milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    """Return how long something took; None where either end is missing or they are the wrong way."""
    if start is None or end is None or end < start:
        return None
    return int((end - start).total_seconds() * 1000)


Row = Mapping[str, str]


def rows(content: bytes, wanted: frozenset[str]) -> Iterator[tuple[int, Row]]:
    """Yield line (CSV) or number (JSON) and cells of each row of an export of PowerShell's.

    `wanted` are the columns without which it is another export. What ends in the middle of a row is
    refused, however many rows before it were whole.
    """
    text = text_of(content)
    begin = text.lstrip()[:1]
    if not begin:
        raise wrong("empty", 0)
    yield from _json(text, wanted) if begin in "[{" else _csv(text, wanted)


def _json(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, Row]]:
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError as error:
        whole = text.rstrip()[-1] in "]}"
        raise wrong("broken" if whole else "half-written", error.lineno) from None
    except RecursionError:
        raise wrong("broken", 1) from None
    listed = found if isinstance(found, list) else [found]
    if len(listed) > _MOST_ROWS:
        raise wrong("too-many", _MOST_ROWS, most=_MOST_ROWS)
    for number, one in enumerate(listed, start=1):
        if not isinstance(one, dict):
            raise wrong("no-record", number)
        if missing := sorted(wanted - one.keys()):
            raise wrong("no-column", number, column=", ".join(missing))
        yield number, {str(key): _cell(value) for key, value in one.items()}


def _cell(value: Any) -> str:
    """Return a JSON value as a cell's text; PowerShell's {"value": …, "DateTime": …} is its value."""
    if isinstance(value, dict):
        return _cell(value.get("value") or value.get("Value") or "")
    if value is None or isinstance(value, list):
        return ""
    return str(value)


def _csv(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, Row]]:
    lines = text.splitlines(keepends=True)
    skipped = 1 if lines[0].startswith("#TYPE") else 0
    if len(lines) <= skipped:
        raise wrong("half-written", len(lines))
    if not text.endswith("\n"):
        # Export-Csv ends every row; without its end, the last one may be cut inside a cell.
        raise wrong("half-written", len(lines))
    header = lines[skipped]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(
        io.StringIO("".join(lines[skipped:]), newline=""), delimiter=delimiter, strict=True
    )
    try:
        names = reader.fieldnames or ()
        if missing := sorted(wanted - set(names)):
            raise wrong("no-column", skipped + 1, column=", ".join(missing))
        for number, row in enumerate(reader):
            line = reader.line_num + skipped
            if number >= _MOST_ROWS:
                raise wrong("too-many", line, most=_MOST_ROWS)
            if None in row or None in row.values():
                raise wrong("half-written", line)
            yield line, row
    except csv.Error:
        raise wrong("half-written", reader.line_num + skipped + 1) from None
