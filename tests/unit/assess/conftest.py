"""A small hospital: two applications, two repositories, a real store, a clock that is set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from backupguard.assess import Assessment, Assessor, EvidenceState
from backupguard.contracts import Store
from backupguard.controls import load_catalogue
from backupguard.model import (
    Finding,
    Listing,
    Observation,
    PointState,
    RecoveryPoint,
    to_us,
)
from backupguard.settings import Settings, load
from backupguard.store import open_store

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
CONFIGURATION = """
[site]
name = "CH de \\"Belle-Rive\\""
timezone = "Europe/Paris"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE/nas"
[repositories.tape]
type = "directory"
path = "HERE/tape"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "24h"
rto = "4h"
declared-by = "direction des soins"
declared-on = 2026-03-02
[applications.dpi.backups.nightly]
repository = "nas"
select.pattern = "dpi-%Y%m%d.dump"
schedule = "0 22 * * *"
[applications.dpi.backups.weekly]
repository = "tape"
select.pattern = "dpi-%Y%m%d.dump"
every = "7d"
[applications.labo]
name = "Laboratoire"
criticality = "C3"
rpo = "7d"
declared-by = "chef de service"
declared-on = 2026-03-02
[applications.labo.backups.nightly]
repository = "nas"
select.pattern = "labo-%Y%m%d.dump"
every = "24h"
"""


@dataclass
class Hospital:
    settings: Settings
    now: datetime = START
    store: Store = field(init=False)
    evidence: EvidenceState | None = None

    def __post_init__(self) -> None:
        self.store = open_store(self.settings.state_directory, now=lambda: self.now)
        self.assessor = self.new_assessor()
        self._count = 0

    def new_assessor(self) -> Assessor:
        given = None if self.evidence is None else (lambda now: self.evidence)
        return Assessor(self.store, self.settings, load_catalogue(), evidence=given)  # type: ignore[arg-type]

    def assess(self, *, full: bool = True) -> Assessment:
        return self.assessor.assess(self.now, full=full)

    def finding(self, control: str, subject: str) -> Finding:
        found = self.assess().finding(control, subject)
        assert found is not None
        return found

    def pass_time(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def record(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        self._count += 1
        self.store.append(
            [
                Observation(
                    kind=kind,
                    subject=subject,
                    observed_at=self.now,
                    data=data,
                    key=f"test/{kind}/{self._count}",
                )
            ]
        )

    def list_points(
        self, repository: str, *points: tuple[str, datetime], state: str = "complete"
    ) -> None:
        jobs = {selector.job for selector in self.settings.jobs_in(repository)}
        self.store.merge_listing(
            Listing(
                repository=repository,
                jobs=tuple(sorted(jobs)),
                points=tuple(
                    RecoveryPoint(
                        repository=repository,
                        job=job,
                        native_id=f"{job}/{at.isoformat()}",
                        at=at,
                        covers_until=at,
                        bytes=1000,
                        state=PointState(state),
                    )
                    for job, at in points
                ),
                observed_at=self.now,
            ),
            run=None,
        )
        self.inspect(repository)

    def inspect(
        self, repository: str, code: str | None = None, *, reachable: bool | None = None
    ) -> None:
        data = {
            "reachable": code is None if reachable is None else reachable,
            "code": code,
            "type": "directory",
            "tool": None,
            "tool_version": None,
            "repository_id": None,
            "format_version": None,
            "encrypted": None,
            "locks": [],
            "device": None,
        }
        self.record("repository.inspected", f"repository/{repository}", data)

    def tested(self, application: str = "dpi", verdict: str = "passed", **changed: Any) -> None:
        data = {
            "application": application,
            "engine": "postgresql",
            "repository": "nas",
            "point": "p",
            "point_at": to_us(self.now),
            "target_at": None,
            "verdict": verdict,
            "code": None,
            "level": 3,
            "phases": [{"phase": "load", "verdict": "passed", "duration_ms": 1500, "code": None}],
            "checks": [],
            "checks_configured": 1,
            "baseline_accepted": True,
            "data_loss_ms": 7000,
            "freshness_heuristic_at": to_us(self.now - timedelta(hours=1)),
            "bytes": 1,
            "duration_ms": 2500,
            "fingerprint": None,
            "tools": {},
        }
        self.record("restore-test.result", f"application/{application}", data | changed)

    def verified(
        self, *units: tuple[str, str], complete: bool = False, verdict: str = "passed"
    ) -> None:
        data = {
            "units": [
                {"unit": u, "verdict": v, "bytes": 1, "code": "corrupt" if v == "failed" else None}
                for u, v in units
            ],
            "units_total": 2,
            "verdict": verdict,
            "code": "corrupt" if verdict == "failed" else None,
            "complete_at": to_us(self.now) if complete else None,
        }
        self.record("repository.verified", "repository/nas", data)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    structlog.reset_defaults()  # another test may have run a command, which silences the log
    (tmp_path / "nas").mkdir()
    (tmp_path / "tape").mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    file = tmp_path / "backupguard.toml"
    file.write_text(CONFIGURATION.replace("HERE", str(tmp_path)), encoding="utf-8")
    made = Hospital(load(file, environ={}))
    yield made
    made.store.close()
