"""Tests that SQL Server's and Veeam's own tools did, as PowerShell exports them (CSV or JSON)."""

from __future__ import annotations

from collections.abc import Iterator

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
    Row,
    milliseconds,
    name_of,
    rows,
    time_of,
    wrong,
)

_DBATOOLS = frozenset({"Database", "RestoreResult", "DbccResult", "RestoreStart", "RestoreEnd"})


def dbatools(content: bytes, reading: Reading) -> Iterator[Part]:
    """Yield one part per row of `Test-DbaLastBackup` (dbatools): restored, then DBCC CHECKDB.

    `-VerifyOnly` writes the same "Success" as a restore, with its DBCC "Skipped": such a row shows
    that bytes were read and no more. `-NoCheck` leaves DbccResult empty. A row that was skipped
    (no backup found, too large) is no test, and says so.
    """
    for line, row in rows(content, _DBATOOLS):
        name = name_of(row["Database"], line)
        restored, checked = row["RestoreResult"].strip(), row["DbccResult"].strip()
        start = time_of(row["RestoreStart"], reading, line)
        end = time_of(row["RestoreEnd"], reading, line)
        at = time_of(row.get("DbccEnd", ""), reading, line) or end or start or reading.tested_at
        level, verdict, code = _dbatools_shown(restored, checked)
        if at is None:
            raise wrong("undated", line)
        duration = milliseconds(start, end)
        yield Part(name=name, level=level, verdict=verdict, code=code, at=at, duration_ms=duration)


def _dbatools_shown(restored: str, checked: str) -> tuple[int, Verdict, str]:
    if restored == "Success":
        if checked == "Success":
            return 3, Verdict.PASSED, CHECKED
        if checked in ("", "None"):
            return 2, Verdict.PASSED, OPENED
        if checked == "Skipped" or checked.startswith("DBCC CHECKDB skipped"):
            return 1, Verdict.PASSED, READ
        return 2, Verdict.FAILED, DAMAGED
    if restored == "Skipped" or not restored or restored.startswith(_NOT_TRIED):
        return 0, Verdict.COULD_NOT_VERIFY, SKIPPED
    return 0, Verdict.FAILED, FAILED


#: Words of RestoreResult for a backup that was not restored because of how the test was asked for.
_NOT_TRIED = ("The backup size for", "Restore not located on shared location")

_SUREBACKUP = frozenset({"Name", "Result", "EndTime"})
_RUNNING = frozenset({"working", "running", "starting", "stopping", "pausing", "idle", "pending"})
#: A machine's own tests, by column: each shows that it came up, the last that it does its work.
_STARTED = ("Heartbeat", "HeartbeatStatus", "Ping", "PingStatus")
_WORKING = ("TestScript", "TestScriptStatus", "Script", "ScriptStatus", "Validation")
_GOOD = frozenset({"success", "succeeded", "passed", "ok"})
_BAD = frozenset({"failed", "failure", "error", "notresponding"})


def surebackup(content: bytes, reading: Reading) -> Iterator[Part]:
    """Yield one part per row of a SureBackup session or of its machines (`Get-VBRSureBackupSession`,
    `Get-VBRSureBackupTaskSession`).

    A session that succeeded shows that its machines were started: level 2. A machine whose test script
    succeeded shows level 3. A row with its heartbeat and ping switched off shows level 1.
    """
    for line, row in rows(content, _SUREBACKUP):
        name = name_of(row["Name"], line)
        start = time_of(row.get("CreationTime", "") or row.get("StartTime", ""), reading, line)
        end = time_of(row["EndTime"], reading, line)
        state = row.get("State", "").strip().lower()
        if end is None or state in _RUNNING:
            raise wrong("unfinished", line)
        level, verdict, code = _surebackup_shown(row)
        duration = milliseconds(start, end)
        yield Part(name=name, level=level, verdict=verdict, code=code, at=end, duration_ms=duration)


def _surebackup_shown(row: Row) -> tuple[int, Verdict, str]:
    result = row["Result"].strip().lower()
    opened = [row[name].strip().lower() for name in _STARTED if name in row]
    checked = [row[name].strip().lower() for name in _WORKING if name in row]
    if result in _BAD or any(one in _BAD for one in (*opened, *checked)):
        return 0, Verdict.FAILED, FAILED
    if result not in _GOOD and result != "warning":
        return 0, Verdict.COULD_NOT_VERIFY, SKIPPED
    if any(one in _GOOD for one in checked):
        return 3, Verdict.PASSED, CHECKED
    if any(one in _GOOD for one in opened) or (not opened and result in _GOOD):
        return 2, Verdict.PASSED, OPENED
    if opened:  # none of them was asked for: nothing shows that the machine came up
        return 1, Verdict.PASSED, READ
    return 0, Verdict.COULD_NOT_VERIFY, SKIPPED
