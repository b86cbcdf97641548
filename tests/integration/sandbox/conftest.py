"""A sandbox of each test's own, and programs run in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Completed
from backupguard.processes import Cancellation
from backupguard.sandbox import Box, SandboxLimits, open_sandbox


@pytest.fixture
def cancel() -> Cancellation:
    return Cancellation()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """What a fetch left: one file."""
    place = tmp_path / "fetched"
    place.mkdir()
    (place / "dpi.dump").write_bytes(b"PGDMP of nobody\n")
    return place


@pytest.fixture
def opened(tmp_path: Path, artifact: Path, cancel: Cancellation) -> Callable[..., Any]:
    """Open a sandbox with some limits changed."""

    def open_it(**limits: int) -> Any:
        return open_sandbox(
            tmp_path / "box", artifact, limits=SandboxLimits(**limits), cancel=cancel
        )

    return open_it


@pytest.fixture
def box(opened: Callable[..., Any]) -> Iterator[Box]:
    with opened() as box:
        yield box


@pytest.fixture
def shell(box: Box) -> Callable[..., Completed]:
    """Run a shell script in the sandbox."""

    def run(script: str, *arguments: str, **options: Any) -> Completed:
        options = {"scratch": True, "timeout_s": 60} | options
        return box.run(("/bin/sh", "-c", script, "sh", *arguments), **options)

    return run


@pytest.fixture
def python(box: Box) -> Callable[..., Any]:
    """Run a Python program in the sandbox; return the JSON it prints."""

    def run(program: str, *arguments: str, **options: Any) -> Any:
        options = {"scratch": True, "timeout_s": 60} | options
        done = box.run(("/usr/bin/python3", "-c", program, *arguments), **options)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    return run
