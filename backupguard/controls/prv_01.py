"""PRV-01: is there proof, is it whole, and does it stand without trusting this host?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import Judgement, Policy, Scope, Severity, View, to_us


class EvidenceKept:
    """Judges the chain of records, the monthly report and the anchors off this host."""

    id: ClassVar[str] = "PRV-01"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset({"report.issued", "evidence.anchored"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        if view.known.get("evidence_valid") is False:
            seq = facts.number(view.known.get("evidence_wrong_seq")) or 0
            return facts.non_compliant(Severity.CRITICAL, "reason.PRV-01.broken", seq=seq)
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        month = report_due(view.first_seen, now, facts.seconds(policy, "report-day"))
        reported = view.known.get("reported")
        if month is not None and (not isinstance(reported, str) or reported < month):
            return facts.non_compliant(policy.severity, "reason.PRV-01.no_report", month=month)
        if view.known.get("evidence_valid") is None:
            return facts.never_set_up("reason.PRV-01.unchecked")
        anchored = facts.not_in_future(view.latest.get("evidence.anchored"), now)
        if anchored is None:
            return facts.never_set_up("reason.PRV-01.no_anchor")
        until = facts.seen_at(anchored) + facts.seconds(policy, "anchor-age") * facts.SECOND
        anchored_at = facts.seen_at(anchored)
        if to_us(now) > until:
            return facts.lost(
                policy, now, until, "reason.PRV-01.old_anchor", anchored, anchored_at=anchored_at
            )
        return facts.compliant("reason.PRV-01.kept", anchored, anchored_at=anchored_at)


def report_due(first_seen: datetime | None, now: datetime, day: int) -> str | None:
    """Return the newest month whose report must have been issued by `now`: "2026-10".

    A month is due at the end of its following month's `day`, in UTC, if the site was watched before
    that month ended; None when nothing is due yet.
    """
    if first_seen is None:
        return None
    this = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = (this - timedelta(days=1)).replace(day=1)
    end = this if now >= this + timedelta(days=day) else last
    if first_seen >= end:
        return None
    return (end - timedelta(days=1)).strftime("%Y-%m")
