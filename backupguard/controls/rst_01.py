"""RST-01: is every application restored, successfully, as often as its criticality demands?"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, Policy, Scope, Severity, Verdict, View, to_us

_FAILED_POINT = "restore-test.failed-point/"


class PeriodicRestoreTest:
    """Judges the last conclusive test of each copy, the age of the last success, and failed points."""

    id: ClassVar[str] = "RST-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"restore-test.result", "restore-test.closed"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        for repository, test in facts.concluded(view, now).items():
            if facts.data(test).get("verdict") == Verdict.FAILED:
                return facts.non_compliant(
                    policy.severity,
                    "reason.RST-01.failed",
                    test,
                    repository=repository if repository != "-" else "—",
                    code=facts.code(facts.data(test)),
                    tested_at=facts.seen_at(test),
                )
        passed = facts.last_passed(view, now)
        attempt = facts.last_attempt(view, now)
        if passed is None:
            return self._never(view, policy, now)
        period_s = facts.seconds(policy, "period")
        age = to_us(now) - facts.seen_at(passed)
        if age > facts.allowed_s(policy) * facts.SECOND:
            late = Severity.CRITICAL if age > 2 * period_s * facts.SECOND else Severity.HIGH
            return facts.non_compliant(
                late,
                "reason.RST-01.overdue",
                passed,
                attempt,
                tested_at=facts.seen_at(passed),
                period_ms=period_s * 1000,
            )
        result = facts.data(passed)
        said: dict[str, int | str] = {
            "tested_at": facts.seen_at(passed),
            "level": facts.number(result.get("level")) or 0,
            "repository": str(result.get("repository") or "—"),
        }
        if attempt is not None and facts.data(attempt).get("verdict") == Verdict.COULD_NOT_VERIFY:
            code = facts.code(facts.data(attempt))
            return facts.warning("reason.RST-01.unverified", passed, attempt, code=code, **said)
        wrong = self._failed_point(view, policy, now)
        if wrong is not None:
            result = facts.data(wrong)
            return facts.warning(
                "reason.RST-01.point_failed",
                passed,
                wrong,
                code=facts.code(result),
                failed_at=facts.seen_at(wrong),
                point=str(result.get("point"))[:10],
                failed_in=str(result.get("repository")),
                **said,
            )
        return facts.compliant("reason.RST-01.passed", passed, **said)

    def _failed_point(self, view: View, policy: Policy, now: datetime) -> Fact | None:
        """Return the newest failure of a point that another point's pass did not clear.

        Until that very point passes, is no longer kept, or `failure-kept` has passed.
        """
        oldest = to_us(now) - facts.seconds(policy, "failure-kept") * facts.SECOND
        found = [
            fact
            for kind, fact in view.latest.items()
            if kind.startswith(_FAILED_POINT)
            and kind.removeprefix(_FAILED_POINT) in (view.settings.get("repositories") or ())
            and oldest <= facts.seen_at(fact)
        ]
        return max(found, key=facts.seen_at, default=None)

    def _never(self, view: View, policy: Policy, now: datetime) -> Judgement:
        attempt = facts.last_attempt(view, now)
        if facts.past_deadline(view, now, facts.allowed_s(policy)):
            return facts.non_compliant(
                Severity.HIGH,
                "reason.RST-01.never_done",
                attempt,
                period_ms=facts.seconds(policy, "period") * 1000,
            )
        if attempt is None:
            return facts.never_set_up("reason.RST-01.never")
        return facts.never_set_up(
            "reason.RST-01.never_verified",
            attempt,
            code=facts.code(facts.data(attempt)),
            tested_at=facts.seen_at(attempt),
        )
