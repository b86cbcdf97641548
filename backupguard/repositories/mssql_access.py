"""The connection to a SQL Server, what is asked of it, and what its errors mean.

Statements follow Microsoft's reference of `backupset`, `backupmediafamily` (learn.microsoft.com,
"Backup and restore tables"), `SERVERPROPERTY`, `IS_SRVROLEMEMBER` and `HAS_PERMS_BY_NAME`.
"""

from __future__ import annotations

import re
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
from backupguard.repositories.mssql_settings import MssqlSettings
from backupguard.repositories.sql_reading import Reading, understood

SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")

#: All that is read, and all that may be granted.
TABLES = ("backupset", "backupmediafamily")

IDENTITY = """
SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
  CAST(SERVERPROPERTY('ServerName') AS nvarchar(128)) AS server,
  IS_SRVROLEMEMBER('sysadmin') AS administrator,
  HAS_PERMS_BY_NAME('dbo.backupset', 'OBJECT', 'SELECT') AS backupset,
  HAS_PERMS_BY_NAME('dbo.backupmediafamily', 'OBJECT', 'SELECT') AS backupmediafamily,
  HAS_PERMS_BY_NAME('dbo.backupset', 'OBJECT', 'DELETE') AS may_write,
  DATEPART(TZOFFSET, SYSDATETIMEOFFSET()) AS offset_minutes"""

#: Newest first within a database: what follows a point is known before the point is.
HISTORY = """
SELECT s.backup_set_id AS id, CAST(s.backup_set_uuid AS varchar(36)) AS uuid,
  s.database_name AS name, s.server_name AS server, s.type AS type,
  s.is_copy_only AS copy_only, s.is_damaged AS damaged, s.is_snapshot AS snapshot,
  s.has_backup_checksums AS checksums, s.backup_start_date AS started,
  s.backup_finish_date AS finished, s.time_zone AS quarters, s.backup_size AS bytes,
  s.compressed_backup_size AS stored, s.first_lsn AS first_lsn, s.last_lsn AS last_lsn,
  CAST(s.first_recovery_fork_guid AS varchar(36)) AS first_fork,
  CAST(s.last_recovery_fork_guid AS varchar(36)) AS last_fork,
  CAST(s.differential_base_guid AS varchar(36)) AS base_uuid, b.backup_set_id AS base_id,
  b.is_damaged AS base_damaged, s.recovery_model AS recovery_model,
  s.key_algorithm AS key_algorithm, m.families AS families, m.device AS device,
  m.device_type AS device_type, m.nowhere AS nowhere
FROM dbo.backupset s
LEFT JOIN dbo.backupset b ON b.backup_set_uuid = s.differential_base_guid AND s.type = 'I'
LEFT JOIN (
  SELECT f.media_set_id AS media_set_id, COUNT(*) AS families,
    MIN(f.physical_device_name) AS device, MIN(f.device_type) AS device_type,
    SUM(CASE WHEN UPPER(f.physical_device_name) IN ('NUL', 'NUL:') THEN 1 ELSE 0 END) AS nowhere
  FROM dbo.backupmediafamily f GROUP BY f.media_set_id
) m ON m.media_set_id = s.media_set_id
WHERE s.type IN ('D', 'I', 'L'){condition}
ORDER BY s.database_name, s.backup_set_id DESC"""

_OBJECT = re.compile(r"'(backup\w+)'")
#: Numbers of messages ("Database engine events and errors").
_BY_NUMBER: dict[int, tuple[type[BackupGuardError], str]] = {
    **dict.fromkeys((18456, 18452, 18470, 18486, 18487, 18488), (AccessRefused, "authentication")),
    **dict.fromkeys((229, 230, 297, 300, 916, 4060), (AccessRefused, "permission")),
    **dict.fromkeys((207, 208), (MissingMeans, "version_unsupported")),
    **dict.fromkeys((1205, 1222, -2), (Unreachable, "timeout")),
    **dict.fromkeys((17142, 17187, 17197, 10928, 10929, 40501, 40613), (Unreachable, "refused")),
}


def connect(settings: MssqlSettings, password: str) -> Any:
    """Connect as TDS 7.4 with TLS from the first byte, the certificate and its name verified."""
    import pytds

    limit_s = settings.refresh_timeout.total_seconds()
    return pytds.connect(
        dsn=settings.host,
        port=settings.port,
        database="msdb",
        user=settings.user,
        password=password,
        timeout=limit_s,
        login_timeout=15,
        appname="backupguard",
        autocommit=True,
        readonly=True,
        cafile=str(settings.ca_certificate or SYSTEM_CA),
        validate_host=True,
        enc_login_only=False,
        disable_connect_retry=True,
    )


@contextmanager
def opened(settings: MssqlSettings, context: Context) -> Iterator[Reading]:
    """Yield a connection and close it. Raises MissingMeans (program_missing) without the driver."""
    context.cancel.raise_if_set()
    reader = settings.credentials.reader
    password = context.secret(reader).reveal().decode("utf-8").strip("\r\n") if reader else ""

    def understand(error: Exception) -> BackupGuardError | None:
        return meaning(error, settings.user)

    try:
        connection = connect(settings, password)
    except ImportError as error:
        raise MissingMeans(
            "program_missing",
            Message(id="repositories.driver-missing", values={"package": "python-tds"}),
            Message(id="repositories.driver-missing.remedy", values={"extra": "mssql"}),
        ) from error
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is understood or passed on
        raise understood(error, understand) from None
    try:
        yield Reading(connection=connection, cancel=context.cancel, understand=understand)
    finally:
        with suppress(Exception):
            connection.close()


def meaning(error: Exception, user: str) -> BackupGuardError | None:
    """Return what an error of the server's or the driver's means; None for one of the network's."""
    number = int(getattr(error, "number", 0) or getattr(error, "msg_no", 0) or 0)
    found = _BY_NUMBER.get(number)
    if found is not None:
        cls, code = found
        table = _OBJECT.search(str(error))
        if code == "permission" and table is not None:
            return lacks_right(table[1], user)
        return cls(code)
    module = type(error).__module__
    if module.startswith("OpenSSL") or "ertificate" in str(error) or "TLS" in str(error):
        return Unreachable("tls")
    if type(error).__name__ == "ClosedConnectionError":
        return Unreachable("refused")
    if module.startswith("pytds") and error.__cause__ is None and error.__context__ is None:
        return Misunderstood("unclassified_stderr", status=number)
    return None


def lacks_right(table: str, user: str) -> AccessRefused:
    """Return the error of a login that may not read a table of msdb, with the statement that helps."""
    return AccessRefused(
        "permission",
        Message(id="repositories.sql-permission", values={"user": user, "table": table}),
        Message(
            id="repositories.sql-permission.remedy",
            values={"statement": f"USE msdb; GRANT SELECT ON dbo.{table} TO [{user}]"},
        ),
    )
