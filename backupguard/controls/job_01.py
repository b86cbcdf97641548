"""JOB-01: did each backup job leave a good point when it should have?"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import Judgement, PointState, Policy, Scope, View, to_us


class JobSuccess:
    """Judges the newest point of a job, and whether one is missing."""

    id: ClassVar[str] = "JOB-01"
    scope: ClassVar[Scope] = Scope.JOB
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one job."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        inspected = view.latest.get("repository.inspected")
        repository = str(view.settings.get("repository"))
        seen = facts.number(view.known.get("seen_at"))
        if seen is None:
            return facts.never_set_up(
                "reason.never_seen", inspected, repository=repository, code=facts.code(view.known)
            )
        interval_s = facts.number(view.settings.get("interval_s"))
        if interval_s is None:
            interval_s = facts.seconds(policy, "interval")
        allowed = interval_s + grace_s(view, policy)
        newest = facts.number(view.known.get("restorable_at"))
        if newest is None:
            return self._no_point(view, policy, now, seen, allowed)
        if view.known.get("newest_state") == PointState.FAILED:
            return facts.non_compliant(policy.severity, "reason.JOB-01.failed", inspected)
        lapse = newest + allowed * facts.SECOND
        if to_us(now) > lapse:
            if seen > lapse:
                return facts.non_compliant(
                    policy.severity, "reason.JOB-01.late", inspected,
                    newest_at=newest, interval_ms=interval_s * 1000,
                )  # fmt: skip
            blind = facts.lost(
                policy, now, lapse, "reason.unseen", inspected,
                repository=repository, seen_at=seen, code=facts.code(view.known),
            )  # fmt: skip
            return facts.worst_of([blind, self._newest(view, policy, interval_s)])
        return self._newest(view, policy, interval_s)

    def _newest(self, view: View, policy: Policy, interval_s: int) -> Judgement:
        """Judge the newest point as if it were recent enough."""
        inspected = view.latest.get("repository.inspected")
        repository = str(view.settings.get("repository"))
        if view.known.get("newest_bytes") == 0:
            return facts.non_compliant(policy.severity, "reason.JOB-01.empty", inspected)
        if view.known.get("newest_state") == PointState.WARNING:
            return facts.warning("reason.JOB-01.warning", inspected)
        if view.known.get("future"):
            return facts.warning("reason.JOB-01.future", inspected, repository=repository)
        return facts.compliant("reason.JOB-01.done", inspected, interval_ms=interval_s * 1000)

    def _no_point(
        self, view: View, policy: Policy, now: datetime, seen: int, allowed: int
    ) -> Judgement:
        inspected = view.latest.get("repository.inspected")
        repository = str(view.settings.get("repository"))
        if view.known.get("newest_state") == PointState.FAILED:
            return facts.non_compliant(policy.severity, "reason.JOB-01.failed", inspected)
        due = None if view.first_seen is None else to_us(view.first_seen) + allowed * facts.SECOND
        if due is not None and to_us(now) <= due:
            return facts.never_set_up("reason.JOB-01.not_due", inspected)
        if due is None or seen > due:
            reason = "reason.JOB-01.no_point"
            return facts.non_compliant(policy.severity, reason, inspected, repository=repository)
        return facts.lost(
            policy, now, due, "reason.unseen", inspected,
            repository=repository, seen_at=seen, code=facts.code(view.known),
        )  # fmt: skip


def grace_s(view: View, policy: Policy) -> int:
    """Return how late a job's point may be seen: its own grace and the longest night, in seconds."""
    own = facts.number(view.settings.get("grace_s")) or 0
    return own + facts.seconds(policy, "clock-change")
