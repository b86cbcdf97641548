"""Applications as a report shows them: where each stands, what is due, what has gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from backupguard.assess.declared_estate import Estate, Owner
from backupguard.assess.estate import forecast_of
from backupguard.model import Criticality, Fact, from_us, repository_subject
from backupguard.reports import rows
from backupguard.reports.catalogued import Demands
from backupguard.reports.history import History
from backupguard.reports.model import (
    STANDINGS,
    ApplicationRow,
    CopyDueRow,
    DueRow,
    Standing,
    TestRow,
)
from backupguard.reports.outlook import Recovery, ReturnRow

#: How long a thing removed or weakened stays in the report.
REMEMBERED = timedelta(days=366)
_MS = timedelta(milliseconds=1)
_STANDING_ORDER = (
    Standing.FAILED,
    Standing.DUE,
    Standing.NO_ENGINE,
    Standing.BYTES_ONLY,
    Standing.OPENED,
    Standing.DECLARED,
    Standing.CONTROLLED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the rows of applications are made of."""

    estate: Estate
    history: History
    demands: Demands
    names: Mapping[str, str]
    returns: Mapping[str, ReturnRow]

    def tests(self, application: str) -> tuple[tuple[TestRow, ...], TestRow | None]:
        """Return the last conclusive test of each copy, newest first, and the last test."""
        tested = self.history.tested
        last = tested.last(application)
        return (
            tuple(self._row(fact) for fact in tested.copies(application)),
            self._row(last) if last is not None else None,
        )

    def _row(self, fact: Fact) -> TestRow:
        return rows.test_row(fact, self.names)


def application_rows(known: Known) -> tuple[ApplicationRow, ...]:
    """Return every application of the time, the most vital and the worst first."""
    found = [_row(known, name, owner) for name, owner in known.estate.applications.items()]
    return tuple(
        sorted(
            found,
            key=lambda row: (
                row.criticality or "",
                _STANDING_ORDER.index(row.standing),
                row.name,
                row.application,
            ),
        )
    )


def _row(known: Known, application: str, owner: Owner) -> ApplicationRow:
    copies, last = known.tests(application)
    history = known.history
    period = known.demands.period(application, owner.criticality)
    since = max(history.span.start, history.first_record_at or history.span.start)
    return ApplicationRow(
        application=application,
        name=owner.name,
        criticality=owner.criticality,
        standing=rows.standing_of(copies, last, history.as_of, period),
        last=last,
        copies=copies,
        rpo_ms=owner.rpo_ms,
        rto_ms=owner.rto_ms,
        declared_by=owner.declared_by,
        declared_on=owner.declared_on,
        bia_reference=owner.bia_reference,
        tonight=history.listed.tonight(application, owner, since, history.as_of),
        forecast=known.returns.get(application),
        trend=history.tested.marks(application),
    )


def removed_rows(known: Known) -> tuple[ApplicationRow, ...]:
    """Return the applications that are in the records of 12 months and not declared any more."""
    history, since = known.history, known.history.as_of - REMEMBERED
    declared = known.estate.applications
    gone = {name: one.name for name, one in history.loads.gone.items() if one.at >= since}
    for change in history.loads.changes:
        parts = change.path.split(".")
        whole = change.change == "removed" and parts[0] == "applications" and len(parts) == 2
        if whole and change.at >= since:
            gone.setdefault(parts[1], parts[1])
    for name in history.tested.applications:
        last = history.tested.last(name)
        if last is not None and last.observation.observed_at >= since:
            gone.setdefault(name, name)
    return tuple(
        _removed(known, name, title) for name, title in sorted(gone.items()) if name not in declared
    )


def _removed(known: Known, application: str, name: str) -> ApplicationRow:
    copies, last = known.tests(application)
    return ApplicationRow(
        application=application,
        name=name,
        criticality=None,
        standing=rows.standing_of(copies, last, known.history.as_of, REMEMBERED),
        last=last,
        copies=copies,
        rpo_ms=None,
        rto_ms=None,
        declared_by=None,
        declared_on=None,
        bia_reference=None,
        trend=known.history.tested.marks(application),
    )


def counts_of(
    applications: Iterable[ApplicationRow],
) -> Mapping[Criticality, Mapping[Standing, int]]:
    """Return how many applications of each criticality stand where: each is counted once."""
    found = {one: dict.fromkeys(STANDINGS, 0) for one in Criticality}
    for row in applications:
        if row.criticality is not None:
            found[row.criticality][row.standing] += 1
    return found


def turned(applications: Iterable[ApplicationRow], outcome: str) -> tuple[str, ...]:
    """Return the names of those whose tests ended so this month and otherwise the time before.

    `outcome` is "failed" or "passed"; months without a conclusive test are passed over.
    """
    names = []
    for row in applications:
        *before, this = row.trend
        last = next((m.outcome for m in reversed(before) if m.outcome != "none"), None)
        if this.outcome == outcome and last not in (None, outcome):
            names.append(row.name)
    return tuple(names)


def due_rows(demands: Demands, applications: Iterable[ApplicationRow]) -> tuple[DueRow, ...]:
    """Return the restore tests that were due and were not done."""
    result = []
    for row in applications:
        if row.standing is not Standing.DUE or row.criticality is None:
            continue
        period = demands.period(row.application, row.criticality)
        last_at = row.copies[0].at if row.copies else None
        result.append(
            DueRow(
                application=row.application,
                name=row.name,
                criticality=row.criticality,
                last_at=last_at,
                due_at=last_at + period if last_at else None,
                period_ms=period // _MS,
            )
        )
    return tuple(result)


def copies_due(known: Known) -> tuple[CopyDueRow, ...]:
    """Return the copies that can be restored from and were not within their period."""
    result = []
    for identifier, owner in known.estate.applications.items():
        period = known.demands.copy_period(identifier, owner.criticality)
        for repository in known.estate.fetchable(identifier):
            newest = known.history.tested.newest_observed(identifier, repository)
            last_at: datetime | None = newest.observation.observed_at if newest else None
            if last_at is None or last_at + period < known.demands.as_of:
                result.append(
                    CopyDueRow(
                        application=identifier,
                        name=owner.name,
                        criticality=owner.criticality,
                        repository=repository,
                        last_at=last_at,
                        period_ms=period // _MS,
                    )
                )
    return tuple(sorted(result, key=lambda row: (row.criticality, row.name, row.repository)))


def recovery_of(estate: Estate, history: History) -> Recovery:
    """Return the order of return as the records up to the end of the month forecast it."""
    tried = {
        subject.removeprefix(repository_subject("")): fact
        for subject, fact in history.tried.items()
    }
    found = forecast_of(
        estate, history.tested.proof(tried), history.listed.summaries(history.as_of)
    )
    returns = tuple(
        ReturnRow(
            position=position,
            application=one.application,
            name=estate.applications[one.application].name,
            criticality=one.criticality,
            end_ms=one.end_ms,
            rto_ms=one.rto_ms,
            late=one.late,
            measured=one.measured,
            missing=one.missing,
            waits_for=one.waits_for,
            behind=one.behind,
            repository=one.basis.repository if one.basis is not None else None,
            tested_at=from_us(one.basis.tested_at) if one.basis is not None else None,
            record=one.basis.seq if one.basis is not None else None,
        )
        for position, one in enumerate(found.returns, start=1)
    )
    return Recovery(returns=returns, parallel=found.parallel, durable_percent=found.durable_percent)
