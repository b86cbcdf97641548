"""A file or directory that may not be opened accuses nobody, and hides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.model import Baseline, Fingerprint, Verdict
from restore_tests import files_earlier, inside
from restore_tests.files import FILES
from restore_tests.settings import FilesSettings


def looked_at(root: Path) -> dict[str, Any]:
    request = {
        **files_earlier.request(None), "part": False, "manifests": [],
        "root": str(root), "limit": 1 << 62, "floor": 0, "checks": [],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", inside.text("files_look.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(200):
        (tmp_path / "images" / f"{number}.dcm").write_bytes(bytes(128) + b"DICM")
    return tmp_path


@pytest.mark.parametrize("closed", ["images", "images/3.dcm"], ids=["directory", "file"])
def test_it_is_counted_and_nothing_is_concluded_beside_it(root: Path, closed: str) -> None:
    assert looked_at(root)["unreadable"] == 0
    (root / closed).chmod(0)
    found = looked_at(root)
    (root / closed).chmod(0o700)
    assert found["unreadable"] == 1
    baseline = Baseline(fingerprint=Fingerprint(tables={"dcm": 200}), accepted=True, seq=1)
    trial: Any = SimpleNamespace(
        memory={"found": found}, settings=FilesSettings(), baseline=baseline, previous=None
    )
    (only,) = FILES.verify(trial, 3)
    assert (only.verdict, only.code) == (Verdict.COULD_NOT_VERIFY, "consistency_unknown")
