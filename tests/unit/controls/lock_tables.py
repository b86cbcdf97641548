"""IMM-01 on views alone: compliant, each way of failing, each way of not being measurable."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from backupguard.controls.imm_01 import LOCK, READ
from backupguard.controls.imm_02 import CONCLUDED
from backupguard.model import Fact, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, fact, repository

NEVER, LOST = "never_set_up", "lost"


def point(age: timedelta = DAY, days: int = 30, **changed: Any) -> dict[str, Any]:
    """Return a point locked for so many days from its own time."""
    at = NOW - age
    return {
        "job": "dpi.nightly",
        "native_id": "p1",
        "exact": True,
        "at": to_us(at),
        "mode": "compliance",
        "locked_until_at": to_us(at + days * DAY),
        "objects": 12,
        "unlocked": 0,
        "hidden": False,
        "code": None,
    } | changed


def read(*points: dict[str, Any], age: timedelta = HOUR, weak: Any = (), **changed: Any) -> Fact:
    data = {
        "mechanism": LOCK,
        "mode": "compliance",
        "retention_ms": 30 * 86_400_000,
        "weaknesses": [{"code": code, "values": {}} for code in weak],
        "bypass_holders": [],
        "unread": [],
        "settings": {},
        "points": list(points),
        "locked_until_at": None,
        "requests": {},
        "cost_micro_eur": None,
        "verdict": "passed",
        "code": None,
    }
    return fact("protection.seen", "repository/nas", NOW - age, data | changed, 21)


def view(
    seen: Fact | None,
    *,
    newest: Fact | None = None,
    tried: Fact | None = None,
    claims: tuple[str, ...] = ("immutable",),
    newest_record_at: Any = None,
) -> View:
    made = repository(newest_record_at=newest_record_at)
    found = {READ: seen, "protection.seen": newest or seen, CONCLUDED: tried}
    return replace(
        made,
        settings={**made.settings, "claims": list(claims)},
        latest={name: one for name, one in found.items() if one is not None},
    )


def tried(verdict: str, age: timedelta = HOUR) -> Fact:
    data = {
        "attacker": "backup_writer", "verdict": verdict, "code": None, "worked": [], "refused": [],
        "untried": [], "credentials": "writer", "reaches_data": True, "before": None,
        "canaries": [], "attempts": [],
    }  # fmt: skip
    return fact("immutability.tried", "repository/nas", NOW - age, data, 22)


UNREAD = read(verdict="could_not_verify", code="permission", age=timedelta(minutes=5))
#: Settings that weaken beside points that are locked.
ATTRIBUTES = {"mechanism": "append-only"}


def bad(seen: Fact, reason: str, **given: Any) -> tuple[Any, ...]:
    return (view(seen, **given), "non_compliant", None, "critical", reason)


ROWS = [
    # view, status, cause, severity, reason
    (view(read(point())), "compliant", None, "info", "locked"),
    (view(read(point(), point(2 * DAY, 1))), "compliant", None, "info", "locked"),
    (view(read(**ATTRIBUTES), tried=tried("passed")), "compliant", None, "info", "tried"),
    bad(read(point(), point(timedelta(), hidden=True)), "hidden"),
    bad(read(point(code="missing_object")), "missing"),
    bad(read(point(mode=None), weak=["bypass_allowed", "governance"]), "bypass_allowed"),
    bad(read(point(mode="governance", locked_until_at=None)), "governance"),
    bad(read(point(mode="legal-hold", locked_until_at=None)), "legal_hold"),
    bad(read(weak=["governance"]), "governance_default"),
    bad(read(weak=["no_default_retention"]), "no_default_retention"),
    bad(read(point(mode=None, locked_until_at=None, unlocked=3)), "unlocked"),
    bad(read(point(3 * DAY, 2)), "ended"),
    bad(read(point(days=13)), "ends_early"),
    bad(read(point(), retention_ms=13 * 86_400_000), "retention_short"),
    bad(read(point(), weak=["versioning_suspended"]), "versioning_suspended"),
    bad(read(point(), settings={"lifecycle-days": 3}), "lifecycle_early"),
    bad(read(**ATTRIBUTES, weak=["no_lock"]), "no_lock"),
    bad(read(**ATTRIBUTES, weak=["removable"]), "weak"),
    bad(read(point(), weak=["removable"]), "weak"),
    bad(read(**ATTRIBUTES), "refuted", tried=tried("failed")),
    (view(read(point(), weak=["bypass_allowed"])), "warning", None, "warning", "bypass_useless"),
    (view(read(mechanism="vendor")), "warning", None, "warning", "vendor"),
    (view(read(point()), newest=UNREAD), "warning", None, "warning", "unsure"),
    # a protection that could not be read again is lost after its period, and bad news outlives that
    (view(read(point(9 * DAY), age=8 * DAY + HOUR)), "not_measurable", LOST, "info", "old"),
    (view(read(point(10 * DAY), age=9 * DAY + HOUR)), "warning", LOST, "warning", "old"),
    (view(read(point(13 * DAY), age=12 * DAY)), "non_compliant", LOST, "critical", "old"),
    bad(read(point(90 * DAY, 2), age=89 * DAY), "ended"),
    (view(None), "not_measurable", NEVER, "info", "never"),
    (view(None, newest=UNREAD), "not_measurable", NEVER, "info", "unread"),
    (view(read(point(code="timeout"))), "not_measurable", NEVER, "info", "unread"),
    (view(read(point(), unread=["versioning"])), "not_measurable", NEVER, "info", "no_right"),
    (view(read()), "not_measurable", NEVER, "info", "no_points"),
    (view(read(**ATTRIBUTES)), "not_measurable", NEVER, "info", "untried"),
    (view(read(**ATTRIBUTES), tried=tried("passed", 8 * DAY + HOUR)), "not_measurable", LOST,
     "info", "untried"),
    (view(read(point(), age=-DAY)), "not_measurable", NEVER, "info", "never"),
    # nobody claims anything and nothing is there
    (view(None, claims=()), "not_applicable", None, "info", "not_claimed"),
    (view(None, claims=("offline",)), "not_applicable", None, "info", "not_claimed"),
    (view(read(mechanism="none", weak=["no_lock"]), claims=()), "not_applicable", None, "info",
     "not_claimed"),
]  # fmt: skip
