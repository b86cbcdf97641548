"""kill -9, in each phase of a restore test: the next start leaves nothing and loses nothing."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.daemon import agenda, cadence
from backupguard.model import Phase, Run, Status, Verdict
from tests.integration.daemon.living import wait_for
from tests.integration.survival.places import DPI, DUE, Place, Source, kill

PHASES = [phase.value for phase in Phase]

SLOW_CHECK = """
[[applications.dpi.restore-test.checks]]
name = "lente"
sql = "select count(*) from pg_sleep(20)"
at-least = 1
"""


class Slowly:
    """One application whose restore test takes its time in one phase; in the others as ever.

    select waits for a snapshot that nobody writes, fetch for a slow line, load for a slow index,
    verify for a slow check. The others are caught by being quick enough.
    """

    def __init__(self, place: Place, phase: str) -> None:
        self.place = place
        self.phase = phase
        dump = {"fetch": "large", "load": "slow", "amcheck": "slow"}.get(phase, "healthy")
        checks = SLOW_CHECK if phase == "verify" else ""
        self.nas = place.add(dump, schedule=DUE, checks=checks)
        if phase == "select":
            os.mkfifo(self.pipe)
        if phase == "fetch":
            place.more = '[repositories.nas.limits]\nbandwidth = "100KB/s"\n'
            place.write()

    @property
    def pipe(self) -> Path:
        return self.nas / "snapshots" / ("a" * 64)

    def caught(self) -> Run | None:
        """Wait until the restore test is in its phase; None when the phase was over too soon."""
        run = wait_for(self.place.running, 60)
        assert isinstance(run, Run)
        phase = "verify" if self.phase == "amcheck" else self.phase
        before = PHASES[: PHASES.index(phase)]
        while len(self.place.phases(run.id)) < len(before):
            time.sleep(0.005)
        if self.phase in ("select", "fetch"):
            wait_for(lambda: self.place.alive(run.id, "restic-0.18"))
        if self.phase in ("fetch", "load", "verify"):
            time.sleep(0.6)
        return run if self.place.phases(run.id) == before else None

    def normal(self) -> None:
        """Make everything quick again."""
        self.pipe.unlink(missing_ok=True)


def due_next(place: Place, after: timedelta) -> list[int]:
    """Return the attempts of restore tests that the agenda would ask for some time from now."""
    later, settings = datetime.now(UTC) + after, place.settings
    wanted = [one for one in cadence.schedules(settings) if one.task == "restore-test"]
    last = {one.key: agenda.last_slot(place.store, one, later) for one in wanted}
    due = cadence.due(wanted, {key: one for key, one in last.items() if one}, later)
    return [one.attempt for one in due]


def closed_once(place: Place, run: Run, code: str | None) -> None:
    """See that a run has one closing fact, with that code, and left nothing else."""
    assert [closing["code"] for closing in place.closings(run.id)] == [code]
    wait_for(lambda: place.nothing_left(run.id))


@contextmanager
def caught_in(
    phase: str, source: Source, directory: Path
) -> Iterator[tuple[Place, Slowly, subprocess.Popen[bytes], Run]]:
    """Start a daemon and yield it while its restore test is in that phase."""
    for turn in range(4):
        (directory / str(turn)).mkdir()
        place = Place(directory / str(turn), source)
        try:
            slowly = Slowly(place, phase)
            daemon = place.start()
            run = slowly.caught()
            if run is not None:
                yield place, slowly, daemon, run
                return
        finally:
            place.end()
    pytest.fail(f"{phase} was over too soon, again and again")


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_everything_killed_at_once_leaves_nothing_and_the_slot_is_due_again(
    source: Source, tmp_path: Path, phase: str
) -> None:
    with caught_in(phase, source, tmp_path) as (place, slowly, daemon, run):
        runner = place.runner(run.id)
        kill(daemon.pid, runner)
        daemon.wait()
        # nothing outlives its daemon, not even until the next start
        wait_for(lambda: not place.alive(run.id))
        slowly.normal()
        place.start()
        assert place.phases(run.id) == PHASES[: PHASES.index(phase)]
        closed_once(place, run, "daemon_died")
        assert due_next(place, timedelta(minutes=11)) == [2]
        assert place.proved()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["fetch", "load", "discard"])
def test_a_killed_daemon_has_its_runner_end_in_order(
    source: Source, tmp_path: Path, phase: str
) -> None:
    with caught_in(phase, source, tmp_path) as (place, slowly, daemon, run):
        runner = place.runner(run.id)
        daemon.kill()
        daemon.wait()
        wait_for(lambda: not place.alive(run.id) and not Path(f"/proc/{runner}").exists())
        assert not (place.state / "runs" / run.id).exists()
        slowly.normal()
        place.start()
        # the phase it was in says so itself, and what was there was discarded
        before = PHASES[: PHASES.index(phase)]
        assert place.phases(run.id) == list(dict.fromkeys([*before, phase, "discard"]))
        closed = place.store.run(run.id)
        assert closed is not None
        if phase == "discard" and closed.verdict is Verdict.PASSED:
            # all had been seen already, and it still could say so
            closed_once(place, run, None)
            assert due_next(place, timedelta(minutes=11)) == []
        else:
            closed_once(place, run, "by_stop")
            again = wait_for(place.running, 40)
            assert isinstance(again, Run)
            assert (again.request.attempt, again.request.due_at) == (2, run.request.due_at)
        assert place.proved()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["load", "discard"])
def test_a_killed_runner_is_closed_by_the_daemon_which_goes_on(
    source: Source, tmp_path: Path, phase: str
) -> None:
    with caught_in(phase, source, tmp_path) as (place, _slowly, daemon, run):
        kill(place.runner(run.id))
        wait_for(lambda: place.closings(run.id))
        wait_for(lambda: place.nothing_left(run.id))
        assert place.phases(run.id) == PHASES[: PHASES.index(phase)]
        closed_once(place, run, "daemon_died")
        assert due_next(place, timedelta(minutes=11)) == [2]
        assert daemon.poll() is None
        assert place.get("/-/ready")[0] == 200
        # the same backup, asked for again, passes
        again = place.ask()
        assert again.verdict is Verdict.PASSED, place.result()
        assert place.proved()


def postmaster(place: Place, run: Run) -> list[int]:
    """Return the restored server's first process."""
    found = {pid: parent_of(pid) for pid in place.alive(run.id, "postgres")}
    return [pid for pid, parent in found.items() if parent not in found]


def backend(place: Place, run: Run) -> list[int]:
    """Return the restored server's processes that work for a client."""
    busy = re.compile(rb"restored .*(SELECT|CREATE INDEX|COPY)")
    found = []
    for pid in place.alive(run.id, "postgres"):
        with suppress(OSError):  # it may have ended since it was listed
            if busy.search(Path(f"/proc/{pid}/cmdline").read_bytes()):
                found.append(pid)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def restic(place: Place, run: Run) -> list[int]:
    """Return the process that fetches."""
    return place.alive(run.id, "restic-0.18")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "victims"),
    [
        ("fetch", restic),
        ("load", postmaster),
        ("load", backend),
        ("verify", backend),
        ("amcheck", backend),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_a_program_of_a_restore_test_that_is_killed_accuses_nobody(
    source: Source,
    tmp_path: Path,
    phase: str,
    victims: Callable[[Place, Run], list[int]],
) -> None:
    with caught_in(phase, source, tmp_path) as (place, slowly, _daemon, run):
        found = wait_for(lambda: victims(place, run))
        assert isinstance(found, list)
        kill(*found)
        closed = place.ended(run.id)
        assert closed.verdict is Verdict.COULD_NOT_VERIFY, place.result()
        assert place.result()["verdict"] == "could_not_verify", place.result()
        wait_for(lambda: place.nothing_left(run.id))
        assert place.judged()["RST-01", DPI].status is Status.NOT_MEASURABLE
        if victims is postmaster:
            slowly.normal()
            assert place.ask().verdict is Verdict.PASSED, place.result()
