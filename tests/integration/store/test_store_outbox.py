from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from backupguard.model import Observation
from backupguard.store.sql import SqlStore

from .conftest import SetClock

HOUR = timedelta(hours=1)


def seen(clock: SetClock, kind: str, key: str, **data: Any) -> Observation:
    return Observation(kind=kind, subject="site", observed_at=clock(), key=key, data=data)


def pause(clock: SetClock, key: str) -> Observation:
    return seen(clock, "pause.ended", key, reason="done")


def owed(store: SqlStore, channel: str) -> list[str]:
    return [one.fact.observation.key for one in store.waiting(channel)]


def test_every_channel_is_owed_each_fact_once(store: SqlStore, clock: SetClock) -> None:
    store.listen(["a", "b"])
    for _ in range(2):  # the second time it is a fact that exists
        store.append([pause(clock, "one"), pause(clock, "two")])
    assert owed(store, "a") == owed(store, "b") == ["one", "two"]

    store.sent("a", [one.fact.seq for one in store.waiting("a")])

    assert owed(store, "a") == []
    assert owed(store, "b") == ["one", "two"]
    assert store.line("b").count == 2
    assert store.line("b").oldest == clock()
    assert store.line("a").oldest is None


def test_what_tells_nothing_is_not_put_in_line(store: SqlStore, clock: SetClock) -> None:
    store.listen(["a"])
    store.append(
        [seen(clock, "policy.seen", "p", items={}, unread=[])],
    )
    assert owed(store, "a") == []


def test_after_a_failure_all_wait_and_keep_their_order(store: SqlStore, clock: SetClock) -> None:
    store.listen(["a"])
    store.append([pause(clock, "one")])
    store.postpone("a", [one.fact.seq for one in store.waiting("a")], clock() + HOUR)
    store.append([pause(clock, "two")])
    assert owed(store, "a") == []

    clock.forward(hours=2)

    assert owed(store, "a") == ["one", "two"]
    assert [one.attempts for one in store.waiting("a")] == [1, 0]


def test_a_clock_put_back_by_days_holds_nothing_up(store: SqlStore, clock: SetClock) -> None:
    store.listen(["a"])
    clock.forward(days=30)
    store.append([pause(clock, "one")])
    store.postpone("a", [one.fact.seq for one in store.waiting("a")], clock() + HOUR)

    clock.forward(days=-30)

    assert owed(store, "a") == ["one"]


def test_a_channel_that_is_not_configured_any_more_is_owed_nothing(
    store: SqlStore, clock: SetClock
) -> None:
    store.listen(["a", "b"])
    store.append([pause(clock, "one")])

    assert store.listen(["b", "c"]) == 1  # what was owed to "a"

    assert owed(store, "a") == []
    assert owed(store, "b") == ["one"]
    assert owed(store, "c") == [], "what was before it came is not told"


def test_how_something_stood_before_is_told_with_it(store: SqlStore, clock: SetClock) -> None:
    store.listen(["a"])
    for key, joined in (("one", False), ("two", True)):
        data = {"host": "srv1", "joined": joined, "domains": [], "seen_by": [], "unread": []}
        store.append([seen(clock, "host.joined", key, **data)])
    first, second = store.waiting("a")
    assert first.before is None
    assert second.before is not None
    assert second.before.observation.key == "one"


def test_what_is_owed_survives(opened: Callable[[], SqlStore], clock: SetClock) -> None:
    first = opened()
    first.listen(["a"])
    first.append([pause(clock, "one")])
    first.close()
    assert owed(opened(), "a") == ["one"]
