"""Steps of the wall clock are seen; its small corrections are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backupguard.daemon.clock import StepWatch


class Clocks:
    def __init__(self) -> None:
        self.wall = datetime(2026, 3, 5, tzinfo=UTC)
        self.steady = 1000.0

    def pass_(self, seconds: float, step: float = 0.0) -> None:
        self.steady += seconds
        self.wall += timedelta(seconds=seconds + step)


def test_a_step_is_told_once_and_with_its_size() -> None:
    clocks = Clocks()
    watch = StepWatch(lambda: clocks.wall, lambda: clocks.steady)
    clocks.pass_(3600)
    assert watch.step() is None
    clocks.pass_(5, step=-86400)
    assert watch.step() == timedelta(days=-1)
    clocks.pass_(5)
    assert watch.step() is None
    clocks.pass_(5, step=61)
    assert watch.step() == timedelta(seconds=61)


def test_a_correction_is_no_step() -> None:
    clocks = Clocks()
    watch = StepWatch(lambda: clocks.wall, lambda: clocks.steady)
    clocks.pass_(3600, step=59)
    assert watch.step() is None
