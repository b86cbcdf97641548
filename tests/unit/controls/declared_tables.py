"""Views with restore tests that were done elsewhere, and what RST-01, RST-02 and RST-04 say of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from backupguard.model import Fact, Origin, Scope, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, application, check, result_of

NEVER = "never_set_up"
SIGNED = {"person": "claire", "key": "SHA256:x", "statement": "x", "armored": "x"}


def told(
    at: datetime,
    verdict: str = "passed",
    *,
    origin: Origin = Origin.IMPORTED,
    level: int = 3,
    seq: int = 40,
    signed: bool = False,
    order: tuple[str, ...] = (),
    **changed: Any,
) -> Fact:
    """Return a test that another tool recorded, or that a person tells of."""
    declared = {
        "format": "attested" if origin is Origin.ATTESTED else "dbatools",
        "sha256": "00",
        "who": None,
        "checked": [],
        "order": list(order),
        "person": None,
        "signature": SIGNED if signed else None,
    }
    found = result_of(
        at, verdict, seq=seq, level=level, phases=[], checks_configured=0,
        baseline_accepted=False, declared=declared, **changed,
    )  # fmt: skip
    return replace(found, observation=replace(found.observation, origin=origin))


def by_word(*tests: Fact, observed: tuple[Fact, ...] = (), **changed: Any) -> View:
    """Return the view of an application with these tests told of, and these observed."""
    latest = {f"restore-test.declared/{test.seq}": test for test in tests}
    return application(*observed, latest=latest, **changed)


ATTESTED = Origin.ATTESTED
FAILED = told(NOW - DAY, "failed", level=0, code="declared_failed")
DAMAGED = told(
    NOW - DAY, "failed", level=2, code="declared_failed",
    checks=[check("DPI", "failed", "declared_damaged", configured=False)],
)  # fmt: skip

RST_01 = [
    (by_word(told(NOW - DAY)), "compliant", None, "info", "passed_declared"),
    (by_word(told(NOW - DAY, level=2)), "compliant", None, "info", "passed_declared"),
    (by_word(told(NOW - DAY, level=1)), "warning", None, "warning", "read_declared"),
    (by_word(told(NOW - DAY, origin=ATTESTED)), "warning", None, "warning", "unsigned"),
    (by_word(told(NOW - DAY, origin=ATTESTED, signed=True)), "compliant", None, "info",
     "passed_declared"),
    (by_word(told(NOW - 36 * DAY)), "non_compliant", None, "high", "never_done"),
    (by_word(told(NOW + DAY)), "non_compliant", None, "high", "never_done"),
    (by_word(FAILED), "non_compliant", None, "critical", "failed_declared"),
    (by_word(FAILED, repositories=("bande",)), "non_compliant", None, "high", "never_done"),
    # what is observed comes first, and only it clears what another tool saw fail
    (by_word(told(NOW - DAY), observed=(result_of(NOW - 2 * DAY),)), "compliant", None, "info",
     "passed"),
    (by_word(told(NOW - DAY), observed=(result_of(NOW - 40 * DAY),)), "compliant", None, "info",
     "passed_declared"),
    (by_word(FAILED, observed=(result_of(NOW - 2 * DAY),)), "non_compliant", None, "critical",
     "failed_declared"),
    (by_word(FAILED, observed=(result_of(NOW - HOUR),)), "compliant", None, "info", "passed"),
    (by_word(told(NOW - HOUR), observed=(result_of(NOW - DAY, "failed", code="corrupt", level=0),)),
     "non_compliant", None, "critical", "failed"),
    (by_word(FAILED, told(NOW - HOUR, origin=ATTESTED, signed=True, seq=41)), "non_compliant", None,
     "critical", "failed_declared"),
]  # fmt: skip

RST_02 = [
    (by_word(told(NOW - DAY)), "compliant", None, "info", "declared"),
    (by_word(told(NOW - DAY, level=2)), "warning", None, "warning", "level_declared"),
    (by_word(told(NOW - DAY, origin=ATTESTED)), "warning", None, "warning", "unsigned"),
    (by_word(told(NOW - DAY), told(NOW - HOUR, origin=ATTESTED, seq=41)), "compliant", None, "info",
     "declared"),
    (by_word(told(NOW - 36 * DAY)), "not_measurable", NEVER, "info", "never"),
    (by_word(DAMAGED), "non_compliant", None, "critical", "failed_declared"),
    (by_word(FAILED), "not_measurable", NEVER, "info", "never"),  # that is RST-01's
    (by_word(told(NOW - DAY, level=2), observed=(result_of(NOW - 2 * DAY),)), "compliant", None,
     "info", "proved"),
]  # fmt: skip


def core(
    *tests: Fact,
    first_seen: datetime = NOW - 400 * DAY,
    provides: tuple[str, ...] = ("annuaire",),
    without: dict[str, str] | None = None,
    newest_record_at: datetime | None = None,
) -> View:
    """Return the site's view: the directory, and the record application that depends on it."""
    return View(
        scope=Scope.SITE,
        subject="site",
        settings={
            "criticality": "C1",
            "without": without or {},
            "applications": {
                "annuaire": {"criticality": "C1", "jobs": [], "depends_on": []},
                "dpi": {"criticality": "C1", "jobs": [], "depends_on": ["annuaire"]},
            },
        },
        latest={f"restore-test.rebuild/annuaire/{test.seq}": test for test in tests},
        first_seen=first_seen,
        known={
            "newest_record_at": to_us(newest_record_at) if newest_record_at else None,
            "services": {"directory": [{"application": name} for name in provides]}
            if provides
            else {},
        },
    )


UNSTARTED = check("controller", "passed", "warning_controller_not_started", configured=False)
DOMAIN = result_of(NOW - HOUR, level=2, seq=43, checks=[UNSTARTED])
EXERCISE = told(NOW - DAY, origin=ATTESTED, signed=True, level=2, seq=42, order=("annuaire", "dpi"))
WRONG_ORDER = told(NOW - DAY, origin=ATTESTED, signed=True, level=2, order=("dpi", "directory"))

RST_04 = [
    (core(EXERCISE), "compliant", None, "info", "rebuilt"),
    (core(result_of(NOW - DAY), EXERCISE), "compliant", None, "info", "rebuilt"),
    (core(WRONG_ORDER), "warning", None, "warning", "order_wrong"),
    (core(result_of(NOW - DAY)), "warning", None, "warning", "no_order"),
    (core(told(NOW - DAY, level=2)), "warning", None, "warning", "no_order"),
    (core(told(NOW - DAY, level=2, origin=ATTESTED, order=("annuaire", "dpi"))), "warning", None,
     "warning", "unsigned"),
    # a domain whose objects were read and checked, without a controller, was not rebuilt
    (core(DOMAIN), "warning", None, "warning", "not_started"),
    (core(DOMAIN, told(NOW - DAY, level=2, origin=ATTESTED)), "warning", None, "warning",
     "not_started"),
    (core(DOMAIN, told(NOW - 366 * DAY)), "warning", None, "warning", "not_started"),
    (core(DOMAIN, EXERCISE), "compliant", None, "info", "rebuilt"),
    (core(result_of(NOW - 366 * DAY, level=2, checks=[UNSTARTED])), "non_compliant", None, "high",
     "overdue"),
    # nor does it clear a rebuild that failed; of its own kind it does
    (core(DOMAIN, FAILED), "non_compliant", None, "high", "failed"),
    (core(DOMAIN, result_of(NOW - DAY, "failed", level=0)), "warning", None, "warning", "not_started"),
    (core(result_of(NOW - DAY, level=1)), "non_compliant", None, "high", "never_done"),
    (core(result_of(NOW - DAY, level=1), first_seen=NOW - DAY), "not_measurable", NEVER, "info",
     "never"),
    (core(first_seen=NOW - DAY), "not_measurable", NEVER, "info", "never"),
    (core(), "non_compliant", None, "high", "never_done"),
    (core(told(NOW - 366 * DAY)), "non_compliant", None, "high", "overdue"),
    (core(told(NOW + DAY)), "non_compliant", None, "high", "never_done"),
    (core(EXERCISE, FAILED), "non_compliant", None, "high", "failed"),
    (core(replace(FAILED, observation=told(NOW - 2 * DAY, "failed", level=0).observation), EXERCISE),
     "compliant", None, "info", "rebuilt"),
    (core(provides=()), "not_measurable", NEVER, "info", "no_directory"),
    (core(provides=(), without={"directory": "hébergé"}), "not_applicable", None, "info", "without"),
    (core(EXERCISE, provides=("annuaire", "samba")), "non_compliant", None, "high", "never_done"),
]  # fmt: skip
