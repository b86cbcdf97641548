"""A hundred days of fourteen jobs: nobody is called while all is well, and in time once it is not.

The site is a simulation (`tests.sabotage.quarter`); store, views and controls are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from backupguard.model import Finding, PointKind, PointState, RecoveryPoint, Severity, Status
from tests.sabotage.quarter import DAY, Breaker, Quarter, moments

#: The clock changes on day 66, the repository `nas` cannot be reached on day 40.
START = datetime(2026, 8, 20, tzinfo=UTC)
BREAKS, DAYS = 60, 100
CONTROLS = frozenset({"JOB-01", "PDM-01", "RET-01", "ANO-01", "321-01"})

Found = Mapping[tuple[str, str], Finding]


def alarms(found: Found) -> set[tuple[str, str, str]]:
    """Return what somebody has to act upon on the same day."""
    return {
        (*key, one.reason.id.removeprefix("reason."))
        for key, one in found.items()
        if key[0] in CONTROLS
        and one.status not in {Status.COMPLIANT, Status.NOT_APPLICABLE}
        and one.severity in {Severity.HIGH, Severity.CRITICAL}
    }


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@dataclass(frozen=True, kw_only=True)
class Half:
    """The site after its first sixty days, and what somebody was called for until then."""

    site: Quarter
    cried: set[tuple[str, str, str]]
    unseen: set[tuple[str, str]]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Half:
    night = (START + 40 * DAY, START + 41 * DAY)
    site = Quarter(root=tmp_path_factory.mktemp("quarter"), now=START, down={"nas": night})
    cried: set[tuple[str, str, str]] = set()
    unseen: set[tuple[str, str]] = set()
    for at in moments(START, BREAKS):
        found = site.judge(at)
        cried |= alarms(found)
        if night[0] <= at < night[1]:
            unseen = {key for key, one in found.items() if one.reason.id.endswith("unseen")}
    site.close()
    return Half(site=site, cried=cried, unseen=unseen)


def test_nobody_is_called_for_a_quarter_in_which_all_is_well(half: Half, tmp_path: Path) -> None:
    assert half.cried == set()
    site = half.site.copy(tmp_path)
    for at in moments(START, DAYS)[BREAKS:]:
        found = site.judge(at)
        assert alarms(found) == set(), at
    said = {key: one.status for key, one in found.items() if key[0] in CONTROLS}
    site.close()
    for control in ("JOB-01", "ANO-01"):
        assert {s for (c, _), s in said.items() if c == control} == {Status.COMPLIANT}
    assert {s for (c, _), s in said.items() if c == "RET-01"} == {Status.COMPLIANT}
    # A job of three hours exposes more than the day that was promised: said by day, to nobody at night.
    assert said["PDM-01", "application/dpi"] is Status.WARNING
    assert said["PDM-01", "application/labo"] is Status.COMPLIANT


def test_a_repository_that_cannot_be_reached_for_a_night_is_lost_from_sight(half: Half) -> None:
    assert {("JOB-01", "job/dpi.nuit"), ("JOB-01", "job/labo.heure")} <= half.unseen
    assert not any("pacs" in subject for _, subject in half.unseen)


def test_nobody_is_called_over_the_night_that_lacks_an_hour(tmp_path: Path) -> None:
    start = datetime(2027, 3, 18, tzinfo=UTC)
    site = Quarter(root=tmp_path, now=start)
    said = set()
    for at in moments(start, 18):
        found = site.judge(at)
        assert alarms(found) == set(), at
        said |= {one.reason.id for (_, subject), one in found.items() if "urgences" in subject}
    site.close()
    assert {"reason.JOB-01.clock_change", "reason.PDM-01.exposed"} <= said
    assert "reason.PDM-01.breached" not in said


def _shrunk(percent: int, **more: object) -> Breaker:
    def breaker(point: RecoveryPoint) -> RecoveryPoint:
        return replace(  # type: ignore[arg-type]
            point,
            bytes=(point.bytes or 0) * percent // 100,
            files=(point.files or 0) * percent // 100,
            bytes_added=(point.bytes_added or 0) * percent // 100,
            **more,
        )

    return breaker


def _small_fulls(point: RecoveryPoint) -> RecoveryPoint:
    return _shrunk(10)(point) or point if point.kind is PointKind.FULL else point


def _encrypted(point: RecoveryPoint) -> RecoveryPoint:
    return replace(point, bytes_added=(point.bytes or 0) * 97 // 100)


def _slow(point: RecoveryPoint) -> RecoveryPoint:
    assert point.ended_at is not None
    return replace(point, ended_at=point.at + 4 * (point.ended_at - point.at))


def _ahead(point: RecoveryPoint) -> RecoveryPoint:
    return replace(point, at=point.at + 1500 * DAY, covers_until=point.at + 1500 * DAY)


def _state(state: PointState) -> Breaker:
    return lambda point: replace(point, state=state)


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One thing that breaks: of which job, how, and which findings there are so many days later."""

    job: str
    breaker: Breaker = lambda point: point
    lose: bool = False
    found: Mapping[str, tuple[Status, Severity]]
    within: int = 2
    quiet: bool = False  # a warning, and no alarm


HIGH = (Status.NON_COMPLIANT, Severity.HIGH)
PAGE = (Status.NON_COMPLIANT, Severity.CRITICAL)
LATE = (Status.NON_COMPLIANT, Severity.WARNING)
WARNING = (Status.WARNING, Severity.WARNING)
TWINS = {
    "a job stops": Broken(
        job="dpi.nuit", breaker=lambda _: None, found={"JOB-01": HIGH, "PDM-01": PAGE}
    ),
    "an hourly job stops": Broken(
        job="labo.heure", breaker=lambda _: None, found={"JOB-01": HIGH}, within=1
    ),
    "a job of every four hours stops": Broken(
        job="pacs.quart", breaker=lambda _: None, found={"JOB-01": LATE, "PDM-01": HIGH}
    ),
    "a weekly job stops": Broken(
        job="dpi.bande", breaker=lambda _: None, found={"JOB-01": HIGH}, within=8
    ),
    "the size collapses": Broken(job="urgences.nuit", breaker=_shrunk(30), found={"ANO-01": HIGH}),
    "the weekly full backup collapses": Broken(
        job="fichiers.nuit", breaker=_small_fulls, found={"ANO-01": HIGH}, within=9
    ),
    "everything is new": Broken(job="dpi.nuit", breaker=_encrypted, found={"ANO-01": HIGH}),
    "success with nothing in it": Broken(
        job="dpi.nuit", breaker=_shrunk(0), found={"JOB-01": HIGH, "ANO-01": HIGH}
    ),
    "half of the points are gone": Broken(
        job="labo.heure", lose=True, found={"RET-01": PAGE}, within=1
    ),
    "a warning is taken for success": Broken(
        job="urgences.nuit",
        breaker=_state(PointState.WARNING),
        found={"JOB-01": WARNING, "PDM-01": WARNING},
        quiet=True,
    ),
    "one night fails": Broken(
        job="dpi.nuit", breaker=_state(PointState.FAILED), found={"JOB-01": HIGH}
    ),
    "the clock is ahead": Broken(
        job="urgences.nuit", breaker=_ahead, found={"JOB-01": HIGH, "PDM-01": PAGE}
    ),
    "it takes four times as long": Broken(
        job="urgences.nuit", breaker=_slow, found={"ANO-01": WARNING}, quiet=True
    ),
}


@pytest.mark.parametrize("broken", TWINS.values(), ids=[name.replace(" ", "-") for name in TWINS])
def test_what_breaks_on_day_sixty_is_said_in_time(
    half: Half, tmp_path: Path, broken: Broken
) -> None:
    site = half.site.copy(tmp_path)
    site.broken, site.broken_from = broken.job, site.now
    site.breaker = broken.breaker
    if broken.lose:
        site.lose = lambda points: points[1::2]
    said: dict[str, set[tuple[Status, Severity]]] = {control: set() for control in broken.found}
    application = broken.job.partition(".")[0]
    own = {f"job/{broken.job}", f"application/{application}"}
    for at in moments(START, DAYS)[BREAKS : BREAKS + broken.within]:
        found = site.judge(at)
        for control, subject in found:
            if control in said and subject in own:
                one = found[control, subject]
                said[control].add((one.status, one.severity))
        strange = {alarm for alarm in alarms(found) if alarm[1] not in own or broken.quiet}
        assert strange == set(), at
    site.close()
    for control, expected in broken.found.items():
        assert expected in said[control]
