"""Reads the rows of an export, CSV or JSON, as text by column; bounded, and never half of them."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backupguard.errors import AccessRefused, Changing, Misunderstood, Unreachable
from backupguard.model import Message
from backupguard.repositories.imported_settings import ImportSettings

#: An export of ten years of 2,000 jobs has about 1 GB in no format; more is the wrong file.
FILE_LIMIT = 512 << 20
#: JSON is read at once, and takes about ten times its size in memory.
JSON_LIMIT = 64 << 20
_CELL_LIMIT = 4096

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What tells whether a file was written anew: device, inode, size, time of change."""

    identity: tuple[int, int, int, int]

    @property
    def changed_ns(self) -> int:
        """When it was last changed, in nanoseconds since 1970."""
        return self.identity[3]


def written(settings: ImportSettings, identifier: str) -> Written:
    """Return the state of the export; raises Unreachable (not_found), AccessRefused, Misunderstood."""
    try:
        status = settings.file.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unreachable("not_found", repository=identifier) from error
    except OSError as error:
        raise AccessRefused("permission", repository=identifier) from error
    if not stat.S_ISREG(status.st_mode):
        raise Unreachable("not_found", repository=identifier)
    return Written(identity=(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def rows(settings: ImportSettings, identifier: str) -> Iterator[tuple[int, Row]]:
    """Yield line (CSV) or number (JSON) and cells of every row.

    Raises Misunderstood (output_unparsable) naming line and reason, Changing when the file was
    written to meanwhile, and what `written` raises. A cell's text never stands in an error.
    """
    before = written(settings, identifier)
    limit = JSON_LIMIT if settings.is_json else FILE_LIMIT
    if before.identity[2] > limit:
        raise wrong(settings, 0, "too-large")
    try:
        handle = os.open(settings.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise AccessRefused("permission", repository=identifier) from error
    with os.fdopen(handle, "rb") as file:
        found = _json_rows(file, settings) if settings.is_json else _csv_rows(file, settings)
        yield from found
    if written(settings, identifier) != before:
        raise Changing("repository_changed", repository=identifier)


def wrong(settings: ImportSettings, line: int, why: str, column: str = "") -> Misunderstood:
    """Return the error of a line: which, in which column, and what is wrong (never the cell)."""
    values: dict[str, int | str] = {
        "file": str(settings.file), "line": line, "column": column, "source": settings.source,
    }  # fmt: skip
    message = Message(id=f"repositories.import.{why}", values=values)
    return Misunderstood("output_unparsable", message=message)


def _wanted(settings: ImportSettings) -> Sequence[str]:
    return [name for name in settings.columns.model_dump().values() if name is not None]


def _csv_rows(file: io.BufferedReader, settings: ImportSettings) -> Iterator[tuple[int, Row]]:
    with io.TextIOWrapper(file, encoding=settings.encoding, newline="") as text:
        reader = csv.DictReader(text, delimiter=settings.delimiter, strict=True)
        try:
            yield from _cells(reader, settings)
        except csv.Error:
            raise wrong(settings, reader.line_num + 1, "broken") from None
        except UnicodeDecodeError:
            raise wrong(settings, reader.line_num + 1, "encoding") from None


def _cells(reader: csv.DictReader[str], settings: ImportSettings) -> Iterator[tuple[int, Row]]:
    wanted = _wanted(settings)
    header = reader.fieldnames or ()
    missing = [name for name in wanted if name not in header]
    if missing:
        raise wrong(settings, 1, "no-column", ", ".join(missing))
    if len(set(header)) != len(header):
        raise wrong(settings, 1, "broken")
    for row in reader:
        if None in row or None in row.values():
            raise wrong(settings, reader.line_num, "cells")
        cells = {name: row[name] for name in wanted}
        long = next((name for name, cell in cells.items() if len(cell) > _CELL_LIMIT), None)
        if long is not None:
            raise wrong(settings, reader.line_num, "too-long", long)
        yield reader.line_num, cells


def _json_rows(file: io.BufferedReader, settings: ImportSettings) -> Iterator[tuple[int, Row]]:
    try:
        found: Any = json.loads(file.read(JSON_LIMIT + 1))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 0)
        raise wrong(settings, line, "broken") from None
    for key in settings.records.split(".") if settings.records else ():
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, list):
        raise wrong(settings, 0, "no-list", settings.records or "")
    for number, record in enumerate(found, start=1):
        cells = {}
        for name in _wanted(settings):
            value = _at(record, name)
            if isinstance(value, dict | list):
                raise wrong(settings, number, "no-text", name)
            cells[name] = "" if value is None else str(value)
        yield number, cells


def _at(record: Any, name: str) -> Any:
    """Return what stands at a key, or at a path of keys joined by dots."""
    if isinstance(record, Mapping) and name in record:
        return record[name]
    for key in name.split("."):
        record = record.get(key) if isinstance(record, Mapping) else None
    return record
