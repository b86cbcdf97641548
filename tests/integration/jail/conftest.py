"""A jail of each test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backupguard.contracts import Command, Completed
from backupguard.processes import Cancellation, Jail


@pytest.fixture
def cancel() -> Cancellation:
    return Cancellation()


@pytest.fixture
def jail(tmp_path: Path, cancel: Cancellation) -> Jail:
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    return Jail(work, cancel)


@pytest.fixture
def shell(jail: Jail) -> Callable[..., Completed]:
    """Run a shell script in the jail."""

    def run(script: str, *arguments: str, timeout_s: int = 30, **values: object) -> Completed:
        argv = ("sh", "-c", script, "sh", *arguments)
        return jail.run(Command(argv=argv, timeout_s=timeout_s, **values))

    return run
