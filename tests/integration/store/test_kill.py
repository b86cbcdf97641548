"""Kill -9 at any moment: the chain stays whole and every run has exactly one closing fact."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupguard.errors import Busy
from backupguard.evidence.verify import Standing, verify
from backupguard.model import Closing, Observation, RunRequest, RunState, Verdict
from backupguard.store import open_store
from backupguard.store.diary import close_interrupted, closing_key, closing_observation
from backupguard.store.safekeeping import hold
from backupguard.store.sql import SqlStore
from tests.counts import times

AT_ONCE = 8
FACTS_PER_RUN = 3


def _now() -> datetime:
    return datetime.now(UTC)


def _work(directory: Path, url: str | None, run: str) -> None:
    """Perform a run as a runner does: its lock, `running`, some facts, one closing transaction."""
    store = open_store(directory, url)
    lock = hold(directory / "runs" / run / "lock", run)
    if not store.start_run(run, "here"):
        raise AssertionError(f"{run} is not waiting")
    for number in range(FACTS_PER_RUN):
        store.append(
            [
                Observation(
                    kind="clock.stepped",
                    subject="site",
                    observed_at=_now(),
                    data={"step_ms": number},
                    key=f"run/{run}/step/{number}",
                )
            ],
            run=run,
        )
    performed = store.run(run)
    assert performed is not None
    store.append(
        [
            closing_observation(
                performed,
                state=RunState.FINISHED,
                verdict=Verdict.PASSED,
                code=None,
                now=_now(),
            )
        ],
        run=run,
        closing=Closing(run=run, state=RunState.FINISHED, verdict=Verdict.PASSED, code=None),
    )
    store.seal()
    os.close(lock)


def _fork(directory: Path, url: str | None, run: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _work(directory, url, run)
        code = 0
    finally:
        os._exit(code)  # nothing of pytest's may run in the child


def _sweep(directory: Path, store: SqlStore) -> int:
    closed = 0
    for run in store.runs(states=[RunState.RUNNING], limit=10_000):
        try:
            lock = hold(directory / "runs" / run.id / "lock", run.id)
        except Busy:
            continue
        close_interrupted(store, run, _now())
        os.close(lock)
        closed += 1
    return closed


def _perform_all(
    directory: Path, url: str | None, runs: list[str], doomed: set[str], chance: random.Random
) -> tuple[int, list[str]]:
    """Perform every run in a process of its own, a few at once; kill the doomed at any moment."""
    started: dict[int, tuple[str, float]] = {}
    dies_at: dict[int, float] = {}
    waiting = list(reversed(runs))
    typical_s = 0.2  # how long a process takes here, so that kills fall anywhere in its life
    killed, failed = 0, []
    while waiting or started:
        while waiting and len(started) < AT_ONCE:
            run = waiting.pop()
            pid = _fork(directory, url, run)
            started[pid] = run, time.monotonic()
            if run in doomed:
                dies_at[pid] = time.monotonic() + chance.uniform(0, typical_s)
        for pid in [pid for pid, moment in dies_at.items() if moment <= time.monotonic()]:
            os.kill(pid, signal.SIGKILL)
            del dies_at[pid]
        pid, status = os.waitpid(-1, os.WNOHANG if dies_at else 0)
        if pid == 0:
            time.sleep(0.002)
            continue
        run, begun = started.pop(pid)
        dies_at.pop(pid, None)
        if os.WIFSIGNALED(status):
            killed += 1
        elif status:
            failed.append(run)
        else:
            typical_s += (time.monotonic() - begun - typical_s) / 10
    return killed, failed


def _kill_some(directory: Path, url: str | None, processes: int, kills: int) -> None:
    directory.mkdir(parents=True)
    chance = random.Random(20260305)
    store = open_store(directory, url)
    runs = [
        store.enqueue(
            RunRequest(
                task="inventory",
                subject="site",
                due_at=None,
                exclusive=f"inventory/{number}",
                resource="probe",
                requested_by="test",
            )
        ).id
        for number in range(processes)
    ]
    store.close()  # a fork must not inherit an open database
    doomed = set(chance.sample(runs, kills))
    killed, failed = _perform_all(directory, url, runs, doomed, chance)
    assert not failed
    assert killed > kills // 2, "too few were hit while at work for the test to say anything"

    store = open_store(directory, url)
    interrupted = _sweep(directory, store)
    assert _sweep(directory, store) == 0
    store.seal()
    closings = [fact.observation.key for fact in store.facts(kinds=["inventory.closed"])]
    assert len(closings) == len(set(closings))
    ended = {run.id: run for run in store.runs(limit=10_000)}
    for run in runs:
        if ended[run].state is RunState.WAITING:  # killed before it began
            assert closing_key(run) not in closings
            continue
        assert ended[run].state in {RunState.FINISHED, RunState.INTERRUPTED}
        assert closings.count(closing_key(run)) == 1
    assert interrupted == sum(run.state is RunState.INTERRUPTED for run in ended.values())
    assert interrupted >= kills // 10
    result = verify(store.records(), store.seals(), store=store.store_id, head=store.head())
    assert result.standing is Standing.COHERENT, result.problem
    assert result.records == store.head()[0]
    store.close()


def test_many_processes_of_which_a_quarter_is_killed(tmp_path: Path) -> None:
    _kill_some(tmp_path / "state", None, processes=times(120, 400), kills=times(30, 100))


@pytest.mark.usefixtures("cluster")
def test_kills_on_postgresql(tmp_path: Path, database_url: Callable[[], str]) -> None:
    _kill_some(tmp_path / "state", database_url(), processes=times(48, 80), kills=times(12, 20))
