"""Programs that the tests need beside Debian's: a missing one fails the test, loudly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parent.parent / ".tools" / "bin"


def program(name: str) -> Path:
    """Return the path of a program that script/install-programs puts into BACKUPGUARD_TOOLS."""
    path = Path(os.environ.get("BACKUPGUARD_TOOLS", _DEFAULT)) / name
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is missing; run script/install-programs")
    return path
