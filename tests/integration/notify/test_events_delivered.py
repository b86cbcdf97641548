"""From a fact in a daemon's store to the collector: through outages and kills, nothing lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.daemon.couriers import Courier, couriers, wait_after
from backupguard.errors import Unreachable
from backupguard.model import SYSLOG, Observation
from backupguard.notify import derive
from backupguard.settings import load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore
from tests.integration.daemon.living import Site, wait_for

from .collector import Authority, Collector, ids

SETTINGS = """
[soc.syslog]
host = "127.0.0.1"
port = {port}
ca = "{ca}"
certificate = "{certificate}"
key.file = "{key}"
patience = "2s"
"""


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    place = tmp_path / "collector"
    place.mkdir()
    made = Collector(place, Authority(place), "gtls", "x509/certvalid")
    yield made
    made.stop()


@pytest.fixture
def site(tmp_path: Path, collector: Collector) -> Iterator[Site]:
    place = tmp_path / "site"
    place.mkdir()
    made = Site(place)
    certificate, key = collector.authority.issue("backupguard")
    made.write(
        SETTINGS.format(
            port=collector.port, ca=collector.authority.file, certificate=certificate, key=key
        ),
        language="en",
    )
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    made.manager.close()


class Clock:
    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time


class Desk:
    """A store and its couriers, without the daemon around them."""

    def __init__(self, site: Site) -> None:
        self.clock = Clock()
        self.settings = load(site.config)
        self.store: SqlStore = open_store(
            self.settings.state_directory,
            now=self.clock,
            site="CH de test",
            channels=self.settings.channels,
        )
        _, self.courier = couriers(self.store, lambda: self.settings, self.clock)
        self.told = 0

    def happen(self, count: int = 1) -> None:
        for _ in range(count):
            self.told += 1
            seen = Observation(
                kind="clock.stepped",
                subject="site",
                observed_at=self.clock(),
                data={"step_ms": self.told},
                key=f"test/{self.told}",
            )
            self.store.append([seen])


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    made = Desk(site)
    yield made
    made.store.close()


def steps(events: list[dict[str, Any]]) -> list[int]:
    return [e["backupguard.step_ms"] for e in events if e["event.code"] == "clock.stepped"]


def test_a_day_without_the_collector_loses_nothing_and_doubles_nothing(
    desk: Desk, collector: Collector
) -> None:
    collector.start()
    desk.happen(3)
    desk.courier.deliver()
    collector.wait(3)

    collector.kill()
    attempts = 0
    for _ in range(24):
        desk.happen(5)
        attempts += desk.courier.deliver() == 0
        desk.clock.time += timedelta(hours=1)
    assert attempts == 24
    assert desk.store.line(SYSLOG).count >= 24 * 5

    collector.start()
    desk.courier.deliver()

    found = collector.wait(1 + 3 + 24 * 5)
    assert steps(found) == list(range(1, desk.told + 1)), "all of them, in order"
    assert max(Counter(ids(found)).values()) == 1
    assert desk.store.line(SYSLOG).count == 0


def test_a_collector_that_dies_gets_the_rest_when_it_is_back(
    desk: Desk, collector: Collector
) -> None:
    """Killed again and again in the middle: each event arrives, and one sent twice has one id."""
    for _ in range(4):
        collector.start()
        desk.happen(40)
        desk.courier.deliver()
        collector.kill()
        desk.happen(10)
        desk.courier.deliver()
        desk.clock.time += timedelta(hours=1)
    collector.start()
    desk.courier.deliver()
    wait_for(lambda: steps(collector.events())[-1:] == [desk.told])
    counted = Counter(ids(collector.events()))
    # what it had read and not yet written when it was killed is its own affair: told in the manual
    assert len(counted) >= 1 + desk.told - 4 * 41
    assert max(counted.values()) == 1


def test_the_time_between_attempts_doubles_up_to_five_minutes() -> None:
    waits = [wait_after(n).total_seconds() for n in range(1, 9)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert wait_after(10_000) == timedelta(minutes=5)


def test_what_goes_wrong_in_one_event_stops_nobody(desk: Desk) -> None:
    calls: list[int] = []

    def broken(events: Any) -> None:
        calls.append(len(events))
        raise ZeroDivisionError

    desk.happen(2)
    courier = Courier(desk.store, SYSLOG, broken, desk.clock)
    assert courier.deliver() == 0
    assert courier.deliver() == 0
    assert len(calls) == 1, "it waits before it tries again"
    desk.clock.time += timedelta(minutes=6)
    courier.deliver()
    assert len(calls) == 2


def test_a_fact_that_nothing_can_be_told_of_does_not_hold_up_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backupguard.daemon import couriers as module

    def derived(fact: Any, before: Any, store: str) -> Any:
        if fact.observation.key == "test/2":
            raise ZeroDivisionError
        return derive(fact, before, store)

    monkeypatch.setattr(module, "derive", derived)
    got: list[Any] = []
    desk.happen(3)
    Courier(desk.store, SYSLOG, got.extend, desk.clock).deliver()
    assert [event.values["step_ms"] for event in got if event.code == "clock.stepped"] == [1, 3]
    assert desk.store.line(SYSLOG).count == 0


def test_twice_rather_than_never(desk: Desk) -> None:
    """Ended between the delivery and its note: the same events again, with the same ids."""
    got: list[list[str]] = []

    def deliver_and_die(events: Any) -> None:
        got.append([event.id for event in events])
        raise Unreachable("timeout")

    desk.happen(2)
    Courier(desk.store, SYSLOG, deliver_and_die, desk.clock).deliver()
    desk.clock.time += timedelta(minutes=6)
    Courier(desk.store, SYSLOG, deliver_and_die, desk.clock).deliver()
    assert got[0] == got[1]


# -------------------------------------------------------------------------------- a whole daemon


def test_a_daemon_that_is_killed_tells_all_of_it_later(site: Site, collector: Collector) -> None:
    """Collector down, daemon killed with all it owes, both back: every fact's event, once."""
    first = site.start()
    wait_for(lambda: b"notify.failed" in site.log.read_bytes())
    first.kill()
    first.wait()

    collector.start()
    second = site.start()
    wait_for(lambda: "daemon.recovered" in [e["event.code"] for e in collector.events()])
    time.sleep(0.5)
    second.terminate()
    assert second.wait(timeout=30) == 0

    found = collector.events()
    codes = [event["event.code"] for event in found]
    assert codes[0] == "evidence.key-created"
    assert {"daemon.started", "daemon.recovered", "daemon.stopped", "finding.opened"} <= set(codes)
    assert max(Counter(ids(found)).values()) == 1
    assert [e["event.sequence"] for e in found] == sorted(e["event.sequence"] for e in found)

    journal = [json.loads(row) for row in site.log.read_text().splitlines() if row[:1] == "{"]
    written = [row for row in journal if row.get("event.dataset") == "backupguard.events"]
    assert set(ids(written)) == set(ids(found)), "the journal has the same"
    assert next(row for row in written if row["event.code"] == "daemon.stopped")["message"]
