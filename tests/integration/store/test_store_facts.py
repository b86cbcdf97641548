from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupguard.errors import Busy, EvidenceError
from backupguard.evidence.verify import Standing, prunings, verify
from backupguard.model import Json, Observation, Verdict
from backupguard.store import open_store
from backupguard.store.sql import SqlStore

from .conftest import SetClock

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)


def step(number: int, subject: str = "site", kind: str = "clock.stepped") -> Observation:
    data = {"step_ms": number} if kind == "clock.stepped" else {"reason": str(number)}
    return Observation(
        kind=kind, subject=subject, observed_at=NOW, data=data, key=f"{kind}/{subject}/{number}"
    )


def verified(*units: tuple[str, Verdict], key: str = "v/1") -> Observation:
    data: Json = {
        "units": [
            {"unit": unit, "verdict": verdict.value, "bytes": 1, "code": None}
            for unit, verdict in units
        ],
        "units_total": 3,
        "verdict": "passed",
        "code": None,
        "complete_at": None,
    }
    return Observation(
        kind="repository.verified", subject="repository/nas", observed_at=NOW, data=data, key=key
    )


def test_a_new_store_begins_with_its_key(store: SqlStore) -> None:
    (first,) = store.facts()
    assert first.observation.kind == "evidence.key-created"
    assert first.observation.data["fingerprint"] == store.key.fingerprint


def test_facts_come_back_as_observed_and_in_order(opened: Callable[[], SqlStore]) -> None:
    recorded = opened().append([step(1), step(2, "host/srv1")], run="R", author="uid/0")
    again = opened()
    assert tuple(again.facts(after=1)) == recorded
    assert again.fact(2) == recorded[0]
    assert again.fact(99) is None
    assert recorded[0].observation == step(1)
    assert (recorded[0].run, recorded[0].author) == ("R", "uid/0")
    assert again.head() == (3, recorded[1].hash)
    assert [f.seq for f in again.facts(subject="host/srv1")] == [3]
    assert [f.seq for f in again.facts(kinds=["pause.ended"])] == []


def test_a_key_that_exists_returns_its_first_fact(store: SqlStore) -> None:
    (first,) = store.append([step(1)])
    other = Observation(
        kind="clock.stepped", subject="site", observed_at=NOW, data={"step_ms": 9}, key=step(1).key
    )
    again, new, twice = store.append([other, step(2), step(2)])
    assert again == first
    assert new == twice
    assert store.head()[0] == 3


def test_a_payload_of_the_wrong_shape_records_nothing(store: SqlStore) -> None:
    wrong = Observation(
        kind="clock.stepped", subject="site", observed_at=NOW, data={"step_ms": 1.5}, key="w"
    )
    with pytest.raises(EvidenceError):
        store.append([step(1), wrong])
    assert store.head()[0] == 1


def test_more_than_a_page_of_facts(store: SqlStore) -> None:
    store.append([step(number) for number in range(1203)])
    assert [fact.seq for fact in store.facts()] == list(range(1, 1205))
    assert len(tuple(store.append([step(number) for number in range(1203)]))) == 1203
    assert store.head()[0] == 1204


def test_latest_and_changed_since(store: SqlStore) -> None:
    store.append([step(1), step(2), step(3, "host/srv1"), step(4, kind="pause.ended")])
    newest = store.latest()
    assert newest["site"]["clock.stepped"].observation == step(2)
    assert newest["host/srv1"]["clock.stepped"].observation == step(3, "host/srv1")
    assert set(store.latest(["site"], ["pause.ended"])) == {"site"}
    assert store.latest([], []) == {}
    assert store.changed_since(3) == (5, frozenset({"host/srv1", "site"}))
    assert store.changed_since(5) == (5, frozenset())


def test_only_units_that_passed_are_covered(store: SqlStore, clock: SetClock) -> None:
    store.append([verified(("bucket/1", Verdict.PASSED), ("bucket/2", Verdict.FAILED))])
    covered = store.coverage("nas")
    assert set(covered) == {"bucket/1"}
    assert (covered["bucket/1"].verified_at, covered["bucket/1"].seq) == (NOW, 2)
    store.append([verified(("bucket/1", Verdict.FAILED), ("bucket/2", Verdict.PASSED), key="v/2")])
    assert store.coverage("nas")["bucket/1"].seq == 2
    assert store.coverage("nas")["bucket/2"].seq == 3
    assert store.coverage("other") == {}


def test_seals_are_made_once_per_head_and_verify(store: SqlStore) -> None:
    store.seal()
    store.seal()
    assert [seal.seq for seal in store.seals()] == [1]
    store.append([step(1)])
    store.seal()
    assert [seal.seq for seal in store.seals()] == [1, 2]
    assert store.sealed()[0] == 2
    found = verify(
        store.records(),
        store.seals(),
        store=store.store_id,
        trusted=[store.key.fingerprint],
        anchors=[store.anchor()],
        head=store.head(),
    )
    assert found.standing is Standing.PROVED, found.problem


def test_erased_bodies_keep_their_hashes_and_a_fact_says_so(store: SqlStore) -> None:
    store.append([step(1), step(2), step(3, kind="pause.ended")])
    store.erase(1, 4, ["clock.stepped"], "retention", "uid/0")
    assert store.fact(2).observation.data is None
    assert store.fact(2).observation.key == step(1).key
    assert store.fact(4).observation.data == {"reason": "3"}
    assert store.append([step(1)])[0].seq == 2
    store.seal()
    found = verify(
        store.records(),
        store.seals(),
        store=store.store_id,
        pruned=tuple(prunings(store.records())),
        head=store.head(),
    )
    assert (found.standing, found.pruned) == (Standing.COHERENT, 2)


def test_threads_append_side_by_side(store: SqlStore) -> None:
    def work(thread: int) -> None:
        for number in range(20):
            store.append([step(thread * 100 + number)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.head()[0] == 121
    found = verify(store.records(), store.seals(), store=store.store_id, head=store.head())
    assert found.problem is None


def test_a_named_lock_is_held_by_one(opened: Callable[[], SqlStore]) -> None:
    one, other = opened(), opened()
    with one.lock("cycle"):
        with pytest.raises(Busy), other.lock("cycle"):
            pass
        with other.lock("daemon"):
            pass
    with other.lock("cycle"):
        pass


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with open_store(tmp_path).lock("x"):
            os.write(told, b".")
            threading.Event().wait()
    os.read(ready, 1)
    store = open_store(tmp_path)
    with pytest.raises(Busy), store.lock("x"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with store.lock("x"):
        pass
    store.close()
