"""What the outcome of a probe makes of its run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.daemon import tasks
from backupguard.model import Criticality, Verdict, to_us


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
        run=SimpleNamespace(request=SimpleNamespace(options={})), tools_used={}, recorded=0
    )
    assert tasks.inventory(task) == (verdict, code)


@pytest.mark.parametrize(
    ("instance", "exchange", "scratch", "clear"),
    [
        (None, "clear", "encrypted", False),
        ("sql", "clear", "encrypted", True),
        ("sql", "encrypted", "encrypted", False),
        ("sql", "encrypted", "clear", True),
        ("sql", "absent", "encrypted", False),
    ],
    ids=["no server", "exchange", "neither", "scratch", "absent"],
)
def test_what_a_scratch_server_reads_from_is_judged_as_scratch_is(
    monkeypatch: pytest.MonkeyPatch, instance: str | None, exchange: str, scratch: str, clear: bool
) -> None:
    def protection(path: Path) -> str:
        if path.name == "absent":
            raise FileNotFoundError
        return path.name

    monkeypatch.setattr(tasks, "scratch_protection", protection)
    given = SimpleNamespace(settings=SimpleNamespace(exchange=Path("/exchange", exchange)))
    owner = SimpleNamespace(
        criticality=Criticality.C1, restore_test=SimpleNamespace(instance=instance)
    )
    task: Any = SimpleNamespace(
        settings=SimpleNamespace(
            applications={"dpi": owner},
            scratch=SimpleNamespace(clear_text_accepted_by=""),
            instance={"sql": given}.get,
        ),
        context=SimpleNamespace(work=Path("/runs", scratch)),
    )
    assert tasks.in_clear(task, "dpi") is clear
    task.settings.scratch.clear_text_accepted_by = "RSSI"
    assert not tasks.in_clear(task, "dpi")


def test_an_inventory_of_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_observe", lambda *_arguments: iter(()))
    task: Any = SimpleNamespace(
        run=SimpleNamespace(request=SimpleNamespace(options={})), recorded=0
    )
    assert tasks.inventory(task)[0] is Verdict.COULD_NOT_VERIFY


@pytest.mark.parametrize("pruned", [False, True])
def test_a_baseline_knows_from_when_it_is(pruned: bool) -> None:
    at = datetime(2026, 6, 1, tzinfo=UTC)
    accepted: Any = SimpleNamespace(
        seq=9,
        observation=SimpleNamespace(data={"fingerprint": {"tables": {"a.b": 1}}, "from_seq": 7}),
    )
    result: Any = SimpleNamespace(
        observation=SimpleNamespace(data=None if pruned else {"point_at": to_us(at)})
    )
    found = tasks.baseline_of({"baseline.accepted": accepted}, {7: result}.get)
    assert found is not None
    assert found.accepted
    assert found.point_at == (None if pruned else at)


def test_nobody_accepted_what_was_reset_since() -> None:
    accepted: Any = SimpleNamespace(seq=9)
    reset: Any = SimpleNamespace(seq=10)
    facts = {"baseline.accepted": accepted, "baseline.reset": reset}
    assert tasks.baseline_of(facts, lambda _seq: None) is None
