"""The last clean point: what restore tests say together, point by point, and what to test next.

Everything is derived from recorded tests, so a search that was interrupted goes on where it was. Points
are taken in the order of their own times. A point is clean when a test passed that measured all that
must hold from one point to the next, and it holds against the last clean one before; bad when a test
found its content wrong; anything else says nothing: it is neither, and its neighbour is taken instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import Store
from backupguard.model import (
    CleanPoint,
    Fact,
    Measured,
    Origin,
    PointState,
    Verdict,
    application_subject,
    from_us,
    to_us,
)
from backupguard.settings import Settings

#: A point that could not be verified so often is not tried again by itself.
TRIES = 3

_CONSISTENCY = "engine-consistency"
_CANARY = "canary"
_INVARIANT = frozenset({"invariant_shrank", "invariant_reopened"})
#: Failures before any check that are of the content and not of this one copy's bytes.
_CONTENT = frozenset(
    {"not_a_dump", "empty", "schema_only", "wrong_content", "files_encrypted", "random_text"}
)
#: What passes with one of these may be encrypted: nobody accepted what it was compared with.
_DOUBTS = frozenset(
    f"warning_{code}"
    for code in ("random_text", "files_encrypted", "files_renamed", "ransom_notes")
)
_OPENED = 2
_USABLE = frozenset({PointState.COMPLETE, PointState.WARNING})

#: Repository and native id.
PointKey = tuple[str, str]


class Health(StrEnum):
    """What is known of a point's content."""

    CLEAN = "clean"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A point that stands in a repository."""

    at: int  # microseconds
    repository: str
    point: str
    job: str | None = None

    @property
    def key(self) -> PointKey:
        """What it is called."""
        return (self.repository, self.point)

    @property
    def order(self) -> tuple[int, str, str]:
        """Its place among all points."""
        return (self.at, self.repository, self.point)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedPoint(Candidate):
    """A point and what its newest conclusive test says of it. `check` and `code` are what was wrong."""

    __test__ = False  # nothing for pytest

    health: Health
    engine: str = ""
    seq: int = 0
    check: str = ""
    code: str = ""
    measured: Mapping[str, Measured] = field(default_factory=dict)
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """An invariant as it stands in the settings: of which question, held from which time on."""

    definition: str
    since: int = 0


@dataclass(slots=True)
class Tries:
    """How often a point could not be verified since it last was, and when the last time."""

    count: int = 0
    last_at: int = 0


class TestedPoints:
    """The points of one application that were tested, as the facts tell; facts come in order."""

    __test__ = False

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self.points: dict[PointKey, TestedPoint] = {}
        self.tries: dict[PointKey, Tries] = {}
        for fact in facts:
            self.learn(fact)

    def learn(self, fact: Fact) -> None:
        """Take one `restore-test.result` into account."""
        data = fact.observation.data
        if fact.observation.origin is not Origin.OBSERVED or not isinstance(data, Mapping):
            return
        if not data.get("point") or data.get("target_at") is not None:
            return
        tested = _tested(fact, data)
        if tested.health is Health.UNKNOWN:
            tries = self.tries.setdefault(tested.key, Tries())
            tries.count, tries.last_at = tries.count + 1, to_us(fact.observation.observed_at)
        else:
            self.points[tested.key] = tested
            self.tries.pop(tested.key, None)

    @property
    def engine(self) -> str:
        """The engine of the newest conclusive test."""
        newest = max(self.points.values(), key=lambda one: one.seq, default=None)
        return newest.engine if newest is not None else ""

    def set_aside(self, since: int) -> set[PointKey]:
        """Return the points that could not be verified since then, or too often."""
        return {
            key
            for key, tries in self.tries.items()
            if tries.last_at >= since or tries.count >= TRIES
        }


def _tested(fact: Fact, data: Mapping[str, Any]) -> TestedPoint:
    health, check, code = _by_itself(data)
    return TestedPoint(
        at=int(data["point_at"]),
        repository=str(data.get("repository") or ""),
        point=str(data["point"]),
        job=data.get("job"),
        health=health,
        engine=str(data.get("engine") or ""),
        seq=fact.seq,
        check=check,
        code=code,
        measured={one["name"]: Measured(**one) for one in data.get("measured") or ()},
        canary=data.get("canary_at") is not None,
    )


def _by_itself(data: Mapping[str, Any]) -> tuple[Health, str, str]:
    """Return what a test says without the others: what broke between points is judged anew."""
    checks = data.get("checks") or ()
    wrong = [check for check in checks if check["verdict"] == Verdict.FAILED]
    if data["verdict"] == Verdict.PASSED:
        doubted = any(check["code"] in _DOUBTS for check in checks)
        proved = int(data.get("level") or 0) >= _OPENED and not doubted
        return (Health.CLEAN if proved else Health.UNKNOWN), "", ""
    if data["verdict"] != Verdict.FAILED:
        return Health.UNKNOWN, "", ""
    own = [check for check in wrong if check["code"] not in _INVARIANT]
    if any(check["name"] == _CONSISTENCY for check in own):
        return Health.UNKNOWN, "", ""  # this copy's bytes
    if own:
        return Health.BAD, str(own[0]["name"]), str(own[0]["code"])
    if wrong:
        return Health.CLEAN, "", ""  # as far as it goes by itself
    if data.get("code") in _CONTENT:
        return Health.BAD, "", str(data["code"])
    return Health.UNKNOWN, "", ""


def standing(
    tested: TestedPoints, promises: Mapping[str, Promise], accepted_at: int | None = None
) -> list[TestedPoint]:
    """Return the tested points by their own times, each with what all tests together say of it.

    `accepted_at`: from a point of that time on, what a person accepted holds and not what was before.
    """
    engine, found = tested.engine, []
    known: dict[str, Measured] = {}
    accepted = accepted_at is None
    for one in sorted(tested.points.values(), key=lambda point: point.order):
        if one.engine != engine:
            continue
        if not accepted and accepted_at is not None and one.at >= accepted_at:
            known, accepted = {}, True
        judged = _against(one, known, promises)
        if judged.health is Health.CLEAN:
            known |= judged.measured
        found.append(judged)
    return found


def _against(
    one: TestedPoint, known: dict[str, Measured], promises: Mapping[str, Promise]
) -> TestedPoint:
    if one.health is not Health.CLEAN:
        return one
    health = Health.CLEAN
    for name, promise in promises.items():
        if one.at < promise.since:
            continue
        now = one.measured.get(name)
        if now is None or now.definition != promise.definition:
            health = Health.UNKNOWN  # it was tested before anybody asked
            continue
        before = known.get(name)
        if before is None or before.definition != promise.definition:
            continue
        broken = now.breaks(before)
        if broken:
            code = "invariant_shrank" if now.digest is None else "invariant_reopened"
            return _changed(one, Health.BAD, name, code)
        if broken is None:  # measured with another key: not proved, and the next is held against it
            known[name] = now
            health = Health.UNKNOWN
    return one if health is Health.CLEAN else _changed(one, health, "", "")


def _changed(one: TestedPoint, health: Health, check: str, code: str) -> TestedPoint:
    return TestedPoint(
        at=one.at,
        repository=one.repository,
        point=one.point,
        job=one.job,
        health=health,
        engine=one.engine,
        seq=one.seq,
        check=check,
        code=code,
        measured=one.measured,
        canary=one.canary,
    )


# ------------------------------------------------------------------------------------------- search


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Between which points the damage came in.

    `bad` is the oldest bad point of those that no clean one follows; `clean` the newest clean one
    before it that still stands, None where none is known. `between`: how many points stand between
    them; `unverified`: of those, how many could not be verified. `next` is what to test, None at the
    end.
    """

    bad: TestedPoint
    clean: TestedPoint | None
    between: int = 0
    unverified: int = 0
    next: Candidate | None = None


def is_bad(judged: Sequence[TestedPoint]) -> bool:
    """Tell whether the newest point that anything is known of is bad."""
    known = [one for one in judged if one.health is not Health.UNKNOWN]
    return bool(known) and known[-1].health is Health.BAD


def search(
    judged: Sequence[TestedPoint],
    listed: Sequence[Candidate],
    aside: Collection[PointKey] = (),
) -> Search | None:
    """Return where the search for the last clean point is; None when the newest known point is not bad.

    `listed` are the points that stand, `aside` those not to be tried again now. Each test halves what
    lies between, so that it ends after the logarithm of it; where no point is known to be clean, the
    oldest one comes first.
    """
    known = [one for one in judged if one.health is not Health.UNKNOWN]
    if not known or known[-1].health is not Health.BAD:
        return None
    first = len(known) - 1
    while first > 0 and known[first - 1].health is Health.BAD:
        first -= 1
    bad = known[first]
    here = {one.key for one in listed}
    clean = next(
        (one for one in reversed(known[:first]) if one.health is Health.CLEAN and one.key in here),
        None,
    )
    settled = {one.key for one in known}
    between = sorted(
        (
            one
            for one in listed
            if one.key not in settled
            and one.order < bad.order
            and (clean is None or clean.order < one.order)
        ),
        key=lambda one: one.order,
    )
    untried = [index for index, one in enumerate(between) if one.key not in aside]
    chosen = None
    if untried:
        middle = (len(between) - 1) / 2 if clean is not None else 0
        chosen = between[min(untried, key=lambda index: (abs(index - middle), index))]
    return Search(
        bad=bad,
        clean=clean,
        between=len(between),
        unverified=len(between) - len(untried),
        next=chosen,
    )


# ------------------------------------------------------------------------------- of an application


def promises(settings: Settings, application: str) -> dict[str, Promise]:
    """Return the invariants that the settings name for an application."""
    tested = settings.applications[application].restore_test
    zone = ZoneInfo(settings.site.timezone)
    found = {}
    for one in getattr(tested, "invariants", ()):
        since = 0
        if one.since is not None:
            day = datetime(one.since.year, one.since.month, one.since.day, tzinfo=zone)
            since = to_us(day)
        found[one.name] = Promise(one.definition, since)
    return found


def accepted_at(store: Store, application: str) -> int | None:
    """Return the time of the point whose shape a person accepted; None where nobody did."""
    subject = application_subject(application)
    facts = store.latest([subject], ["baseline.accepted", "baseline.reset"]).get(subject, {})
    accepted, reset = facts.get("baseline.accepted"), facts.get("baseline.reset")
    if accepted is None or (reset is not None and reset.seq > accepted.seq):
        return None
    tested = store.fact(accepted.observation.data["from_seq"])
    data = tested.observation.data if tested is not None else None
    found = data.get("point_at") if isinstance(data, Mapping) else None
    return int(found) if found is not None else None


def of_store(store: Store, application: str) -> TestedPoints:
    """Return an application's tested points, read from all facts."""
    subject = application_subject(application)
    return TestedPoints(store.facts(kinds=["restore-test.result"], subject=subject))


def clean(
    store: Store, settings: Settings, application: str, tested: TestedPoints
) -> tuple[CleanPoint, ...]:
    """Return the points that are known to be clean, for the next test to be held against."""
    judged = standing(tested, promises(settings, application), accepted_at(store, application))
    return tuple(
        CleanPoint(
            at=from_us(one.at),
            repository=one.repository,
            point=one.point,
            engine=one.engine,
            measured=one.measured,
            canary=one.canary,
        )
        for one in judged
        if one.health is Health.CLEAN
    )


def ends(
    store: Store, settings: Settings, application: str, tested: TestedPoints
) -> tuple[int | None, int | None]:
    """Return the times of the newest clean point, and of the oldest bad one that no clean one follows.

    Points that are gone count too; reads no list of points.
    """
    promised = promises(settings, application)
    judged = standing(tested, promised, accepted_at(store, application) if promised else None)
    clean_at = max((one.at for one in judged if one.health is Health.CLEAN), default=None)
    found = search(judged, ())
    return clean_at, found.bad.at if found is not None else None


def of_application(
    store: Store,
    settings: Settings,
    application: str,
    tested: TestedPoints,
    now: datetime,
    *,
    aside: Collection[PointKey] = (),
) -> Search | None:
    """Return where an application's search is; reads lists of points only where there is one."""
    promised = promises(settings, application)
    if not promised and not any(one.health is Health.BAD for one in tested.points.values()):
        return None
    judged = standing(tested, promised, accepted_at(store, application))
    if not is_bad(judged):
        return None
    return search(judged, _listed(store, settings, application, judged, now), aside)


def _listed(
    store: Store,
    settings: Settings,
    application: str,
    judged: Sequence[TestedPoint],
    now: datetime,
) -> list[Candidate]:
    """Return the points that can be restored, of the jobs that the tested ones are of."""
    fetchable = set(settings.fetchable(application))
    jobs = {one.job for one in judged}
    found = []
    for name, backup in settings.applications[application].backups.items():
        job = f"{application}.{name}"
        if backup.repository not in fetchable or (None not in jobs and job not in jobs):
            continue
        found += [
            Candidate(
                at=to_us(point.at), repository=point.repository, point=point.native_id, job=job
            )
            for point in store.points(job, backup.repository)
            if point.state in _USABLE and point.at <= now
        ]
    return found
