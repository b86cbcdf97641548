"""Reads the reference: a list of what exists, in CSV, that somebody else's tool wrote.

The file is hostile input: it is bounded, decoded strictly, nothing in it is evaluated, and one that
is half written is refused rather than read as a shorter list.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from backupguard.model import to_us
from probes.discovery_files import entries as listed
from probes.discovery_files import read_bytes
from probes.discovery_found import Application, Found, ReferencePlan, clean

LIMIT = 16 << 20
ROWS_LIMIT = 200_000
NAMED_LIMIT = 200
_DELIMITERS = ";,\t|"
_IN_NAME = re.compile(r"(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])")
_FORMULA = re.compile(r'=\s*"(.*)"')  # how spreadsheets keep leading zeros
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


class _Bad(Exception):
    """The file cannot be taken as it is."""

    def __init__(self, code: str, where: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.where = where


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    label: str
    keys: frozenset[str]
    date: str


def load(
    plan: ReferencePlan, applications: Sequence[Application], now: datetime, found: Found
) -> dict[str, Any] | None:
    """Return the payload of `reference.loaded`, or None when it cannot be read: that is noted."""
    path = _newest(plan.file, found)
    if path is None:
        if not any(lack.hides == "reference" for lack in found.lacking):
            found.lack("reference", "not_found", plan.file, "reference")
        return None
    try:
        content, modified = _content(path, found)
        rows = list(_rows(_decoded(content, plan), plan))
        counted = {entry.keys: entry for entry in rows if entry.keys}
        if not counted:
            raise _Bad("half_written")
        dated = _dated(plan, path, modified, rows)
        if dated > now + timedelta(days=1):
            raise _Bad("unparsable", " (date)")
    except _Bad as error:
        if error.code != "noted":
            found.lack("reference", error.code, f"{path}{error.where}", "reference")
        return None
    known = {one.id: {key for name in one.names for key in _keys(name)} for one in applications}
    everything = {key for keys in known.values() for key in keys}
    seen = {key for keys in counted for key in keys}
    unmatched = sorted(entry.label for keys, entry in counted.items() if not keys & everything)
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "dated_at": to_us(dated),
        "entries": len(counted),
        "unmatched": unmatched[:NAMED_LIMIT],
        "unmatched_total": len(unmatched),
        "absent": sorted(one for one, keys in known.items() if not keys & seen),
        "dated_by": plan.dated,
        "max_age_ms": plan.max_age // timedelta(milliseconds=1),
        "duplicates": len(rows) - len(counted),
    }


def _newest(file: Path, found: Found) -> Path | None:
    """Return the file; of several that a `*` in its name matches, the last by name."""
    if "*" not in file.name:
        return file
    names = [p for p in listed(file.parent, found, "reference") if fnmatchcase(p.name, file.name)]
    return max(names, key=_by_date) if names else None


def _by_date(path: Path) -> tuple[str, str]:
    match = _IN_NAME.search(path.name)
    return ("".join(match.groups()) if match else "", path.name)


def _content(path: Path, found: Found) -> tuple[bytes, datetime]:
    """Return the bytes and when they were modified; a file being written to is refused."""
    lacking = len(found.lacking)
    content = read_bytes(path, found, "reference", limit=LIMIT)
    if content is None:
        raise _Bad("not_found" if len(found.lacking) == lacking else "noted")
    try:
        status = path.stat()
    except OSError as error:
        raise _Bad("half_written") from error
    if status.st_size != len(content):
        raise _Bad("half_written")
    return content, datetime.fromtimestamp(status.st_mtime, UTC)


def _decoded(content: bytes, plan: ReferencePlan) -> str:
    """Return the text: as its mark says, as configured, else UTF-8, else the code page of Windows."""
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    for encoding in (
        [marked] if marked else [plan.encoding] if plan.encoding else ["utf-8", "cp1252"]
    ):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise _Bad("unparsable")


def _rows(text: str, plan: ReferencePlan) -> Iterator[_Entry]:
    """Yield the entries that count. A quote left open or a short last row means half a file."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, plan), strict=True)
    try:
        heading = [_cell(cell) for cell in next(lines, [])]
        columns = _columns(heading, plan)
        short: int | None = None
        for row in lines:
            if not any(cell.strip() for cell in row):
                continue
            if short is not None:
                raise _Bad("unparsable", f" line {short}")
            if len(row) > len(heading) or lines.line_num > ROWS_LIMIT:
                code = "too_many" if lines.line_num > ROWS_LIMIT else "unparsable"
                raise _Bad(code, f" line {lines.line_num}")
            if len(row) < len(heading):
                short = lines.line_num
                continue
            values = {name: _cell(row[place]) for name, place in columns.items()}
            if not plan.kinds or _key(values.get("kind", "")) in map(_key, plan.kinds):
                yield _entry(values)
    except csv.Error as error:
        ended = "unexpected end" in str(error)
        raise _Bad("half_written" if ended else "unparsable", f" line {lines.line_num}") from None
    if short is not None:
        raise _Bad("half_written", f" line {short}")


def _delimiter(text: str, plan: ReferencePlan) -> str:
    if plan.delimiter:
        return plan.delimiter
    first = text.split("\n", 1)[0]
    for delimiter in sorted(_DELIMITERS, key=first.count, reverse=True):
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if _key(plan.name) in {_key(_cell(cell)) for cell in cells}:
            return delimiter
    raise _Bad("unparsable", " line 1")


def _columns(heading: Sequence[str], plan: ReferencePlan) -> dict[str, int]:
    """Return where each configured column stands; one that is not there is an error."""
    places = {_key(cell): place for place, cell in reversed(list(enumerate(heading)))}
    wanted = {
        "name": plan.name,
        "id": plan.id,
        "host": plan.host,
        "kind": plan.kind,
        "date": plan.date,
    }
    columns = {}
    for name, title in wanted.items():
        if title is None:
            continue
        if _key(title) not in places:
            raise _Bad("unparsable", f" line 1 ({clean(title)})")
        columns[name] = places[_key(title)]
    return columns


def _cell(text: str) -> str:
    stripped = text.strip()
    formula = _FORMULA.fullmatch(stripped)
    return formula[1].replace('""', '"') if formula else stripped


def _entry(values: dict[str, str]) -> _Entry:
    names = [values.get(name, "") for name in ("name", "id", "host")]
    return _Entry(
        label=clean(next((name for name in names if name), ""))[:120],
        keys=frozenset(key for name in names for key in _keys(name)),
        date=values.get("date", ""),
    )


def _keys(name: str) -> set[str]:
    """Return the forms under which a name is looked for: itself, and a host's short name."""
    key = _key(name)
    keys = {key} if key else set()
    if re.fullmatch(r"[a-z0-9-]*[a-z][a-z0-9-]*(\.[a-z0-9-]+)+", key):
        keys.add(key.partition(".")[0])
    return keys


def _key(name: str) -> str:
    """Return a name without what people write differently: case, accents, spaces."""
    plain = unicodedata.normalize("NFKD", name)
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(letters.replace("’", "'").casefold().split())


def _dated(plan: ReferencePlan, path: Path, modified: datetime, rows: Sequence[_Entry]) -> datetime:
    """Return when the export was made, from where the configuration says."""
    if plan.dated == "modified":
        return modified
    if plan.dated == "name":
        match = _IN_NAME.search(path.name)
        if match is None:
            raise _Bad("unparsable", " (date)")
        texts, form = ["-".join(match.groups())], None
    else:
        texts, form = [row.date for row in rows if row.date], plan.date_format
    try:
        dates = [
            datetime.strptime(text, form) if form else datetime.fromisoformat(text)  # noqa: DTZ007
            for text in texts
        ]
        return max(d if d.tzinfo else d.replace(tzinfo=UTC) for d in dates).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Bad("unparsable", " (date)") from None
