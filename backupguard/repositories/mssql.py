"""SQL Server (2014 and later), through the history that it keeps of its backups in msdb; only reads.

Never seen against a live server: built after Microsoft's reference, and `unproven` until a person has
confirmed on site that it shows what the server's own tools show. What it tells is the server's word:
msdb does not know whether a file it once wrote is still there, and it does not record failed backups.
Whole databases only: backups of single files and partial ones are no points of the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from backupguard.contracts import Context, JobSelector, Repository, RepositoryState
from backupguard.errors import MissingMeans
from backupguard.model import RecoveryPoint
from backupguard.repositories import mssql_access
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.mssql_points import Reader
from backupguard.repositories.mssql_settings import MssqlSettings
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.sql_reading import Reading, Row

#: SQL Server 2014, whose backups can be encrypted, to 2025.
_MAJORS = range(12, 18)
_MOST_NAMES = 500


class MssqlRepository(ListingOnly):
    """The history of one server."""

    def __init__(self, identifier: str, settings: MssqlSettings, context: Context) -> None:
        super().__init__(identifier, context)
        self._settings = settings
        self._zone = ZoneInfo(settings.timezone)

    def inspect(self) -> RepositoryState:
        """Return the server's version; `warnings` names a login that may do more than read.

        Raises Unreachable, AccessRefused (permission, naming the table), MissingMeans
        (version_unsupported, program_missing).
        """
        with mssql_access.opened(self._settings, self._context) as reading:
            row = self._identity(reading)
        warnings = []
        if row["administrator"] or row["may_write"]:
            warnings.append("administrator_credential")
        now = self._context.now().astimezone(self._zone)
        offset = row["offset_minutes"]
        if offset is not None and now.utcoffset() is not None:
            minutes = round((now.utcoffset() or now - now).total_seconds() / 60)
            if int(offset) != minutes:
                warnings.append("timezone_differs")
        return RepositoryState(
            tool="mssql",
            tool_version=str(row["version"]),
            repository_id=str(row["server"]),
            device=f"history:{self._settings.host}/{row['server']}",
            warnings=tuple(warnings),
        )

    def _identity(self, reading: Reading) -> Row:
        row = next(reading.rows(mssql_access.IDENTITY), None)
        major = str((row or {}).get("version") or "").partition(".")[0]
        if row is None or not major.isdigit() or int(major) not in _MAJORS:
            raise MissingMeans("version_unsupported", repository=self._identifier)
        for table in mssql_access.TABLES:
            if not row[table]:
                raise mssql_access.lacks_right(table, self._settings.user)
        return row

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every full and differential backup of these databases that msdb remembers."""
        if not jobs:
            return
        names = sorted({selector.name for selector in jobs if selector.name is not None})
        condition, values = "", tuple(names)
        if any(selector.name is None for selector in jobs) or len(names) > _MOST_NAMES:
            values = ()
        else:
            condition = f" AND s.database_name IN ({', '.join(['%s'] * len(names))})"
        with mssql_access.opened(self._settings, self._context) as reading:
            self._identity(reading)
            rows = reading.rows(mssql_access.HISTORY.format(condition=condition), values)
            yield from Reader(self._identifier, jobs, self._zone).points(rows)


def _open(identifier: str, settings: MssqlSettings, context: Context) -> Repository:
    return MssqlRepository(identifier, settings, context)


#: The entry point `mssql`.
MSSQL = ReadingType(
    "mssql", MssqlSettings, _open, capabilities=MssqlRepository.capabilities, unproven=True
)
