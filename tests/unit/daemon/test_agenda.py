"""The agenda on a real store: ticks enqueue once, whatever the clock and the process do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard import runs
from backupguard.contracts import Store
from backupguard.daemon import pauses
from backupguard.daemon.agenda import Agenda
from backupguard.model import Closing, Run, RunState, Verdict
from backupguard.settings import Settings
from backupguard.settings.loading import model_for
from backupguard.store import open_store

BEGAN = datetime(2026, 3, 5, 9, 7, tzinfo=UTC)
#: What a site with one repository has to do when it begins.
EVERYTHING = ["discovery", "drift", "immutability", "integrity", "inventory", "isolation"]


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def make_settings(**site: str) -> Settings:
    data = {
        "site": {"name": "x", **site},
        "repositories": {"nas": {"type": "directory", "path": "/srv"}},
        "daemon": {"cadences": {"inventory": {"C1": "15m", "C2": "1h", "C3": "1h"}}},
    }
    return model_for(data).model_validate(data)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = open_store(tmp_path / "state", now=clock)
    yield opened
    opened.close()


def agenda(store: Store, clock: Clock) -> Agenda:
    settings = make_settings()
    return Agenda(store, lambda: settings, lambda: None, clock)


def finish(
    store: Store, clock: Clock, state: RunState = RunState.FINISHED, code: str | None = None
) -> list[Run]:
    """End every waiting run as its runner would."""
    waiting = list(store.runs(states=[RunState.WAITING]))
    for run in waiting:
        assert store.start_run(run.id, "here")
        verdict = Verdict.PASSED if state is RunState.FINISHED else Verdict.COULD_NOT_VERIFY
        fact = runs.closing_observation(run, state=state, verdict=verdict, code=code, now=clock())
        closing = Closing(run=run.id, state=state, verdict=verdict, code=code)
        store.append([fact], run=run.id, closing=closing)
    return waiting


def tasks(found: list[Run]) -> list[str]:
    return sorted(run.request.task for run in found)


def test_a_new_site_inventories_and_verifies_at_once_and_only_once(
    store: Store, clock: Clock
) -> None:
    ticking = agenda(store, clock)
    ticking.tick()
    assert tasks(finish(store, clock)) == EVERYTHING
    for _ in range(4):
        clock.forward(seconds=10)
        ticking.tick()
    assert finish(store, clock) == []


def test_a_slow_run_holds_its_next_slots_back_and_they_become_one(
    store: Store, clock: Clock
) -> None:
    ticking = agenda(store, clock)
    ticking.tick()
    for _ in range(5):
        clock.forward(hours=1)
        ticking.tick()
    assert len(store.runs(task="inventory")) == 1
    finish(store, clock)
    ticking.tick()
    assert len(store.runs(task="inventory")) == 2
    newest = store.runs(task="inventory")[0]
    assert newest.request.due_at == datetime(2026, 3, 5, 14, tzinfo=UTC)


def test_a_restart_remembers_what_was_done(store: Store, clock: Clock) -> None:
    agenda(store, clock).tick()
    finish(store, clock)
    clock.forward(minutes=5)
    agenda(store, clock).tick()
    assert finish(store, clock) == []
    clock.forward(days=7)
    agenda(store, clock).tick()
    assert tasks(finish(store, clock)) == EVERYTHING


def test_an_interrupted_run_comes_again_twice_and_then_never(store: Store, clock: Clock) -> None:
    def integrity() -> list[int]:
        return [
            run.request.attempt
            for run in finish(store, clock, RunState.INTERRUPTED, "daemon_died")
            if run.request.task == "integrity"
        ]

    ticking = agenda(store, clock)
    ticking.tick()
    assert integrity() == [1]
    clock.forward(minutes=9)
    ticking.tick()
    assert integrity() == []
    clock.forward(minutes=1)
    ticking.tick()
    assert integrity() == [2]
    clock.forward(minutes=60)
    agenda(store, clock).tick()  # a new process counts the same
    assert integrity() == [3]
    clock.forward(hours=9)
    agenda(store, clock).tick()
    assert integrity() == []


def test_a_clock_set_back_a_day_is_no_day_of_silence_and_no_storm(
    store: Store, clock: Clock
) -> None:
    ticking = agenda(store, clock)
    for _ in range(24):
        ticking.tick()
        finish(store, clock)
        clock.forward(hours=1)
    clock.forward(hours=-24)
    ticking.rebuild()
    counted = []
    for _ in range(12):  # two hours, a tick each ten minutes
        clock.forward(minutes=10)
        ticking.tick()
        counted.append(
            len([run for run in finish(store, clock) if run.request.task == "inventory"])
        )
    assert sum(counted) in (2, 3)
    assert max(counted) == 1


def test_what_people_asked_for_is_no_slot(store: Store, clock: Clock) -> None:
    from backupguard.daemon.requests import request

    store.enqueue(request("inventory", "site", requested_by="uid/1000", due_at=clock()))
    finish(store, clock)
    agenda(store, clock).tick()
    assert "inventory" in tasks(finish(store, clock))


def test_a_pause_holds_until_its_time_and_then_what_was_missed_is_caught_up(
    store: Store, clock: Clock
) -> None:
    ticking = agenda(store, clock)
    pauses.start(
        store, until=clock() + timedelta(hours=3), reason="moving", author="uid/0", now=clock()
    )
    ticking.tick()
    assert ticking.paused is not None
    assert finish(store, clock) == []
    clock.forward(hours=3)
    ticking.tick()
    assert ticking.paused is None
    assert tasks(finish(store, clock)) == EVERYTHING
    ended = store.latest(["site"], ["pause.ended"])["site"]["pause.ended"]
    assert ended.observation.data == {"reason": "until"}


def test_a_pause_without_an_end_is_ended_by_somebody(store: Store, clock: Clock) -> None:
    pauses.start(store, until=None, reason="moving", author="uid/0", now=clock())
    clock.forward(days=400)
    ticking = agenda(store, clock)
    ticking.tick()
    assert ticking.paused is not None
    assert pauses.end(store, reason="moved", author="uid/0", now=clock())
    assert not pauses.end(store, reason="moved", author="uid/0", now=clock())
    ticking.tick()
    assert ticking.paused is None


def test_the_thread_ticks_and_ends(store: Store, clock: Clock) -> None:
    import threading

    ticked = threading.Event()
    ticking = Agenda(store, lambda: settings, ticked.set, clock, tick_s=0.2)
    settings = make_settings()
    ticking.start()
    assert ticked.wait(5)
    ticked.clear()
    ticking.rebuild()
    assert ticked.wait(5)
    ticking.stop()
    assert not any(thread.name == "agenda" for thread in threading.enumerate())


def test_what_was_done_before_the_clock_went_back_is_not_done_again_when_it_is_right(
    store: Store, clock: Clock
) -> None:
    set_by: list[timedelta] = []
    settings = make_settings()
    ticking = Agenda(
        store,
        lambda: settings,
        lambda: None,
        clock,
        stepped=lambda: set_by.pop() if set_by else None,
    )
    ticking.tick()
    assert tasks(finish(store, clock)) == EVERYTHING
    for by, due in ((-1, EVERYTHING), (1, [])):
        clock.forward(days=by, minutes=1)
        set_by.append(timedelta(days=by))
        ticking.tick()
        assert tasks(finish(store, clock)) == due
