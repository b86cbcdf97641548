"""Which recovery point, of which repository, a restore test takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backupguard.errors import BackupDefect, MissingMeans, UsageError
from backupguard.model import (
    AgeClass,
    Fact,
    Origin,
    PointState,
    RecoveryPoint,
    age_tested,
    to_us,
)

#: Clocks differ by as much without anybody noticing; a point from later than that is set aside.
FUTURE_TOLERANCE = timedelta(minutes=10)
#: Shortest beginning of a native id that may stand for the whole.
_SHORTEST_ID = 4
_USABLE = frozenset({PointState.COMPLETE, PointState.WARNING})


def usable(points: Iterable[RecoveryPoint], now: datetime) -> list[RecoveryPoint]:
    """Return the points that can be restored from, oldest first; never one dated in the future."""
    standing = [p for p in points if p.state in _USABLE and p.at <= now + FUTURE_TOLERANCE]
    return sorted(standing, key=lambda point: (point.at, point.native_id))


def leading_to(points: Iterable[RecoveryPoint], at: datetime | None) -> list[RecoveryPoint]:
    """Return the points from which a time can be recovered to; all of them without a time."""
    return [point for point in points if at is None or point.at <= at]


@dataclass(frozen=True, slots=True)
class Tested:
    """When the copies of an application were last restored from, however that ended; microseconds.

    By repository, by repository and age class, by repository and native id of the point. `newest`
    says of each repository whether its last test took its newest point.
    """

    repositories: Mapping[str, int] = field(default_factory=dict)
    ages: Mapping[tuple[str, str], int] = field(default_factory=dict)
    points: Mapping[tuple[str, str], int] = field(default_factory=dict)
    newest: Mapping[str, bool] = field(default_factory=dict)


def tested(results: Iterable[Fact]) -> Tested:
    """Return what recorded restore tests were of, oldest first; a test that reached no point is none.

    What could not be verified counts as well: a copy that cannot be tested now must not keep all the
    others waiting. Whether it is proved is for the controls to say.
    """
    repositories: dict[str, int] = {}
    ages: dict[tuple[str, str], int] = {}
    points: dict[tuple[str, str], int] = {}
    newest: dict[str, bool] = {}
    for fact in results:
        data = fact.observation.data
        if fact.observation.origin is not Origin.OBSERVED:  # done elsewhere: no turn of ours
            continue
        if not isinstance(data, Mapping) or not data.get("repository") or not data.get("point"):
            continue
        name, at = str(data["repository"]), to_us(fact.observation.observed_at)
        age = age_tested(fact)
        repositories[name] = at
        points[name, str(data["point"])] = at
        newest[name] = age is AgeClass.NEWEST
        if age is not None:
            ages[name, age.value] = at
    return Tested(repositories, ages, points, newest)


def choose(
    points: Sequence[RecoveryPoint],
    wanted: str,
    now: datetime,
    before: Tested | None = None,
    repository: str = "",
) -> RecoveryPoint:
    """Return the point that `wanted` means: "latest", "oldest", "rotate", or (the start of) its id.

    "rotate" takes the latest at every other test of that repository, and at the tests between the age
    class of older points that was restored from longest ago, in it the point that was.
    Raises BackupDefect (no_point); MissingMeans (clock_behind) when every point is dated after `now`,
    for then the clock is as likely to be wrong as they are; and, for an id that does not exist,
    UsageError.
    """
    standing = usable(points, now)
    if wanted not in {"latest", "oldest", "rotate"}:
        # pgBackRest names an incremental backup after its full one: a whole id is never a beginning
        named = [point for point in points if point.native_id == wanted] or [
            point
            for point in points
            if len(wanted) >= _SHORTEST_ID and point.native_id.startswith(wanted)
        ]
        if len({point.native_id for point in named}) != 1:
            raise UsageError("unknown_subject", subject=wanted[:80])
        return named[0]
    if not standing:
        if any(point.state in _USABLE for point in points):
            raise MissingMeans("clock_behind")
        raise BackupDefect("no_point")
    if wanted == "oldest":
        return standing[0]
    if wanted == "rotate" and len(standing) > 1 and before and before.newest.get(repository):
        return _longest_ago(standing, now, before, repository)
    return standing[-1]


def _longest_ago(
    standing: Sequence[RecoveryPoint], now: datetime, before: Tested, repository: str
) -> RecoveryPoint:
    """Return the older point whose class, and which itself, was restored from longest ago."""
    by_class: dict[AgeClass, list[RecoveryPoint]] = {}
    for point in standing[:-1]:
        by_class.setdefault(AgeClass.of(now - point.at), []).append(point)

    def anywhere(age: AgeClass) -> int:
        return max((at for (_, one), at in before.ages.items() if one == age.value), default=0)

    order_of = list(AgeClass)
    age = min(
        by_class,
        key=lambda one: (
            before.ages.get((repository, one.value), 0),
            anywhere(one),  # of two that this repository never gave, the one no other gave either
            order_of.index(one),
        ),
    )
    return min(
        by_class[age],
        key=lambda point: (before.points.get((repository, point.native_id), 0), point.at),
    )


def age_of(points: Sequence[RecoveryPoint], chosen: RecoveryPoint, now: datetime) -> AgeClass:
    """Return the age class of a point among those that stand in its repository."""
    standing = usable(points, now)
    if standing and standing[-1].native_id == chosen.native_id:
        return AgeClass.NEWEST
    return AgeClass.of(now - chosen.at)


def order(
    repositories: Sequence[str],
    wanted: str,
    before: Tested | None = None,
    first: Collection[str] = (),
) -> list[str]:
    """Return the repositories in the order in which they are tried.

    When the test rotates: those of `first` (their medium will leave again), then the one that was
    restored from longest ago, one that never was before all others.
    """
    names = sorted(repositories)
    if wanted != "rotate" or before is None:
        return names
    return sorted(names, key=lambda name: (name not in first, before.repositories.get(name, 0)))
