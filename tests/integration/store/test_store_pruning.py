"""Contents past their time: dropped on purpose, told, and the chain stays verifiable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupguard.evidence.verify import Standing, prunings, verify
from backupguard.model import Observation
from backupguard.store import open_store
from backupguard.store.sql import SqlStore

START = datetime(2020, 3, 5, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


def record(store: SqlStore, kind: str, key: str, data: dict[str, object]) -> int:
    at = datetime.now(UTC)
    made = Observation(kind=kind, subject="site", observed_at=at, key=key, data=data)
    return store.append([made])[0].seq


def test_what_is_past_its_time_goes_and_what_holds_today_stays(tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(tmp_path, now=clock)
    old = [record(store, "pause.ended", f"p/{n}", {"reason": str(n)}) for n in range(3)]
    alone = record(store, "daemon.stopped", "d", {"host": "srv1", "reason": "reste le dernier"})
    step = [record(store, "clock.stepped", f"c/{n}", {"step_ms": n}) for n in range(2)]
    clock.at = START + 4 * 365 * DAY
    young = record(store, "pause.ended", "p/young", {"reason": "9"})
    clock.at = START + 6 * 366 * DAY
    assert store.past(START + DAY)[0].count == 3
    assert store.past(START - DAY) == ()
    anchor = store.anchor()
    facts, counts = store.prune(clock.at, "fin de conservation", "uid/1000")
    store.seal()
    assert counts == {"pause.ended": 3}
    assert facts[0].observation.data["reason"] == "fin de conservation"
    assert facts[0].author == "uid/1000"
    bodies = {one.seq: one.body for one in store.records()}
    assert [bodies[seq] for seq in old] == [None] * 3
    assert bodies[alone] is not None
    assert all(bodies[seq] is not None for seq in step)  # what excuses a clock that goes back
    assert bodies[young] is not None
    found = verify(
        store.records(),
        store.seals(),
        store=store.store_id,
        trusted=[store.key.fingerprint],
        anchors=[anchor],
        pruned=tuple(prunings(store.records(kinds=["evidence.pruned"]))),
        head=store.head(),
    )
    assert (found.standing, found.pruned) == (Standing.PROVED, 3)
    assert store.past(clock.at) == ()
    assert store.prune(clock.at, "encore", "uid/1000") == ((), {})
    store.close()


def test_a_record_of_a_dead_clock_takes_nothing_along(tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(tmp_path, now=clock)
    old = [record(store, "pause.ended", f"p/{n}", {"reason": str(n)}) for n in range(2)]
    clock.at = START + 6 * 366 * DAY
    young = record(store, "pause.ended", "p/young", {"reason": "hier"})
    clock.at = datetime(1970, 1, 1, 0, 3, tzinfo=UTC)
    dead = record(store, "pause.ended", "p/dead", {"reason": "pile à plat"})
    clock.at = START + 6 * 366 * DAY + DAY
    last = record(store, "pause.ended", "p/last", {"reason": "aujourd’hui"})
    facts, counts = store.prune(clock.at, "fin de conservation", "uid/1000")
    assert counts == {"pause.ended": 2}
    assert facts[0].observation.data["last_seq"] < young
    bodies = {one.seq: one.body for one in store.records()}
    assert [bodies[seq] for seq in old] == [None, None]
    assert all(bodies[seq] is not None for seq in (young, dead, last))
    store.close()
