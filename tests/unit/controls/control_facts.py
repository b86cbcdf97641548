"""Facts and views for tests of controls: short to write, right in shape."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.controls import BUILT, load_catalogue
from backupguard.evidence.kinds import check_payload
from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    Observation,
    Origin,
    Scope,
    View,
    to_us,
)

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CATALOGUE = load_catalogue()


def day(moment: datetime) -> int:
    """Return a day as days since 1970."""
    return moment.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()


def fact(kind: str, subject: str, at: datetime, data: dict[str, Any], seq: int = 7) -> Fact:
    check_payload(kind, 1, data)
    return Fact(
        seq=seq,
        recorded_at=at,
        run=None,
        author=None,
        hash=b"",
        observation=Observation(
            kind=kind, subject=subject, observed_at=at, data=data, key=f"{kind}/{subject}/{seq}"
        ),
    )


def result_of(at: datetime, verdict: str = "passed", *, seq: int = 7, **changed: Any) -> Fact:
    data = {
        "application": "dpi",
        "engine": "postgresql",
        "repository": "nas",
        "point": "abc",
        "point_at": to_us(at - HOUR),
        "target_at": None,
        "verdict": verdict,
        "code": None,
        "level": 3,
        "phases": [
            {"phase": "fetch", "verdict": "passed", "duration_ms": 60_000, "code": None},
            {"phase": "load", "verdict": "passed", "duration_ms": 540_000, "code": None},
            {"phase": "discard", "verdict": "passed", "duration_ms": 90_000_000, "code": None},
        ],
        "checks": [],
        "checks_configured": 1,
        "baseline_accepted": True,
        "data_loss_ms": None,
        "freshness_heuristic_at": None,
        "bytes": 1,
        "duration_ms": 600_000,
        "fingerprint": None,
        "tools": {},
    }
    return fact("restore-test.result", "application/dpi", at, data | changed, seq)


def check(name: str, verdict: str, code: str = "check_failed", configured: bool = True) -> Any:
    return {
        "name": name,
        "level": 3,
        "verdict": verdict,
        "code": code,
        "numbers": {},
        "times": {},
        "configured": configured,
    }


def application(
    *tests: Fact,
    first_seen: datetime | None = NOW - 400 * DAY,
    criticality: str = "C1",
    repositories: tuple[str, ...] = ("nas",),
    jobs: tuple[View, ...] = (),
    newest_record_at: datetime | None = None,
    latest: dict[str, Fact] | None = None,
    forecast: dict[str, Any] | None = None,
    **settings: Any,
) -> View:
    """Return an application's view as `assess` builds it from these results, oldest first."""
    found: dict[str, Fact] = dict(latest or {})
    for test in tests:
        data = test.observation.data
        found["restore-test.result"] = test
        if data["verdict"] == "passed":
            found["restore-test.passed"] = test
            found["restore-test.forecast"] = test
        if data["verdict"] in ("passed", "failed"):
            found[f"restore-test.concluded/{data['repository'] or '-'}"] = test
    return View(
        scope=Scope.APPLICATION,
        subject="application/dpi",
        settings={
            "criticality": criticality,
            "rpo_s": 86_400,
            "rto_s": 14_400,
            "declared_by": "direction des soins",
            "declared_at": to_us(NOW - 100 * DAY),
            "steps_s": 0,
            "repositories": list(repositories),
        }
        | settings,
        latest=found,
        children=jobs,
        first_seen=first_seen,
        known={
            "newest_record_at": to_us(newest_record_at) if newest_record_at else None,
            "today": day(NOW),
            "first_day": day(first_seen) if first_seen else None,
            "forecast": {
                "end_ms": 600_000 + 1000 * settings.get("steps_s", 0),
                "missing": [] if settings.get("steps_s") else ["steps"],
                "waits_for": [],
                "behind": 0,
                "repository": "nas",
                "failed": False,
            }
            | (forecast or {}),
        },
    )


def job(
    newest: datetime | None,
    seen: datetime | None = NOW,
    *,
    repository: str = "nas",
    selection: str = "dump",
    interval: timedelta | None = DAY,
    grace: timedelta = HOUR,
    first_seen: datetime | None = NOW - 400 * DAY,
    criticality: str = "C1",
    newest_record_at: datetime | None = None,
    **known: Any,
) -> View:
    return View(
        scope=Scope.JOB,
        subject="job/dpi.nightly",
        settings={
            "criticality": criticality,
            "application": "dpi",
            "job": "nightly",
            "repository": repository,
            "selection": selection,
            "interval_s": int(interval.total_seconds()) if interval else None,
            "grace_s": int(grace.total_seconds()),
        },
        first_seen=first_seen,
        known={
            "newest_record_at": to_us(newest_record_at) if newest_record_at else None,
            "seen_at": to_us(seen) if seen else None,
            "reachable": True,
            "code": None,
            "restorable_at": to_us(newest) if newest else None,
            "newest_state": "complete" if newest else None,
            "newest_bytes": 1000 if newest else None,
            "points": 1 if newest else 0,
            "future": 0,
        }
        | known,
    )


def repository(
    *,
    verified: Fact | None = None,
    complete: Fact | None = None,
    failed: Fact | None = None,
    first_seen: datetime | None = NOW - 10 * DAY,
    criticality: str = "C1",
    newest_record_at: datetime | None = None,
    verifiable: bool = True,
) -> View:
    latest = {
        "repository.verified": verified or complete or failed,
        "repository.verified/complete": complete,
        "repository.verified/failed": failed,
    }
    return View(
        scope=Scope.REPOSITORY,
        subject="repository/nas",
        settings={"criticality": criticality, "verifiable": verifiable, "claims": ["immutable"]},
        latest={kind: one for kind, one in latest.items() if one is not None},
        first_seen=first_seen,
        known={"newest_record_at": to_us(newest_record_at) if newest_record_at else None},
    )


def verified(
    at: datetime,
    verdict: str = "passed",
    *,
    complete_at: datetime | None = None,
    code: str | None = None,
    units: tuple[tuple[str, str, str | None], ...] = (),
    seq: int = 9,
) -> Fact:
    data = {
        "units": [{"unit": u, "verdict": v, "bytes": 1, "code": c} for u, v, c in units],
        "units_total": 256,
        "verdict": verdict,
        "code": code,
        "complete_at": to_us(complete_at) if complete_at else None,
    }
    return fact("repository.verified", "repository/nas", at, data, seq)


def site(
    *,
    valid: bool | None = True,
    anchored: datetime | None = NOW - DAY,
    by_hand: bool = False,
    places: Mapping[str, datetime | None] | None = None,
    reported: str | None = "2026-05",
    first_seen: datetime | None = NOW - 400 * DAY,
    newest_record_at: datetime | None = None,
    wrong_seq: int | None = None,
    self_tested: datetime | None = NOW - DAY,
    noticed: bool = True,
    plan: datetime | None = None,
    plan_every_s: int | None = None,
    plan_here: bool = False,
    awaited: datetime | None = None,
) -> View:
    latest = {}
    if anchored is not None:
        data = {"place": "syslog", "seq": 3, "hash": "00", "receipt": None}
        put = fact("evidence.anchored", "site", anchored, data)
        latest["evidence.anchored"] = attested(put) if by_hand else put
    for place, at in (places or {}).items():
        if at is not None:
            data = {"place": place, "seq": 3, "hash": "00", "receipt": None}
            put = fact("evidence.anchored", "site", at, data)
            latest[f"evidence.anchored/{place}"] = put
    if self_tested is not None:
        broken = {
            "application": "dpi", "repository": "nas", "point": "abc", "engine": "postgresql",
            "harm": "truncated", "verdict": "failed" if noticed else "passed", "code": None,
            "noticed": noticed,
        }  # fmt: skip
        latest["self-test.concluded"] = fact("self-test.result", "site", self_tested, broken, 5)
    if plan is not None:
        written = {
            "file": "/mnt/coffre/backupguard-plan-fr.md",
            "sha256": "00",
            "bytes": 1,
            "same_device": plan_here,
            "configured": True,
        }
        latest["plan.issued/kept"] = fact("plan.issued", "site", plan, written)
    if awaited is not None:
        issued = {
            "month": "2026-04", "format": "pdf", "language": "fr", "sha256": "00", "bytes": 1,
        }  # fmt: skip
        latest["report.issued/awaited"] = fact("report.issued", "site", awaited, issued, 6)
    return View(
        scope=Scope.SITE,
        subject="site",
        settings={"criticality": "C1", "plan_every_s": plan_every_s, "self_tests": True}
        | {"anchors": list(places or {})},
        latest=latest,
        first_seen=first_seen,
        known={
            "newest_record_at": to_us(newest_record_at) if newest_record_at else None,
            "evidence_valid": valid,
            "evidence_wrong_seq": wrong_seq,
            "reported": reported,
            "awaited": 0 if awaited is None else 1,
        },
    )


def judge(control: str, view: View, now: datetime = NOW) -> Judgement:
    criticality = Criticality(view.settings["criticality"])
    return BUILT[control].judge(view, CATALOGUE.policy(control, criticality), now)


def attested(one: Fact) -> Fact:
    from dataclasses import replace

    return replace(one, observation=replace(one.observation, origin=Origin.ATTESTED))
