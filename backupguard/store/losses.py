"""Points that stood and do not any more: what a listing no longer showed, and how much that was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from backupguard.model import PointsLost, PointState, RecoveryPoint, from_us
from backupguard.store import derived
from backupguard.store.core import Core
from backupguard.store.schema import facts, recovery_points

_point = recovery_points.c
_USABLE = _point.state.in_((PointState.COMPLETE.value, PointState.WARNING.value))


def gone_points(core: Core, job: str, repository: str, limit: int) -> tuple[RecoveryPoint, ...]:
    """Return the newest points that stood once and do not any more, newest first."""
    statement = (
        select(_point.repository, _point.data)
        .where(_point.job == job, _point.repository == repository, _point.vanished_seq.is_not(None))
        .order_by(_point.at.desc(), _point.native_id)
        .limit(limit)
    )
    with core.read() as connection:
        rows = connection.execute(statement).all()
    return tuple(derived.stored_point(place, data) for place, data in rows)


def since(core: Core, after: int) -> tuple[PointsLost, ...]:
    """Return the usable points that vanished by facts newer than `after`, one per job and listing."""
    statement = (
        select(_point.repository, _point.job, _point.vanished_seq)
        .where(_point.vanished_seq.is_not(None), _point.vanished_seq > after, _USABLE)
        .distinct()
        .order_by(_point.repository, _point.job, _point.vanished_seq)
    )
    with core.read() as connection:
        rows = connection.execute(statement).all()
        found = [
            _lost(connection, repository, job, first, last)
            for repository, job, first, last in _listings([tuple(row) for row in rows])
        ]
    return tuple(sorted(found, key=lambda one: (one.seq, one.job)))


def _listings(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, str, int, int]]:
    """Yield (repository, job, first, last fact): a long listing is several facts in a row."""
    current: tuple[str, str, int, int] | None = None
    for repository, job, seq in rows:
        if current is not None and (repository, job, seq - 1) == (*current[:2], current[3]):
            current = (*current[:3], seq)
            continue
        if current is not None:
            yield current
        current = (repository, job, seq, seq)
    if current is not None:
        yield current


def _lost(connection: Connection, repository: str, job: str, first: int, last: int) -> PointsLost:
    own = and_(_point.repository == repository, _point.job == job, _USABLE)
    count = func.count()

    def standing(appeared: int, vanished: int) -> tuple[int, int | None]:
        row = connection.execute(
            select(count, func.min(_point.at)).where(
                own,
                _point.appeared_seq <= appeared,
                or_(_point.vanished_seq.is_(None), _point.vanished_seq > vanished),
            )
        ).one()
        return row[0], row[1]

    lost, oldest, newest = connection.execute(
        select(count, func.min(_point.at), func.max(_point.at)).where(
            own, _point.vanished_seq.between(first, last)
        )
    ).one()
    before, _ = standing(first - 1, first - 1)
    left, left_oldest = standing(last, last)
    seen_at = connection.execute(select(facts.c.observed_at).where(facts.c.seq == last)).scalar()
    return PointsLost(
        job=job,
        repository=repository,
        seq=last,
        seen_at=from_us(seen_at or 0),
        lost=lost,
        before=before,
        after=left,
        at_first=_at_first(connection, repository, job),
        oldest=from_us(oldest),
        newest=from_us(newest),
        standing_oldest=from_us(left_oldest) if left_oldest is not None else None,
    )


def _at_first(connection: Connection, repository: str, job: str) -> int:
    """Return how many points the first listing showed: those of the first facts in a row."""
    rows = connection.execute(
        select(_point.appeared_seq, func.count())
        .where(_point.repository == repository, _point.job == job, _USABLE)
        .group_by(_point.appeared_seq)
        .order_by(_point.appeared_seq)
    ).all()
    total, previous = 0, None
    for seq, number in rows:
        if previous is not None and seq != previous + 1:
            break
        total, previous = total + number, seq
    return total
