from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sabotage.hospital import Hospital, Site, copied, running


@pytest.fixture(scope="session")
def hospital() -> Iterator[Hospital]:
    # Kept apart from pytest's own directories, whose length and age are not ours.
    root = Path(tempfile.mkdtemp(prefix="backupguard-sabotage-"))
    try:
        with running(root) as made:
            yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def site(hospital: Hospital, tmp_path: Path) -> Iterator[Site]:
    with copied(hospital, tmp_path) as one:
        yield one
