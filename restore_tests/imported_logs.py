"""Tests that engines' own tools did, as their logs tell them: RMAN, DBCC CHECKDB, IRIS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from backupguard.model import Verdict
from restore_tests.imported_record import (
    CHECKED,
    DAMAGED,
    FAILED,
    OPENED,
    READ,
    SKIPPED,
    Part,
    Reading,
    name_of,
    text_of,
    time_of,
    wrong,
)

# ----------------------------------------------------------------------------------------- RMAN

_RMAN_BEGAN = re.compile(
    r"^Recovery Manager: Release .* on \w{3} (\w{3} +\d{1,2} \d\d:\d\d:\d\d \d{4})", re.MULTILINE
)
_RMAN_DATABASE = re.compile(r"^connected to (?:auxiliary|target) database: (\S+)", re.MULTILINE)
_RMAN_ERROR = re.compile(r"^(?:RMAN-0(?:3\d\d\d|6\d\d\d)|ORA-\d{5})", re.MULTILINE)
_RMAN_END = "Recovery Manager complete."


def rman(content: bytes, reading: Reading) -> Iterator[Part]:
    """Yield what an RMAN log shows, as one part: `RESTORE … VALIDATE` read bytes (1), a restore
    followed by "database opened" opened it (2). RMAN itself checks no content.

    A log without its last line is still being written. Oracle Database Backup and Recovery
    Reference, RESTORE and VALIDATE.
    """
    text = text_of(content)
    lines = text.count("\n") + 1
    if not text.startswith("\n") and "Recovery Manager: Release" not in text:
        raise wrong("no-record", 1)
    if _RMAN_END not in text:
        raise wrong("half-written", lines)
    began = _RMAN_BEGAN.search(text)
    at = reading.tested_at if began is None else _rman_time(began[1], reading, 1)
    if at is None:
        raise wrong("undated", 1)
    database = _RMAN_DATABASE.search(text)
    name = name_of(database[1] if database else "oracle", 1)
    read = "validation complete" in text
    restored = "restore complete" in text
    opened = (
        restored
        and re.search(r"^database opened|^Database altered", text, re.MULTILINE) is not None
    )
    wanted = read or "Starting restore at" in text or "Starting validate at" in text
    if not wanted:
        raise wrong("no-test", lines)
    corrupt = "found one or more corrupt blocks" in text
    if _RMAN_ERROR.search(text) or corrupt:
        said = DAMAGED if corrupt else FAILED
        yield Part(name=name, level=0, verdict=Verdict.FAILED, code=said, at=at)
    elif opened:
        yield Part(name=name, level=2, verdict=Verdict.PASSED, code=OPENED, at=at)
    elif read or restored:
        yield Part(name=name, level=1, verdict=Verdict.PASSED, code=READ, at=at)
    else:  # RESTORE … PREVIEW lists what would be read, and reads nothing
        yield Part(name=name, level=0, verdict=Verdict.COULD_NOT_VERIFY, code=SKIPPED, at=at)


def _rman_time(said: str, reading: Reading, line: int) -> datetime:
    try:
        moment = datetime.strptime(" ".join(said.split()), "%b %d %H:%M:%S %Y")  # noqa: DTZ007
    except ValueError:
        raise wrong("no-time", line) from None
    return moment.replace(tzinfo=ZoneInfo(reading.timezone)).astimezone(UTC)


# ----------------------------------------------------------------------------------------- DBCC

_DBCC_FOUND = re.compile(
    r"CHECKDB (?:found|a trouvé) (\d{1,9}) .{0,30}?alloca.{0,60}? (\d{1,9}) "
    r".{0,60}?(?:in database|base de données) '([^'\n]{1,128})'"
)
#: As the error log of the server says it: with its time.
_DBCC_LOGGED = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)\s+\S+\s+DBCC CHECKDB \(([^)\n]{1,128})\)[^\n]*?"
    r"found (\d{1,9}) errors and repaired (\d{1,9}) errors"
)
_DBCC_END = re.compile(
    r"DBCC execution completed|Exécution de DBCC terminée|DBCC terminée", re.IGNORECASE
)
#: Severity 17 and above is the server's own trouble: the check that says so did not end well.
_DBCC_TROUBLE = re.compile(r"^(?:Msg|Message) \d+, (?:Level|Niveau) (?:1[7-9]|2\d)", re.MULTILINE)


def dbcc(content: bytes, reading: Reading) -> Iterator[Part]:
    """Yield what `DBCC CHECKDB` said of each database, from its own output or the error log.

    Its output holds no time, so `tested_at` must date it. "0 errors" followed by an error of severity
    17 or more (the database cannot be opened) is not a clean check. (Transact-SQL reference, DBCC
    CHECKDB; MSSQLSERVER_926.)
    """
    text = text_of(content)
    trouble = _DBCC_TROUBLE.search(text) is not None
    found = own = False
    for number, line in enumerate(text.splitlines(), start=1):
        logged, said = _DBCC_LOGGED.search(line), _DBCC_FOUND.search(line)
        if logged is not None:
            at = time_of(logged[1], Reading(timezone=reading.timezone), number)
            name, errors = logged[2].split(",")[0].strip(), int(logged[3])
        elif said is not None:
            at, own = reading.tested_at, True
            name, errors = said[3], int(said[1]) + int(said[2])
        else:
            continue
        if at is None:
            raise wrong("undated", number)
        found = True
        bad = errors > 0 or (trouble and said is not None)
        yield Part(
            name=name_of(name, number),
            level=2 if bad else 3,
            verdict=Verdict.FAILED if bad else Verdict.PASSED,
            code=DAMAGED if bad else CHECKED,
            at=at,
            numbers={"errors": errors},
        )
    if not found and "DBCC results for" not in text:
        raise wrong("no-record", 1)
    # After an error of the server's own, its output ends without its last line.
    if not found or (own and not trouble and _DBCC_END.search(text) is None):
        raise wrong("half-written", text.count("\n") + 1)


# ----------------------------------------------------------------------------------------- IRIS

_IRIS_BEGAN = re.compile(
    r"(?:Integrity Check|System check of Globals)[^\n]*?\b(?:on|at)\s+"
    r"(\d{1,4}[-/ ]\w{1,9}[-/ ]\d{1,4}[^\n]*)",
    re.IGNORECASE,
)
_IRIS_DIRECTORY = re.compile(
    r"^\s*Directory:?\s+(\S[^\n]{0,110}?)\s*$", re.MULTILINE | re.IGNORECASE
)
_IRIS_CLEAN = re.compile(r"No (?:database )?errors were found", re.IGNORECASE)
_IRIS_BAD = re.compile(r"\*{3,}\s*ERROR|\b[1-9]\d* errors? (?:were|was) found", re.IGNORECASE)


def iris(content: bytes, reading: Reading) -> Iterator[Part]:
    """Yield what an integrity check of IRIS or Caché says, as one part per log.

    Its times follow the server's locale: `dates` says their form, or `tested_at` dates the log.
    (Data Integrity Guide, Verifying Structural Integrity.)
    """
    text = text_of(content)
    lines = text.count("\n") + 1
    if not re.search(r"integrity|System check of Globals", text, re.IGNORECASE):
        raise wrong("no-record", 1)
    began = _IRIS_BEGAN.search(text)
    at = reading.tested_at
    if at is None and began is not None and reading.dates is not None:
        at = time_of(began[1], reading, text[: began.start()].count("\n") + 1)
    directory = _IRIS_DIRECTORY.search(text)
    name = name_of(directory[1].rstrip("/\\") if directory else "iris", 1)
    bad, clean = _IRIS_BAD.search(text), _IRIS_CLEAN.search(text)
    if bad is None and clean is None:
        raise wrong("half-written", lines)
    if at is None:
        raise wrong("undated", 1)
    yield Part(
        name=name,
        level=2 if bad else 3,
        verdict=Verdict.FAILED if bad else Verdict.PASSED,
        code=DAMAGED if bad else CHECKED,
        at=at,
    )
