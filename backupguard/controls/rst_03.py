"""RST-03: could the application be back within its RTO?

The recovery forecast is not built yet, so the test duration (until the database is open) plus the
declared manual steps is judged: a lower bound, since the sandbox runs without durable writes. Above
the RTO it proves the breach; below it, the reason says that it is a lower bound.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, Policy, Scope, View, to_us


class MeasuredRto:
    """Compares the duration of the last successful test with the RTO."""

    id: ClassVar[str] = "RST-03"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"restore-test.result"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        passed = facts.last_passed(view, now)
        if passed is None:
            return facts.never_set_up("reason.RST-03.never")
        measured = self._measured(view, policy, passed)
        tested_at = facts.seen_at(passed)
        valid_until = tested_at + facts.allowed_s(policy) * facts.SECOND
        if to_us(now) <= valid_until:
            return measured
        old = facts.lost(policy, now, valid_until, "reason.RST-03.old", passed, tested_at=tested_at)
        return facts.worst_of([old, measured])

    def _measured(self, view: View, policy: Policy, passed: Fact) -> Judgement:
        declared = facts.number(view.settings.get("rto_s"))
        rto_ms = 1000 * (declared if declared is not None else facts.seconds(policy, "default-rto"))
        steps_ms = 1000 * (facts.number(view.settings.get("steps_s")) or 0)
        bound_ms = (facts.number(facts.data(passed).get("duration_ms")) or 0) + steps_ms
        suffix = "" if declared is not None else "_default"
        said = {"duration_ms": bound_ms, "rto_ms": rto_ms}
        if bound_ms > rto_ms:
            reason = f"reason.RST-03.exceeded{suffix}"
            return facts.non_compliant(policy.severity, reason, passed, **said)
        if bound_ms * 100 >= rto_ms * facts.seconds(policy, "warn-at"):
            return facts.warning(f"reason.RST-03.near{suffix}", passed, **said)
        return facts.compliant(f"reason.RST-03.within{suffix}", passed, **said)
