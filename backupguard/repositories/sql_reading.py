"""Reads foreign databases through their Python drivers (DB-API 2.0): SELECTs, in pieces, to an end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backupguard.contracts import Cancel
from backupguard.errors import BackupGuardError, Unreachable
from backupguard.repositories.sql_statements import only_select

Row = Mapping[str, Any]

#: Rows taken from the server at a time: what bounds the memory.
PIECE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A connection that is only ever read from.

    `understand` turns an error of the driver's into one of ours, None for what it does not know.
    """

    connection: Any
    cancel: Cancel
    understand: Callable[[Exception], BackupGuardError | None]

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield the rows of one SELECT, its columns by their names in lower case.

        Raises what `understand` makes of a failure, also in the middle of the answer.
        """
        only_select(statement)
        self.cancel.raise_if_set()
        try:
            cursor = self.connection.cursor()
            try:
                cursor.execute(statement, tuple(values))
                names = [str(column[0]).lower() for column in cursor.description]
                while True:
                    self.cancel.raise_if_set()
                    piece = cursor.fetchmany(PIECE)
                    if not piece:
                        return
                    for row in piece:
                        yield dict(zip(names, row, strict=True))
            finally:
                with suppress(Exception):
                    cursor.close()
        except BackupGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is understood or passed on
            raise understood(error, self.understand) from None


def understood(
    error: Exception, understand: Callable[[Exception], BackupGuardError | None]
) -> BaseException:
    """Return our error for a driver's, by what lies below the driver where it does not say.

    The driver's own is not chained: its text may hold a connection string. One that nobody knows is
    returned as it is, and counts as a mistake of this program's.
    """
    known = understand(error)
    return known or network_trouble(error) or error


def network_trouble(error: BaseException) -> Unreachable | None:
    """Return what a failure of the network means, also where a driver has wrapped it, or None."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            break
        if isinstance(seen, ssl.SSLError):
            return Unreachable("tls")
        if isinstance(seen, socket.gaierror):
            return Unreachable("dns")
        if isinstance(seen, TimeoutError):
            return Unreachable("timeout")
        if isinstance(seen, OSError):
            return Unreachable("refused")
        seen = seen.__cause__ or seen.__context__
    return None
