"""Repository type `import`: the points of a tool we do not speak to, from an export that it writes.

For NetBackup, Commvault, Tina, NetWorker, Rubrik, HYCU, IRIS and whatever else can write CSV or JSON.
Its points are that tool's word: they are marked as imported wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase

from backupguard.contracts import (
    Context,
    JobSelector,
    RepositoryState,
)
from backupguard.errors import Changing, Unreachable
from backupguard.model import Origin, PointKind, PointState, RecoveryPoint
from backupguard.repositories.devices import device_of_record
from backupguard.repositories.directory_names import percent
from backupguard.repositories.imported_rows import Row, rows, written, wrong
from backupguard.repositories.imported_settings import ImportSettings
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.local_times import resolve, zone_named
from backupguard.repositories.opening import ReadingType

#: A file that was written to less than this ago may not be whole yet.
_SETTLES = timedelta(seconds=30)
_LARGEST = 2**53 - 1
_YES = frozenset({"1", "true", "yes", "y", "oui", "o", "vrai"})
_NO = frozenset({"0", "false", "no", "n", "non", "faux"})
_SPACES = str.maketrans("", "", " \u00a0\u202f'")
#: No backup tool has points from before; a smaller number of seconds is something else.
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)


class ImportRepository(ListingOnly):
    """One export."""

    def __init__(self, identifier: str, settings: ImportSettings, context: Context) -> None:
        super().__init__(identifier, context)
        self._settings = settings
        self._zone = zone_named(settings.timezone) if settings.timezone else None

    def inspect(self) -> RepositoryState:
        """Return where the file lies. Raises Unreachable: not_found, or stale_import when it is old."""
        self._fresh()
        return RepositoryState(
            tool=self._settings.source,
            tool_version="1",
            device=device_of_record(self._identifier),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield the rows of these jobs: `select.name` and `select.host` are patterns as in a shell.

        Raises Unreachable (stale_import) for a file that stopped being refreshed, Misunderstood naming
        line and column for the first cell that cannot be read, or where there is no row at all: an
        export that failed has lost no backup. Raises Changing while the file is being written.
        """
        age, number = self._fresh(), -1
        seen: set[tuple[str, str]] = set()
        for number, (line, row) in enumerate(rows(self._settings, self._identifier)):
            if number % 1000 == 0:
                self._context.cancel.raise_if_set()
            for selector in jobs:
                if not self._is_of(selector, row):
                    continue
                point = self._point(selector, line, row)
                if (point.job, point.native_id) in seen:
                    raise wrong(self._settings, line, "twice", self._settings.columns.id or "")
                seen.add((point.job, point.native_id))
                yield point
        if number < 0:
            raise wrong(self._settings, 1, "broken")
        # What writes it may pause between two rows, and the file then looks whole.
        if abs(age) < _SETTLES:
            raise Changing("repository_changed", repository=self._identifier)

    def _fresh(self) -> timedelta:
        """Return how old the file is; raises Unreachable (stale_import) for too old."""
        changed = datetime.fromtimestamp(
            written(self._settings, self._identifier).changed_ns / 10**9, UTC
        )
        age = self._context.now() - changed
        if age > self._settings.max_age:
            raise Unreachable("stale_import", repository=self._identifier)
        return age

    def _is_of(self, selector: JobSelector, row: Row) -> bool:
        columns = self._settings.columns
        if selector.name is not None and not fnmatchcase(row[columns.job], selector.name):
            return False
        if selector.host is None:
            return True
        return columns.host is not None and fnmatchcase(row[columns.host], selector.host)

    # ---- cells

    def _point(self, selector: JobSelector, line: int, row: Row) -> RecoveryPoint:
        columns = self._settings.columns
        at = self._time(line, columns.at, row[columns.at])
        if at is None:
            raise wrong(self._settings, line, "empty", columns.at)
        ended = self._time(line, columns.ended, row[columns.ended]) if columns.ended else None
        given = row[columns.id].strip() if columns.id else ""
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=percent(given or f"{row[columns.job]}@{at:%Y%m%dT%H%M%SZ}")[:200],
            at=at,
            covers_until=at,
            kind=self._kind(line, row),
            state=self._state(line, row),
            started_at=at,
            ended_at=ended if ended is None or ended >= at else None,
            bytes=self._number(line, columns.bytes, row, self._settings.unit),
            files=self._number(line, columns.files, row, 1),
            source_host=row[columns.host].strip()[:253] or None if columns.host else None,
            encrypted=self._flag(line, row),
            extra={"source": self._settings.source},
        )

    def _state(self, line: int, row: Row) -> PointState:
        name = self._settings.columns.state
        if name is None:
            return PointState.COMPLETE
        state = self._settings.state_of(row[name])
        if state is None:
            raise wrong(self._settings, line, "unknown-state", name)
        return state

    def _kind(self, line: int, row: Row) -> PointKind:
        name = self._settings.columns.kind
        if name is None:
            return PointKind.SNAPSHOT
        wanted = row[name].strip().casefold()
        for kind, words in self._settings.kinds.items():
            if wanted in {word.casefold() for word in words}:
                return PointKind(kind)
        raise wrong(self._settings, line, "unknown-kind", name)

    def _time(self, line: int, name: str, text: str) -> datetime | None:
        text = text.strip()
        if not text:
            return None
        try:
            found = self._read_time(text)
        except (ValueError, OverflowError, OSError):
            raise wrong(self._settings, line, "no-time", name) from None
        if found < _EARLIEST:
            raise wrong(self._settings, line, "too-old", name)
        return found

    def _read_time(self, text: str) -> datetime:
        if self._settings.time_format is not None:
            local = datetime.strptime(text, self._settings.time_format)  # noqa: DTZ007 - see below
        elif text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        else:
            local = datetime.fromisoformat(text)
        if local.tzinfo is not None:
            return local.astimezone(UTC)
        # Of an hour that exists twice the first is meant: an age is never made too small.
        return resolve(local, self._zone)

    def _number(self, line: int, name: str | None, row: Row, unit: int) -> int | None:
        text = row[name].translate(_SPACES) if name is not None else ""
        if name is None or not text:
            return None
        if self._settings.decimal == ",":
            text = text.replace(".", "").replace(",", ".")
        try:
            value = int(Decimal(text) * unit)
        except (InvalidOperation, ValueError, OverflowError):
            raise wrong(self._settings, line, "no-number", name) from None
        if not 0 <= value <= _LARGEST:
            raise wrong(self._settings, line, "out-of-range", name)
        return value

    def _flag(self, line: int, row: Row) -> bool | None:
        name = self._settings.columns.encrypted
        word = row[name].strip().casefold() if name is not None else ""
        if name is None or not word:
            return None
        if word in _YES | _NO:
            return word in _YES
        raise wrong(self._settings, line, "no-flag", name)


#: The entry point `import`.
IMPORT = ReadingType(
    "import",
    ImportSettings,
    ImportRepository,
    capabilities=ImportRepository.capabilities,
    origin=Origin.IMPORTED,
)
