"""Stand-ins for SQL Server and Oracle, which cannot run here: their tables in SQLite files.

The statements of the product run as they are, but for what SQLite cannot parse. Whatever is no plain
SELECT is refused. They raise the drivers' own errors, with the vendors' numbers.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

TIMES = frozenset({"started", "finished", "first_time", "next_time"})
NUMBERS = frozenset({"first_lsn", "last_lsn", "bytes", "stored"})


@dataclass
class Server:
    """What the stand-ins do: where their data lie, which functions they know, how they fail."""

    folder: Path
    file: str
    functions: Mapping[str, tuple[int, Callable[..., Any]]]
    attach: str | None = None
    version: str = "19.0.0.0.0"
    replace: Mapping[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()  # statements besides SELECTs
    refuse: Callable[[str], Exception | None] = lambda _: None  # called with each statement
    cut_after: int | None = None  # rows of the history, after which the connection breaks
    statements: list[str] = field(default_factory=list)
    connected: list[Any] = field(default_factory=list)

    def connect(self, settings: Any, password: str) -> Any:
        """Stand where the product's own `connect` is."""
        error = self.refuse("CONNECT")
        if error is not None:
            raise error
        root = self.folder if settings.host == "db.example" else self.folder / settings.host
        if not (root / self.file).exists():
            raise socket.gaierror(-2, "Name or service not known")
        connection = Connection(self, root / self.file)
        self.connected.append(connection)
        return connection


class Connection:
    """A DB-API connection, with what the product uses of it."""

    call_timeout = 0

    def __init__(self, server: Server, path: Path) -> None:
        self.server, self.version, self.closed = server, server.version, False
        uri = f"file:{path}?mode=ro"
        if server.attach:
            self.sqlite = sqlite3.connect("file::memory:", uri=True, check_same_thread=False)
            self.sqlite.execute(f"ATTACH '{uri}' AS {server.attach}")
        else:
            self.sqlite = sqlite3.connect(uri, uri=True, check_same_thread=False)
        for name, (count, function) in server.functions.items():
            self.sqlite.create_function(name, count, function)

    def cursor(self) -> Cursor:
        return Cursor(self)

    def close(self) -> None:
        self.closed = True
        self.sqlite.close()


class Cursor:
    """A DB-API cursor that gives times and large numbers as the drivers do."""

    def __init__(self, connection: Connection) -> None:
        self.server = connection.server
        self.cursor = connection.sqlite.cursor()
        self.description: Any = None
        self.given = 0

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        self.server.statements.append(statement)
        if statement in self.server.allowed:
            return
        assert statement.lstrip().upper().startswith("SELECT"), statement
        assert ";" not in statement
        error = self.server.refuse(statement)
        if error is not None:
            raise error
        for old, new in self.server.replace.items():
            statement = statement.replace(old, new)
        self.cursor.execute(statement, values)
        self.description = self.cursor.description

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        limit = self.server.cut_after
        history = any(column[0] == "started" for column in self.description)
        if limit is not None and history and self.given >= limit:
            raise ConnectionResetError(104, "Connection reset by peer")
        rows = self.cursor.fetchmany(min(size, limit) if limit is not None and history else size)
        self.given += len(rows)
        return [
            tuple(
                _typed(column[0], value)
                for column, value in zip(self.description, row, strict=True)
            )
            for row in rows
        ]

    def close(self) -> None:
        self.cursor.close()


def _typed(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in TIMES and isinstance(value, str):
        return datetime.fromisoformat(value)
    return Decimal(value) if name in NUMBERS else value
