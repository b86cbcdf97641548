"""What the annex on controls says beyond the report: every judgement that stood, with its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backupguard.contracts import Store
from backupguard.model import STATUSES, Fact, Message, Status, Subject
from backupguard.reports.model import MonthlyReport
from backupguard.reports.tested import payload

if TYPE_CHECKING:
    from backupguard.controls import Catalogue
    from backupguard.controls.maps import ReferenceMap, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A judgement that stood at the end of the month, since when, and the facts it rests on."""

    seq: int
    subject: Subject
    status: Status
    cause: str | None
    reason: Message
    since: datetime
    facts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStanding:
    """A control: the clauses it is aligned on with their sources, and all that was judged by it."""

    control: str
    title: str
    references: tuple[tuple[ReferenceMap, Row], ...]
    counts: Mapping[Status, int]
    judged: tuple[Judged, ...]


def standings(
    store: Store, report: MonthlyReport, catalogue: Catalogue
) -> tuple[ControlStanding, ...]:
    """Return every control of the catalogue with every judgement that stood, the worst first."""
    by_control: dict[str, dict[Subject, Judged]] = {one: {} for one in catalogue.entries}
    for fact in store.facts(kinds=("finding.changed",)):
        data = payload(fact)  # nothing where the body was pruned: it says no judgement
        if data and fact.seq <= report.evidence.head_seq and fact.recorded_at <= report.as_of:
            its = by_control.setdefault(data["control"], {})
            subject = fact.observation.subject
            its[subject] = _judged(fact, its.get(subject))
    return tuple(
        ControlStanding(
            control=control,
            title=catalogue.title(control, report.language),
            references=catalogue.references(control),
            counts=_counted(its.values()),
            judged=tuple(sorted(its.values(), key=_order)),
        )
        for control, its in by_control.items()
    )


def _judged(fact: Fact, before: Judged | None) -> Judged:
    data = fact.observation.data
    status = Status(data["after"])
    unchanged = before is not None and before.status is status
    return Judged(
        seq=fact.seq,
        subject=fact.observation.subject,
        status=status,
        cause=data["cause"],
        reason=Message(id=data["reason"]["id"], values=data["reason"]["values"]),
        since=before.since if unchanged and before else fact.observation.observed_at,
        facts=tuple(int(seq) for seq in data["facts"]),
    )


def _counted(judged: Iterable[Judged]) -> Mapping[Status, int]:
    counts = dict.fromkeys(STATUSES, 0)
    for one in judged:
        counts[one.status] += 1
    return {status: count for status, count in counts.items() if count}


def _order(judged: Judged) -> tuple[int, str]:
    return STATUSES.index(judged.status), judged.subject
