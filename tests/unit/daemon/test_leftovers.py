"""What dead runs left: looked at until it is closed, swept beside all else, given up with a reason."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backupguard import runs
from backupguard.contracts import Store
from backupguard.daemon import elsewhere
from backupguard.daemon.leftovers import Leftovers, give_up
from backupguard.daemon.requests import request
from backupguard.errors import Cancelled, StoreError
from backupguard.model import Run, RunState
from backupguard.settings import Settings, load
from backupguard.store import open_store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "backupguard.toml"
    path.write_text(f'[site]\nname = "Essai"\n[store]\ndirectory = "{tmp_path / "state"}"\n')
    return load(path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings.state_directory)
    yield opened
    opened.close()


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[str], bool]]:
    """Return what each sweep was told of runs that are to be kept."""
    seen: list[Callable[[str], bool]] = []
    monkeypatch.setattr(runs, "sweep", lambda _place, is_kept, _tools: seen.append(is_kept))
    return seen


def running(store: Store) -> Run:
    run = store.enqueue(request("inventory", "site", requested_by="schedule"))
    assert store.start_run(run.id, socket.gethostname())
    return stands(store, run)


def stands(store: Store, run: Run) -> Run:
    found = store.run(run.id)
    assert found is not None
    return found


def test_a_run_whose_lock_was_held_is_looked_at_until_it_is_closed(
    settings: Settings, store: Store, swept: list[Callable[[str], bool]]
) -> None:
    run = running(store)
    place = settings.runs_directory / run.id
    place.mkdir(parents=True)
    held = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    left = Leftovers(lambda: settings, store, frozenset())
    assert left.wanted(), "nothing was swept yet"
    asyncio.run(left.sweep())
    assert not left.wanted()
    assert stands(store, run).state is RunState.RUNNING
    assert swept[0](run.id), "whoever removes a directory holds its lock: closed first, swept then"
    left.look([run])
    assert left.wanted()
    os.close(held)
    asyncio.run(left.sweep())
    assert (stands(store, run).state, stands(store, run).code) == (
        RunState.INTERRUPTED,
        "daemon_died",
    )
    assert not swept[1](run.id)
    performed = Leftovers(lambda: settings, store, {run.id})
    performed.unswept = False
    performed.look([run])
    assert not performed.wanted()
    left.end()


def test_a_sweep_of_hours_stops_nothing_and_is_not_begun_twice(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, times = threading.Event(), list[int]()

    def slow(_place: Path, _kept: Callable[[str], bool], tools: elsewhere.Elsewhere) -> None:
        times.append(1)
        began.set()
        assert tools._cancel.wait(20)
        tools._cancel.raise_if_set()

    monkeypatch.setattr(runs, "sweep", slow)
    monkeypatch.setenv(elsewhere.VARIABLE, "/nobody.sock")
    left = Leftovers(lambda: settings, store, frozenset())

    async def main() -> None:
        hours = asyncio.create_task(left.sweep())
        await asyncio.to_thread(began.wait, 20)
        left.unswept = True
        assert not left.wanted()
        await left.sweep()
        left.close()  # what died meanwhile is closed all the same
        left.cancel.set("by_stop")
        with pytest.raises(Cancelled):
            await hours
        left.end()

    asyncio.run(main())
    assert times == [1]
    assert left.unswept


def test_a_sweep_that_fails_is_wanted_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise StoreError("corrupt_store")

    left = Leftovers(lambda: settings, store, frozenset())
    monkeypatch.setattr(runs, "sweep", fails)
    with pytest.raises(StoreError):
        asyncio.run(left.sweep())
    assert left.wanted()
    left.end()


@pytest.mark.parametrize(
    ("unit", "status", "code"),
    [
        (True, -signal.SIGKILL, "sandbox_unavailable"),
        (True, 1, "bug"),
        (False, -signal.SIGKILL, "bug"),
    ],
    ids=["no unit", "an error", "a child"],
)
def test_a_unit_that_does_not_start_is_no_bug(
    store: Store, monkeypatch: pytest.MonkeyPatch, unit: bool, status: int, code: str
) -> None:
    if unit:
        monkeypatch.setenv(elsewhere.VARIABLE, "/run/backupguard-runner/runner.sock")
    else:
        monkeypatch.delenv(elsewhere.VARIABLE, raising=False)
    run = store.enqueue(request("inventory", "site", requested_by="schedule"))
    give_up(store, run, status)
    assert (stands(store, run).state, stands(store, run).code) == (RunState.FINISHED, code)
