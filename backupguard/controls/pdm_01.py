"""PDM-01: how much would be lost if everything stopped now, against the RPO?

Jobs with one selection are copies of the same data: the newest of their points counts. Jobs with
different selections are different data: each must be recent enough.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.controls.job_01 import grace_s
from backupguard.model import (
    Criticality,
    Judgement,
    PointState,
    Policy,
    Scope,
    Severity,
    View,
    to_us,
)


class RpoMet:
    """Judges the age of the newest restorable point of each selection."""

    id: ClassVar[str] = "PDM-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        groups: dict[str, list[View]] = {}
        for job in view.children:
            groups.setdefault(str(job.settings.get("selection")), []).append(job)
        if not groups:
            return facts.never_set_up("reason.PDM-01.no_job")
        return facts.worst_of([self._group(view, jobs, policy, now) for jobs in groups.values()])

    def _group(self, view: View, jobs: list[View], policy: Policy, now: datetime) -> Judgement:
        declared = facts.number(view.settings.get("rpo_s"))
        rpo_s = declared if declared is not None else facts.seconds(policy, "default-rpo")
        suffix = "" if declared is not None else "_default"
        inspected = [job.latest.get("repository.inspected") for job in jobs]
        newest = max(
            (
                at
                for job in jobs
                if (at := facts.number(job.known.get("restorable_at"))) is not None
            ),
            default=None,
        )
        if newest is None:
            return self._no_point(view, jobs, policy, now)
        tolerance_s = max(grace_s(job, policy) for job in jobs)
        lapse = newest + (rpo_s + tolerance_s) * facts.SECOND
        met = facts.compliant(f"reason.PDM-01.met{suffix}", *inspected, rpo_ms=rpo_s * 1000)
        if _only_with_warnings(jobs, newest):
            met = facts.warning("reason.PDM-01.warning", *inspected, newest_at=newest)
        if to_us(now) <= lapse:
            return met
        unseen = [job for job in jobs if (facts.number(job.known.get("seen_at")) or 0) <= lapse]
        if unseen:
            blind = facts.lost(
                policy, now, lapse, "reason.PDM-01.unseen", *inspected,
                newest_at=newest, repository=str(unseen[0].settings.get("repository")),
                code=facts.code(unseen[0].known),
            )  # fmt: skip
            return facts.worst_of([blind, met])
        return facts.non_compliant(
            self._severity(view, policy, to_us(now) - newest, rpo_s),
            f"reason.PDM-01.breached{suffix}",
            *inspected,
            newest_at=newest,
            rpo_ms=rpo_s * 1000,
        )

    def _no_point(self, view: View, jobs: list[View], policy: Policy, now: datetime) -> Judgement:
        inspected = [job.latest.get("repository.inspected") for job in jobs]
        unseen = [job for job in jobs if facts.number(job.known.get("seen_at")) is None]
        if not unseen:
            severity = self._severity(view, policy, None, 0)
            return facts.non_compliant(severity, "reason.PDM-01.no_point", *inspected)
        said = {
            "repository": str(unseen[0].settings.get("repository")),
            "code": facts.code(unseen[0].known),
        }
        if len(unseen) == len(jobs) or view.first_seen is None:
            return facts.never_set_up("reason.never_seen", *inspected, **said)
        return facts.lost(
            policy, now, to_us(view.first_seen), "reason.never_seen", *inspected, **said
        )

    def _severity(self, view: View, policy: Policy, age: int | None, rpo_s: int) -> Severity:
        """Return the severity of a breach; a vital application twice over its RPO wakes somebody."""
        if facts.most_vital(view) is not Criticality.C1:
            return policy.severity
        twice = age is None or age > 2 * rpo_s * facts.SECOND
        return Severity.CRITICAL if twice else policy.severity


def _only_with_warnings(jobs: list[View], newest: int) -> bool:
    """Tell whether the newest point is one that its tool marked with a warning."""
    return all(
        job.known.get("newest_state") == PointState.WARNING
        for job in jobs
        if facts.number(job.known.get("restorable_at")) == newest
    )
