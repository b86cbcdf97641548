"""A site full of data and one that begins, each made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backupguard.web.published import Outputs

from .site import outputs


def _made(factory: pytest.TempPathFactory, *, full: bool) -> Iterator[Outputs]:
    made = outputs(factory.mktemp("site"), full=full)
    yield made
    assert made.records is not None
    made.records.store.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    yield from _made(tmp_path_factory, full=True)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    yield from _made(tmp_path_factory, full=False)
