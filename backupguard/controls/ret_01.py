"""RET-01: how far back can one go, judged on the points that stand and not on a policy?

Days are numbers since 1970 in the site's calendar. A day of the daily stretch is asked for only where a
job's calendar has a run on it; months and years only where the application existed all through them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.controls.job_01 import own_grace_s
from backupguard.controls.pdm_01 import selections
from backupguard.model import Judgement, Policy, Scope, Severity, Status, View, to_us

_EPOCH = date(1970, 1, 1).toordinal()
_DAY_S = 86_400
#: How many gaps are named; the others are counted.
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How many days, months and years of points must stand, and how many days the oldest is old."""

    daily: int
    monthly: int
    yearly: int
    floor: int


class RetentionDepth:
    """Judges the depth and the gaps of each selection's points, and a sudden loss of them."""

    id: ClassVar[str] = "RET-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected", "inventory.listed"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        groups = selections(view)
        if not groups:
            return facts.never_set_up("reason.PDM-01.no_job")
        lost = [found for job in view.children if (found := _loss(job, policy)) is not None]
        return facts.worst_of([*lost, *(_group(view, jobs, policy, now) for jobs in groups)])


def demand_of(view: View, policy: Policy) -> Demand:
    """Return what is demanded of an application: its own figures, else the catalogue's."""
    own = view.settings.get("retention")
    figures = own if isinstance(own, dict) else {}

    def of(name: str) -> int:
        declared = facts.number(figures.get(name))
        return declared if declared is not None else facts.count(policy, f"{name}-points", 0)

    return Demand(
        daily=of("daily"),
        monthly=of("monthly"),
        yearly=of("yearly"),
        floor=facts.seconds(policy, "floor") // _DAY_S,
    )


# ------------------------------------------------------------------------------------ sudden losses


def _loss(job: View, policy: Policy) -> Judgement | None:
    """Return a page when a job lost many of its points at once, whatever the criticality."""
    loss = job.known.get("loss")
    if not isinstance(loss, dict):
        return None
    lost, before = (facts.number(loss.get(name)) or 0 for name in ("lost", "before"))
    if before <= 0 or lost * 100 < before * facts.count(policy, "loss", 101):
        return None
    return facts.non_compliant(
        Severity.CRITICAL, "reason.RET-01.loss",
        job.latest.get("repository.inspected"), job.latest.get("inventory.listed"),
        lost=lost, before=before, percent=lost * 100 // before,
        seen_at=facts.number(loss.get("seen_at")) or 0,
        repository=str(job.settings.get("repository")), job=str(job.settings.get("job")),
    )  # fmt: skip


# -------------------------------------------------------------------------------------- the depth


def _group(view: View, jobs: list[View], policy: Policy, now: datetime) -> Judgement:
    seen = [job for job in jobs if facts.number(job.known.get("seen_at")) is not None]
    if not seen:
        return facts.never_set_up(
            "reason.never_seen",
            repository=str(jobs[0].settings.get("repository")), code=facts.code(jobs[0].known),
        )  # fmt: skip
    known = _depth(view, seen, policy)
    lost_at = {id(job): _lost_since(job) for job in seen}
    blind = [job for job in seen if to_us(now) > lost_at[id(job)]]
    rest = [job for job in seen if job not in blind]
    if not blind or (rest and _depth(view, rest, policy).status is Status.COMPLIANT):
        return known
    job = min(blind, key=lambda one: lost_at[id(one)])
    return facts.worst_of([
        facts.lost(
            policy, now, lost_at[id(job)], "reason.unseen",
            job.latest.get("repository.inspected"),
            repository=str(job.settings.get("repository")),
            seen_at=facts.number(job.known.get("seen_at")) or 0, code=facts.code(job.known),
        ),
        known,
    ])  # fmt: skip


def _lost_since(job: View) -> int:
    """Return until when the last listing of a job's repository is recent enough."""
    seen = facts.number(job.known.get("seen_at")) or 0
    return seen + (own_grace_s(job) + 3600) * facts.SECOND


def _depth(view: View, jobs: list[View], policy: Policy) -> Judgement:
    demand, inspected = (
        demand_of(view, policy),
        [j.latest.get("repository.inspected") for j in jobs],
    )
    today = facts.number(view.known.get("today"))
    days = _days(jobs)
    if today is None or (not days and any(job.known.get("points") for job in jobs)):
        return facts.never_set_up("reason.RET-01.uncounted", *inspected)
    if not days:
        return _nothing(view, jobs, policy)
    oldest = min(days[0], today)
    wanted = max(demand.daily, demand.floor)
    kept = _kept_days(jobs)
    if kept is not None and kept < wanted and today - oldest < wanted:
        return facts.non_compliant(
            policy.severity, "reason.RET-01.pruned", *inspected, kept=kept, wanted=wanted
        )
    first = facts.number(view.known.get("first_day"))
    since = min(oldest, first if first is not None else oldest)
    reached = {"oldest": _day(oldest)}
    # The first point may come an interval after an application was declared.
    if today - oldest + 1 < min(wanted, today - since - _step(jobs)):
        return facts.non_compliant(
            policy.severity, "reason.RET-01.short", *inspected, wanted=wanted, **reached
        )
    months = _months(days, demand.monthly, since, today)
    years = _years(days, demand.yearly, since, today)
    if months.ends_early or years.ends_early:
        missing = months if months.ends_early else years
        return facts.non_compliant(
            policy.severity, "reason.RET-01.short_periods", *inspected,
            missing=len(missing.gaps), gaps=_named(missing.gaps), **reached,
        )  # fmt: skip
    daily = _daily(days, jobs, demand.daily, since, today)
    gaps = [*daily, *months.gaps, *years.gaps]
    if daily and len(daily) * 100 > demand.daily * facts.count(policy, "gaps", 100):
        return facts.non_compliant(
            policy.severity, "reason.RET-01.gaps", *inspected, missing=len(gaps), gaps=_named(gaps)
        )
    if gaps:
        return facts.warning("reason.RET-01.gaps", *inspected, missing=len(gaps), gaps=_named(gaps))
    if today - since < wanted:
        return facts.never_set_up("reason.RET-01.young", *inspected, wanted=wanted, **reached)
    return facts.compliant("reason.RET-01.kept", *inspected)


def _nothing(view: View, jobs: list[View], policy: Policy) -> Judgement:
    """Judge an application that has no point at all; its first one may not be due yet."""
    inspected = [job.latest.get("repository.inspected") for job in jobs]
    first, today = (facts.number(view.known.get(name)) for name in ("first_day", "today"))
    if first is None or today is None or today - first <= 7:
        return facts.never_set_up("reason.RET-01.no_point_yet", *inspected)
    return facts.non_compliant(policy.severity, "reason.RET-01.no_point", *inspected)


def _kept_days(jobs: list[View]) -> int | None:
    """Return how many days the tools keep the oldest point, as far as they were seen to drop one."""
    kept = [facts.number(job.known.get("kept_us")) for job in jobs]
    if any(one is None for one in kept):
        return None  # a copy that drops nothing may hold more
    return max((one for one in kept if one is not None), default=0) // facts.DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class _Periods:
    """Which months or years lack a point; `ends_early`: the oldest of them do, so history is short."""

    gaps: tuple[str, ...]
    ends_early: bool


def _days(jobs: list[View]) -> Sequence[int]:
    """Return the days on which any of several copies has a point, ascending and once each."""
    found: list[Sequence[int]] = [job.known.get("days") or () for job in jobs]
    if len(found) == 1:
        return found[0]
    return sorted({day for days in found for day in days})


def _between(days: Sequence[int], first: int, end: int) -> bool:
    """Tell whether one of the days lies in [first, end)."""
    index = bisect_left(days, first)
    return index < len(days) and days[index] < end


def _periods(days: Sequence[int], wanted: list[tuple[str, date, date]]) -> _Periods:
    """Given periods (name, first day, day after the last), oldest first, tell which have no point."""
    gaps = [
        name
        for name, first, end in wanted
        if not _between(days, first.toordinal() - _EPOCH, end.toordinal() - _EPOCH)
    ]
    return _Periods(gaps=tuple(gaps), ends_early=bool(gaps) and gaps[0] == wanted[0][0])


def _months(days: Sequence[int], count: int, since: int, today: int) -> _Periods:
    """Judge the months before this one, as far as the application existed all through them."""
    start, now = _date(since), _date(today)
    number, born = (one.year * 12 + one.month - 1 for one in (now, start))
    wanted = [
        (f"{month // 12}-{month % 12 + 1:02d}", _first(month), _first(month + 1))
        for month in range(max(number - count + 1, born + 1), number)
    ]
    return _periods(days, wanted)


def _first(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)


def _years(days: Sequence[int], count: int, since: int, today: int) -> _Periods:
    """Judge the years before this one, as far as the application existed all through them."""
    start, now = _date(since), _date(today)
    wanted = [
        (str(year), date(year, 1, 1), date(year + 1, 1, 1))
        for year in range(max(now.year - count + 1, start.year + 1), now.year)
    ]
    return _periods(days, wanted)


def _daily(days: Sequence[int], jobs: list[View], count: int, since: int, today: int) -> list[str]:
    """Return the days of the daily stretch on which a run was asked for and no point stands.

    The last of them may still be under way, and is JOB-01's to judge. Without a calendar, each
    interval needs a point.
    """
    stretch = range(max(today - count, since + 1), today - 1)
    if all(job.known.get("asked_days") is not None for job in jobs):
        asked = {day for job in jobs for day in job.known["asked_days"]}
        return [_day(day) for day in stretch if day in asked and not _between(days, day, day + 1)]
    step = _step(jobs)
    return [
        _day(day)
        for day in stretch[step - 1 :: step]
        if not _between(days, day - step + 1, day + 1 + (step > 1))
    ]


def _step(jobs: list[View]) -> int:
    """Return the shortest interval of several jobs, in whole days and one at least."""
    intervals = [facts.number(job.settings.get("interval_s")) or _DAY_S for job in jobs]
    return max(1, -(-min(intervals) // _DAY_S))


def _date(day: int) -> date:
    return date.fromordinal(max(1, min(day + _EPOCH, date.max.toordinal())))


def _day(day: int) -> str:
    return _date(day).isoformat()


def _named(gaps: Collection[str]) -> str:
    """Return the first gaps by name, and how many more there are."""
    names = list(gaps)
    more = f" (+{len(names) - NAMED})" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
