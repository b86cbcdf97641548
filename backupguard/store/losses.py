"""Points that stood and do not any more: what a listing no longer showed, and how much that was."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, and_, func, or_, select

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
    """Return the usable points that vanished by facts newer than `after`, one per job and listing.

    A long listing is several facts, which say the same time.
    """
    statement = (
        select(
            _point.repository,
            _point.job,
            func.min(_point.vanished_seq).label("first"),
            func.max(_point.vanished_seq).label("last"),
            facts.c.observed_at,
        )
        .join(facts, facts.c.seq == _point.vanished_seq)
        .where(_point.vanished_seq.is_not(None), _point.vanished_seq > after, _USABLE)
        .group_by(_point.repository, _point.job, facts.c.observed_at)
    )
    with core.read() as connection:
        rows = connection.execute(statement).mappings().all()
        found = [_lost(connection, row) for row in rows]
    return tuple(sorted(found, key=lambda one: (one.seq, one.job)))


def _lost(connection: Connection, row: RowMapping) -> PointsLost:
    repository, job, first, last = (row[name] for name in ("repository", "job", "first", "last"))
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
    return PointsLost(
        job=job,
        repository=repository,
        seq=last,
        seen_at=from_us(row["observed_at"]),
        lost=lost,
        before=before,
        after=left,
        at_first=_at_first(connection, repository, job),
        oldest=from_us(oldest),
        newest=from_us(newest),
        standing_oldest=from_us(left_oldest) if left_oldest is not None else None,
    )


def _at_first(connection: Connection, repository: str, job: str) -> int:
    """Return how many points the first listing showed."""
    own = and_(_point.repository == repository, _point.job == job, _USABLE)
    first = select(func.min(_point.appeared_seq)).where(own).scalar_subquery()
    at = select(facts.c.observed_at).where(facts.c.seq == first).scalar_subquery()
    return connection.execute(
        select(func.count())
        .join_from(recovery_points, facts, facts.c.seq == _point.appeared_seq)
        .where(own, facts.c.observed_at == at)
    ).scalar_one()
