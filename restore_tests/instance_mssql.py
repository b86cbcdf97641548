"""A backup of SQL Server on a scratch server: its header read, restored under another name, checked.

Never seen against a live server; the statements follow Microsoft's reference: RESTORE HEADERONLY,
FILELISTONLY, VERIFYONLY, RESTORE DATABASE … WITH MOVE, DBCC CHECKDB. The server reads the backup from
the directory of exchange, where a copy lies for as long as the test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import Match, Sample, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict
from restore_tests import content, outcome, shape
from restore_tests.instance_mssql_server import MssqlScratch, Row, quoted
from restore_tests.instance_postgresql import unconfigured
from restore_tests.settings import ContentCheck
from restore_tests.survey import Survey, settings_of, zone

FORMAT = "bak"
#: How a backup begins: Microsoft Tape Format, or what SQL Server writes since it compresses.
_HEADS = (b"TAPE\x00\x00", b"MSSQLBAK")
_FULL = 1
_CHECK_TIMEOUT_S = 600
_COPY = "scratch-exchange"

_TABLES = """
SELECT SCHEMA_NAME(t.schema_id) AS space, t.name AS name,
  (SELECT SUM(p.rows) FROM sys.partitions p WHERE p.object_id = t.object_id AND p.index_id IN (0, 1))
    AS found,
  (SELECT COUNT(*) FROM sys.columns c WHERE c.object_id = t.object_id) AS columns
FROM sys.tables t WHERE t.is_ms_shipped = 0"""
_OBJECTS = """
SELECT o.type AS kind, COUNT(*) AS found FROM sys.objects o
WHERE o.is_ms_shipped = 0 GROUP BY o.type"""
_VIEWS = """
SELECT SCHEMA_NAME(v.schema_id) AS space, v.name AS name FROM sys.views v
WHERE v.is_ms_shipped = 0"""
_INDEXES = """
SELECT COUNT(*) AS found FROM sys.indexes i JOIN sys.tables t ON t.object_id = i.object_id
WHERE t.is_ms_shipped = 0 AND i.index_id > 0"""
_KINDS = {
    "P": "routine", "FN": "routine", "IF": "routine", "TF": "routine", "PC": "routine",
    "FS": "routine", "FT": "routine", "TR": "trigger", "V": "view", "SO": "sequence", "C": "constraint",
    "D": "constraint", "F": "constraint", "PK": "constraint", "UQ": "constraint",
}  # fmt: skip


def recognise(sample: Sample) -> Match | None:
    """Return that a sample is a backup of SQL Server; None when it is none.

    Raises MissingMeans (ambiguous_artifact) for several files: a striped backup, or several databases.
    """
    found = [file for file in sample.files if file.head.startswith(_HEADS)]
    if len(found) > 1:
        raise MissingMeans("ambiguous_artifact", engines="mssql")
    if not found:
        return None
    return Match(
        engine="instance",
        certainty=85,
        format=FORMAT,
        version=None,
        compression=found[0].compression,
        extra={"path": str(found[0].path)},
    )


def scan(trial: Trial) -> None:
    """Nothing is read here: the server itself reads a backup's header."""
    del trial


def sources(trial: Trial) -> tuple[str, ...]:
    """Lay a copy where the server reads, and return the servers that its header names.

    Raises MissingMeans (no_disk, instance_unread) and what RESTORE HEADERONLY says of the bytes.
    """
    server: MssqlScratch = trial.memory["scratch-server"]
    given = trial.memory["instance"]
    seen_as = _lay(trial)
    rows = server.rows(f"RESTORE HEADERONLY FROM DISK = {quoted(seen_as)}")
    if not rows:
        raise Misunderstood("output_unparsable", program="mssql")
    if any(row.get("isdamaged") for row in rows):
        raise BackupDefect("corrupt")
    full = [row for row in rows if _whole(row.get("backuptype")) == _FULL]
    if not full:
        # A differential or a log backup brings nothing back without its base.
        raise MissingMeans("unrecognised_artifact", name=given.name)
    newest = max(full, key=lambda row: _whole(row.get("position")))
    trial.memory["header"] = newest
    named = (newest.get("servername"), newest.get("machinename"))
    return tuple(str(name) for one in named if one for name in {str(one), str(one).split("\\")[0]})


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise Misunderstood("output_unparsable", program="mssql") from error


def _lay(trial: Trial) -> str:
    """Copy the artifact into the directory of exchange and return how the server sees it."""
    settings = trial.memory["instance"].settings
    relative = trial.artifact.relative_to("/in")
    path = trial.match.extra["path"]
    source = trial.context.work / "fetched" / relative
    source = source if path in {".", ""} else source / path
    exchange: Path = settings.exchange
    name = f"backupguard_{os.urandom(12).hex()}.bak"
    target = exchange / name
    try:
        size, free = source.stat().st_size, shutil.disk_usage(exchange).free
        if free < size:
            raise MissingMeans("no_disk", needed=size, free=free)
        _clean(exchange)
        trial.memory[_COPY] = target
        shutil.copyfile(source, target, follow_symlinks=False)
        target.chmod(0o640)  # its group is the server's
    except OSError as error:
        raise MissingMeans("instance_unread", name=str(exchange)) from error
    base = settings.exchange_seen_as or str(exchange)
    separator = "\\" if "\\" in base and "/" not in base else "/"
    return base.rstrip("\\/") + separator + name


def _clean(exchange: Path) -> None:
    """Remove copies of tests that were killed: of our name and more than two days old."""
    now = datetime.now(UTC).timestamp()
    for left in exchange.glob("backupguard_" + "[0-9a-f]" * 24 + ".bak"):
        if not left.is_symlink() and now - left.stat().st_mtime > 2 * 86400:
            left.unlink(missing_ok=True)


def close(trial: Trial) -> None:
    """Remove the copy; raises OSError where it cannot be removed."""
    target = trial.memory.pop(_COPY, None)
    if target is not None:
        Path(target).unlink(missing_ok=True)


def load(trial: Trial, server: MssqlScratch, name: str) -> None:
    """Restore the newest whole backup of the file under a name made here, its files under new ones."""
    given, header = trial.memory["instance"], trial.memory["header"]
    seen_as = given.settings.exchange_seen_as or str(given.settings.exchange)
    separator = "\\" if "\\" in seen_as and "/" not in seen_as else "/"
    disk = quoted(seen_as.rstrip("\\/") + separator + Path(trial.memory[_COPY]).name)
    position = _whole(header.get("position"))
    files = server.rows(f"RESTORE FILELISTONLY FROM DISK = {disk} WITH FILE = {position}")
    if not files:
        raise Misunderstood("output_unparsable", program="mssql")
    checksum = ", CHECKSUM" if header.get("hasbackupchecksums") else ""
    server.rows(f"RESTORE VERIFYONLY FROM DISK = {disk} WITH FILE = {position}{checksum}")
    moves = ", ".join(_moves(files, server.facts(), name))
    server.rows(
        f"RESTORE DATABASE [{name}] FROM DISK = {disk} WITH FILE = {position}{checksum}, {moves},"
        " RECOVERY, RESTRICTED_USER"
    )


def _moves(files: list[Row], facts: Row, name: str) -> Iterator[str]:
    """Yield where each file of the database goes: below the server's own directories, by our names."""
    for number, row in enumerate(files):
        kind = str(row.get("type") or "").strip().upper()
        directory = facts["log"] if kind == "L" else facts["data"]
        if not directory or kind not in {"D", "L", "S", "F"}:
            raise Misunderstood("output_unparsable", program="mssql")
        base = str(directory)
        separator = "\\" if "\\" in base else "/"
        suffix = {"L": ".ldf", "D": ".ndf" if number else ".mdf"}.get(kind, "")
        place = base.rstrip("\\/") + separator + f"{name}_{number}{suffix}"
        yield f"MOVE {quoted(str(row['logicalname']))} TO {quoted(place)}"


def open_database(trial: Trial) -> None:
    """Count what is in it; raise BackupDefect (empty) where there is nothing."""
    if not survey(trial).relations:
        raise BackupDefect("empty")


def survey(trial: Trial) -> Survey:
    """Return the survey of this trial's database, made once; it is read-only from then on."""
    made = trial.memory.get("survey")
    if isinstance(made, Survey):
        return made
    server: MssqlScratch = trial.memory["scratch-server"]
    name = trial.memory["scratch-name"]
    server.rows(f"ALTER DATABASE [{name}] SET READ_ONLY WITH ROLLBACK IMMEDIATE")
    server.rows(f"USE [{name}]")
    tables, objects, columns = {}, {"view": 0}, {}
    for row in server.rows(_TABLES):
        key = f"{row['space']}.{row['name']}"
        tables[key], columns[key] = _whole(row["found"] or 0), _whole(row["columns"])
    for row in server.rows(_OBJECTS):
        kind = _KINDS.get(str(row["kind"]).strip())
        if kind is not None:
            objects[kind] = objects.get(kind, 0) + _whole(row["found"])
    objects["index"] = _whole(server.rows(_INDEXES)[0]["found"])
    views = {f"{row['space']}.{row['name']}" for row in server.rows(_VIEWS)}
    found = trial.memory["survey"] = Survey(
        fingerprint=Fingerprint(tables=tables, objects=objects, columns=columns),
        relations=frozenset(tables.keys() | views),
    )
    return found


def verify(trial: Trial, level: int) -> Iterator[CheckResult]:
    """Yield DBCC CHECKDB, what needs no configuration, then the site's checks."""
    server: MssqlScratch = trial.memory["scratch-server"]
    seen = survey(trial)
    if level >= 2:
        yield consistency(trial, server)
        yield from unconfigured(trial, seen)
    if level >= 3:
        for check in settings_of(trial).checks:
            yield _asked(trial, server, check)


#: DBCC's own messages of damage: allocation and structure (2508 to 2579, 7900s, 8900s) and the summary.
_DAMAGE = frozenset(
    {*range(2508, 2557), *range(2558, 2580), *range(7900, 8000), *range(8900, 9000)}
)


def consistency(trial: Trial, server: MssqlScratch) -> CheckResult:
    """Let the server check every page (DBCC CHECKDB): each row is an error, none is soundness."""
    name = trial.memory["scratch-name"]
    verdict, code, lines = Verdict.PASSED, shape.OK, 0
    try:
        rows = server.rows(
            f"DBCC CHECKDB ({quoted(name)}) WITH NO_INFOMSGS, ALL_ERRORMSGS, TABLERESULTS"
        )
        lines = sum(_whole(row.get("error") or 0) in _DAMAGE for row in rows)
        if lines:
            verdict, code = Verdict.FAILED, "corrupt"
        elif rows:
            verdict, code = Verdict.COULD_NOT_VERIFY, "consistency_unknown"
    except BackupDefect:
        verdict, code, lines = Verdict.FAILED, "corrupt", 1
    except BackupGuardError:
        verdict, code = Verdict.COULD_NOT_VERIFY, "consistency_unknown"
    return CheckResult(
        name=outcome.CONSISTENCY, level=2, verdict=verdict, code=code, numbers={"lines": lines}
    )


# --------------------------------------------------------------------------------------- questions


def _asked(trial: Trial, server: MssqlScratch, check: ContentCheck) -> CheckResult:
    timeout = settings_of(trial).statement_timeout or timedelta(seconds=_CHECK_TIMEOUT_S)
    question = _question(check, trial.point_at, zone(trial))
    try:
        seconds = max(1, int(timeout.total_seconds()))
        rows = server.asked(trial.memory["scratch-name"], question, seconds)
    except BackupGuardError as error:
        code = "check_timeout" if error.code == "timeout" else "check_error"
        return content.answer(check, "error", "", error=code)
    row = rows[0] if len(rows) == 1 else {}
    return content.answer(check, str(row.get("said", "error")), str(row.get("extra") or ""))


def _question(check: ContentCheck, point_at: datetime, timezone: str) -> str:
    """Return the statement that asks and compares; `extra` is a time for `newer-than` alone."""
    head = "SELECT CASE WHEN v IS NULL THEN 'null' "
    if check.newer_than is not None:
        place = ZoneInfo(timezone)

        def local(moment: datetime) -> str:
            return quoted(moment.astimezone(place).strftime("%Y-%m-%dT%H:%M:%S"))

        oldest, latest = local(point_at - check.newer_than), local(point_at + timedelta(days=1))
        offset = point_at.astimezone(place).utcoffset() or timedelta()
        epoch = quoted((datetime(1970, 1, 1, tzinfo=UTC) + offset).strftime("%Y-%m-%dT%H:%M:%S"))
        return (
            f"{head}WHEN CAST(v AS datetime2) > {latest} THEN 'future'"
            f" WHEN CAST(v AS datetime2) >= {oldest} THEN 'passed' ELSE 'failed' END AS said,"
            f" CAST(DATEDIFF(second, {epoch}, CAST(v AS datetime2)) AS bigint) * 1000000 AS extra"
            f" FROM (SELECT ({check.sql}\n) AS v) AS answer"
        )
    return (
        f"{head}WHEN {_comparison(check)} THEN 'passed' ELSE 'failed' END AS said, NULL AS extra"
        f" FROM (SELECT ({check.sql}\n) AS v) AS answer"
    )


def _comparison(check: ContentCheck) -> str:
    if isinstance(check.equals, bool):
        return f"v = {int(check.equals)}"
    if isinstance(check.equals, str):
        return f"CAST(v AS nvarchar(max)) = {quoted(check.equals)}"
    bounds = (("=", check.equals), (">=", check.at_least), ("<=", check.at_most))
    return " AND ".join(f"v {sign} {n}" for sign, n in bounds if n is not None)


def fingerprint(trial: Trial) -> Fingerprint | None:
    """Return the shape of what was restored."""
    return survey(trial).fingerprint
