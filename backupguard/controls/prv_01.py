"""PRV-01: is there proof, is it whole, signed for, and does it stand without trusting this host?

Where a place is configured for the recovery plan, it is also asked whether a fresh one lies there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import Judgement, Origin, Policy, Scope, Severity, View, to_us


class EvidenceKept:
    """Judges the chain of records, the report, the anchors off this host, and the self-test."""

    id: ClassVar[str] = "PRV-01"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset(
        {
            *("report.issued", "report.acknowledged"),
            *("evidence.anchored", "plan.issued", "self-test.result"),
        }
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        if view.known.get("evidence_valid") is False:
            seq = facts.number(view.known.get("evidence_wrong_seq")) or 0
            return facts.non_compliant(Severity.CRITICAL, "reason.PRV-01.broken", seq=seq)
        blind = _blind(view, now)
        if blind is not None:
            return blind
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        month = report_due(view.first_seen, now, facts.seconds(policy, "report-day"))
        reported = view.known.get("reported")
        if month is not None and (not isinstance(reported, str) or reported < month):
            return facts.non_compliant(policy.severity, "reason.PRV-01.no_report", month=month)
        anchors = self._anchors(view, policy, now)
        others = (
            _not_acknowledged(view, policy, now),
            _not_self_tested(view, policy, now),
            _plan(view, now),
        )
        return facts.worst_of([*(one for one in others if one is not None), anchors])

    def _anchors(self, view: View, policy: Policy, now: datetime) -> Judgement:
        if view.known.get("evidence_valid") is None:
            return facts.never_set_up("reason.PRV-01.unchecked")
        places = view.settings.get("anchors") or ()
        return facts.worst_of(
            [_anchor(view, policy, now, f"/{place}") for place in places]
            or [_anchor(view, policy, now)]
        )


def _anchor(view: View, policy: Policy, now: datetime, place: str = "") -> Judgement:
    """Judge the newest anchor at a place of the settings, or where they name none, the newest of all.

    What somebody says to have put down by hand, nothing has seen: it stands for no place.
    """
    anchored = facts.not_in_future(view.latest.get(f"evidence.anchored{place}"), now)
    at_place = "_at" if place else ""
    where = {"place": place[1:]} if place else {}
    if anchored is None:
        return facts.never_set_up(f"reason.PRV-01.no_anchor{at_place}", **where)
    anchored_at = facts.seen_at(anchored)
    until = anchored_at + facts.seconds(policy, "anchor-age") * facts.SECOND
    if to_us(now) > until:
        return facts.lost(
            policy,
            now,
            until,
            f"reason.PRV-01.old_anchor{at_place}",
            anchored,
            anchored_at=anchored_at,
            **where,
        )
    by_hand = anchored.observation.origin is Origin.ATTESTED
    reason = "reason.PRV-01.by_hand" if by_hand else "reason.PRV-01.kept"
    return facts.compliant(reason, anchored, anchored_at=anchored_at)


def _blind(view: View, now: datetime) -> Judgement | None:
    """Return the finding that damage done on purpose went unnoticed: no verdict can be believed."""
    tested = facts.not_in_future(view.latest.get("self-test.concluded"), now)
    if tested is None or facts.data(tested).get("noticed") is not False:
        return None
    found = facts.data(tested)
    return facts.non_compliant(
        Severity.CRITICAL,
        "reason.PRV-01.blind",
        tested,
        tested_at=facts.seen_at(tested),
        application=str(found.get("application")),
        harm=f"@harm.{found.get('harm')}",
    )


def _not_self_tested(view: View, policy: Policy, now: datetime) -> Judgement | None:
    """Return a warning where it was not tried for long whether damage is noticed."""
    allowed_s = facts.seconds(policy, "self-test-age")
    tested = facts.not_in_future(view.latest.get("self-test.concluded"), now)
    if tested is None:
        late = view.settings.get("self_tests") and facts.past_deadline(view, now, allowed_s)
        period_ms = allowed_s * 1000
        return facts.warning("reason.PRV-01.self_test_never", period_ms=period_ms) if late else None
    tested_at = facts.seen_at(tested)
    if to_us(now) - tested_at <= allowed_s * facts.SECOND:
        return None
    return facts.warning("reason.PRV-01.self_test_old", tested, tested_at=tested_at)


def _not_acknowledged(view: View, policy: Policy, now: datetime) -> Judgement | None:
    """Return a warning where a report that was issued has not come back signed in time."""
    awaited = facts.not_in_future(view.latest.get("report.issued/awaited"), now)
    if awaited is None:
        return None
    issued_at = facts.seen_at(awaited)
    if to_us(now) - issued_at <= facts.seconds(policy, "report-ack") * facts.SECOND:
        return None
    return facts.warning(
        "reason.PRV-01.not_acknowledged",
        awaited,
        month=str(facts.data(awaited).get("month")),
        issued_at=issued_at,
        count=facts.number(view.known.get("awaited")) or 1,
    )


def _plan(view: View, now: datetime) -> Judgement | None:
    """Return a warning where the recovery plan is not kept as the settings say; one period is grace."""
    every_s = facts.number(view.settings.get("plan_every_s"))
    if every_s is None:
        return None
    kept = facts.not_in_future(view.latest.get("plan.issued/kept"), now)
    if kept is None:
        late = facts.past_deadline(view, now, 2 * every_s)
        return facts.warning("reason.PRV-01.no_plan") if late else None
    written_at = facts.seen_at(kept)
    if to_us(now) - written_at > 2 * every_s * facts.SECOND:
        return facts.warning("reason.PRV-01.plan_old", kept, written_at=written_at)
    if facts.data(kept).get("same_device"):
        return facts.warning("reason.PRV-01.plan_here", kept, written_at=written_at)
    return None


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
