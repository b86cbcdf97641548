"""What the record of a test done elsewhere shows, and never more; what is not whole is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from backupguard.errors import Misunderstood, UsageError
from backupguard.model import from_us
from restore_tests import imported, imported_statement
from restore_tests.imported_record import FILE_LIMIT, Reading

PARIS = Reading(timezone="Europe/Paris")
DATED = Reading(timezone="Europe/Paris", tested_at=datetime(2026, 11, 3, 13, tzinfo=UTC))
COLUMNS = (
    "SourceServer,TestServer,Database,FileExists,RestoreResult,DbccResult,"
    "RestoreStart,RestoreEnd,DbccEnd"
)
GOOD = (
    "SQL1,SQL2,DPI,True,Success,Success,2026-11-03T14:00:00,2026-11-03T14:10:00,2026-11-03T14:20:00"
)


def read(content: str | bytes, form: str, reading: Reading = PARIS, *names: str) -> dict[str, Any]:
    raw = content.encode() if isinstance(content, str) else content
    return imported.read(raw, form, reading, names, application="dpi")


def shown(body: dict[str, Any]) -> tuple[str, int]:
    return body["verdict"], body["level"]


def why(caught: pytest.ExceptionInfo[Misunderstood]) -> tuple[str, object]:
    message = caught.value.message
    return message.id.removeprefix("restore-tests.import."), message.values["line"]


def dbatools(*rows: str) -> str:
    return "\r\n".join((COLUMNS, *rows)) + "\r\n"


def test_a_restored_and_checked_database_is_level_3_at_the_end_of_its_check() -> None:
    body = read(dbatools(GOOD), "dbatools")
    assert shown(body) == ("passed", 3)
    assert from_us(body["tested_at"]) == datetime(2026, 11, 3, 13, 20, tzinfo=UTC)
    assert (body["engine"], body["duration_ms"]) == ("mssql", 600_000)


@pytest.mark.parametrize(
    ("restored", "checked", "expected"),
    [
        ("Success", "", ("passed", 2)),  # -NoCheck
        ("Success", "Skipped", ("passed", 1)),  # -VerifyOnly writes the same word as a restore
        ("Success", "DBCC CHECKDB skipped for restored master", ("passed", 1)),
        ("Success", "Table error: Object ID 2", ("failed", 2)),
        ("Failure", "Skipped", ("failed", 0)),
        ("Cannot open backup device", "Skipped", ("failed", 0)),
        ("Skipped", "Skipped", ("could_not_verify", 0)),
        ("The backup size for DPI (9 MB) exceeds", "Skipped", ("could_not_verify", 0)),
    ],
    ids=["no-check", "verify-only", "master", "dbcc", "failure", "error", "skipped", "too-large"],
)
def test_the_level_is_what_the_row_shows(
    restored: str, checked: str, expected: tuple[str, int]
) -> None:
    row = GOOD.replace("Success,Success", f'{restored},"{checked}"')
    assert shown(read(dbatools(row), "dbatools")) == expected


def test_the_worst_database_speaks_and_the_oldest_dates_what_passed() -> None:
    older = GOOD.replace("DPI", "LABO").replace("2026-11-03", "2026-10-01")
    body = read(dbatools(GOOD, older), "dbatools")
    assert from_us(body["tested_at"]).date().isoformat() == "2026-10-01"
    assert [check["name"] for check in body["checks"]] == ["DPI", "LABO"]
    broken = older.replace("Success,Success", "Failure,Skipped")
    assert shown(read(dbatools(GOOD, broken), "dbatools")) == ("failed", 0)
    assert shown(read(dbatools(GOOD, broken), "dbatools", PARIS, "dpi")) == ("passed", 3)


def test_a_database_that_is_asked_for_and_absent_is_told() -> None:
    with pytest.raises(Misunderstood) as caught:
        read(dbatools(GOOD), "dbatools", PARIS, "DPI", "URGENCES")
    assert why(caught) == ("names-missing", 0)
    assert caught.value.message.values["names"] == "URGENCES"


def test_the_newest_row_of_a_database_counts_whatever_its_place() -> None:
    failed = GOOD.replace("Success,Success", "Failure,Skipped").replace("11-03", "11-01")
    for rows in ((GOOD, failed), (failed, GOOD)):
        assert shown(read(dbatools(*rows), "dbatools")) == ("passed", 3)


def test_json_of_both_powershells_and_utf_16_are_read() -> None:
    row = dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True))
    new = json.dumps([row])
    old = json.dumps({**row, "RestoreStart": "/Date(1793710800000)/",
                      "RestoreEnd": {"value": "/Date(1793711400000)/", "DateTime": "mardi"},
                      "DbccEnd": None})  # fmt: skip
    assert shown(read(new, "dbatools")) == ("passed", 3)
    assert from_us(read(old, "dbatools")["tested_at"]).year == 2026
    assert shown(read("#TYPE X\r\n" + dbatools(GOOD).replace(",", ";"), "dbatools")) == (
        "passed",
        3,
    )
    assert shown(read(dbatools(GOOD).encode("utf-16"), "dbatools")) == ("passed", 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (dbatools(GOOD, GOOD[:-40]), ("half-written", 3)),
        (dbatools(GOOD)[:-3], ("half-written", 2)),
        (dbatools(GOOD, '"SQL1,'), ("half-written", 3)),
        ('[{"Database": "DPI",\n "RestoreRes', ("half-written", 2)),
        ("", ("empty", 0)),
        (COLUMNS + "\r\n", ("empty", 0)),
        ("a,b\r\n1,2\r\n", ("no-column", 1)),
        ("[1]", ("no-record", 1)),
        (dbatools(GOOD.replace("DPI", "")), ("no-name", 2)),
        (dbatools(GOOD.replace("2026-11-03T14:20:00", "03/11/2026 14:20")), ("no-time", 2)),
    ],
    ids=[
        "row",
        "last-cell",
        "quote",
        "json",
        "nothing",
        "no-row",
        "columns",
        "number",
        "name",
        "date",
    ],
)
def test_what_is_not_whole_is_refused_with_its_line(
    content: str, expected: tuple[str, int]
) -> None:
    with pytest.raises(Misunderstood) as caught:
        read(content, "dbatools")
    assert why(caught) == expected


def test_a_file_beyond_any_record_and_an_unknown_format_are_refused() -> None:
    with pytest.raises(Misunderstood):
        read(b" " * (FILE_LIMIT + 1), "rman")
    with pytest.raises(UsageError):
        read("x", "commvault")


def test_a_form_of_dates_settles_which_day_is_meant() -> None:
    row = GOOD.replace("2026-11-03T14:20:00", "03/11/2026 14:20:00")
    for column in ("2026-11-03T14:00:00", "2026-11-03T14:10:00"):
        row = row.replace(column, "03/11/2026 14:10:00")
    reading = Reading(timezone="Europe/Paris", dates="%d/%m/%Y %H:%M:%S")
    assert from_us(read(dbatools(row), "dbatools", reading)["tested_at"]).month == 11


# -------------------------------------------------------------------------------------- SureBackup

SESSION = {"Name": "SureBackup DC", "State": "Stopped", "Result": "Success",
           "CreationTime": "2026-11-03T14:00:00", "EndTime": "2026-11-03T14:30:00"}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("passed", 2)),
        ({"HeartbeatStatus": "Success", "TestScriptStatus": "Success"}, ("passed", 3)),
        ({"HeartbeatStatus": "Success", "TestScriptStatus": "Disabled"}, ("passed", 2)),
        ({"HeartbeatStatus": "Disabled", "PingStatus": "Disabled"}, ("passed", 1)),
        ({"HeartbeatStatus": "Failed"}, ("failed", 0)),
        ({"Result": "Failed"}, ("failed", 0)),
        ({"Result": "None"}, ("could_not_verify", 0)),
    ],
    ids=["session", "script", "no-script", "all-off", "no-heartbeat", "failed", "none"],
)
def test_a_machine_shows_what_its_tests_showed(
    change: dict[str, str], expected: tuple[str, int]
) -> None:
    assert shown(read(json.dumps({**SESSION, **change}), "surebackup")) == expected


@pytest.mark.parametrize(
    "change", [{"State": "Working"}, {"EndTime": ""}, {"EndTime": "0001-01-01T00:00:00"}],
    ids=["working", "no-end", "year-1"],
)  # fmt: skip
def test_a_session_that_runs_is_no_test_yet(change: dict[str, str]) -> None:
    with pytest.raises(Misunderstood) as caught:
        read(json.dumps({**SESSION, **change}), "surebackup")
    assert why(caught) == ("unfinished", 1)


# -------------------------------------------------------------------------------------------- logs

RMAN = """\
Recovery Manager: Release 19.0.0.0.0 - Production on Tue Nov 3 14:00:00 2026

connected to target database: DPI (DBID=1)

RMAN> restore database validate;
Starting restore at 03-NOV-26
channel ORA_DISK_1: starting validation of datafile backup set
channel ORA_DISK_1: validation complete, elapsed time: 00:01:05
Finished restore at 03-NOV-26

Recovery Manager complete.
"""
OPENED = RMAN.replace("validation complete, ", "restore complete, ").replace(
    "\nRecovery Manager complete", "database opened\n\nRecovery Manager complete"
)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (RMAN, ("passed", 1)),
        (OPENED, ("passed", 2)),
        (OPENED.replace("database opened\n", ""), ("passed", 1)),
        (RMAN.replace("Finished", "RMAN-03002: failure of restore\nFinished"), ("failed", 0)),
        (RMAN.replace("Finished", "found one or more corrupt blocks\nFinished"), ("failed", 0)),
        (RMAN.replace("validation complete, elapsed", "x"), ("could_not_verify", 0)),
    ],
    ids=["validate", "opened", "not-opened", "error", "corrupt", "preview"],
)  # fmt: skip
def test_an_rman_log_shows_no_more_than_it_did(log: str, expected: tuple[str, int]) -> None:
    body = read(log, "rman")
    assert shown(body) == expected
    assert from_us(body["tested_at"]) == datetime(2026, 11, 3, 13, tzinfo=UTC)
    assert body["checks"][0]["name"] == "DPI"


def test_an_rman_log_without_its_last_line_is_still_written() -> None:
    with pytest.raises(Misunderstood) as caught:
        read(RMAN.replace("Recovery Manager complete.\n", ""), "rman")
    assert why(caught)[0] == "half-written"
    with pytest.raises(Misunderstood) as other:
        read(RMAN.replace("Starting restore", "").replace("validation complete", ""), "rman")
    assert why(other)[0] == "no-test"


DBCC = """\
DBCC results for 'DPI'.
CHECKDB found 0 allocation errors and 0 consistency errors in database 'DPI'.
DBCC execution completed. If DBCC printed error messages, contact your system administrator.
"""
LOGGED = (
    "2026-11-03 14:00:00.12 spid52      DBCC CHECKDB (DPI) executed by H\\a found 0 errors and "
    "repaired 0 errors. Elapsed time: 0 hours 0 minutes 3 seconds.\n"
)


def test_a_clean_checkdb_is_level_3_and_errors_are_a_failure() -> None:
    assert shown(read(DBCC, "dbcc", DATED)) == ("passed", 3)
    body = read(DBCC.replace("and 0 cons", "and 4 cons"), "dbcc", DATED)
    assert shown(body) == ("failed", 2)
    assert body["checks"][0]["numbers"] == {"errors": 4}
    assert shown(read(LOGGED, "dbcc")) == ("passed", 3)
    assert shown(read(LOGGED.replace("found 0", "found 2"), "dbcc")) == ("failed", 2)


def test_no_errors_before_the_database_could_not_be_opened_is_no_clean_check() -> None:
    log = DBCC.splitlines()[1] + "\nMsg 926, Level 21, State 6, Line 1\nDatabase 'DPI' …\n"
    assert shown(read(log, "dbcc", DATED)) == ("failed", 2)


@pytest.mark.parametrize(
    ("log", "reading", "expected"),
    [
        (DBCC, PARIS, "undated"),
        (DBCC.rsplit("DBCC execution", 1)[0], DATED, "half-written"),
        (DBCC.splitlines()[0], DATED, "half-written"),
        ("hello", DATED, "no-record"),
    ],
    ids=["undated", "no-end", "begun", "other"],
)
def test_a_checkdb_that_says_too_little_is_refused(
    log: str, reading: Reading, expected: str
) -> None:
    with pytest.raises(Misunderstood) as caught:
        read(log, "dbcc", reading)
    assert why(caught)[0] == expected


IRIS = """\
Integrity Check for database started
Directory: /iris/dpi/
No Errors were found in this directory.
"""


def test_an_integrity_check_is_clean_damaged_or_unfinished() -> None:
    assert shown(read(IRIS, "iris", DATED)) == ("passed", 3)
    assert read(IRIS, "iris", DATED)["checks"][0]["name"] == "/iris/dpi"
    assert shown(read(IRIS.replace("No Errors", "3 errors"), "iris", DATED)) == ("failed", 2)
    for log, expected in ((IRIS.split("No Err")[0], "half-written"), ("hello", "no-record")):
        with pytest.raises(Misunderstood) as caught:
            read(log, "iris", DATED)
        assert why(caught)[0] == expected


def test_a_day_in_the_name_of_a_file_is_its_first_moment() -> None:
    assert imported.dated("checkdb-2026-11-03.txt", "Europe/Paris") == datetime(
        2026, 11, 2, 23, tzinfo=UTC
    )
    assert imported.dated("checkdb_20261103.log", "UTC") == datetime(2026, 11, 3, tzinfo=UTC)
    assert imported.dated("checkdb-20261399.txt", "UTC") is None
    assert imported.dated("checkdb.txt", "UTC") is None


# ---------------------------------------------------------------------------------------- by hand

BY_HAND = """\
application = "annuaire"
tested-at = 2026-11-03T14:00:00
verdict = "passed"
level = 2
who = "Claire Martin"
checked = ["dcdiag sans erreur", "SYSVOL répliqué"]
order = ["dns", "annuaire"]
duration = "3h"
"""


def test_a_file_filled_in_by_hand_is_read_in_the_zone_of_the_site() -> None:
    body = imported_statement.read(BY_HAND.encode(), "Europe/Paris")
    assert from_us(body["tested_at"]) == datetime(2026, 11, 3, 13, tzinfo=UTC)
    assert (body["level"], body["order"], body["duration_ms"]) == (
        2,
        ["dns", "annuaire"],
        10_800_000,
    )
    same = {"application": "annuaire", "tested-at": "2026-11-03T14:00:00+01:00", "verdict": "failed",
            "level": 1, "who": "x", "checked": ["y"]}  # fmt: skip
    assert imported_statement.read(json.dumps(same).encode(), "UTC")["verdict"] == "failed"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("level = 2", "level = 5", ("bad-key", 4)),
        ("level = 2", "level = true", ("bad-key", 4)),
        ('verdict = "passed"', 'verdict = "ok"', ("bad-key", 3)),
        ('checked = ["dcdiag sans erreur", "SYSVOL répliqué"]', "checked = []", ("bad-key", 6)),
        ("who", "qui", ("unknown-key", 5)),
        ('who = "Claire Martin"\n', "", ("no-key", 0)),
        ("tested-at = 2026-11-03T14:00:00", "tested-at = 2026-11-03", ("bad-key", 2)),
        ('duration = "3h"', "duration = 3", ("bad-key", 8)),
        ('["dns", "annuaire"]', '["dns", "annu', ("broken", 7)),
    ],
    ids=["level", "true", "verdict", "nothing", "typo", "who", "day", "duration", "cut"],
)
def test_what_is_wrong_by_hand_is_named_with_its_line(
    old: str, new: str, expected: tuple[str, int]
) -> None:
    with pytest.raises(Misunderstood) as caught:
        imported_statement.read(BY_HAND.replace(old, new).encode(), "Europe/Paris")
    assert why(caught) == expected
