"""The wall clock is set back a day, and forward again, while the daemon runs and restores."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.daemon import client
from backupguard.model import RunState, Status, Subject, Verdict, repository_subject, to_us
from tests.integration.daemon import living
from tests.integration.daemon.living import stop, wait_for
from tests.integration.survival.places import DPI, DUE, Place

DAY = timedelta(days=1)
NAS = repository_subject("nas")
#: What is judged by an age: (control, subject).
AGES = (("JOB-01", "job/dpi.nuit"), ("INT-01", NAS), ("RST-01", DPI))

#: The clock of a machine is everybody's; here it is that of the daemon and of its runners.
STARTED = """
import sys
from backupguard.daemon import runners
runners.INHERITED += ("LD_PRELOAD", "WALL_CLOCK_OFFSET")
from backupguard.cli.main import main
sys.exit(main())
"""


class WallClock:
    """The wall clock of the programs that were started with `environment`."""

    def __init__(self, directory: Path) -> None:
        source = Path(living.__file__).with_name("wall_clock.c")
        library = directory / "wall_clock.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", library],
            check=True,
            timeout=60,
        )
        self._file = directory / "wall-clock"
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {
            "LD_PRELOAD": str(library),
            "WALL_CLOCK_OFFSET": str(self._file),
        }
        self.offset = timedelta()

    def set(self, offset: timedelta) -> None:
        """Set the clock: in place, so that running programs see it at once and whole."""
        self.offset = offset
        with self._file.open("r+b") as file:
            os.pwrite(file.fileno(), struct.pack("q", int(offset.total_seconds())), 0)

    def now(self) -> datetime:
        """Return what the clock shows."""
        return datetime.now(UTC) + self.offset


@pytest.fixture
def clock(place: Place) -> WallClock:
    return WallClock(place.directory)


def stands(place: Place) -> Mapping[tuple[str, Subject], Status]:
    """Return what the daemon itself judged last."""
    return {(one.control, one.subject): one.status for one in place.store.findings()}


def steps(place: Place) -> list[int]:
    return [int(one.observation.data["step_ms"]) for one in place.facts("clock.stepped")]


def at_rest(place: Place) -> bool:
    """Tell whether everything that was asked for has ended, and nothing new came for a while."""
    before = len(place.store.runs())
    time.sleep(1)
    open_ones = place.store.runs(states=[RunState.WAITING, RunState.RUNNING])
    return not open_ones and len(place.store.runs()) == before


@pytest.mark.slow
def test_a_clock_set_back_and_forward_under_a_running_daemon(
    place: Place, clock: WallClock
) -> None:
    place.add("slow", schedule=DUE)
    process = place.start(program=[sys.executable, "-c", STARTED], more=clock.environment)
    place.closed("restore-test", 1)
    wait_for(lambda: at_rest(place), 60)
    wait_for(lambda: all(stands(place)[key] is Status.COMPLIANT for key in AGES))
    before = dict(stands(place))

    # in the middle of a restore test, the clock is set back
    asked = client.enqueue(place.settings, "restore-test", DPI)
    wait_for(lambda: "prepare" in place.phases(asked), 60)
    clock.set(-DAY)
    wait_for(lambda: steps(place), 15)
    assert abs(steps(place)[0] + DAY // timedelta(milliseconds=1)) < 60_000
    wait_for(lambda: not [one for one in AGES if stands(place)[one] is Status.COMPLIANT], 15)
    assert place.ended(asked).verdict is Verdict.PASSED
    wait_for(lambda: at_rest(place), 120)
    behind = stands(place)
    assert {key: behind[key] for key in AGES} == dict.fromkeys(AGES, Status.NOT_MEASURABLE)
    assert Status.NON_COMPLIANT not in behind.values()
    # a day that comes again is no day of silence, and its slots are no flood
    repeated = [run for run in place.store.runs() if run.created_at < clock.now() + DAY / 2]
    assert {run.request.task for run in repeated} >= {"inventory", "integrity", "restore-test"}
    assert max(Counter((run.request.task, run.request.subject) for run in repeated).values()) <= 2
    page = place.get("/metrics")[1]
    assert place.get("/-/healthy")[0] == 200, page

    # and forward again
    place.quieten()
    known = {run.id for run in place.store.runs()}
    clock.set(timedelta())
    wait_for(lambda: len(steps(place)) == 2, 15)
    assert abs(steps(place)[1] - DAY // timedelta(milliseconds=1)) < 60_000
    place.heard("WATCHDOG=1")
    wait_for(lambda: at_rest(place), 120)
    again = [run for run in place.store.runs() if run.id not in known and run.request.attempt > 1]
    assert again == [], "a slot that was done before the clock went back was done once more"
    last = place.ask()
    assert last.verdict is Verdict.PASSED, last
    wait_for(lambda: {key: stands(place)[key] for key in before} == before, 15)
    assert process.poll() is None
    assert stop(process) == 0
    assert_told_once(place)
    assert place.proved()


def assert_told_once(place: Place) -> None:
    """See that no run was lost or doubled, whatever the clock said."""
    runs = place.store.runs()
    assert {run.state for run in runs} == {RunState.FINISHED}, runs
    for run in runs:
        closings = place.facts(f"{run.request.task}.closed")
        told = [fact for fact in closings if fact.run == run.id]
        # an inventory that finds nothing new leaves no fact
        least = 0 if run.request.task == "inventory" else 1
        assert least <= len(told) <= 1, (run, told)
    durations = [
        int(fact.observation.data["duration_ms"])
        for fact in place.facts("restore-test.phase", "restore-test.result")
        if fact.observation.data.get("duration_ms") is not None
    ]
    assert all(0 <= one < 600_000 for one in durations), durations
    recorded = [fact.recorded_at for fact in place.facts()]
    assert to_us(min(recorded)) > 0
