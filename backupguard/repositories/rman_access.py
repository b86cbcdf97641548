"""The connection to an Oracle database, what is asked of it, and what its errors mean.

Statements follow Oracle's Database Reference (`V$RMAN_BACKUP_JOB_DETAILS`, `V$BACKUP_SET_DETAILS`,
`V$BACKUP_PIECE`, `V$BACKUP_REDOLOG`, `V$DATABASE`) and the Backup and Recovery Reference (`RC_…`, the
same views of a recovery catalogue with a column DB_KEY). Names with a "#" are quoted.
"""

# ruff: noqa: S608 - statements are made here, of constants and a checked name

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backupguard.contracts import Context
from backupguard.errors import (
    AccessRefused,
    BackupGuardError,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import Message
from backupguard.repositories.rman_settings import RmanSettings
from backupguard.repositories.sql_reading import Reading, network_trouble, understood

SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")

#: All that is read in a database, and all that may be granted (on `V_$…`, as Oracle spells it there).
VIEWS = (
    *("RMAN_BACKUP_JOB_DETAILS", "BACKUP_SET_DETAILS", "BACKUP_PIECE", "BACKUP_REDOLOG"),
    "DATABASE",
)
#: The one statement that is no SELECT.
READ_ONLY = "SET TRANSACTION READ ONLY"

SESSION = """
SELECT SYS_CONTEXT('USERENV', 'SERVER_HOST') AS host, SYS_CONTEXT('USERENV', 'ISDBA') AS is_dba,
  TO_CHAR(SYSTIMESTAMP, 'TZH:TZM') AS zone_offset FROM DUAL"""
RIGHTS = """
SELECT r.ROLE AS name FROM SESSION_ROLES r
UNION ALL SELECT p.PRIVILEGE AS name FROM SESSION_PRIVS p"""
#: Who has one of these can do more than look.
ADMINISTRATIVE = frozenset(
    {
        *("DBA", "IMP_FULL_DATABASE", "DATAPUMP_IMP_FULL_DATABASE", "RECOVERY_CATALOG_OWNER"),
        *("SYSDBA", "SYSOPER", "SYSBACKUP", "SYSDG", "ALTER DATABASE", "ALTER SYSTEM"),
        *("DELETE ANY TABLE", "UPDATE ANY TABLE", "INSERT ANY TABLE", "DROP ANY TABLE"),
        *("GRANT ANY ROLE", "GRANT ANY PRIVILEGE", "BECOME USER"),
    }
)


class Statements:
    """The statements for the views of a database, or of a recovery catalogue."""

    def __init__(self, owner: str | None) -> None:
        self.owner = owner
        self._prefix = f"{owner}.RC_" if owner else "V$"

    def view(self, name: str) -> str:
        """Return the full name of a view."""
        return self._prefix + name

    def can_read(self, name: str) -> str:
        """Return a statement that answers without a row, when the view may be read at all."""
        return f"SELECT 1 AS one FROM {self.view(name)} WHERE 1 = 0"

    @property
    def databases(self) -> str:
        """The databases whose backups are told: one, or those registered in the catalogue."""
        if self.owner:
            return f"""
SELECT d.DB_KEY AS db_key, d.NAME AS name, d.NAME AS unique_name, d.DBID AS dbid,
  'ARCHIVELOG' AS log_mode FROM {self.view("DATABASE")} d ORDER BY db_key"""
        return f"""
SELECT 0 AS db_key, d.NAME AS name, d.DB_UNIQUE_NAME AS unique_name, d.DBID AS dbid,
  d.LOG_MODE AS log_mode FROM {self.view("DATABASE")} d"""

    def _key(self, table: str) -> str:
        return f"{table}.DB_KEY" if self.owner else "0"

    def _and(self, condition: str) -> str:
        return f" AND {condition}" if self.owner else ""

    def _by(self, column: str) -> str:
        return f", {column}" if self.owner else ""

    @property
    def _available(self) -> str:
        """Per backup set: of how many of its pieces a copy is available (STATUS 'A')."""
        return f"""
  SELECT b.SET_STAMP AS set_stamp, b.SET_COUNT AS set_count{self._by("b.DB_KEY AS db_key")},
    COUNT(DISTINCT CASE WHEN b.STATUS = 'A' THEN b."PIECE#" END) AS available,
    COUNT(DISTINCT b."PIECE#") AS pieces
  FROM {self.view("BACKUP_PIECE")} b
  GROUP BY b.SET_STAMP, b.SET_COUNT{self._by("b.DB_KEY")}"""

    @property
    def jobs(self) -> str:
        """One row per job that backed up the whole database, oldest first, with its sets counted."""
        return f"""
SELECT j.SESSION_RECID AS recid, j.SESSION_STAMP AS stamp, {self._key("j")} AS db_key,
  j.START_TIME AS started, j.END_TIME AS finished, j.INPUT_BYTES AS input_bytes,
  j.OUTPUT_BYTES AS output_bytes, j.STATUS AS status, j.INPUT_TYPE AS input_type,
  j.OUTPUT_DEVICE_TYPE AS device, j.AUTOBACKUP_DONE AS autobackup, s.inc_level AS inc_level,
  s.sets AS sets, s.sets_whole AS sets_whole, s.encrypted AS encrypted,
  s.controlfile AS controlfile
FROM {self.view("RMAN_BACKUP_JOB_DETAILS")} j
LEFT JOIN (
  SELECT d.SESSION_RECID AS recid, d.SESSION_STAMP AS stamp{self._by("d.DB_KEY AS db_key")},
    MIN(d.INCREMENTAL_LEVEL) AS inc_level, COUNT(*) AS sets,
    SUM(CASE WHEN COALESCE(a.available, 0) >= d.PIECES THEN 1 ELSE 0 END) AS sets_whole,
    SUM(CASE WHEN d.ENCRYPTED = 'YES' THEN 1 ELSE 0 END) AS encrypted,
    SUM(CASE WHEN d.CONTROLFILE_INCLUDED <> 'NO' THEN 1 ELSE 0 END) AS controlfile
  FROM {self.view("BACKUP_SET_DETAILS")} d
  LEFT JOIN ({self._available}) a
    ON a.set_stamp = d.SET_STAMP AND a.set_count = d.SET_COUNT{self._and("a.db_key = d.DB_KEY")}
  WHERE d.BACKUP_TYPE IN ('D', 'I')
  GROUP BY d.SESSION_RECID, d.SESSION_STAMP{self._by("d.DB_KEY")}
) s ON s.recid = j.SESSION_RECID AND s.stamp = j.SESSION_STAMP{self._and("s.db_key = j.DB_KEY")}
WHERE j.INPUT_TYPE IN ('DB FULL', 'DB INCR')
ORDER BY db_key, stamp, recid"""

    @property
    def logs(self) -> str:
        """One row per archived log of which a whole backup is available, in order per thread."""
        return f"""
SELECT {self._key("r")} AS db_key, r."RESETLOGS_CHANGE#" AS incarnation, r."THREAD#" AS thread_no,
  r."SEQUENCE#" AS seq, MIN(r.FIRST_TIME) AS first_time, MAX(r.NEXT_TIME) AS next_time
FROM {self.view("BACKUP_REDOLOG")} r
JOIN ({self._available}) a
  ON a.set_stamp = r.SET_STAMP AND a.set_count = r.SET_COUNT{self._and("a.db_key = r.DB_KEY")}
WHERE a.available = a.pieces
GROUP BY r."RESETLOGS_CHANGE#", r."THREAD#", r."SEQUENCE#"{self._by("r.DB_KEY")}
ORDER BY db_key, incarnation, thread_no, seq"""


#: Numbers of ORA- errors (Oracle, "Database Error Messages").
_ORA: dict[int, tuple[type[BackupGuardError], str]] = {
    **dict.fromkeys((1005, 1017, 28000, 28001, 28009, 28040), (AccessRefused, "authentication")),
    **dict.fromkeys((942, 1031, 1045, 41900), (AccessRefused, "permission")),
    **dict.fromkeys((904, 600), (MissingMeans, "version_unsupported")),
    **dict.fromkeys((12505, 12514, 12521), (Unreachable, "not_found")),
    **dict.fromkeys((1013, 12170, 12535, 3136), (Unreachable, "timeout")),
    **dict.fromkeys((12154, 12545), (Unreachable, "dns")),
    **dict.fromkeys((28860, 29024, 28759, 29002), (Unreachable, "tls")),
    **dict.fromkeys(
        (1033, 1034, 1089, 1090, 1092, 3113, 3114, 3135, 12516, 12518, 12520, 12528, 12537, 12541),
        (Unreachable, "refused"),
    ),
}
#: Those of the driver itself (python-oracledb, "Troubleshooting errors").
_DPY: dict[str, tuple[type[BackupGuardError], str]] = {
    "DPY-6001": (Unreachable, "not_found"),
    "DPY-6003": (Unreachable, "not_found"),
    "DPY-6000": (Unreachable, "refused"),
    "DPY-6006": (Unreachable, "tls"),
    "DPY-4011": (Unreachable, "refused"),
    "DPY-1001": (Unreachable, "refused"),
    "DPY-4024": (Unreachable, "timeout"),
    "DPY-3010": (MissingMeans, "version_unsupported"),
    "DPY-3015": (AccessRefused, "authentication"),  # a password kept as 10g kept them
}


def connect(settings: RmanSettings, password: str) -> Any:
    """Connect in thin mode: no Oracle client, no wallet, the certificate and its name verified."""
    import oracledb

    context = None
    if settings.tls:
        context = ssl.create_default_context(cafile=str(settings.ca_certificate or SYSTEM_CA))
    connection = oracledb.connect(
        user=settings.user,
        password=password,
        host=settings.host,
        port=settings.port,
        service_name=settings.service,
        protocol="tcps" if settings.tls else "tcp",
        tcp_connect_timeout=15,
        retry_count=0,
        ssl_server_dn_match=True,
        ssl_context=context,
        program="backupguard",
    )
    connection.call_timeout = int(settings.refresh_timeout.total_seconds() * 1000)
    return connection


@contextmanager
def opened(settings: RmanSettings, context: Context) -> Iterator[Reading]:
    """Yield a connection in a read-only transaction, and close it.

    Raises MissingMeans (program_missing) without the driver.
    """
    context.cancel.raise_if_set()
    reader = settings.credentials.reader
    password = context.secret(reader).reveal().decode("utf-8").strip("\r\n") if reader else ""
    connection = None
    try:
        connection = connect(settings, password)
        connection.cursor().execute(READ_ONLY)
    except ImportError as error:
        raise MissingMeans(
            "program_missing",
            Message(id="repositories.driver-missing", values={"package": "oracledb"}),
            Message(id="repositories.driver-missing.remedy", values={"extra": "oracle"}),
        ) from error
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is understood or passed on
        _close(connection)
        raise understood(error, meaning) from None
    try:
        yield Reading(connection=connection, cancel=context.cancel, understand=meaning)
    finally:
        _close(connection)


def _close(connection: Any) -> None:
    with suppress(Exception):
        connection.close()


def meaning(error: Exception) -> BackupGuardError | None:
    """Return what an error of the server's or the driver's means; None for one of the network's."""
    details = error.args[0] if error.args else None
    number, full = getattr(details, "code", None), str(getattr(details, "full_code", ""))
    if full.startswith(("DPY-", "DPI-")):
        if full in _DPY:
            cls, code = _DPY[full]
            return cls(code)
        # what is no failure of the network's is one of what the server said
        return None if network_trouble(error) is not None else Unreachable("refused")
    if isinstance(number, int) and number:
        found = _ORA.get(number)
        if found is not None:
            cls, code = found
            return cls(code)
        return Misunderstood("unclassified_stderr", status=number)
    return None


def check_rights(reading: Reading, statements: Statements, user: str) -> None:
    """Raise AccessRefused (permission) naming the first view that may not be read.

    Oracle calls a view without right "does not exist" and does not say which one.
    """
    for name in VIEWS:
        try:
            list(reading.rows(statements.can_read(name)))
        except AccessRefused as error:
            if error.code != "permission":
                raise
            view = statements.view(name) if statements.owner else f"SYS.V_${name}"
            raise AccessRefused(
                "permission",
                Message(id="repositories.sql-permission", values={"user": user, "table": view}),
                Message(
                    id="repositories.sql-permission.remedy",
                    values={"statement": f"GRANT SELECT ON {view} TO {user}"},
                ),
            ) from error
