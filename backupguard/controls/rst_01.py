"""RST-01: is every application restored, successfully, as often as its criticality demands?"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts, rotation
from backupguard.model import Fact, Judgement, Policy, Scope, Severity, Verdict, View, to_us

_FAILED_POINT = "restore-test.failed-point/"


class PeriodicRestoreTest:
    """Judges the last conclusive test of each copy, the age of the last success, copies left out."""

    id: ClassVar[str] = "RST-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"restore-test.result", "restore-test.closed"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        told = facts.declared_tests(view, now)
        failed = _failed(view, policy, now, told)
        if failed is not None:
            return failed
        passed = facts.last_passed(view, now)
        attempt = facts.last_attempt(view, now)
        allowed = facts.allowed_s(policy) * facts.SECOND
        if passed is None or to_us(now) - facts.seen_at(passed) > allowed:
            declared = _by_word(told, to_us(now) - allowed, passed, attempt)
            if declared is not None:
                return declared
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
        return self._passed(view, policy, now, passed, attempt)

    def _passed(
        self, view: View, policy: Policy, now: datetime, passed: Fact, attempt: Fact | None
    ) -> Judgement:
        """Judge an application whose last success is recent enough: what that leaves out."""
        result = facts.data(passed)
        said: dict[str, int | str] = {
            "tested_at": facts.seen_at(passed),
            "level": facts.number(result.get("level")) or 0,
            "repository": str(result.get("repository") or "—"),
        }
        found = []
        if attempt is not None and facts.data(attempt).get("verdict") == Verdict.COULD_NOT_VERIFY:
            code = facts.code(facts.data(attempt))
            unverified = "reason.RST-01.unverified"
            found.append(facts.warning(unverified, passed, attempt, code=code, **said))
        wrong = self._failed_point(view, policy, now)
        if wrong is not None:
            found.append(self._point_failed(passed, wrong, said))
        copy = self._copy_due(view, policy, now)
        if copy is not None:
            found.append(copy)
        part = facts.part_tested(passed, now)
        if part is not None and not part[1]:
            found.append(facts.warning("reason.RST-01.part_uncovered", passed, **said, **part[0]))
        if found:
            return facts.worst_of(found)
        if part is not None:
            return facts.compliant("reason.RST-01.part", passed, **said, **part[0])
        return facts.compliant("reason.RST-01.passed", passed, **said)

    def _point_failed(self, passed: Fact, wrong: Fact, said: dict[str, int | str]) -> Judgement:
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

    def _copy_due(self, view: View, policy: Policy, now: datetime) -> Judgement | None:
        """Return a finding for a copy that is never restored from while another one is.

        A warning; non-compliant once it has gone without for twice the period.
        """
        due = rotation.overdue_copy(view, policy, now)
        if due is None or due.due_at is None:
            return None
        period_s = facts.seconds(policy, "repository-period")
        reason = "reason.RST-01.copy_never" if due.last_at is None else "reason.RST-01.copy_due"
        if due.why is not None:
            reason += "_away"
        values: dict[str, int | str] = {"repository": due.name, "period_ms": period_s * 1000}
        if due.last_at is not None:
            values["tested_at"] = due.last_at
        if to_us(now) > due.due_at + period_s * facts.SECOND:
            return facts.non_compliant(Severity.HIGH, reason, due.fact, **values)
        return facts.warning(reason, due.fact, **values)

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


def _failed(view: View, policy: Policy, now: datetime, told: list[Fact]) -> Judgement | None:
    """Return the finding for a copy whose last conclusive test failed, by our own or another's."""
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
    for test in told:
        if facts.data(test).get("verdict") == Verdict.FAILED:
            said = facts.told_by(test)
            return facts.non_compliant(
                policy.severity, "reason.RST-01.failed_declared", test, **said
            )
    return None


def _by_word(told: list[Fact], oldest: int, *others: Fact | None) -> Judgement | None:
    """Judge the best test told of since `oldest`; None for none. What is observed comes before it."""
    valid = [
        test
        for test in told
        if facts.seen_at(test) >= oldest and facts.data(test).get("verdict") == Verdict.PASSED
    ]
    restored = [test for test in valid if facts.level_of(test) >= facts.RESTORED]
    signed = [test for test in restored if facts.authenticated(test)]
    if signed:
        said = facts.told_by(signed[0])
        return facts.compliant("reason.RST-01.passed_declared", signed[0], *others, **said)
    if restored:
        said = facts.told_by(restored[0])
        return facts.warning("reason.RST-01.unsigned", restored[0], *others, **said)
    if valid:
        said = facts.told_by(valid[0])
        return facts.warning("reason.RST-01.read_declared", valid[0], *others, **said)
    return None
