from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from backupguard.store import open_store
from backupguard.store.sql import SqlStore
from tests.postgres import Cluster, start_cluster

_numbers = itertools.count(1)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **length: int) -> None:
        self.time += timedelta(**length)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = start_cluster(tmp_path_factory.mktemp("postgresql") / "data")
    yield started
    started.stop()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    def make() -> str:
        # A schema of its own is as good as a database of its own, and made at once.
        url = request.getfixturevalue("cluster").url()
        name = f"store_{next(_numbers)}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{url}&options=-csearch_path%3D{name}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock, database_url: Callable[[], str]
) -> Iterator[Callable[[], SqlStore]]:
    """Opens the same store again and again, on either database."""
    url = None if request.param == "sqlite" else database_url()
    stores: list[SqlStore] = []

    def open_again() -> SqlStore:
        stores.append(open_store(tmp_path / "state", url, now=clock, site="CH de Belle-Rive"))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], SqlStore]) -> SqlStore:
    return opened()
