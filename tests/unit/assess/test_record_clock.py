"""How late it was at the newest record, whatever was done to the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.assess.record_clock import RecordClock

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)


class Records:
    """A record that is written every minute, by a clock that can be set."""

    def __init__(self) -> None:
        self.true, self.offset = NOON, timedelta()
        self.facts: list[Any] = []
        self.clock = RecordClock(self)  # type: ignore[arg-type]

    def fact(self, seq: int) -> Any:
        return self.facts[seq - 1] if 0 < seq <= len(self.facts) else None

    def head(self) -> tuple[int, bytes]:
        return len(self.facts), b""

    def write(self, kind: str = "inventory.closed", **data: int) -> None:
        self.true += timedelta(minutes=1)
        observation = SimpleNamespace(kind=kind, data=data)
        self.facts.append(
            SimpleNamespace(
                seq=len(self.facts) + 1,
                recorded_at=self.true + self.offset,
                observation=observation,
            )
        )
        if kind != "inventory.closed":
            self.clock.learn(self.facts[-1])

    def step(self, by: timedelta, *, unseen: bool = False) -> None:
        self.offset += by
        if unseen:
            self.write("daemon.started")
        else:
            self.write("inventory.closed")  # one that comes before the step is noticed
            self.write("clock.stepped", step_ms=by // timedelta(milliseconds=1))
        self.write()

    def behind(self) -> timedelta:
        """Return how far the clock is behind the newest record."""
        newest = self.clock.newest()
        assert newest is not None
        return max(newest - (self.true + self.offset), timedelta())


@pytest.fixture
def records() -> Records:
    made = Records()
    made.write("daemon.started")
    made.write()
    return made


def test_an_empty_record_has_no_newest() -> None:
    assert Records().clock.newest() is None


@pytest.mark.parametrize("unseen", [False, True], ids=["running", "stopped"])
def test_a_clock_set_back_stays_behind_until_it_has_caught_up(
    records: Records, unseen: bool
) -> None:
    assert records.behind() == timedelta()
    records.step(-DAY, unseen=unseen)
    assert DAY - HOUR < records.behind() < DAY + HOUR
    records.true += DAY / 2
    records.write()
    assert DAY / 2 - HOUR < records.behind() < DAY / 2 + HOUR
    records.true += DAY
    records.write()
    assert records.behind() == timedelta()


@pytest.mark.parametrize("by", [DAY, -DAY], ids=["ahead", "back"])
def test_a_step_that_was_undone_is_forgotten(records: Records, by: timedelta) -> None:
    for _ in range(3):
        records.step(by)
        records.step(-by)
        assert records.behind() == timedelta()
    records.step(-DAY)
    assert records.behind() > DAY - HOUR


def test_a_clock_that_ran_ahead_for_an_hour_blinds_nobody_for_a_year(records: Records) -> None:
    records.step(YEAR)
    records.write("daemon.started")
    assert records.behind() == timedelta()
    records.step(-YEAR)
    assert records.behind() == timedelta()


def test_an_honest_day_between_two_wrong_ones_counts(records: Records) -> None:
    records.step(-DAY)
    records.step(DAY)
    records.true += DAY
    records.write()
    records.step(-DAY)
    assert records.behind() > DAY - HOUR


def test_a_step_whose_body_was_pruned_says_nothing(records: Records) -> None:
    records.write()
    step = records.facts[-1]
    step.observation = SimpleNamespace(kind="clock.stepped", data=None)
    records.clock.learn(step)
    assert records.behind() == timedelta()
