"""One kill -9 per engine and at least one per victim, at moments of chance; script/kills does more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.survival.engines import KILLED, Backups
from tests.integration.survival.killing import VICTIMS, Siege, siege

#: Each engine with a victim of its own, so that each victim has its turn.
SAMPLE = [(engine, VICTIMS[n % len(VICTIMS)]) for n, engine in enumerate(KILLED)]


@pytest.fixture(scope="module")
def under_fire(
    backups: Backups, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Siege, dict[str, tuple[int, int]]]]:
    with siege(tmp_path_factory.mktemp("siege"), backups, seed=4, engines=KILLED) as made:
        yield made, made.place.listing()
        assert made.swept()
        assert made.proved()


@pytest.mark.parametrize(("engine", "victim"), SAMPLE, ids=str)
def test_whatever_is_killed_leaves_nothing_and_accuses_nobody(
    under_fire: tuple[Siege, dict[str, tuple[int, int]]], engine: str, victim: str
) -> None:
    made, before = under_fire
    struck = next(filter(None, (made.strike(engine, victim) for _ in range(6))))
    assert not struck.wrong, struck
    assert made.passes(engine) is not None
    assert made.place.listing() == before
