"""RST-04: was the directory rebuilt within the year, and what stands on it brought back in order?

The directory is what the applications are that say `provides = ["directory"]`. OpenLDAP, which
BackupGuard starts, counts by its own restore tests. A Samba domain's are a warning: its objects were
read and checked, and no controller was started on them. That one, and a forest of Microsoft's, are
shown to be rebuilt by a test that was done elsewhere and handed in. The order is what somebody wrote
down of an exercise.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import (
    Fact,
    Judgement,
    Message,
    Origin,
    Policy,
    Scope,
    Severity,
    Status,
    Verdict,
    View,
    to_us,
)

DIRECTORY = "directory"
#: `restore-test.rebuild/APPLICATION/SEQ`: a test of an application that is a base service.
REBUILD = "restore-test.rebuild/"
#: What the restore test of a domain says of itself: nothing in it answers logons.
NOT_STARTED = "warning_controller_not_started"


class DirectoryRebuild:
    """Judges the newest test in which each directory was opened, and the order that was played."""

    id: ClassVar[str] = "RST-04"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset({"restore-test.result"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        provided: Mapping[str, Any] = view.known.get("services") or {}
        directories = sorted({str(one.get("application")) for one in provided.get(DIRECTORY) or ()})
        if not directories:
            if DIRECTORY in set(view.settings.get("without") or ()):
                reason = Message(id="reason.RST-04.without")
                return Judgement(status=Status.NOT_APPLICABLE, reason=reason)
            return facts.never_set_up("reason.RST-04.no_directory")
        return facts.worst_of([_directory(view, policy, now, name) for name in directories])


def _directory(view: View, policy: Policy, now: datetime, name: str) -> Judgement:
    """Judge one directory."""
    tests = _tests(view, now, name)
    newest = next((test for test in tests if _verdict(test) == Verdict.FAILED), None)
    passed = [test for test in tests if _verdict(test) == Verdict.PASSED]
    if newest is not None and all(
        facts.seen_at(one) <= facts.seen_at(newest) for one in passed if _answers(one, newest)
    ):
        said = facts.told_by(newest)
        return facts.non_compliant(
            policy.severity, "reason.RST-04.failed", newest, application=name, **said
        )
    opened = [test for test in passed if facts.level_of(test) >= facts.RESTORED]
    period = facts.allowed_s(policy)
    oldest = to_us(now) - period * facts.SECOND
    valid = [test for test in opened if facts.seen_at(test) >= oldest]
    known = [test for test in valid if facts.authenticated(test) or _is_observed(test)]
    rebuilt = [test for test in known if not _is_unstarted(test)]
    if rebuilt:
        return _order(view, now, name, rebuilt[0], oldest)
    if known:
        said = facts.told_by(known[0])
        return facts.warning("reason.RST-04.not_started", known[0], application=name, **said)
    if valid:
        said = facts.told_by(valid[0])
        return facts.warning("reason.RST-04.unsigned", valid[0], application=name, **said)
    told: dict[str, int | str] = {"application": name, "period_ms": period * 1000}
    if opened:
        tested_at = facts.seen_at(opened[0])
        return facts.non_compliant(
            policy.severity, "reason.RST-04.overdue", opened[0], tested_at=tested_at, **told
        )
    last = tests[0] if tests else None
    if facts.past_deadline(view, now, period):
        return facts.non_compliant(Severity.HIGH, "reason.RST-04.never_done", last, **told)
    return facts.never_set_up("reason.RST-04.never", last, **told)


def _order(view: View, now: datetime, name: str, test: Fact, oldest: int) -> Judgement:
    """Judge the newest order that was played, and where it went against what depends on what."""
    said = {"application": name, **facts.told_by(test)}
    played = next(
        (
            one
            for one in _tests(view, now)
            if facts.seen_at(one) >= oldest
            and _verdict(one) == Verdict.PASSED
            and facts.authenticated(one)
            and _played(one)
        ),
        None,
    )
    if played is None:
        return facts.warning("reason.RST-04.no_order", test, **said)
    order = _played(played)
    wrong = _against(view, order)
    if wrong is not None:
        return facts.warning(
            "reason.RST-04.order_wrong", test, played,
            **said, one=wrong[0], before=wrong[1], played_at=facts.seen_at(played),
        )  # fmt: skip
    return facts.compliant(
        "reason.RST-04.rebuilt", test, played,
        **said, order=" → ".join(order), played_at=facts.seen_at(played),
    )  # fmt: skip


def _against(view: View, order: list[str]) -> tuple[str, str] | None:
    """Return the first that was brought back before what it depends on, and that; None for none."""
    applications: Mapping[str, Any] = view.settings.get("applications") or {}
    services: Mapping[str, Any] = view.known.get("services") or {}
    place: dict[str, int] = {}
    for position, name in enumerate(order):
        providers = [str(one.get("application")) for one in services.get(name) or ()]
        for application in (name, *providers):
            place.setdefault(application, position)
    for name, position in sorted(place.items(), key=lambda item: item[1]):
        for needed in (applications.get(name) or {}).get("depends_on") or ():
            if place.get(needed, len(order)) > position:
                return name, needed
    return None


def _tests(view: View, now: datetime, application: str | None = None) -> list[Fact]:
    """Return the tests of one base service's application, or of all, newest first."""
    prefix = REBUILD if application is None else f"{REBUILD}{application}/"
    found = [
        fact
        for kind, fact in view.latest.items()
        if kind.startswith(prefix) and facts.not_in_future(fact, now)
    ]
    return sorted(found, key=lambda fact: (-facts.seen_at(fact), fact.seq))


def _played(test: Fact) -> list[str]:
    told = facts.data(test).get("declared") or {}
    return [str(one) for one in told.get("order") or ()]


def _verdict(test: Fact) -> str:
    return str(facts.data(test).get("verdict"))


def _answers(test: Fact, failed: Fact) -> bool:
    """Whether a pass clears a failure: a domain that was only read clears no failed rebuild."""
    return _is_observed(failed) or not _is_unstarted(test)


def _is_unstarted(test: Fact) -> bool:
    """Whether a test says that it started no controller on what it read."""
    return any(check.get("code") == NOT_STARTED for check in facts.data(test).get("checks") or ())


def _is_observed(test: Fact) -> bool:
    return test.observation.origin is Origin.OBSERVED
