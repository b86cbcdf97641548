"""INT-01: has every byte of a repository been read again, and found right, lately enough?"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import (
    Judgement,
    Message,
    Policy,
    Scope,
    Severity,
    Status,
    Verdict,
    View,
    to_us,
)


class Integrity:
    """Judges what was found wrong and not healed since, then the age of a complete reading."""

    id: ClassVar[str] = "INT-01"
    scope: ClassVar[Scope] = Scope.REPOSITORY
    reads: ClassVar[frozenset[str]] = frozenset({"repository.verified", "integrity.closed"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one repository."""
        if view.settings.get("verifiable") is False:
            return Judgement(
                status=Status.NOT_APPLICABLE, reason=Message(id="reason.INT-01.not_verifiable")
            )
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        # Damage counts whatever its date: a clock that errs must not hide what was found.
        failed = view.latest.get("repository.verified/failed")
        if failed is not None:
            found = facts.data(failed)
            wrong = [u for u in found.get("units") or () if u.get("verdict") == Verdict.FAILED]
            return facts.non_compliant(
                policy.severity,
                "reason.INT-01.failed",
                failed,
                code=facts.code(wrong[0] if wrong else found),
                count=max(1, len(wrong)),
                verified_at=facts.seen_at(failed),
            )
        period_ms = facts.seconds(policy, "period") * 1000
        allowed_s = facts.allowed_s(policy)
        newest = facts.not_in_future(view.latest.get("repository.verified"), now)
        complete = facts.not_in_future(view.latest.get("repository.verified/complete"), now)
        complete_at = facts.number(facts.data(complete).get("complete_at"))
        if complete_at is not None:
            if to_us(now) - complete_at > allowed_s * facts.SECOND:
                return facts.non_compliant(
                    Severity.WARNING, "reason.INT-01.overdue", complete, newest,
                    complete_at=complete_at, period_ms=period_ms,
                )  # fmt: skip
            if facts.data(newest).get("verdict") == Verdict.COULD_NOT_VERIFY:
                code = facts.code(facts.data(newest))
                return facts.warning(
                    "reason.INT-01.unverified", complete, newest, code=code, complete_at=complete_at
                )
            return facts.compliant("reason.INT-01.complete", complete, complete_at=complete_at)
        if facts.past_deadline(view, now, allowed_s):
            return facts.non_compliant(
                Severity.WARNING, "reason.INT-01.never_complete", newest, period_ms=period_ms
            )
        if newest is None:
            closed = facts.not_in_future(view.latest.get("integrity.closed"), now)
            return facts.never_set_up("reason.INT-01.never", closed)
        if facts.data(newest).get("verdict") == Verdict.COULD_NOT_VERIFY:
            code = facts.code(facts.data(newest))
            return facts.never_set_up("reason.INT-01.never_verified", newest, code=code)
        return facts.never_set_up("reason.INT-01.partial", newest)
