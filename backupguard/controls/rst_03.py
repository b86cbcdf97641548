"""RST-03: would the application be back within its RTO, if everything had to be restored?

Judged on the recovery forecast (`backupguard.assess.forecast`), never on the duration of a test alone.
Without declared steps, without a test that passed, or where something that it depends on lacks them,
the forecast is only a lower bound: above the RTO it proves the breach, below it it measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, Policy, Scope, View, to_us


class ForecastWithinRto:
    """Compares the recovery forecast with the RTO."""

    id: ClassVar[str] = "RST-03"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"restore-test.result"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        passed = facts.last_passed(view, now)
        basis = facts.not_in_future(view.latest.get("restore-test.forecast"), now)
        forecast = view.known.get("forecast")
        if passed is None or basis is None or not isinstance(forecast, Mapping):
            return facts.never_set_up("reason.RST-03.never")
        measured = self._measured(view, policy, forecast, basis)
        tested_at = facts.seen_at(passed)
        valid_until = tested_at + facts.allowed_s(policy) * facts.SECOND
        if to_us(now) <= valid_until:
            return measured
        old = facts.lost(policy, now, valid_until, "reason.RST-03.old", passed, tested_at=tested_at)
        return facts.worst_of([old, measured])

    def _measured(
        self, view: View, policy: Policy, forecast: Mapping[str, Any], basis: Fact
    ) -> Judgement:
        declared = facts.number(view.settings.get("rto_s"))
        rto_ms = 1000 * (declared if declared is not None else facts.seconds(policy, "default-rto"))
        suffix = "" if declared is not None else "_default"
        end_ms = facts.number(forecast.get("end_ms")) or 0
        said: dict[str, int | str] = {"forecast_ms": end_ms, "rto_ms": rto_ms}
        missing, waits_for = forecast.get("missing") or (), forecast.get("waits_for") or ()
        if end_ms > rto_ms:
            part = "least" if missing or waits_for else "exceeded"
            reason = f"reason.RST-03.{part}{suffix}"
            return facts.non_compliant(policy.severity, reason, basis, **said)
        if missing:
            return facts.never_set_up("reason.RST-03.no_steps", basis, forecast_ms=end_ms)
        if waits_for:
            others = ", ".join(waits_for)
            return facts.never_set_up("reason.RST-03.waits", basis, others=others)
        from_copy = {**said, "repository": str(forecast.get("repository"))}
        if forecast.get("failed"):
            return facts.warning(f"reason.RST-03.failed{suffix}", basis, **from_copy)
        if end_ms * 100 >= rto_ms * facts.seconds(policy, "warn-at"):
            return facts.warning(f"reason.RST-03.near{suffix}", basis, **from_copy)
        if count := facts.number(forecast.get("behind")):
            return facts.warning(f"reason.RST-03.behind{suffix}", basis, **said, count=count)
        tested_at = facts.seen_at(basis)
        reason = f"reason.RST-03.within{suffix}"
        return facts.compliant(reason, basis, **from_copy, tested_at=tested_at)
