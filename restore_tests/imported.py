"""Tests of restores done by other tools: what their record shows, and never more than that.

A record is folded into one test of an application: of each database or machine the newest row; the
worst verdict; the lowest level. What passed is as old as its oldest part; what failed, as its newest
failure. How the record was read is said by its `format`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from backupguard.errors import UsageError
from backupguard.model import Json, Message, Verdict, to_us, worst
from restore_tests.imported_logs import dbcc, iris, rman
from restore_tests.imported_record import MOST_PARTS, Part, Reading, wrong
from restore_tests.imported_tables import dbatools, surebackup

Reader = Callable[[bytes, Reading], Iterator[Part]]

#: The readers, and what the engine of a test they tell of is called.
FORMATS: Mapping[str, tuple[Reader, str]] = {
    "dbatools": (dbatools, "mssql"),
    "surebackup": (surebackup, "veeam"),
    "rman": (rman, "oracle"),
    "dbcc": (dbcc, "mssql"),
    "iris": (iris, "iris"),
}


def read(
    content: bytes, form: str, reading: Reading, names: Sequence[str], *, application: str
) -> dict[str, Json]:
    """Return a record as the body of a declared test, without repository and origin.

    `names` are the databases or machines that are the application's; none given: all of them.
    Raises Misunderstood with the line that is wrong, UsageError for an unknown format.
    """
    if form not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(
            "usage", Message(id="restore-tests.import.format", values={"known": known})
        )
    reader, engine = FORMATS[form]
    parts = _newest(reader(content, reading), names)
    verdict = worst([part.verdict for part in parts])
    level = min(part.level for part in parts)
    failed = [part.at for part in parts if part.verdict is verdict]
    passed = verdict is Verdict.PASSED
    durations = [part.duration_ms for part in parts if part.duration_ms is not None]
    return {
        "application": application,
        "format": form,
        "engine": engine,
        "sha256": hashlib.sha256(content).hexdigest(),
        "tested_at": to_us(min(failed) if passed else max(failed)),
        "duration_ms": sum(durations) if len(durations) == len(parts) else None,
        "verdict": verdict.value,
        "level": level,
        "point": None,
        "point_at": None,
        "checks": [_check(part) for part in parts],
        "who": None,
        "checked": [],
        "order": [],
    }


def _newest(found: Iterator[Part], names: Sequence[str]) -> list[Part]:
    wanted = {name.casefold() for name in names}
    newest: dict[str, Part] = {}
    for part in found:
        key = part.name.casefold()
        if wanted and key not in wanted:
            continue
        known = newest.get(key)
        if known is None or known.at <= part.at:
            newest[key] = part
    missing = sorted(name for name in names if name.casefold() not in newest)
    if missing:
        raise wrong("names-missing", 0, names=", ".join(missing))
    if not newest:
        raise wrong("empty", 0)
    if len(newest) > MOST_PARTS:
        raise wrong("too-many", 0, most=MOST_PARTS)
    return [newest[key] for key in sorted(newest)]


def _check(part: Part) -> dict[str, Json]:
    return {
        "name": part.name,
        "level": part.level,
        "verdict": part.verdict.value,
        "code": part.code,
        "numbers": dict(part.numbers),
        "at": to_us(part.at.astimezone(UTC)),
    }


def dated(name: str, zone: str) -> datetime | None:
    """Return the day that a file's name tells ("checkdb-2026-11-03.txt"), None for none.

    Its first moment: what is dated by a name is never shown younger than it is.
    """
    import re
    from zoneinfo import ZoneInfo

    found = re.search(r"(?<!\d)(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)", name)
    if found is None:
        return None
    try:
        day = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=ZoneInfo(zone))
    except ValueError:
        return None
    return day.astimezone(UTC)
