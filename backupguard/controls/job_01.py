"""JOB-01: did each backup job leave a good point when it should have?"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    PointKind,
    PointState,
    Policy,
    Scope,
    Severity,
    View,
    to_us,
)

_ON_TOP = frozenset({PointKind.INCREMENTAL, PointKind.DIFFERENTIAL})


class JobSuccess:
    """Judges how a job's newest run ended, whether one is missing, and how its week went."""

    id: ClassVar[str] = "JOB-01"
    scope: ClassVar[Scope] = Scope.JOB
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one job."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        inspected = _inspected(view)
        seen = facts.number(view.known.get("seen_at"))
        if seen is None:
            return facts.never_set_up(
                "reason.never_seen", inspected,
                repository=_repository(view), code=facts.code(view.known),
            )  # fmt: skip
        newest = facts.number(view.known.get("restorable_at"))
        if newest is None:
            return self._no_point(view, policy, now, seen)
        if view.known.get("newest_state") == PointState.FAILED:
            return _failed(view, policy)
        lapse = lapses_at(view, policy, newest)
        standing = self._newest(view, policy, now)
        if to_us(now) <= lapse:
            return standing
        if seen > lapse:
            return _late(view, policy, newest)
        return facts.worst_of([_blind(view, policy, now, lapse, seen), standing])

    def _newest(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the runs there are as if none were missing."""
        inspected = _inspected(view)
        empty = _empty(view, policy)
        if empty is not None:
            return empty
        hung = _hung(view, policy, now)
        if hung is not None:
            return hung
        if view.known.get("newest_state") == PointState.WARNING:
            return facts.warning("reason.JOB-01.warning", inspected)
        doubtful = facts.number(view.known.get("doubtful_at"))
        if doubtful is not None and to_us(now) > doubtful + own_grace_s(view) * facts.SECOND:
            return facts.warning("reason.JOB-01.clock_change", inspected, slot_at=doubtful)
        if view.known.get("future"):
            return facts.warning("reason.JOB-01.future", inspected, repository=_repository(view))
        return _week(view, policy) or facts.compliant(
            "reason.JOB-01.done", inspected, interval_ms=_interval_s(view, policy) * 1000
        )

    def _no_point(self, view: View, policy: Policy, now: datetime, seen: int) -> Judgement:
        inspected = _inspected(view)
        if view.known.get("newest_state") == PointState.FAILED:
            return _failed(view, policy)
        due = None
        if view.first_seen is not None:
            due = lapses_at(view, policy, to_us(view.first_seen))
        if due is not None and to_us(now) <= due:
            return facts.never_set_up("reason.JOB-01.not_due", inspected)
        if due is None or seen > due:
            return facts.non_compliant(
                policy.severity, "reason.JOB-01.no_point", inspected, repository=_repository(view)
            )
        return _blind(view, policy, now, due, seen)


def own_grace_s(view: View) -> int:
    """Return how late a job's point may be seen, in seconds."""
    return facts.number(view.settings.get("grace_s")) or 0


def grace_s(view: View, policy: Policy) -> int:
    """Return how late a job's point may be seen: its own grace and the longest night, in seconds."""
    return own_grace_s(view) + facts.seconds(policy, "clock-change")


def lapses_at(view: View, policy: Policy, newest: int) -> int:
    """Return until when a point of time `newest` is enough, in microseconds.

    A calendar says which run comes next, on the nights of clock changes too. An interval counts from
    the newest point, and lasts an hour longer on one night of autumn.
    """
    due = facts.number(view.known.get("due_at"))
    if due is not None:
        return due + own_grace_s(view) * facts.SECOND
    return newest + (_interval_s(view, policy) + grace_s(view, policy)) * facts.SECOND


def _interval_s(view: View, policy: Policy) -> int:
    interval_s = facts.number(view.settings.get("interval_s"))
    return interval_s if interval_s is not None else facts.seconds(policy, "interval")


def _inspected(view: View) -> Fact | None:
    return view.latest.get("repository.inspected")


def _repository(view: View) -> str:
    return str(view.settings.get("repository"))


def _failed(view: View, policy: Policy) -> Judgement:
    """Return what failures mean: one is news for the day, a second in a row wakes somebody for C1."""
    failures = facts.number(view.known.get("failures")) or 1
    if failures < 2:
        return facts.non_compliant(policy.severity, "reason.JOB-01.failed", _inspected(view))
    vital = facts.most_vital(view) is Criticality.C1
    severity = Severity.CRITICAL if vital else policy.severity
    return facts.non_compliant(
        severity, "reason.JOB-01.failed_again", _inspected(view), count=failures
    )


def _late(view: View, policy: Policy, newest: int) -> Judgement:
    due = facts.number(view.known.get("due_at"))
    if due is not None:
        return facts.non_compliant(
            policy.severity, "reason.JOB-01.missed", _inspected(view), due_at=due, newest_at=newest
        )
    return facts.non_compliant(
        policy.severity, "reason.JOB-01.late", _inspected(view),
        newest_at=newest, interval_ms=_interval_s(view, policy) * 1000,
    )  # fmt: skip


def _blind(view: View, policy: Policy, now: datetime, since: int, seen: int) -> Judgement:
    return facts.lost(
        policy, now, since, "reason.unseen", _inspected(view),
        repository=_repository(view), seen_at=seen, code=facts.code(view.known),
    )  # fmt: skip


def _empty(view: View, policy: Policy) -> Judgement | None:
    """Return what a run that copied nothing means; on top of another point that may be no defect."""
    if view.known.get("newest_bytes") == 0:
        reason = "reason.JOB-01.empty"
    elif view.known.get("newest_files") == 0:
        reason = "reason.JOB-01.no_files"
    else:
        return None
    if view.known.get("newest_kind") in _ON_TOP:
        return facts.warning("reason.JOB-01.nothing_new", _inspected(view))
    return facts.non_compliant(policy.severity, reason, _inspected(view))


def _hung(view: View, policy: Policy, now: datetime) -> Judgement | None:
    """Return a warning for a run that has been going on for far longer than is usual."""
    since = facts.number(view.known.get("running_since"))
    usual = facts.number(view.known.get("usual_ms"))
    if since is None or usual is None:
        return None
    times = facts.count(policy, "running-times", 3)
    if to_us(now) - since <= max(usual * times, 1000 * own_grace_s(view)) * 1000:
        return None
    return facts.warning("reason.JOB-01.hung", _inspected(view), started_at=since, usual_ms=usual)


def _week(view: View, policy: Policy) -> Judgement | None:
    """Return a warning when too few of the week's runs were a success."""
    done = facts.number(view.known.get("week_done")) or 0
    missed = facts.number(view.known.get("week_missed")) or 0
    expected = (facts.number(view.known.get("week_runs")) or 0) + missed
    if done * 100 >= expected * facts.count(policy, "success-rate", 0):
        return None
    return facts.warning(
        "reason.JOB-01.rate", _inspected(view), done=done, expected=expected, missed=missed
    )
