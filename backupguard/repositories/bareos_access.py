"""How a catalogue is read: PostgreSQL through psql in the jail, SQLite through its own library.

Both put the answer to one SELECT into a file of the run's directory, a JSON object a line: so memory
is bounded, the server sorts, and a lock on an SQLite file (which a director that wants to write waits
for) lasts no longer than the reading.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from backupguard.contracts import Command, Completed, Context, Secret
from backupguard.errors import (
    AccessRefused,
    BackupGuardError,
    Changing,
    MissingMeans,
    Misunderstood,
    TimedOut,
    Unreachable,
)
from backupguard.model import Message
from backupguard.repositories import bareos_sql
from backupguard.repositories.bareos_settings import BareosSettings
from backupguard.repositories.sql_statements import only_select

Row = Mapping[str, Any]

SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")

#: Every option psql is ever called with; the statement follows `--command`.
PSQL_OPTIONS = (
    *("--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"),
    *("--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose", "--set=FETCH_COUNT=2000"),
)

_SQLSTATE = re.compile(r"(?:ERROR|ERREUR|FATAL|FATALE)\s?:\s+(\d[0-9A-Z]{4}|[A-Z]{2}\w{3}):")
_BY_STATE: tuple[tuple[re.Pattern[str], type[BackupGuardError], str], ...] = (
    (re.compile(r"42501"), AccessRefused, "permission"),
    (re.compile(r"42P01|42703|42883"), MissingMeans, "version_unsupported"),
    (re.compile(r"57014"), Unreachable, "timeout"),
    (re.compile(r"57P0\d|08\w{3}|53300"), Unreachable, "refused"),
    (re.compile(r"28\w{3}"), AccessRefused, "authentication"),
    (re.compile(r"3D000"), Unreachable, "not_found"),
)
#: While a connection is made there is no SQLSTATE to see, and the server may speak French.
_BY_TEXT: tuple[tuple[re.Pattern[str], type[BackupGuardError], str], ...] = (
    (re.compile(r"could not translate host name|Name or service not known"), Unreachable, "dns"),
    (
        re.compile(r"authentication failed|authentification .* chou|no password supplied"),
        AccessRefused,
        "authentication",
    ),
    (
        re.compile(r"pg_hba\.conf|role \".*\" does not exist|le rôle .* n'existe pas"),
        AccessRefused,
        "authentication",
    ),
    (
        re.compile(r"database \".*\" does not exist|la base de données .* n'existe pas"),
        Unreachable,
        "not_found",
    ),
    (re.compile(r"SSL|certificate|root.crt"), Unreachable, "tls"),
    (re.compile(r"No such file or directory|socket path .* is too long"), Unreachable, "not_found"),
    (re.compile(r"[Tt]imed? ?out|timeout expired"), Unreachable, "timeout"),
    (
        re.compile(
            r"Connection refused|[Nn]etwork is unreachable|No route to host|starting up"
            r"|shutting down|server closed the connection|too many (clients|connections)"
            r"|démarrage|arrêt|trop de clients|connection to server was lost|reset by peer"
        ),
        Unreachable,
        "refused",
    ),
    (re.compile(r"Permission denied"), AccessRefused, "permission"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who reads the catalogue and with which server: its version, and whether it could also write."""

    server: str
    may_write: bool


class Catalogue(Protocol):
    """A catalogue that can be asked."""

    dialect: bareos_sql.Dialect

    def rows(self, statement: str) -> Iterator[Row]:
        """Yield the rows of one SELECT; raises before the first when the answer is not whole."""

    def standing(self) -> Standing:
        """Tell who reads; raises AccessRefused (permission) naming the first table it may not read."""

    def device(self) -> str:
        """Return a name of the catalogue's own; where the volumes lie it does not tell."""


def open_catalogue(identifier: str, settings: BareosSettings, context: Context) -> Catalogue:
    """Return the catalogue that the settings name; nothing is opened yet but psql looked for.

    Raises MissingMeans (program_missing, secret_missing).
    """
    if settings.path is not None:
        return SqliteCatalogue(identifier, settings, settings.path, context)
    return PostgresqlCatalogue(identifier, settings, context)


def lines_of(path: Path, identifier: str) -> Iterator[Row]:
    """Yield the JSON objects of a file, one a line, and remove it at the end.

    Text that is no UTF-8 (Bacula's databases take any bytes) gets a replacement character. Raises
    Misunderstood (output_unparsable) for a line that is none.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.decode("utf-8", "replace"))
                except ValueError as error:
                    raise Misunderstood("output_unparsable", repository=identifier) from error
                if not isinstance(row, dict):
                    raise Misunderstood("output_unparsable", repository=identifier)
                yield row
    finally:
        path.unlink(missing_ok=True)


class _Spool:
    """Names of files in the run's directory."""

    def __init__(self, identifier: str, context: Context) -> None:
        self._stem = f"catalogue-{identifier}"
        self._work = context.work
        self._number = 0

    def path(self) -> Path:
        """Return a name that is free."""
        self._number += 1
        path = self._work / f"{self._stem}-{self._number}.jsonl"
        path.unlink(missing_ok=True)
        return path


class PostgresqlCatalogue:
    """A catalogue in PostgreSQL 11 or later."""

    dialect = bareos_sql.POSTGRESQL

    def __init__(self, identifier: str, settings: BareosSettings, context: Context) -> None:
        self._identifier = identifier
        self._settings = settings
        self._context = context
        self._spool = _Spool(identifier, context)
        program = settings.program or context.tools.which("psql")
        if program is None or not program.is_file():
            raise MissingMeans(
                "program_missing",
                Message(id="repositories.psql-missing", values={"program": str(program or "psql")}),
                Message(id="repositories.psql-missing.remedy"),
            )
        self._program = str(program)
        reader = settings.credentials.reader
        self._secrets: Mapping[str, Secret] = {}
        if reader is not None:
            secret = context.secret(reader)
            self._secrets = {"PGPASSFILE": Secret(secret.name, _pgpass(secret.reveal()))}

    def rows(self, statement: str) -> Iterator[Row]:
        """Yield the rows of one SELECT, one call of psql."""
        only_select(statement)
        path = self._spool.path()
        # What sorts inside sorts also outside: said again, since the standard does not promise it.
        _, by, order = statement.rpartition("ORDER BY ")
        wrapped = f"SELECT row_to_json(q) FROM ({statement}) q" + (  # noqa: S608
            f" ORDER BY {order}" if by else ""
        )
        try:
            done = self._run(wrapped, path)
            if done.returncode != 0:
                raise self._failure(done)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return lines_of(path, self._identifier)

    def _run(self, statement: str, sink: Path) -> Completed:
        settings = self._settings
        limit_s = int(settings.refresh_timeout.total_seconds())
        read = (Path(settings.host).resolve(),) if settings.by_socket else ()
        ca_certificate = settings.ca_certificate or SYSTEM_CA
        options = (
            "-c default_transaction_read_only=on -c standard_conforming_strings=on "
            f"-c statement_timeout={limit_s * 1000} -c lock_timeout=10000 "
            "-c idle_in_transaction_session_timeout=60000"
        )
        try:
            return self._context.tools.run(
                Command(
                    argv=(
                        self._program,
                        *PSQL_OPTIONS,
                        f"--host={read[0] if read else settings.host}",
                        f"--port={settings.port}",
                        f"--username={settings.user}",
                        f"--dbname={settings.database}",
                        f"--command={statement}",
                    ),
                    read=(*read, ca_certificate),
                    network=not settings.by_socket,
                    secrets=self._secrets,
                    environment={
                        "PGOPTIONS": options,
                        "PGCONNECT_TIMEOUT": "15",
                        "PGSSLMODE": settings.tls_mode,
                        "PGSSLROOTCERT": str(ca_certificate),
                        "PGAPPNAME": "backupguard",
                        **({} if self._secrets else {"PGPASSFILE": "/dev/null"}),
                    },
                    timeout_s=limit_s + 30,
                    sink=sink,
                )
            )
        except TimedOut as error:
            if error.code == "phase_limit":
                raise Unreachable("timeout", repository=self._identifier) from error
            raise

    def _failure(self, done: Completed) -> BackupGuardError:
        """Return the error for what psql said (PostgreSQL's manual, appendix A: error codes)."""
        text = done.stderr.decode("utf-8", "replace")
        state = _SQLSTATE.search(text)
        table, words = "", [text]
        if state is not None:
            table = next(
                (name for name in bareos_sql.TABLES if re.search(rf"\b{name}\b", text)), ""
            )
            words = [state[1]]
        for pattern, cls, code in _BY_STATE if state is not None else _BY_TEXT:
            if any(pattern.search(word) for word in words):
                if code == "permission" and table:
                    return lacks_right(table, self._settings.user)
                return cls(code, repository=self._identifier)
        return Misunderstood(
            "unclassified_stderr", repository=self._identifier, status=done.returncode
        )

    def standing(self) -> Standing:
        """Tell who reads, from the server's own catalogue of rights."""
        found = list(self.rows(bareos_sql.RIGHTS))
        for row in found:
            if not row["present"]:
                raise MissingMeans("version_unsupported", repository=self._identifier)
            if not row["readable"]:
                raise lacks_right(str(row["name"]), self._settings.user)
        number = int(found[0]["server"])
        return Standing(
            server=f"PostgreSQL {number // 10000}.{number % 10000}",
            may_write=any(row["writable"] or row["superuser"] for row in found),
        )

    def device(self) -> str:
        """Return host and database; no word of it says where a volume lies."""
        host = os.uname().nodename if self._settings.by_socket else self._settings.host
        return f"catalogue:{host}/{self._settings.database}"


def lacks_right(table: str, user: str) -> AccessRefused:
    """Return the error of an account that may not read a table, with the statement that helps."""
    return AccessRefused(
        "permission",
        Message(id="repositories.sql-permission", values={"user": user, "table": table}),
        Message(
            id="repositories.sql-permission.remedy",
            values={"statement": f'GRANT SELECT ON {table} TO "{user}"'},
        ),
    )


def _pgpass(password: bytes) -> bytes:
    """Return a line of a password file for any server (PostgreSQL's manual, "The Password File")."""
    escaped = password.strip(b"\r\n").replace(b"\\", b"\\\\").replace(b":", b"\\:")
    return b"*:*:*:*:" + escaped + b"\n"


class SqliteCatalogue:
    """A catalogue in an SQLite 3 file, opened for reading only."""

    dialect = bareos_sql.SQLITE

    def __init__(
        self, identifier: str, settings: BareosSettings, path: Path, context: Context
    ) -> None:
        self._identifier = identifier
        self._limit_s = settings.refresh_timeout.total_seconds()
        self._path = path
        self._context = context
        self._spool = _Spool(identifier, context)

    def rows(self, statement: str) -> Iterator[Row]:
        """Yield the rows of one SELECT, read to the end before the first is yielded."""
        only_select(statement)
        self._context.cancel.raise_if_set()
        path = self._spool.path()
        try:
            with closing(self._connect()) as connection, path.open("x", encoding="utf-8") as file:
                for row in connection.execute(statement):
                    file.write(json.dumps(dict(row)) + "\n")
        except sqlite3.Error as error:
            path.unlink(missing_ok=True)
            raise self._failure(error) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return lines_of(path, self._identifier)

    def _connect(self) -> sqlite3.Connection:
        """Open the file so that nothing is created beside it (sqlite.org/uri.html, wal.html)."""
        try:
            with self._path.open("rb") as file:
                header = file.read(20)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Unreachable("not_found", repository=self._identifier) from error
        except PermissionError as error:
            raise AccessRefused("permission", repository=self._identifier) from error
        except OSError as error:
            raise Unreachable("refused", repository=self._identifier) from error
        options = "mode=ro"
        log = self._path.with_name(self._path.name + "-wal")
        # A reader of a write-ahead log creates the index of it; without a log there is no writer.
        if header[18:20] == b"\2\2" and not log.exists():
            options += "&immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?{options}", uri=True, timeout=10, isolation_level=None
        )
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        connection.execute("PRAGMA query_only = ON")
        deadline = time.monotonic() + self._limit_s

        def over() -> int:
            return int(time.monotonic() > deadline or self._context.cancel.is_set())

        connection.set_progress_handler(over, 20_000)
        return connection

    def _failure(self, error: sqlite3.Error) -> BackupGuardError:
        """Return what an error of SQLite's means (sqlite.org/rescode.html)."""
        name = str(getattr(error, "sqlite_errorname", ""))
        if name.startswith("SQLITE_INTERRUPT"):
            self._context.cancel.raise_if_set()
            return Unreachable("timeout", repository=self._identifier)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Unreachable("timeout", repository=self._identifier)
        # A journal that the director has left, or begins, is rolled back by nobody here.
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_SCHEMA")):
            return Changing("repository_changed", repository=self._identifier)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            # The catalogue is damaged; what it speaks of may be sound.
            return Misunderstood("output_unparsable", repository=self._identifier)
        if "no such table" in str(error) or "no such column" in str(error):
            return MissingMeans("version_unsupported", repository=self._identifier)
        return Unreachable("refused", repository=self._identifier)

    def standing(self) -> Standing:
        """Tell the library's version; who may read a file of SQLite's is said by its mode alone."""
        return Standing(
            server=f"SQLite {sqlite3.sqlite_version}", may_write=os.access(self._path, os.W_OK)
        )

    def device(self) -> str:
        """Return host and path; no word of it says where a volume lies."""
        return f"catalogue:{os.uname().nodename}{self._path}"
