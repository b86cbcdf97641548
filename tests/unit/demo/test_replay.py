"""A year told again: same code, clock set back, and every record of it says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.demo.replay import MONTHS, SetClock, months, replay, shifted
from backupguard.errors import Cancelled
from backupguard.model import REPLAYED, Fact, Observation, Verdict
from backupguard.processes import Cancellation
from backupguard.settings import Settings, load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore

SPECIMEN = Path(__file__).parents[1] / "evidence" / "specimens" / "restore-test.result.1.json"
CONFIGURATION = """
[site]
name = "CH de Belle-Rive (démonstration)"
timezone = "Europe/Paris"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
[applications.ged]
name = "Gestion documentaire"
criticality = "C3"
[applications.ged.backups.nightly]
repository = "nas"
every = "24h"
"""


def result(name: str) -> Fact:
    """Return what a restore test gave just now."""
    data = {**json.loads(SPECIMEN.read_text())["data"], "application": name}
    seen = Observation(
        kind="restore-test.result",
        subject=f"application/{name}",
        observed_at=datetime.now(UTC),
        data=data,
        key=f"run/{name}/result",
    )
    return Fact(
        seq=1, recorded_at=seen.observed_at, run=None, author=None, hash=b"", observation=seen
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "backupguard.toml"
    path.write_text(CONFIGURATION.replace("HERE", str(tmp_path)), encoding="utf-8")
    return load(path, environ={})


@pytest.fixture
def clock() -> SetClock:
    _, begin = next(months(datetime.now(UTC), "Europe/Paris"))
    return SetClock(begin)


@pytest.fixture
def store(settings: Settings, clock: SetClock) -> Iterator[SqlStore]:
    made = open_store(
        settings.state_directory,
        now=clock,
        site=settings.site.name,
        timezone=settings.site.timezone,
    )
    yield made
    made.close()


def test_a_year_is_told_month_by_month_and_marked(
    store: SqlStore, settings: Settings, clock: SetClock
) -> None:
    done = replay(store, settings, [result("dpi"), result("ged")], clock, Cancellation())
    assert {run.verdict for run in done} == {Verdict.PASSED}
    facts = list(store.facts())
    assert {fact.author for fact in facts if fact.observation.kind != "evidence.key-created"} == {
        REPLAYED
    }
    assert [fact.recorded_at for fact in facts] == sorted(fact.recorded_at for fact in facts)
    tests = [fact for fact in facts if fact.observation.kind == "restore-test.result"]
    names = [fact.observation.data["application"] for fact in tests]
    assert names.count("dpi") == MONTHS
    assert names.count("ged") == 1
    ages = {fact.observation.observed_at - fact.recorded_at for fact in tests}
    assert max(map(abs, ages)) < timedelta(minutes=1)
    reports = [fact.observation.data for fact in store.facts(kinds=("report.issued",))]
    wanted = [month for month, _ in months(datetime.now(UTC), "Europe/Paris")]
    assert [one["month"] for one in reports if one["format"] == "html"] == wanted
    page = settings.state_directory / "reports" / f"backupguard-{wanted[-1]}-fr.html"
    assert "rejoué" in page.read_text(encoding="utf-8")
    assert abs(clock() - datetime.now(UTC)) < timedelta(minutes=1), "it is let go"


def test_the_clock_is_let_go_when_it_is_cancelled(
    store: SqlStore, settings: Settings, clock: SetClock
) -> None:
    cancel = Cancellation()
    cancel.set("by_operator")
    with pytest.raises(Cancelled):
        replay(store, settings, [result("dpi")], clock, cancel)
    assert abs(clock() - datetime.now(UTC)) < timedelta(minutes=1)


def test_months_begin_at_the_site() -> None:
    found = list(months(datetime(2026, 2, 28, 23, 30, tzinfo=UTC), "Europe/Paris"))
    assert len(found) == MONTHS
    assert found[0] == ("2025-04", datetime(2025, 3, 31, 22, 0, tzinfo=UTC))
    assert found[-1] == ("2026-02", datetime(2026, 1, 31, 23, 0, tzinfo=UTC))


def test_every_time_of_a_payload_is_moved_and_nothing_else() -> None:
    data = {
        "point_at": 10,
        "target_at": None,
        "duration_ms": 10,
        "checks": [{"times": {"newest": 10}, "numbers": {"rows": 10}}],
    }
    assert shifted(data, -4) == {
        "point_at": 6,
        "target_at": None,
        "duration_ms": 10,
        "checks": [{"times": {"newest": 6}, "numbers": {"rows": 10}}],
    }
