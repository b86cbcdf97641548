from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.model import Closing, Run, RunRequest, RunState, Verdict
from backupguard.store.diary import close_interrupted, closing_observation
from backupguard.store.sql import SqlStore

from .conftest import SetClock

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)


def request(exclusive: str = "restore-test/dpi", **fields: Any) -> RunRequest:
    fields = {"task": "restore-test", "subject": "application/dpi", "due_at": None, **fields}
    return RunRequest(exclusive=exclusive, resource="restore-test", requested_by="test", **fields)


def close(store: SqlStore, run: Run, verdict: Verdict = Verdict.PASSED) -> None:
    state = RunState.FINISHED
    fact = closing_observation(run, state=state, verdict=verdict, code=None, now=NOW)
    closing = Closing(run=run.id, state=state, verdict=verdict, code=None)
    store.append([fact], run=run.id, closing=closing)


def test_the_same_slot_is_the_same_run(store: SqlStore, clock: SetClock) -> None:
    first = store.enqueue(request(due_at=NOW, options={"point": "latest"}))
    assert store.enqueue(request(due_at=NOW)) == first
    assert store.run(first.id) == first
    assert store.enqueue(request(due_at=NOW, attempt=2)).id != first.id
    assert store.enqueue(request(due_at=NOW + timedelta(days=1))).id != first.id
    assert store.enqueue(request()).id != store.enqueue(request()).id
    assert store.run("nothing") is None


def test_one_of_several_starts_a_run(opened: Callable[[], SqlStore]) -> None:
    stores = [opened() for _ in range(4)]
    run = stores[0].enqueue(request())
    won: list[bool] = []
    threads = [
        threading.Thread(target=lambda s=s: won.append(s.start_run(run.id, "here"))) for s in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


def test_two_with_one_exclusive_never_run_together(opened: Callable[[], SqlStore]) -> None:
    one, other = opened(), opened()
    runs = [one.enqueue(request()) for _ in range(6)]
    won: list[str] = []

    def start(store: SqlStore, mine: list[Run]) -> None:
        won.extend(run.id for run in mine if store.start_run(run.id, "here"))

    threads = [
        threading.Thread(target=start, args=(one, runs[:3])),
        threading.Thread(target=start, args=(other, runs[3:])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    close(one, one.run(won[0]))
    left = next(run.id for run in runs if run.id not in won)
    assert other.start_run(left, "here")


def test_claiming_takes_the_longest_waiting_within_the_room(
    store: SqlStore, clock: SetClock
) -> None:
    late = store.enqueue(request("a", due_at=NOW - timedelta(hours=1)))
    later = store.enqueue(request("b", due_at=NOW - timedelta(hours=2)))
    same = store.enqueue(request("b", subject="application/lab"))
    third = store.enqueue(request("c"))
    claimed = store.claim("srv1", {"restore-test": 2, "probe": 5})
    assert [run.id for run in claimed] == [later.id, late.id]
    assert all(run.state is RunState.RUNNING and run.host == "srv1" for run in claimed)
    assert [run.id for run in store.claim("srv1", {"restore-test": 9})] == [third.id]
    assert store.claim("srv1", {"restore-test": 0}) == ()
    assert store.run(same.id).state is RunState.WAITING


def test_a_run_ends_with_its_closing_fact(store: SqlStore, clock: SetClock) -> None:
    run = store.enqueue(request())
    store.start_run(run.id, "srv1")
    store.report_progress(run.id, {"done": 1, "total": None, "unit": "bytes"})
    assert store.run(run.id).progress == {"done": 1, "total": None, "unit": "bytes"}
    clock.forward(minutes=5)
    close(store, store.run(run.id))
    ended = store.run(run.id)
    assert (ended.state, ended.verdict) == (RunState.FINISHED, Verdict.PASSED)
    assert (ended.started_at, ended.ended_at) == (NOW, NOW + timedelta(minutes=5))
    (fact,) = store.facts(kinds=["restore-test.closed"])
    assert (fact.run, fact.observation.key) == (run.id, f"run/{run.id}/closed")


def test_the_first_to_close_a_run_decides(store: SqlStore, clock: SetClock) -> None:
    run = store.enqueue(request())
    store.start_run(run.id, "srv1")
    started = store.run(run.id)
    close_interrupted(store, started, NOW)
    close(store, started)
    ended = store.run(run.id)
    assert (ended.state, ended.code) == (RunState.INTERRUPTED, "daemon_died")
    (fact,) = store.facts(kinds=["restore-test.closed"])
    assert fact.observation.data["state"] == "interrupted"
    assert fact.observation.data["verdict"] == "could_not_verify"


def test_cancelling(store: SqlStore, clock: SetClock) -> None:
    waiting, running = store.enqueue(request("a")), store.enqueue(request("b"))
    store.start_run(running.id, "srv1")
    assert store.cancel(waiting.id, "uid/7")
    assert store.run(waiting.id).state is RunState.CANCELLED
    (fact,) = store.facts(kinds=["restore-test.closed"])
    assert (fact.author, fact.observation.data["code"]) == ("uid/7", "by_operator")
    assert not store.start_run(waiting.id, "srv1")
    assert not store.cancel(waiting.id, "uid/7")
    assert store.cancel_requested_by(running.id) is None
    assert store.cancel(running.id, "uid/7")
    assert store.cancel_requested_by(running.id) == "uid/7"
    assert store.run(running.id).state is RunState.RUNNING
    assert not store.cancel("nothing", "uid/7")


def test_finding_runs(store: SqlStore, clock: SetClock) -> None:
    first = store.enqueue(request("a"))
    clock.forward(minutes=1)
    second = store.enqueue(request("b", task="integrity", subject="repository/nas"))
    store.start_run(second.id, "srv1")
    assert [run.id for run in store.runs()] == [second.id, first.id]
    assert [run.id for run in store.runs(states=[RunState.WAITING])] == [first.id]
    assert [run.id for run in store.runs(task="integrity")] == [second.id]
    assert [run.id for run in store.runs(subject="application/dpi")] == [first.id]
    assert len(store.runs(limit=1)) == 1
