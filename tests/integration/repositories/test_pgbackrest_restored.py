"""What pgBackRest keeps comes back to life in the sandbox: each kind of backup, and chosen times."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import RestoreTestResult, Verdict
from backupguard.repositories.pgbackrest import PGBACKREST
from backupguard.testing import TestContext
from restore_tests.postgresql_physical import POSTGRESQL_PHYSICAL
from restore_tests.settings import PostgresqlPhysicalSettings
from tests.integration.repositories.pgbackrest_maker import Archived, selector
from tests.integration.restore_tests.harness import Trials


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(
        tmp_path, engines={"postgresql-physical": POSTGRESQL_PHYSICAL}, now=datetime.now(UTC)
    )


def restored(
    trials: Trials, archived: Archived, here: TestContext, path: Path | None = None, **plan: Any
) -> RestoreTestResult:
    check = {"name": "séjours", "sql": "select count(*) from stays", "equals": plan.pop("rows", 0)}
    settings = {"engine": "postgresql-physical", "memory": 600_000_000, "checks": [check]}
    with PGBACKREST.open("pg", archived.settings(path), here) as repository:
        return trials.perform(
            repository,
            settings=PostgresqlPhysicalSettings.model_validate(settings),
            selectors={"nas": (selector(),)},
            **plan,
        )


@pytest.mark.parametrize(
    ("number", "rows"), [(0, 0), (2, 2)], ids=["full", "incremental on differential"]
)
def test_each_kind_opens_with_its_log(
    trials: Trials, archived: Archived, here: TestContext, number: int, rows: int
) -> None:
    result = restored(trials, archived, here, point=archived.labels()[number], rows=rows)
    assert (result.verdict, result.code) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    assert result.fingerprint.tables["public.labs"] == 500  # in a tablespace
    found = {check.name: check.code for check in result.checks}
    assert "manifest" not in found  # pgBackRest has its own
    assert found["page-checksums"] == "warning_no_page_checksums"
    assert {"pgbackrest", "postgresql"} <= result.tools.keys()


def test_a_chosen_time(trials: Trials, archived: Archived, here: TestContext) -> None:
    at = datetime.fromisoformat(archived.mark.read_text())
    result = restored(trials, archived, here, at=at, rows=5)
    assert (result.verdict, result.code) == (Verdict.PASSED, None), result
    assert result.target == at
    (recovery,) = [check for check in result.checks if check.name == "recovery"]
    assert recovery.code == "ok"
    assert recovery.times["replayed"] <= at


def test_an_incremental_without_its_base(
    trials: Trials, archived: Archived, here: TestContext, tmp_path: Path
) -> None:
    broken = archived.copy(tmp_path / "broken")
    shutil.rmtree(broken / "backup" / "main" / archived.labels()[0])
    result = restored(trials, archived, here, broken, point=archived.labels()[2])
    assert (result.verdict, result.code) == (Verdict.FAILED, "missing_object")


def test_a_segment_missing_on_the_way(
    trials: Trials, archived: Archived, here: TestContext, tmp_path: Path
) -> None:
    broken = archived.copy(tmp_path / "broken")
    segments = archived.segments(broken)
    segments[sorted(segments)[-3]].unlink()
    at = datetime.fromisoformat(archived.mark.read_text())
    result = restored(trials, archived, here, broken, at=at)
    assert (result.verdict, result.code) == (Verdict.FAILED, "wal_gap")


def test_a_damaged_segment_is_not_fetched(
    trials: Trials, archived: Archived, here: TestContext, tmp_path: Path
) -> None:
    broken = archived.copy(tmp_path / "broken")
    segments = archived.segments(broken)
    path = segments[sorted(segments)[-2]]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    stamp = path.stat().st_mtime
    path.write_bytes(content)
    os.utime(path, (stamp, stamp))
    at = datetime.fromisoformat(archived.mark.read_text())
    result = restored(trials, archived, here, broken, at=at)
    assert (result.verdict, result.code) == (Verdict.FAILED, "corrupt")
    assert result.phases[-2].phase.value == "fetch"
