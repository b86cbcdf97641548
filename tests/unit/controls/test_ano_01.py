"""ANO-01 over time: a new level is told once, until it is usual or accepted, and does not flap."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest

from backupguard.assess import job_known
from backupguard.controls import BUILT, load_catalogue
from backupguard.model import Criticality, Fact, Judgement, Observation, Origin, Status, to_us
from tests.unit.controls.control_facts import job

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BEGAN = datetime(2026, 9, 1, 22, tzinfo=UTC)
#: The day on which the size changes, and how long the job is looked at.
CHANGES, UNTIL = 45, 110
SIZE = 40_000_000_000


def history(
    every: timedelta, factor: Callable[[float, datetime], float], noise: float = 0.02
) -> list[dict[str, Any]]:
    """Return the backups of a job, oldest first; `factor` says how large one is after so many days."""
    chance = random.Random(7)
    made = []
    for number in range(UNTIL * DAY // every):
        at = BEGAN + number * every
        size = int(SIZE * factor((at - BEGAN) / DAY, at) * (1 + chance.gauss(0, noise)))
        made.append(
            {"at": to_us(at), "weekday": at.isoweekday(), "kind": "snapshot", "bytes": size}
        )
    return made


def judged(backups: list[dict[str, Any]], accepted: Fact | None = None, **known: Any) -> Judgement:
    """Judge a job by its backups so far, oldest first, as views hand them to the control."""
    now = datetime.fromtimestamp(backups[-1]["at"] / 1_000_000, UTC) + HOUR
    view = job(now, seen=now, samples=job_known.samples(backups[::-1], now), **known)
    if accepted is not None:
        view = replace(view, latest={"baseline.accepted": accepted})
    return BUILT["ANO-01"].judge(view, load_catalogue().policy("ANO-01", Criticality.C1), now)


def told(backups: list[dict[str, Any]], every: timedelta) -> list[tuple[bool, float]]:
    """Return whether the job was told as strange and for how many days, one after the other."""
    first = int((CHANGES - 5) * DAY / every)
    states = [
        judged(backups[: number + 1]).status is Status.NON_COMPLIANT
        for number in range(first, len(backups))
    ]
    return [(state, len(list(same)) * (every / DAY)) for state, same in groupby(states)]


def since(change: float) -> Callable[[float, datetime], float]:
    """A job whose size changes for good."""
    return lambda day, at: change if day >= CHANGES else 1


def with_weekends(change: float) -> Callable[[float, datetime], float]:
    """The same, of a job that is half as large on Saturdays and Sundays."""
    return lambda day, at: since(change)(day, at) * (0.5 if at.isoweekday() > 5 else 1)


@pytest.mark.parametrize(
    ("factor", "days"),
    [
        (since(1.25), 7),
        (since(1.8), 7),
        (with_weekends(1.25), 7),
        (since(0.75), 14),
        (with_weekends(0.75), 14),
        (since(0.3), 14),
    ],
    ids=["up-25", "up-80", "up-weekends", "down-25", "down-weekends", "down-70"],
)
def test_a_new_level_is_told_once_and_is_usual_after_its_time(
    factor: Callable[[float, datetime], float], days: int
) -> None:
    assert told(history(DAY, factor), DAY) == [
        (False, 5),
        (True, days),
        (False, UNTIL - CHANGES - days),
    ]


@pytest.mark.parametrize("change", [1.25, 0.75], ids=["up", "down"])
def test_of_one_that_runs_many_times_a_day_no_longer_than_its_backups_are_compared(
    change: float,
) -> None:
    states = told(history(8 * HOUR, since(change)), 8 * HOUR)
    assert [state for state, _ in states] == [False, True, False]
    assert 6 <= states[1][1] <= 14


def test_one_that_runs_weekly_needs_three_backups() -> None:
    week = 7 * DAY
    backups = history(week, since(0.7), noise=0.005)
    assert [one[0] for one in told(backups, week)] == [False, True, False]


def test_without_a_change_nothing_is_told() -> None:
    assert told(history(DAY, with_weekends(1)), DAY) == [(False, UNTIL - CHANGES + 5)]


def test_one_strange_backup_is_told_while_it_is_the_newest() -> None:
    backups = history(DAY, lambda day, at: 0.4 if CHANGES <= day < CHANGES + 1 else 1)
    assert told(backups, DAY) == [(False, 5), (True, 1), (False, UNTIL - CHANGES - 1)]


def test_what_is_lost_after_a_rise_is_found_by_the_new_level() -> None:
    """A quarter more, and once that is usual a quarter less: as large as before it all."""
    backups = history(DAY, lambda day, at: 1.25 if CHANGES <= day < CHANGES + 20 else 1.25 * 0.75)
    whole = history(DAY, lambda day, at: 1.0 if day < CHANGES else 1.25)
    number = CHANGES + 20
    lossy = [*whole[:number], *backups[number:]]
    assert judged(lossy[:number]).status is Status.COMPLIANT
    found = judged(lossy[: number + 1])
    assert (found.status, found.reason.id) == (Status.NON_COMPLIANT, "reason.ANO-01.fell_bytes")


def accepted(days: float) -> Fact:
    """Somebody accepted what the data look like, so many days after the change."""
    at = BEGAN + (CHANGES + days) * DAY
    observation = Observation(
        kind="baseline.accepted",
        subject="application/dpi",
        origin=Origin.ATTESTED,
        observed_at=at,
        data={"fingerprint": {"tables": {}}, "from_seq": 1, "reason": "montée de version"},
        key="baseline/dpi/accepted/1/0",
    )
    return Fact(
        seq=9, recorded_at=at, run=None, author="uid/1 (alice)", hash=b"", observation=observation
    )


@pytest.mark.parametrize("change", [1.25, 0.75], ids=["up", "down"])
def test_what_somebody_accepted_is_usual_at_once(change: float) -> None:
    backups = history(DAY, since(change))[: CHANGES + 2]
    assert judged(backups).status is Status.NON_COMPLIANT
    assert judged(backups, accepted(-3)).status is Status.NON_COMPLIANT  # long before it
    found = judged(backups, accepted(1.5))
    assert found.status is Status.COMPLIANT
    assert found.facts == (9,)


def test_what_comes_after_it_was_accepted_is_held_against_the_new_level() -> None:
    backups = history(DAY, since(1.25))[: CHANGES + 3]
    assert judged(backups, accepted(1.5)).status is Status.COMPLIANT
    backups[-1]["bytes"] = backups[-1]["bytes"] * 3 // 4
    assert judged(backups, accepted(1.5)).status is Status.NON_COMPLIANT


@pytest.mark.parametrize(
    ("peer", "here", "status"),
    [
        (1.3, 1.3, Status.COMPLIANT),  # told of the other job, the day before
        (1.0, 1.3, Status.NON_COMPLIANT),  # the other one saw nothing
        (1.3, 1.6, Status.NON_COMPLIANT),  # more than the other one saw
        (0.75, 0.75, Status.NON_COMPLIANT),  # what is lost is told of each copy
    ],
)
def test_what_another_job_of_the_same_data_grew_to_before_is_not_told_again(
    peer: float, here: float, status: Status
) -> None:
    other = history(DAY, since(peer))[: CHANGES + 1]
    backups = history(DAY, lambda day, at: here if day >= CHANGES + 1 else 1)[: CHANGES + 2]
    assert judged(backups, peers=[other[::-1]]).status is status
    assert judged(backups).status is Status.NON_COMPLIANT


def test_what_another_job_grew_to_later_excuses_nothing() -> None:
    other = history(DAY, since(1.25))[: CHANGES + 3]
    backups = history(DAY, since(1.25))[: CHANGES + 3]
    later = [{**one, "at": one["at"] + to_us(BEGAN + HOUR) - to_us(BEGAN)} for one in other]
    assert judged(backups, peers=[later[::-1]]).status is Status.NON_COMPLIANT


@pytest.mark.parametrize("size", [1.3, 2.0], ids=["as-large", "larger"])
def test_a_job_that_was_always_as_large_excuses_no_rise(size: float) -> None:
    other = history(DAY, lambda day, at: size)[: CHANGES + 1]
    backups = history(DAY, since(1.3))[: CHANGES + 2]
    assert judged(backups, peers=[other[::-1]]).status is Status.NON_COMPLIANT


def test_what_rose_between_two_rare_copies_and_stayed_was_told_where_it_rose() -> None:
    """A daily backup rose ten days before the copy that is made every twelve days."""
    rose = history(DAY, lambda day, at: 4 if day >= 86 else 1)[:96]
    rare = history(12 * DAY, lambda day, at: 4 if day >= 86 else 1)
    assert judged(rare).status is Status.NON_COMPLIANT
    assert judged(rose).status is Status.COMPLIANT  # it is usual there by now
    assert judged(rare, peers=[rose[::-1]]).status is Status.COMPLIANT
    fell_back = [*rose[:-1], {**rose[-1], "bytes": SIZE}]
    assert judged(rare, peers=[fell_back[::-1]]).status is Status.NON_COMPLIANT
