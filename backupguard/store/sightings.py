"""When each repository was last asked and what came of it: remembered, no evidence.

A refresh that finds nothing new appends no fact. That it took place is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from backupguard.model import Fact, Observation, Sighting, from_us, repository_subject, to_us
from backupguard.store.core import Core, check, fact_from_row, lock_head
from backupguard.store.engine import upsert
from backupguard.store.schema import facts, latest, sightings

_KIND = "repository.inspected"


def standing(core: Core) -> Mapping[str, Sighting]:
    """Return the sightings of all repositories, by id."""
    with core.read() as connection:
        rows = connection.execute(select(sightings)).mappings().all()
    return {row["repository"]: _sighting(row) for row in rows}


def of(core: Core, repository: str) -> Sighting | None:
    """Return the sighting of one repository; None when it was never asked."""
    statement = select(sightings).where(sightings.c.repository == repository)
    with core.read() as connection:
        row = connection.execute(statement).mappings().first()
    return _sighting(row) if row is not None else None


def remember(connection: Connection, repository: str, values: Mapping[str, Any]) -> None:
    """Set some columns of a repository's sighting."""
    row = {"repository": repository, **values}
    upsert(connection, sightings, [row], keys=("repository",), update=list(values))


def record_inspection(
    core: Core, inspected: Observation, *, run: str | None, author: str | None
) -> tuple[Fact, ...]:
    """Record what a repository is, where that differs from the last time or a day began since."""
    check([inspected])
    repository = inspected.subject.removeprefix(repository_subject(""))
    at = to_us(inspected.observed_at)
    values = {"asked_at": at}
    if inspected.data["reachable"] and inspected.data["code"] is None:
        values["inspected_at"] = at
    with core.write() as connection:
        lock_head(connection)
        remember(connection, repository, values)
        before = _newest(connection, inspected.subject)
        if before is not None and _says_the_same(before.observation, inspected):
            return ()
        return core.append_in(connection, [inspected], run=run, author=author)


def _newest(connection: Connection, subject: str) -> Fact | None:
    row = (
        connection.execute(
            select(facts)
            .join(latest, latest.c.seq == facts.c.seq)
            .where(latest.c.subject == subject, latest.c.kind == _KIND)
        )
        .mappings()
        .first()
    )
    return fact_from_row(row) if row is not None else None


def _says_the_same(before: Observation, now: Observation) -> bool:
    """Tell whether nothing differs; one of another day, also of one to come, is never the same."""
    same_day = before.observed_at.date() == now.observed_at.date()
    return same_day and before.data == now.data


def _sighting(row: RowMapping) -> Sighting:
    def moment(name: str) -> datetime | None:
        return from_us(row[name]) if row[name] is not None else None

    return Sighting(
        repository=row["repository"],
        asked_at=moment("asked_at"),
        listed_at=moment("listed_at"),
        listed_fully_at=moment("listed_fully_at"),
        inspected_at=moment("inspected_at"),
        mark=row["mark"],
    )
