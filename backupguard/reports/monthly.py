"""Builds the monthly report: records in, a frozen `MonthlyReport` out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import backupguard
from backupguard.assess.declared_estate import Estate, catalogue_then, declared_estate
from backupguard.contracts import Store
from backupguard.model import STATUSES, Criticality, Fact, Severity, Status
from backupguard.reports import rows
from backupguard.reports.actions import Seen, first
from backupguard.reports.answers import answers
from backupguard.reports.applications import (
    REMEMBERED,
    Known,
    application_rows,
    copies_due,
    counts_of,
    due_rows,
    recovery_of,
    removed_rows,
    turned,
)
from backupguard.reports.catalogued import Demands, alignment
from backupguard.reports.copies import copy_rows
from backupguard.reports.history import (
    CLOSING_KINDS,
    EVENT_KINDS,
    History,
    read,
    silences,
    span_of,
)
from backupguard.reports.model import EvidenceData, FindingRow, Gap, MonthlyReport
from backupguard.reports.outlook import Action
from backupguard.reports.places import offline_rows, protection_rows, repository_rows
from backupguard.reports.statements import (
    attestation_rows,
    override_rows,
    overrides_of,
    waiver_rows,
    with_owners,
    with_reasons,
)
from backupguard.reports.tested import payload

if TYPE_CHECKING:
    from backupguard.controls import Catalogue
    from backupguard.settings import Settings

_GOOD = (Status.COMPLIANT, Status.NOT_APPLICABLE)


def monthly(
    store: Store,
    settings: Settings,
    catalogue: Catalogue,
    month: str,
    language: str,
    now: datetime,
) -> MonthlyReport:
    """Given a month ("2026-11"), return its report as the records show it.

    What stands is what stood at the end of the month, or at `now` while the month lasts. Only the
    hashed bytes of records are read, each once. What was declared and demanded is what the last load
    of that time recorded; only where none did, the settings of today are taken instead. Raises
    UsageError when `month` is no month.
    """
    span = span_of(month, settings.site.timezone)
    history = read(store, span, now)
    estate = history.loads.estate or declared_estate(settings, catalogue)
    then = catalogue_then(catalogue, estate)
    demands = Demands(catalogue=then, overrides=overrides_of(history), as_of=history.as_of)
    names = {identifier: one.name for identifier, one in estate.applications.items()}
    recovery = recovery_of(estate, history)
    known = Known(
        estate=estate,
        history=history,
        demands=demands,
        names=names,
        returns={one.application: one for one in recovery.returns},
    )
    applications = application_rows(known)
    findings = _findings(history, estate, catalogue, language)
    waivers = waiver_rows(history, findings)
    findings = with_owners(findings, waivers)
    attestations = attestation_rows(history)
    overrides = override_rows(history, then)
    changes = with_reasons(history, history.loads.changes)
    weakenings = tuple(
        one for one in changes if one.weakened and one.at >= history.as_of - REMEMBERED
    )
    repositories = repository_rows(estate, history)
    protections = protection_rows(estate, history, attestations)
    tests = tuple(
        rows.test_row(fact, names) for fact in history.of("restore-test.result") if _has_body(fact)
    )
    undecided = tuple(rows.undecided_rows(history.of(*CLOSING_KINDS)))
    events = tuple(rows.event_rows(history.of(*EVENT_KINDS)))
    report = MonthlyReport(
        site=settings.site.name,
        timezone=settings.site.timezone,
        language=language,
        month=month,
        start=span.start,
        end=span.end,
        as_of=history.as_of,
        issued_at=now,
        provisional=now < span.end,
        declared_now=history.loads.estate is None,
        first_record_at=history.first_record_at,
        records_in_month=len(history.moments),
        pruned_in_month=history.pruned,
        replayed=history.replayed,
        commissioning_until=_commissioning(estate, settings.site.timezone, history.as_of),
        counts=counts_of(applications),
        applications=applications,
        removed=removed_rows(known),
        newly_failing=turned(applications, "failed"),
        recovered=turned(applications, "passed"),
        tests=tests,
        due=due_rows(demands, applications),
        copies_due=copies_due(known),
        undecided=undecided,
        finding_counts=Counter(row.status for row in findings),
        findings=tuple(row for row in findings if row.status not in _GOOD),
        changes=tuple(c for c in changes if not c.weakened and c.at >= span.start),
        weakenings=weakenings,
        repositories=repositories,
        copies=copy_rows(estate, repositories),
        attestations=attestations,
        waivers=waivers,
        overrides=overrides,
        alignment=alignment(catalogue, findings, language),
        events=events,
        versions=tuple(one for one in history.loads.versions if one.at >= span.start),
        recovery=recovery,
        protections=protections,
        offline=offline_rows(history),
        actions=(),
        answers=(),
        gaps=tuple(Gap(start=start, end=end) for start, end in silences(history)),
        evidence=_evidence(store, settings, history, demands),
    )
    return replace(report, actions=_actions(report), answers=answers(report))


def _actions(report: MonthlyReport) -> tuple[Action, ...]:
    return first(
        Seen(
            applications=report.applications,
            protections=report.protections,
            weakenings=report.weakenings,
            anchored=report.evidence.anchored_at is not None and not report.evidence.anchor_old,
        )
    )


def _has_body(fact: Fact) -> bool:
    return fact.observation.data is not None


def _commissioning(estate: Estate, timezone: str, as_of: datetime) -> date | None:
    until = estate.commissioning_until
    return (
        until
        if until is not None and until >= as_of.astimezone(ZoneInfo(timezone)).date()
        else None
    )


def _findings(
    history: History, estate: Estate, catalogue: Catalogue, language: str
) -> list[FindingRow]:
    severities = list(Severity)
    named = [
        replace(
            row,
            title=catalogue.title(row.control, language),
            criticality=_criticality(estate, row.subject),
        )
        for row in history.findings.values()
    ]
    return sorted(
        named,
        key=lambda row: (
            STATUSES.index(row.status),
            severities.index(row.severity),
            row.criticality or "~",
            row.control,
            row.subject,
        ),
    )


def _criticality(estate: Estate, subject: str) -> Criticality | None:
    scope, _, name = subject.partition("/")
    if scope not in ("application", "job"):
        return None
    application = estate.applications.get(name.partition(".")[0])
    return application.criticality if application else None


def _evidence(store: Store, settings: Settings, history: History, demands: Demands) -> EvidenceData:
    def last(kind: str) -> Fact | None:
        return next(reversed(history.long.get(kind, [])), None)

    anchor = last("evidence.anchored")
    key = last("evidence.key-rotated") or last("evidence.key-created")
    loaded = history.loads.last
    anchored = payload(anchor) if anchor else {}
    seal = store.sealed()
    return EvidenceData(
        store_id=store.store_id,
        head_seq=history.head_seq,
        head_hash=history.head_hash.hex(),
        sealed_seq=seal[0] if seal else None,
        sealed_at=seal[1] if seal else None,
        key_fingerprint=payload(key).get("fingerprint") if key else None,
        anchored_at=anchor.recorded_at if anchor else None,
        anchor_old=anchor is not None and anchor.recorded_at + demands.anchor_age() < history.as_of,
        anchored_place=anchored.get("place"),
        anchored_seq=anchored.get("seq"),
        settings_sha256=settings.sha256,
        recorded_settings_sha256=loaded.get("sha256"),
        catalogue_sha256=loaded.get("catalogue_sha256"),
        maps_sha256=loaded.get("maps", {}),
        program_version=backupguard.__version__,
        recorded_program_version=loaded.get("program_version"),
    )
