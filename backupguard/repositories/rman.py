"""Oracle's RMAN, through the control file's views or a recovery catalogue; only reads.

Never seen against a live server: built after Oracle's reference, and `unproven` until a person has
confirmed on site that it shows what RMAN itself shows. What it tells is RMAN's word: pieces that
nobody has cross-checked may be gone. Jobs that back up the whole database are points; a level 1 is
taken to need all level 1 before it, though a cumulative one needs less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import Context, JobSelector, Repository, RepositoryState
from backupguard.errors import MissingMeans, Misunderstood, Unreachable
from backupguard.model import RecoveryPoint
from backupguard.repositories import rman_access
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.rman_points import Database, Reader, runs_of_logs
from backupguard.repositories.rman_settings import RmanSettings
from backupguard.repositories.sql_reading import Reading

#: The oldest release that thin mode speaks to.
_OLDEST_MAJOR = 12


class RmanRepository(ListingOnly):
    """What RMAN remembers of one database, or of those in a recovery catalogue."""

    def __init__(self, identifier: str, settings: RmanSettings, context: Context) -> None:
        super().__init__(identifier, context)
        self._settings = settings
        self._zone = ZoneInfo(settings.timezone)
        self._statements = rman_access.Statements(settings.catalogue_owner)

    def inspect(self) -> RepositoryState:
        """Return the server's version; `warnings` names a user who may do more than read.

        Raises Unreachable, AccessRefused (permission, naming the view), MissingMeans
        (version_unsupported, program_missing).
        """
        with rman_access.opened(self._settings, self._context) as reading:
            version = self._version(reading)
            rman_access.check_rights(reading, self._statements, self._settings.user)
            session = next(reading.rows(rman_access.SESSION), None)
            if session is None:
                raise Misunderstood("output_unparsable", repository=self._identifier)
            held = {str(row["name"]).upper() for row in reading.rows(rman_access.RIGHTS)}
            databases = self._databases(reading, session["host"])
        warnings = []
        if held & rman_access.ADMINISTRATIVE or session["is_dba"] == "TRUE":
            warnings.append("administrator_credential")
        if str(session["zone_offset"]) != self._offset():
            warnings.append("timezone_differs")
        alone = next(iter(databases.values())) if len(databases) == 1 else None
        return RepositoryState(
            tool="rman",
            tool_version=version,
            repository_id=str(alone.dbid) if alone is not None else None,
            device=f"history:{self._settings.host}/{self._settings.service}",
            warnings=tuple(warnings),
        )

    def _offset(self) -> str:
        text = self._context.now().astimezone(self._zone).strftime("%z")
        return f"{text[:3]}:{text[3:5]}"

    def _version(self, reading: Reading) -> str:
        version = str(reading.connection.version)
        major = version.partition(".")[0]
        if not major.isdigit() or int(major) < _OLDEST_MAJOR:
            raise MissingMeans("version_unsupported", repository=self._identifier)
        return version

    def _databases(self, reading: Reading, host: Any) -> Mapping[Any, Database]:
        found = {
            row["db_key"]: Database(
                name=str(row["name"]),
                unique_name=str(row["unique_name"] or row["name"]),
                dbid=int(row["dbid"]),
                archives=row["log_mode"] != "NOARCHIVELOG",
                # A catalogue lies on another host than the databases it speaks of.
                host=str(host) if host and not self._statements.owner else None,
            )
            for row in reading.rows(self._statements.databases)
        }
        if not found:
            raise Unreachable("not_found", repository=self._identifier)
        return found

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every backup of these databases, failed ones included, as far as RMAN remembers."""
        if not jobs:
            return
        with rman_access.opened(self._settings, self._context) as reading:
            self._version(reading)
            rman_access.check_rights(reading, self._statements, self._settings.user)
            session = next(reading.rows(rman_access.SESSION), {})
            databases = self._databases(reading, session.get("host"))
            try:
                logs = runs_of_logs(reading.rows(self._statements.logs), self._zone)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise Misunderstood("output_unparsable", repository=self._identifier) from error
            reader = Reader(self._identifier, jobs, self._zone, databases, logs)
            yield from reader.points(reading.rows(self._statements.jobs))


def _open(identifier: str, settings: RmanSettings, context: Context) -> Repository:
    return RmanRepository(identifier, settings, context)


#: The entry point `rman`.
RMAN = ReadingType(
    "rman", RmanSettings, _open, capabilities=RmanRepository.capabilities, unproven=True
)
