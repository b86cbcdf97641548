"""Repositories made once for all tests that only read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from backupguard.testing import TestContext, context
from tests.integration.repositories.restic_maker import VERSIONS, Restic, fill, make


@pytest.fixture(scope="session")
def restics(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Restic]:
    """Return the healthy repository that a version of restic wrote: two snapshots, one tagged."""

    @cache
    def made(version: str) -> Restic:
        restic = make(tmp_path_factory.mktemp("restic") / version, version)
        fill(restic)
        restic.backup(restic.source)
        (restic.source / "etc" / "more.sql").write_text("two")
        restic.backup(restic.source, "--tag", "nightly")
        return restic

    return made


@pytest.fixture(params=VERSIONS)
def restic(request: pytest.FixtureRequest, restics: Callable[[str], Restic]) -> Restic:
    return restics(request.param)


@pytest.fixture
def restic_018(restics: Callable[[str], Restic]) -> Restic:
    return restics("0.18")


@pytest.fixture
def here(tmp_path: Path) -> TestContext:
    return context(tmp_path / "context")
