"""A SQL Server scratch server (2014 or later): its marker, its databases, what its account may do.

Never seen against a live server: statements follow Microsoft's reference (learn.microsoft.com):
SERVERPROPERTY, sys.databases, sys.fn_my_permissions, IS_SRVROLEMEMBER, sp_getapplock, RESTORE
(permissions: "CREATE DATABASE … if the database being restored does not exist"), DROP DATABASE.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from backupguard.contracts import GivenInstance
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import Message
from restore_tests.instance_guard import GENERATED, MARKER_DATABASE, Identity, SecretReader

SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_MAJORS = range(12, 18)
#: The driver bounds a connection's silence and nothing else: no restore may take longer.
_LONGEST_S = 86_400

IDENTITY = """
SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
  CAST(SERVERPROPERTY('ServerName') AS nvarchar(256)) AS server,
  CAST(SERVERPROPERTY('MachineName') AS nvarchar(256)) AS machine,
  CAST(SERVERPROPERTY('ComputerNamePhysicalNetBIOS') AS nvarchar(256)) AS host,
  CAST(SERVERPROPERTY('InstanceDefaultDataPath') AS nvarchar(512)) AS data,
  CAST(SERVERPROPERTY('InstanceDefaultLogPath') AS nvarchar(512)) AS log,
  (SELECT CAST(service_broker_guid AS varchar(36)) FROM sys.databases WHERE name = 'msdb') AS guid"""

#: Members of these may drop, change or read what is not their own.
ROLES = (
    "sysadmin", "serveradmin", "securityadmin", "processadmin", "setupadmin", "bulkadmin",
    "diskadmin", "dbcreator",
)  # fmt: skip
#: All that its account may have on the server.
PERMITTED = frozenset({
    "CONNECT SQL", "VIEW ANY DATABASE", "CREATE ANY DATABASE", "VIEW SERVER STATE",
    "VIEW SERVER PERFORMANCE STATE", "VIEW SERVER SECURITY STATE", "VIEW ANY PERFORMANCE DEFINITION",
    "VIEW ANY SECURITY DEFINITION", "VIEW ANY COLUMN MASTER KEY DEFINITION",
    "VIEW ANY COLUMN ENCRYPTION KEY DEFINITION", "VIEW ANY DEFINITION",
})  # fmt: skip
PERMISSIONS = "SELECT permission_name AS permission FROM sys.fn_my_permissions(NULL, 'SERVER')"
DATABASES = (
    "SELECT name AS name, CASE WHEN owner_sid = SUSER_SID() THEN 1 ELSE 0 END AS mine,"
    " state_desc AS state FROM sys.databases"
    " WHERE name NOT IN ('master', 'tempdb', 'model', 'msdb')"
)
LOCK = (
    "DECLARE @result int; EXEC @result = sp_getapplock @Resource = 'backupguard',"
    " @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = 0; SELECT @result AS result"
)

#: What a number means ("Database engine events and errors"; RESTORE: 3000 to 3299). The backup is
#: accused by what the server says of the backup's own bytes, and by nothing else.
_BY_NUMBER: dict[int, tuple[type[BackupGuardError], str]] = {
    **dict.fromkeys((3183, 3189, 3241, 3242, 3243, 3246, 3256, 3270), (BackupDefect, "corrupt")),
    **dict.fromkeys((824, 829, 3313, 3414, 3456), (BackupDefect, "corrupt")),
    **dict.fromkeys((3257, 112, 1105, 9002, 5149), (MissingMeans, "no_disk")),
    **dict.fromkeys((3169, 1813, 909, 950), (MissingMeans, "version_unsupported")),
    **dict.fromkeys((3201, 3202, 3203, 3634), (MissingMeans, "instance_unread")),
    **dict.fromkeys((33111, 15581, 33117), (AccessRefused, "wrong_key")),
    **dict.fromkeys((701, 802, 8645), (MissingMeans, "no_memory")),
    **dict.fromkeys((18456, 18452, 18470, 18486, 18487, 18488), (AccessRefused, "authentication")),
    **dict.fromkeys((229, 230, 262, 297, 300, 916, 2557, 4060, 15247), (AccessRefused, "permission")),
    **dict.fromkeys((1205, 1222, -2), (Unreachable, "timeout")),
    **dict.fromkeys((17142, 17187, 17197, 10928, 10929, 40501, 40613), (Unreachable, "refused")),
}  # fmt: skip
#: These only say that another message says why.
_FOLLOWING = frozenset({3013, 3621, 3014, 5701, 5703})
#: A backup that ends too early is read to an end of file ("38" is the operating system's).
_END_OF_FILE = re.compile(r"\b38\(")
Row = dict[str, Any]


def connect(given: GivenInstance, password: str, timeout_s: int) -> Any:
    """Connect as TDS 7.4 with TLS from the first byte, the certificate and its name verified.

    `timeout_s` is how long the server may stay silent.
    """
    import pytds

    settings = given.settings
    verify = settings.tls == "verify"
    return pytds.connect(
        dsn=settings.host,
        port=settings.port_used,
        database="master",
        user=settings.user,
        password=password,
        timeout=timeout_s,
        login_timeout=15,
        appname="backupguard",
        autocommit=True,
        cafile=str(settings.ca_certificate or SYSTEM_CA) if verify else None,
        validate_host=verify,
        enc_login_only=False,
        disable_connect_retry=True,
    )


def quoted(text: str) -> str:
    """Return a text as T-SQL writes it: RESTORE takes no values for some of its places."""
    return "N'" + text.replace("'", "''") + "'"


class MssqlScratch:
    """`ScratchServer` for SQL Server."""

    def __init__(self, given: GivenInstance, password: str) -> None:
        self.given = given
        self._password = password
        self._connection: Any = None
        self._connect()

    @classmethod
    def open(cls, given: GivenInstance, secret_of: SecretReader) -> MssqlScratch:
        """Connect; raises AccessRefused, Unreachable, MissingMeans (program_missing…)."""
        reference = given.settings.credentials.account
        secret = secret_of(reference) if reference is not None else None
        return cls(given, secret.reveal().decode("utf-8").strip("\r\n") if secret else "")

    def _connect(self) -> None:
        self.close()
        try:
            self._connection = connect(self.given, self._password, _LONGEST_S)
        except ImportError as error:
            raise MissingMeans(
                "program_missing",
                Message(id="repositories.driver-missing", values={"package": "python-tds"}),
                Message(id="repositories.driver-missing.remedy", values={"extra": "mssql"}),
            ) from error
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is understood
            raise understood(error, ()) from None

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Row]:
        """Run a statement and return the rows of its first result, names in lower case."""
        return _rows(self._connection, statement, values)

    def asked(self, database: str, question: str, timeout_s: int) -> list[Row]:
        """Ask a question of the site's over a connection of its own, which a long one may cost."""
        try:
            connection = connect(self.given, self._password, timeout_s)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is understood
            raise understood(error, ()) from None
        try:
            _rows(connection, f"USE [{database}]; SET LOCK_TIMEOUT 5000")
            return _rows(connection, question)
        finally:
            with suppress(Exception):
                connection.close()

    # -- what it is

    def facts(self) -> Row:
        """Return names, version and directories of the server."""
        found = self.rows(IDENTITY)
        major = str(found[0]["version"] if found else "").partition(".")[0]
        if not major.isdigit() or int(major) not in _MAJORS:
            raise MissingMeans(
                "version_unsupported", program="mssql", version=major or "?", package="—"
            )
        return found[0]

    def identity(self) -> Identity:
        """Return name and GUID of the instance (that of its msdb), and the names it answers to."""
        row = self.facts()
        names = {str(row[key]) for key in ("server", "machine", "host") if row[key]}
        names |= {name.partition("\\")[0] for name in names}
        identifier = f"{row['server']}/{str(row['guid']).lower()}"
        return Identity(identifier=identifier, version=str(row["version"]), names=frozenset(names))

    def excess(self) -> tuple[str, ...]:
        """Return server roles and permissions beyond making databases, and databases it owns."""
        columns = ", ".join(f"IS_SRVROLEMEMBER('{role}') AS {role}" for role in ROLES)
        held = self.rows(f"SELECT {columns}")[0]
        found = [role for role in ROLES if held[role]]
        if not found:
            said = {str(row["permission"]).upper() for row in self.rows(PERMISSIONS)}
            found += sorted(said - PERMITTED)
        return (
            *found,
            *(
                f"owner of {row['name']}"
                for row in self.rows(DATABASES)
                if row["mine"]
                and row["name"] != MARKER_DATABASE
                and not GENERATED.match(row["name"])
            ),
        )

    def lacking(self) -> tuple[str, ...]:
        """Return the rights by which it sees and makes databases, where they are not there."""
        said = {str(row["permission"]).upper() for row in self.rows(PERMISSIONS)}
        return tuple(sorted({"CREATE ANY DATABASE", "VIEW ANY DATABASE"} - said))

    def databases(self) -> frozenset[str]:
        """Return all databases but the server's own four."""
        return frozenset(str(row["name"]) for row in self.rows(DATABASES))

    # -- the marker

    def enter_marker(self) -> bool:
        """Go on inside the marker's database."""
        if MARKER_DATABASE not in self.databases():
            return False
        self.rows(f"USE {MARKER_DATABASE}")
        return True

    def marker(self) -> str | None:
        """Return the marker's text; None where its table is not there."""
        if not self._has("marker"):
            return None
        found = self.rows("SELECT document AS document FROM dbo.marker")
        return str(found[0]["document"]) if found else None

    def _has(self, table: str) -> bool:
        return bool(self.rows(f"SELECT 1 AS found WHERE OBJECT_ID('dbo.{table}') IS NOT NULL"))

    def make_marker(self, text: str) -> None:
        """Make the marker's database and its tables, or write the text into them anew."""
        if MARKER_DATABASE not in self.databases():
            self.rows(f"CREATE DATABASE {MARKER_DATABASE}")
        self.rows(f"USE {MARKER_DATABASE}")
        if not self._has("marker"):
            self.rows("CREATE TABLE dbo.marker (document nvarchar(max) NOT NULL)")
        if not self._has("restores"):
            self.rows(
                "CREATE TABLE dbo.restores (name nvarchar(128) NOT NULL PRIMARY KEY,"
                " since nvarchar(40) NOT NULL)"
            )
        self.rows("DELETE FROM dbo.marker")
        self.rows("INSERT INTO dbo.marker (document) VALUES (%s)", (text,))

    def lock(self) -> bool:
        """Hold a session's application lock: it ends with the connection, however that ends."""
        found = self.rows(LOCK)
        return bool(found) and int(found[0]["result"]) >= 0

    def begun(self) -> tuple[str, ...]:
        """Return the recorded names; none where the table is not there."""
        if not self._has("restores"):
            return ()
        return tuple(str(row["name"]) for row in self.rows("SELECT name AS name FROM dbo.restores"))

    def begin(self, name: str, since: str) -> None:
        """Record a name."""
        self.rows("INSERT INTO dbo.restores (name, since) VALUES (%s, %s)", (name, since))

    def end(self, name: str) -> None:
        """Forget a name."""
        self.rows("DELETE FROM dbo.restores WHERE name = %s", (name,))

    def drop(self, name: str) -> None:
        """Drop a database; connections to one that is open are ended first."""
        if GENERATED.match(name) is None:
            raise ValueError(f"{name!r} is no name made here")
        states = {str(row["name"]): row["state"] for row in self.rows(DATABASES)}
        if name not in states:
            return
        if states[name] == "ONLINE":
            self.rows(f"ALTER DATABASE [{name}] SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
        self.rows(f"DROP DATABASE [{name}]")

    def reconnect(self) -> None:
        """Connect anew where the connection was lost."""
        try:
            self.rows(f"USE {MARKER_DATABASE}")
        except BackupGuardError:
            self._connect()
            self.rows(f"USE {MARKER_DATABASE}")

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _rows(connection: Any, statement: str, values: tuple[Any, ...] = ()) -> list[Row]:
    cursor = connection.cursor()
    try:
        cursor.execute(statement, values or None)
        found: list[Row] = []
        if cursor.description:
            names = [str(column[0]).lower() for column in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        while cursor.nextset():
            pass  # an error behind the first result is raised here
        return found
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is understood
        raise understood(error, getattr(cursor, "messages", None) or ()) from None
    finally:
        with suppress(Exception):
            cursor.close()


def _number(error: object) -> int:
    return int(getattr(error, "number", 0) or getattr(error, "msg_no", 0) or 0)


def understood(error: Exception, messages: Any) -> BackupGuardError:
    """Return our error for the driver's, by the numbers of all messages; texts are not kept.

    RESTORE ends every refusal with message 3013, so what came before it counts.
    """
    if isinstance(error, BackupGuardError):
        return error
    said = [one[1] if isinstance(one, tuple) else one for one in messages] or [error]
    numbers = [number for one in [*said, error] if (number := _number(one))]
    if 3203 in numbers and any(_END_OF_FILE.search(str(one)) for one in [*said, error]):
        return BackupDefect("truncated")
    known = [_BY_NUMBER[number] for number in numbers if number in _BY_NUMBER]
    unknown = [n for n in numbers if n not in _BY_NUMBER and n not in _FOLLOWING]
    means = [one for one in known if one[0] is not BackupDefect]
    if means:
        return means[0][0](means[0][1])  # a want of ours explains what looks like damage
    if known:
        return BackupDefect(known[0][1])
    if numbers:
        return Misunderstood("unclassified_stderr", program="mssql", status=(unknown or numbers)[0])
    text, name = str(error), type(error).__name__
    if "ertificate" in text or "TLS" in text or type(error).__module__.startswith("OpenSSL"):
        return Unreachable("tls")
    if "timed out" in text or isinstance(error, TimeoutError):
        return Unreachable("timeout")
    if isinstance(error, OSError) or name in {"ClosedConnectionError", "OperationalError"}:
        return Unreachable("dns" if name == "gaierror" else "refused")
    return Misunderstood("unclassified_stderr", program="mssql", status=0)
