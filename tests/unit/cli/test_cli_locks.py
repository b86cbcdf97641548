"""Locks in words: whose, since when, alive or dead; nothing where there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backupguard.cli import locks
from backupguard.language import Words
from backupguard.model import Fact, Observation, to_us

SINCE = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)


def inspected(*found: dict[str, Any], kind: str = "repository.inspected") -> Fact:
    observation = Observation(
        kind=kind,
        subject="repository/nas",
        observed_at=SINCE,
        data={"locks": list(found)},
        key="test",
    )
    return Fact(seq=1, recorded_at=SINCE, run=None, author=None, hash=b"", observation=observation)


def lock(**changed: Any) -> dict[str, Any]:
    return {
        "host": "srv-dpi",
        "pid": 4711,
        "since_at": to_us(SINCE),
        "exclusive": True,
        "alive": True,
    } | changed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {},
            "Exclusive lock of process 4711 on srv-dpi since 5 Mar 2026 10:00; its holder is alive.",
        ),
        ({"alive": False, "exclusive": False}, "Shared lock"),
        ({"alive": False}, "its holder is gone"),
        ({"alive": None}, "cannot be told from here"),
        ({"host": None, "pid": None, "since_at": None}, "process ? on ? since ?"),
    ],
    ids=["alive", "shared", "dead", "unknown", "bare"],
)
def test_a_lock_is_explained(changed: dict[str, Any], said: str) -> None:
    words = Words("en", "Europe/Paris")
    (line,) = locks.said(inspected(lock(**changed)), words)
    assert said in line


def test_many_locks_are_counted_and_none_is_silent() -> None:
    words = Words("fr", "Europe/Paris")
    told = list(locks.said(inspected(*[lock(pid=n) for n in range(5)]), words))
    assert len(told) == 4
    assert "2" in told[-1]
    assert list(locks.said(inspected(), words)) == list(locks.said(None, words)) == []
    assert list(locks.said(inspected(lock(), kind="inventory.listed"), words)) == []
