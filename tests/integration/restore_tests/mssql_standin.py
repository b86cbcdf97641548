"""A stand-in for a SQL Server with one connection's T-SQL, after Microsoft's reference.

It understands the statements of the product and no other: an unknown one fails the test. It keeps
databases with their owner and state, and session locks; it raises errors as the driver does: the last
message is RESTORE's 3013, the reason stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SID = "scratch-sid"


class ServerError(Exception):
    def __init__(self, number: int, text: str = "the server says no") -> None:
        super().__init__(text)
        self.number = number


@dataclass
class Database:
    owner: str = SID
    state: str = "ONLINE"
    files: list[str] = field(default_factory=list)
    read_only: bool = False
    tables: dict[str, int] = field(default_factory=dict)
    marker: str | None = None
    restores: dict[str, str] | None = None


@dataclass
class Header:
    name: str = "DPI"
    server: str = "SQLPROD1"
    machine: str = "SQLPROD1"
    kind: int = 1
    damaged: bool = False
    tables: dict[str, int] = field(
        default_factory=lambda: {"dbo.stays": 4000, "dbo.patients": 2000}
    )
    files: tuple[tuple[str, str], ...] = (("DPI'data", "D"), ("DPI2", "D"), ("DPI_log", "L"))


@dataclass
class SqlServer:
    """What all connections share."""

    exchange: Path
    seen_as: str = r"E:\exchange"
    name: str = r"SCRATCH\TEST"
    version: str = "15.0.4430.1"
    guid: str = "6F9619FF-8B86-D011-B42D-00C04FC964FF"
    roles: set[str] = field(default_factory=set)
    permissions: list[str] = field(
        default_factory=lambda: ["CONNECT SQL", "VIEW ANY DATABASE", "CREATE ANY DATABASE"]
    )
    databases: dict[str, Database] = field(default_factory=dict)
    header: Header = field(default_factory=Header)
    refuse: dict[str, int] = field(default_factory=dict)  # statement's beginning → number
    damage: list[int] = field(default_factory=list)  # rows of DBCC CHECKDB
    answers: Callable[[str], dict[str, Any]] = lambda _: {"said": "passed", "extra": None}
    statements: list[str] = field(default_factory=list)
    locked_by: object = None

    def connect(self, given: object, password: str, timeout_s: int) -> Connection:
        assert password == "ZZ-mssql"
        assert timeout_s > 0
        return Connection(self)


class Connection:
    def __init__(self, server: SqlServer) -> None:
        self.server, self.database = server, "master"

    def cursor(self) -> Cursor:
        return Cursor(self)

    def close(self) -> None:
        if self.server.locked_by is self:
            self.server.locked_by = None


class Cursor:
    """One statement and its rows."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.server = connection, connection.server
        self.rows: list[dict[str, Any]] = []
        self.messages: list[tuple[type, Exception]] = []

    @property
    def description(self) -> list[tuple[str]] | None:
        return [(name,) for name in self.rows[0]] if self.rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.rows]

    def nextset(self) -> None:
        return None

    def close(self) -> None:
        return None

    def execute(self, statement: str, values: tuple[Any, ...] | None = None) -> None:
        text = " ".join(statement.split())
        self.server.statements.append(text)
        for beginning, number in self.server.refuse.items():
            if text.startswith(beginning):
                self.fail(number)
        for pattern, method in _STATEMENTS:
            if match := re.fullmatch(pattern, text):
                self.rows = method(self, *match.groups(), *(values or ())) or []
                return
        raise AssertionError(f"the stand-in does not know: {text}")

    def fail(self, number: int, text: str = "the server says no") -> None:
        first, last = ServerError(number, text), ServerError(3013)
        self.messages = [(ServerError, first), (ServerError, last)]
        raise last

    # -- what it answers

    @property
    def here(self) -> Database:
        return self.server.databases[self.connection.database]

    def identity(self) -> list[dict[str, Any]]:
        host = self.server.name.partition("\\")[0]
        return [
            {
                "version": self.server.version, "server": self.server.name, "machine": host,
                "host": host, "data": "E:\\data\\", "log": "F:\\log\\", "guid": self.server.guid,
            }
        ]  # fmt: skip

    def listed(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "mine": int(one.owner == SID), "state": one.state}
            for name, one in self.server.databases.items()
        ]

    def use(self, name: str, *_: str) -> None:
        if name not in self.server.databases:
            self.fail(911)
        self.connection.database = name

    def lock(self) -> list[dict[str, Any]]:
        mine = self.server.locked_by in {None, self.connection}
        if mine:
            self.server.locked_by = self.connection
        return [{"result": 0 if mine else -1}]

    def has(self, table: str) -> list[dict[str, Any]]:
        there = self.here.marker if table == "marker" else self.here.restores
        return [{"found": 1}] if there is not None else []

    def create(self, name: str) -> None:
        assert name not in self.server.databases
        self.server.databases[name] = Database()

    def made_table(self, table: str) -> None:
        if table == "marker":
            self.here.marker = ""
        else:
            self.here.restores = {}

    def write(self, text: str) -> None:
        self.here.marker = text

    def begun(self) -> list[dict[str, Any]]:
        return [{"name": name} for name in self.here.restores or ()]

    def begin(self, name: str, since: str) -> None:
        assert self.here.restores is not None
        self.here.restores[name] = since

    def end(self, name: str) -> None:
        assert self.here.restores is not None
        self.here.restores.pop(name, None)

    def file(self, disk: str) -> Path:
        assert disk.startswith(self.server.seen_as + "\\")
        path = self.server.exchange / disk.removeprefix(self.server.seen_as + "\\")
        if not path.is_file():
            self.fail(3201)
        if not path.read_bytes().startswith((b"TAPE", b"MSSQLBAK")):
            self.fail(3241)
        return path

    def headers(self, disk: str) -> list[dict[str, Any]]:
        self.file(disk)
        head = self.server.header
        return [
            {
                "BackupType": head.kind, "Position": 1, "ServerName": head.server,
                "MachineName": head.machine, "DatabaseName": head.name, "IsDamaged": head.damaged,
                "HasBackupChecksums": 1,
            }
        ]  # fmt: skip

    def file_list(self, disk: str) -> list[dict[str, Any]]:
        self.file(disk)
        return [{"LogicalName": name, "Type": kind} for name, kind in self.server.header.files]

    def verify(self, disk: str) -> None:
        self.file(disk)

    def restore(self, name: str, disk: str, moves: str) -> None:
        self.file(disk)
        assert name not in self.server.databases, "RESTORE over a database that stands"
        moved = re.findall(r"MOVE N'((?:[^']|'')*)' TO N'([^']*)'", moves)
        logical = [one.replace("''", "'") for one, _ in moved]
        assert logical == [one for one, _ in self.server.header.files]
        assert all(name in place for _, place in moved)
        tables = dict(self.server.header.tables)
        self.server.databases[name] = Database(files=[p for _, p in moved], tables=tables)

    def read_only(self, name: str) -> None:
        self.server.databases[name].read_only = True

    def single_user(self, name: str) -> None:
        assert self.server.databases[name].state == "ONLINE"

    def drop(self, name: str) -> None:
        assert self.server.databases[name].owner == SID, "dropped what is not its own"
        if self.connection.database == name:
            self.fail(3702)
        del self.server.databases[name]

    def checked(self, name: str) -> list[dict[str, Any]]:
        assert self.server.databases[name].read_only
        return [{"Error": number, "Level": 16} for number in self.server.damage]

    def tables(self) -> list[dict[str, Any]]:
        found = []
        for table, rows in self.here.tables.items():
            space, name = table.split(".")
            found.append({"space": space, "name": name, "found": rows, "columns": 4})
        return found

    def question(self, text: str) -> list[dict[str, Any]]:
        assert self.here.read_only
        return [self.server.answers(text)]


_DISK = r"FROM DISK = N'([^']*)'"
_STATEMENTS: tuple[tuple[str, Callable[..., Any]], ...] = (
    (r"SELECT CAST\(SERVERPROPERTY\('ProductVersion'\).*", Cursor.identity),
    (
        r"SELECT IS_SRVROLEMEMBER\('sysadmin'\).*",
        lambda c: [{role: int(role in c.server.roles) for role in _ROLES}],
    ),
    (
        r"SELECT permission_name AS permission FROM sys\.fn_my_permissions\(NULL, 'SERVER'\)",
        lambda c: [{"permission": one} for one in c.server.permissions],
    ),
    (r"SELECT name AS name, CASE WHEN owner_sid.*", Cursor.listed),
    (r"USE \[?(\w+)\]?(?:; SET LOCK_TIMEOUT 5000)?", Cursor.use),
    (r"DECLARE @result int; EXEC @result = sp_getapplock .*", Cursor.lock),
    (r"SELECT 1 AS found WHERE OBJECT_ID\('dbo\.(\w+)'\) IS NOT NULL", Cursor.has),
    (r"SELECT document AS document FROM dbo\.marker", lambda c: [{"document": c.here.marker}]),
    (r"CREATE DATABASE (\w+)", Cursor.create),
    (r"CREATE TABLE dbo\.(\w+) .*", Cursor.made_table),
    (r"DELETE FROM dbo\.marker", lambda c: None),
    (r"INSERT INTO dbo\.marker \(document\) VALUES \(%s\)", Cursor.write),
    (r"SELECT name AS name FROM dbo\.restores", Cursor.begun),
    (r"INSERT INTO dbo\.restores \(name, since\) VALUES \(%s, %s\)", Cursor.begin),
    (r"DELETE FROM dbo\.restores WHERE name = %s", Cursor.end),
    (rf"RESTORE HEADERONLY {_DISK}", Cursor.headers),
    (rf"RESTORE FILELISTONLY {_DISK} WITH FILE = 1", Cursor.file_list),
    (rf"RESTORE VERIFYONLY {_DISK} WITH FILE = 1, CHECKSUM", Cursor.verify),
    (
        rf"RESTORE DATABASE \[(\w+)\] {_DISK} WITH FILE = 1, CHECKSUM, (MOVE .*), RECOVERY, \w+",
        Cursor.restore,
    ),
    (r"ALTER DATABASE \[(\w+)\] SET READ_ONLY WITH ROLLBACK IMMEDIATE", Cursor.read_only),
    (r"ALTER DATABASE \[(\w+)\] SET SINGLE_USER WITH ROLLBACK IMMEDIATE", Cursor.single_user),
    (r"DROP DATABASE \[(\w+)\]", Cursor.drop),
    (
        r"DBCC CHECKDB \(N'(\w+)'\) WITH NO_INFOMSGS, ALL_ERRORMSGS, TABLERESULTS",
        Cursor.checked,
    ),
    (r"SELECT SCHEMA_NAME\(t\.schema_id\) .*", Cursor.tables),
    (r"SELECT o\.type AS kind, .*", lambda c: [{"kind": "PK", "found": 2}]),
    (r"SELECT COUNT\(\*\) AS found FROM sys\.indexes .*", lambda c: [{"found": 2}]),
    (r"SELECT SCHEMA_NAME\(v\.schema_id\) .*", lambda c: []),
    (r"(SELECT CASE WHEN v IS NULL .*)", Cursor.question),
)
_ROLES = (
    "sysadmin", "serveradmin", "securityadmin", "processadmin", "setupadmin", "bulkadmin",
    "diskadmin", "dbcreator",
)  # fmt: skip
