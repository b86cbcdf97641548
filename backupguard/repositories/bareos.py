"""Bacula (9 to 15) and Bareos (17 to 24), through the catalogue of their director; only reads.

The catalogue says which backups stand, what became of each run, and which volumes hold them. It is
the director's word: nothing is read back here, and a volume that burnt still stands in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from backupguard.contracts import (
    Capability,
    Changes,
    Context,
    JobRun,
    JobSelector,
    Repository,
    RepositoryState,
)
from backupguard.errors import MissingMeans
from backupguard.model import Message, RecoveryPoint
from backupguard.repositories import bareos_sql
from backupguard.repositories.bareos_access import Catalogue, open_catalogue
from backupguard.repositories.bareos_points import (
    Choice,
    Reader,
    local_text,
    runs_of,
    state_of,
)
from backupguard.repositories.bareos_settings import BareosSettings
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.local_times import zone_named
from backupguard.repositories.opening import ReadingType

#: Schema numbers: Bacula counts from 1 and, since 11, from 1022; Bareos from 2001.
_BACULA = ((12, 99), (1000, 1999))
_BAREOS = (2001, 2999)
#: More jobs under way than this: a mark is not worth its length, and everything is listed.
_MOST_PENDING = 200


class BareosRepository(ListingOnly):
    """One opened catalogue."""

    capabilities = frozenset({Capability.RUNS})

    def __init__(
        self, identifier: str, settings: BareosSettings, context: Context, catalogue: Catalogue
    ) -> None:
        super().__init__(identifier, context)
        self._zone = zone_named(settings.timezone) if settings.timezone else None
        self._catalogue = catalogue
        self._jobs: tuple[JobSelector, ...] = ()

    def inspect(self) -> RepositoryState:
        """Return tool and versions; `warnings` names rights that a reader should not have.

        Raises Unreachable, AccessRefused (permission) naming the table, MissingMeans
        (version_unsupported) for a schema that is neither's.
        """
        standing = self._catalogue.standing()
        tool, schema = self._tool()
        return RepositoryState(
            tool=tool,
            tool_version=f"schema {schema}, {standing.server}",
            format_version=str(schema),
            device=self._catalogue.device(),
            warnings=("administrator_credential",) if standing.may_write else (),
        )

    def _tool(self) -> tuple[str, int]:
        found: int | None = None
        for row in self._catalogue.rows(bareos_sql.VERSION):
            found = row["version"]
            if found is None:
                continue
            if _BAREOS[0] <= found <= _BAREOS[1]:
                return "bareos", found
            if any(first <= found <= last for first, last in _BACULA):
                return "bacula", found
        raise MissingMeans(
            "version_unsupported",
            Message(
                id="repositories.bareos-schema",
                values={"found": str(found)},
            ),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every backup of these jobs that the catalogue still counts on, failed runs included.

        One statement, sorted by the server and put into a file of the run's directory.
        """
        self._asked_for(jobs)
        if jobs:
            self._tool()
            yield from self._read(jobs)

    def _asked_for(self, jobs: Sequence[JobSelector]) -> None:
        """Remember whose runs are meant: all jobs ever asked for, since some are asked for twice."""
        self._jobs = tuple(dict.fromkeys((*self._jobs, *jobs)))

    def _read(
        self, jobs: Sequence[JobSelector], chains_of: int | None = None
    ) -> Iterator[RecoveryPoint]:
        statement = bareos_sql.history(
            self._catalogue.dialect, bareos_sql.asked(jobs), chains_of=chains_of
        )
        rows = self._catalogue.rows(statement)
        return Reader(self._identifier, jobs, self._zone).points(rows)

    def changes(self, jobs: Sequence[JobSelector], mark: str | None) -> Changes:
        """Return the backups made since `mark`, and those then under way that have ended.

        The mark is the newest job's number and the numbers of those under way. How many stand is
        counted by the server, without the recycled ones.
        """
        self._asked_for(jobs)
        self._tool()
        before = _parsed(mark)
        condition = bareos_sql.asked(jobs) if jobs else "1 = 0"
        newest, pending = before or (0, ())
        asked = (
            bareos_sql.newer(condition, newest, pending)
            if before is not None
            else bareos_sql.under_way(condition)
        )
        found = self._catalogue.rows(asked)
        new, under_way, names, copied = set(), [], set(), False
        for row in found:
            newest = max(newest, int(row["id"] or 0))
            if row["type"] not in {"B", "C", "A"}:
                continue
            new.add(str(int(row["id"])))
            names.add(row["name"])
            copied = copied or row["type"] == "C"
            if state_of({"errors": 0, **row}) == "running":
                under_way.append(int(row["id"]))
        standing = self._standing(jobs, condition)
        if before is None or len(under_way) > _MOST_PENDING:
            points: Iterable[RecoveryPoint] = self._read(jobs) if jobs else ()
        else:
            touched = [one for one in jobs if one.name is None or one.name in names]
            oldest = min(map(int, new), default=0)
            read = self._read(touched, None if copied else oldest) if new else iter(())
            points = (point for point in read if point.native_id in new)
        return Changes(
            points=points,
            standing=standing,
            mark=json.dumps({"newest": newest, "pending": under_way[: _MOST_PENDING + 1]}),
            complete=before is None or len(under_way) > _MOST_PENDING,
        )

    def _standing(self, jobs: Sequence[JobSelector], condition: str) -> Mapping[str, int]:
        counted: Counter[str] = Counter({selector.job: 0 for selector in jobs})
        choice = Choice(jobs)
        for row in self._catalogue.rows(bareos_sql.counts(condition)):
            for selector in choice.of(row):
                counted[selector.job] += int(row["standing"])
        return dict(counted)

    def runs(self, since: datetime) -> Iterator[JobRun]:
        """Yield what became of the runs since then, of the jobs that were asked for before."""
        if not self._jobs:
            return
        rows = self._catalogue.rows(
            bareos_sql.since(local_text(since, self._zone), bareos_sql.asked(self._jobs))
        )
        yield from runs_of(rows, self._jobs, since, self._zone)


def _parsed(mark: str | None) -> tuple[int, tuple[int, ...]] | None:
    """Return what a mark says, None when it says nothing that can be used."""
    try:
        found = json.loads(mark or "")
        return int(found["newest"]), tuple(int(job) for job in found["pending"])
    except (ValueError, KeyError, TypeError):
        return None


def _open(identifier: str, settings: BareosSettings, context: Context) -> Repository:
    return BareosRepository(
        identifier, settings, context, open_catalogue(identifier, settings, context)
    )


#: The entry point `bareos`.
BAREOS = ReadingType("bareos", BareosSettings, _open, capabilities=BareosRepository.capabilities)
