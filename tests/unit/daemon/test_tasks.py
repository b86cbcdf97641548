"""What the outcome of a probe makes of its run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.daemon import tasks
from backupguard.model import Verdict


@pytest.mark.parametrize(
    ("reachable", "code", "verdict"),
    [
        (True, None, Verdict.PASSED),
        (True, "corrupt", Verdict.FAILED),
        (False, "timeout", Verdict.COULD_NOT_VERIFY),
        (False, "bug", Verdict.COULD_NOT_VERIFY),
        (True, "output_unparsable", Verdict.COULD_NOT_VERIFY),
        (False, None, Verdict.COULD_NOT_VERIFY),
    ],
)
def test_an_inventory_passes_only_when_nothing_was_in_its_way(
    monkeypatch: pytest.MonkeyPatch, reachable: bool, code: str | None, verdict: Verdict
) -> None:
    data = {"reachable": reachable, "code": code, "tool": None, "tool_version": None}
    seen = SimpleNamespace(kind="repository.inspected", data=data)
    monkeypatch.setattr(tasks, "_observe", lambda *_arguments: iter([seen]))
    task: Any = SimpleNamespace(
        run=SimpleNamespace(request=SimpleNamespace(options={})), tools_used={}
    )
    assert tasks.inventory(task) == (verdict, code)


def test_an_inventory_of_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_observe", lambda *_arguments: iter(()))
    task: Any = SimpleNamespace(run=SimpleNamespace(request=SimpleNamespace(options={})))
    assert tasks.inventory(task)[0] is Verdict.COULD_NOT_VERIFY
