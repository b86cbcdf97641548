"""Statements that every append runs, put into SQL once per database: building them costs more than
running them, and a record is durable only when the whole transaction is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

Row = Mapping[str, Any]


class Prepared:
    """One statement. `make` returns it for a dialect's name; `columns` are those an insert sets.

    Values go to the driver as they are: for integers, texts and bytes only.
    """

    def __init__(self, make: Callable[[str], Any], columns: Sequence[str] | None = None) -> None:
        self._make = make
        self._columns = list(columns) if columns is not None else None
        self._made: dict[str, tuple[str, Sequence[str] | None, Mapping[str, Any]]] = {}

    def run(self, connection: Connection, *rows: Row) -> Sequence[Sequence[Any]]:
        """Run it for each row of parameters, and return what it selects of the last one."""
        text, order, fixed = self._for(connection)
        if order is None:
            named = [{**fixed, **row} for row in rows]
            done = connection.exec_driver_sql(text, named if len(named) > 1 else named[0])
            return done.fetchall() if done.returns_rows else ()
        # SQLite's own cursor: its errors are known where the transaction ends (`engine.translated`).
        cursor = connection.connection.cursor()
        values = [[row[name] if name in row else fixed[name] for name in order] for row in rows]
        try:
            if len(rows) > 1:
                cursor.executemany(text, values)
            else:
                cursor.execute(text, values[0])
            return cursor.fetchall() if cursor.description else ()
        finally:
            cursor.close()

    def _for(self, connection: Connection) -> tuple[str, Sequence[str] | None, Mapping[str, Any]]:
        name = connection.dialect.name
        found = self._made.get(name)
        if found is None:
            compiled: Any = self._make(name).compile(
                dialect=connection.dialect, column_keys=self._columns
            )
            order = compiled.positiontup if name == "sqlite" else None
            found = self._made[name] = (str(compiled), order, dict(compiled.params))
        return found
