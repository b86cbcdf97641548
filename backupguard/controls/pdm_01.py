"""PDM-01: how much would be lost if everything stopped now, against the RPO?

Jobs with one selection are copies of the same data: the newest of their points counts. Jobs with
different selections are different data: each must be recent enough.

A nightly backup never loses 24 hours at most: what it read at 22:00 is safe when it ends, so just
before the next one ends more is at stake. That worst exposure of the month is a finding of its own, for
daytime; nobody is woken while the exposure is the usual one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.controls.job_01 import own_grace_s
from backupguard.errors import MEDIUM_AWAY
from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    PointState,
    Policy,
    Scope,
    Severity,
    View,
    to_us,
)

#: Below this RPO a backup alone is no answer: logs or a replica must follow it.
NEEDS_LOGS_S = 86_400


class RpoMet:
    """Judges the age of the newest restorable point of each selection, and the month's worst."""

    id: ClassVar[str] = "PDM-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        groups = selections(view)
        if not groups:
            return facts.never_set_up("reason.PDM-01.no_job")
        return facts.worst_of([self._group(view, jobs, policy, now) for jobs in groups])

    def _group(self, view: View, jobs: list[View], policy: Policy, now: datetime) -> Judgement:
        rpo_s = rpo_of(view, policy)
        suffix = "" if facts.number(view.settings.get("rpo_s")) is not None else "_default"
        newest = newest_of(jobs)
        if newest is None:
            return self._no_point(view, jobs, policy, now)
        lapse = newest + (rpo_s + tolerance_s(jobs, policy, rpo_s)) * facts.SECOND
        standing = _standing(view, jobs, policy, now)
        if to_us(now) <= lapse:
            return standing
        inspected = _inspected(jobs)
        # A medium that is away excuses nothing that another job of the same data has not done.
        here = [job for job in jobs if job.known.get("code") != MEDIUM_AWAY] or jobs
        unseen = [job for job in here if (facts.number(job.known.get("seen_at")) or 0) <= lapse]
        if unseen:
            blind = facts.lost(
                policy, now, lapse, "reason.PDM-01.unseen", *inspected,
                newest_at=newest, repository=str(unseen[0].settings.get("repository")),
                code=facts.code(unseen[0].known),
            )  # fmt: skip
            return facts.worst_of([blind, standing])
        age, worst = to_us(now) - newest, worst_exposure_us(jobs) or 0
        usual = worst + max(own_grace_s(job) for job in jobs) * facts.SECOND
        if age <= min(usual, 2 * rpo_s * facts.SECOND):
            # As long as always: the finding of every day says so, and no alarm comes every weekend.
            return facts.worst_of([_exposed(jobs, rpo_s, worst), standing])
        twice = lapse + rpo_s * facts.SECOND
        if to_us(now) <= twice and any(_left_out_by_clock(job, now) for job in jobs):
            # Nobody can run what the spring night has no time for; the next run is still awaited.
            return facts.worst_of([_exposed(jobs, rpo_s, age), standing])
        pages = age > 2 * rpo_s * facts.SECOND or (worst > 0 and age > usual)
        return facts.non_compliant(
            self._severity(view, policy, pages=pages),
            f"reason.PDM-01.breached{suffix}",
            *inspected,
            newest_at=newest,
            rpo_ms=rpo_s * 1000,
        )

    def _no_point(self, view: View, jobs: list[View], policy: Policy, now: datetime) -> Judgement:
        inspected = _inspected(jobs)
        unseen = [job for job in jobs if facts.number(job.known.get("seen_at")) is None]
        if not unseen:
            severity = self._severity(view, policy, pages=True)
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

    def _severity(self, view: View, policy: Policy, *, pages: bool) -> Severity:
        """Return the severity of a breach; only a vital application wakes somebody."""
        vital = facts.most_vital(view) is Criticality.C1
        return Severity.CRITICAL if pages and vital else policy.severity


def selections(view: View) -> list[list[View]]:
    """Return an application's jobs, those that copy the same data together."""
    return by_selection(view.children)


def by_selection(jobs: Iterable[View]) -> list[list[View]]:
    """Return jobs, those that copy the same data together."""
    groups: dict[str, list[View]] = {}
    for job in jobs:
        groups.setdefault(str(job.settings.get("selection")), []).append(job)
    return list(groups.values())


def rpo_of(view: View, policy: Policy) -> int:
    """Return the RPO of an application in seconds: declared, else the catalogue's."""
    declared = facts.number(view.settings.get("rpo_s"))
    return declared if declared is not None else facts.seconds(policy, "default-rpo")


def newest_of(jobs: list[View]) -> int | None:
    """Return up to when data can be restored, the logs that follow a point included."""
    times = [
        at
        for job in jobs
        for name in ("restorable_at", "covers_until")
        if (at := facts.number(job.known.get(name))) is not None
    ]
    return max(times, default=None)


def tolerance_s(jobs: list[View], policy: Policy, rpo_s: int) -> int:
    """Return how late the newest point may be seen without a breach, in seconds.

    What is promised by the hour is not given hours of grace: never more than the RPO itself.
    """
    own = max(own_grace_s(job) for job in jobs)
    if rpo_s < NEEDS_LOGS_S:
        return min(own, rpo_s)
    return own + facts.seconds(policy, "clock-change")


def worst_exposure_us(jobs: list[View]) -> int | None:
    """Return the worst real exposure of the month in microseconds; None below two points.

    A point protects what it holds from the moment it is there; until the next one is there, what came
    after the first one began would be lost.
    """
    told = [job for job in jobs if job.known.get("exposure")]
    if not told:
        return None
    # Before the most frequent of several jobs is known, the others alone would look far worse.
    pace = min(facts.number(job.settings.get("interval_s")) or 0 for job in told)
    start = min(
        job.known["exposure"][0][0]
        for job in told
        if (facts.number(job.settings.get("interval_s")) or 0) == pace
    )
    pairs = sorted(
        (there, reaches)
        for job in told
        for reaches, there in job.known["exposure"]
        if reaches >= start
    )
    worst: int | None = None
    protected: int | None = None
    for there, reaches in pairs:
        if protected is not None:
            worst = max(worst or 0, there - protected)
        protected = reaches if protected is None else max(protected, reaches)
    return worst


def _standing(view: View, jobs: list[View], policy: Policy, now: datetime) -> Judgement:
    """Judge what is true whatever the age of the newest point."""
    rpo_s = rpo_of(view, policy)
    declared = facts.number(view.settings.get("rpo_s")) is not None
    inspected = _inspected(jobs)
    newest = newest_of(jobs)
    logs = any(facts.number(job.known.get("covers_until")) is not None for job in jobs)
    worst = worst_exposure_us(jobs)
    if newest is not None and _only_with_warnings(jobs):
        return facts.warning("reason.PDM-01.warning", *inspected, newest_at=newest)
    if rpo_s < NEEDS_LOGS_S and not logs:
        return facts.warning("reason.PDM-01.no_logs", *inspected, rpo_ms=rpo_s * 1000)
    allowed_s = rpo_s + (facts.seconds(policy, "clock-change") if rpo_s >= NEEDS_LOGS_S else 0)
    if not logs and worst is not None and worst > allowed_s * facts.SECOND:
        return _exposed(jobs, rpo_s, worst)
    if not declared:
        return facts.warning("reason.PDM-01.met_default", *inspected, rpo_ms=rpo_s * 1000)
    return _declaration(view, policy, now, inspected) or facts.compliant(
        "reason.PDM-01.met", *inspected, rpo_ms=rpo_s * 1000
    )


def _declaration(
    view: View, policy: Policy, now: datetime, inspected: list[Fact | None]
) -> Judgement | None:
    """Return a warning when nobody said who promised RPO and RTO, or long ago."""
    at = facts.number(view.settings.get("declared_at"))
    if not view.settings.get("declared_by") or at is None:
        return facts.warning("reason.PDM-01.undeclared", *inspected)
    if to_us(now) - at > facts.seconds(policy, "declaration-age") * facts.SECOND:
        return facts.warning(
            "reason.PDM-01.stale_declaration", *inspected,
            declared_at=at, by=str(view.settings.get("declared_by")),
        )  # fmt: skip
    return None


def _exposed(jobs: list[View], rpo_s: int, worst: int) -> Judgement:
    minutes = -(-worst // (60 * facts.SECOND))  # whole minutes, upwards
    return facts.warning(
        "reason.PDM-01.exposed",
        *_inspected(jobs),
        exposure_ms=minutes * 60_000,
        rpo_ms=rpo_s * 1000,
    )


def _left_out_by_clock(job: View, now: datetime) -> bool:
    """Tell whether a run is missing only because its time did not exist; the next is not late yet."""
    due = facts.number(job.known.get("due_at"))
    if job.known.get("doubtful_at") is None or due is None:
        return False
    return to_us(now) <= due + own_grace_s(job) * facts.SECOND


def _inspected(jobs: list[View]) -> list[Fact | None]:
    return [job.latest.get("repository.inspected") for job in jobs]


def _only_with_warnings(jobs: list[View]) -> bool:
    """Tell whether the newest point is one that its tool marked with a warning."""
    newest = max(
        (at for job in jobs if (at := facts.number(job.known.get("restorable_at"))) is not None),
        default=None,
    )
    return newest is not None and all(
        job.known.get("newest_state") == PointState.WARNING
        for job in jobs
        if facts.number(job.known.get("restorable_at")) == newest
    )
