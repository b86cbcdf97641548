"""The clock: how far the wall clock has stepped away from one that nobody can set."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: A step smaller than this is a correction; a larger one is a fact.
STEP = timedelta(seconds=60)


def utc_now() -> datetime:
    """Return the time of the wall clock, aware and in UTC."""
    return datetime.now(UTC)


def boot_time() -> float:
    """Return seconds since boot, time asleep included, so that a laptop's night is no step."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class StepWatch:
    """Compares the wall clock with the time since boot."""

    def __init__(
        self,
        wall: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = boot_time,
    ) -> None:
        self.wall = wall
        self.steady = steady
        self._began = wall() - timedelta(seconds=steady())

    def step(self) -> timedelta | None:
        """Return how far the wall clock was set since the last step, None while it was not."""
        began = self.wall() - timedelta(seconds=self.steady())
        stepped = began - self._began
        if abs(stepped) <= STEP:
            return None
        self._began = began
        return stepped
