"""Builds the monthly report: records in, a frozen `MonthlyReport` out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import backupguard
from backupguard.contracts import Store
from backupguard.model import (
    Criticality,
    Fact,
    Origin,
    Severity,
    Status,
    Verdict,
    from_us,
    repository_subject,
)
from backupguard.reports import rows
from backupguard.reports.catalogued import Demands, alignment
from backupguard.reports.copies import copy_rows
from backupguard.reports.history import History, read, silences, span_of
from backupguard.reports.model import (
    STANDINGS,
    ApplicationRow,
    ChangeRow,
    CopyDueRow,
    DueRow,
    EvidenceData,
    FindingRow,
    Gap,
    MonthlyReport,
    RepositoryRow,
    Standing,
    TestRow,
)
from backupguard.reports.statements import (
    attestation_rows,
    override_rows,
    overrides_of,
    waiver_rows,
)

if TYPE_CHECKING:
    from backupguard.controls import Catalogue
    from backupguard.settings import Application, Settings

#: How long a thing removed or weakened stays in the report.
REMEMBERED = timedelta(days=366)
CLOSING_KINDS = ("restore-test.closed", "integrity.closed", "inventory.closed")
EVENT_KINDS = (
    "daemon.started",
    "clock.stepped",
    "configuration.rejected",
    "pause.started",
    "pause.ended",
    "baseline.accepted",
    "baseline.reset",
    "store.replaced",
    "evidence.pruned",
    "evidence.anchored",
)
_STANDING_ORDER = (
    Standing.FAILED,
    Standing.DUE,
    Standing.NO_ENGINE,
    Standing.BYTES_ONLY,
    Standing.OPENED,
    Standing.DECLARED,
    Standing.CONTROLLED,
)
_WORST_FIRST = (
    Status.NON_COMPLIANT,
    Status.WARNING,
    Status.NOT_MEASURABLE,
    Status.WAIVED,
    Status.COMPLIANT,
    Status.NOT_APPLICABLE,
)


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
    hashed bytes of records are read; names, targets and who declared them come from the settings,
    whose hash is in the report. Raises UsageError when `month` is no month.
    """
    span = span_of(month, settings.site.timezone)
    history = read(store, span, now)
    names = {identifier: a.name for identifier, a in settings.applications.items()}
    tests = [rows.test_row(fact, names) for fact in history.long.get("restore-test.result", ())]
    demands = Demands(catalogue=catalogue, overrides=overrides_of(history), as_of=history.as_of)
    applications = _applications(settings, demands, tests)
    changes = rows.change_rows(history.long.get("configuration.loaded", ()))
    findings = _findings(history, settings, catalogue, language)
    repositories = _repositories(store, settings, history)
    return MonthlyReport(
        site=settings.site.name,
        timezone=settings.site.timezone,
        language=language,
        month=month,
        start=span.start,
        end=span.end,
        as_of=history.as_of,
        issued_at=now,
        provisional=now < span.end,
        first_record_at=history.first_record_at,
        records_in_month=len(history.month),
        commissioning_until=_commissioning(settings, history.as_of),
        counts=_counts(applications),
        applications=applications,
        removed=_removed(settings, tests, changes, history.as_of),
        tests=tuple(rows.test_row(fact, names) for fact in history.of("restore-test.result")),
        due=_due(demands, applications),
        copies_due=_copies_due(settings, demands, tests),
        undecided=tuple(rows.undecided_rows(history.of(*CLOSING_KINDS))),
        finding_counts=Counter(row.status for row in findings),
        findings=tuple(
            row for row in findings if row.status not in (Status.COMPLIANT, Status.NOT_APPLICABLE)
        ),
        changes=tuple(c for c in changes if not c.weakened and c.at >= span.start),
        weakenings=tuple(c for c in changes if c.weakened and c.at >= history.as_of - REMEMBERED),
        repositories=repositories,
        copies=copy_rows(settings, repositories),
        attestations=attestation_rows(history),
        waivers=waiver_rows(history, findings),
        overrides=override_rows(history, catalogue),
        alignment=alignment(catalogue, findings, language),
        events=tuple(rows.event_rows(history.of(*EVENT_KINDS))),
        gaps=tuple(Gap(start=start, end=end) for start, end in silences(history)),
        evidence=_evidence(store, settings, history),
    )


def _commissioning(settings: Settings, as_of: datetime) -> Any:
    until = settings.site.commissioning_until
    return until if until is not None and until >= as_of.date() else None


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(milliseconds=1)


def _applications(
    settings: Settings, demands: Demands, tests: list[TestRow]
) -> tuple[ApplicationRow, ...]:
    result = [
        _application_row(
            identifier,
            application,
            [test for test in tests if test.application == identifier],
            demands.as_of,
            demands.period(identifier, application.criticality),
        )
        for identifier, application in settings.applications.items()
    ]
    return tuple(
        sorted(
            result,
            key=lambda row: (row.criticality or "", _STANDING_ORDER.index(row.standing), row.name),
        )
    )


def _application_row(
    identifier: str,
    application: Application,
    tests: list[TestRow],
    as_of: datetime,
    period: timedelta,
) -> ApplicationRow:
    standing, copies, last = rows.standing_of(tests, as_of, period)
    return ApplicationRow(
        application=identifier,
        name=application.name,
        criticality=application.criticality,
        standing=standing,
        last=last,
        copies=copies,
        rpo_ms=_milliseconds(application.rpo),
        rto_ms=_milliseconds(application.rto),
        declared_by=application.declared_by,
        declared_on=application.declared_on,
        bia_reference=application.bia_reference,
    )


def _removed(
    settings: Settings, tests: list[TestRow], changes: list[ChangeRow], as_of: datetime
) -> tuple[ApplicationRow, ...]:
    """Return the applications that are in the records of 12 months and not in the settings."""
    seen: dict[str, list[TestRow]] = {}
    for test in tests:
        if test.application not in settings.applications and test.at >= as_of - REMEMBERED:
            seen.setdefault(test.application, []).append(test)
    for change in changes:
        parts = change.path.split(".")
        gone = change.change == "removed" and parts[0] == "applications" and len(parts) == 2
        if gone and change.at >= as_of - REMEMBERED and parts[1] not in settings.applications:
            seen.setdefault(parts[1], [])
    result = []
    for identifier, its in sorted(seen.items()):
        standing, copies, last = rows.standing_of(its, as_of, REMEMBERED)
        result.append(
            ApplicationRow(
                application=identifier,
                name=identifier,
                criticality=None,
                standing=standing,
                last=last,
                copies=copies,
                rpo_ms=None,
                rto_ms=None,
                declared_by=None,
                declared_on=None,
                bia_reference=None,
            )
        )
    return tuple(result)


def _counts(
    applications: tuple[ApplicationRow, ...],
) -> Mapping[Criticality, Mapping[Standing, int]]:
    return {
        criticality: {
            standing: sum(
                row.criticality is criticality and row.standing is standing for row in applications
            )
            for standing in STANDINGS
        }
        for criticality in Criticality
    }


def _due(demands: Demands, applications: tuple[ApplicationRow, ...]) -> tuple[DueRow, ...]:
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
                period_ms=period // timedelta(milliseconds=1),
            )
        )
    return tuple(result)


def _copies_due(
    settings: Settings, demands: Demands, tests: list[TestRow]
) -> tuple[CopyDueRow, ...]:
    """Return the copies that can be restored from and were not within their period."""
    result = []
    for identifier, application in settings.applications.items():
        period = demands.copy_period(identifier, application.criticality)
        for repository in settings.fetchable(identifier):
            own = [
                test.at
                for test in tests
                if test.application == identifier
                and test.repository == repository
                and test.origin is Origin.OBSERVED
                and test.verdict in (Verdict.PASSED, Verdict.FAILED)
            ]
            last_at = max(own, default=None)
            if last_at is None or last_at + period < demands.as_of:
                result.append(
                    CopyDueRow(
                        application=identifier,
                        name=application.name,
                        criticality=application.criticality,
                        repository=repository,
                        last_at=last_at,
                        period_ms=period // timedelta(milliseconds=1),
                    )
                )
    return tuple(result)


def _findings(
    history: History, settings: Settings, catalogue: Catalogue, language: str
) -> list[FindingRow]:
    severities = list(Severity)
    named = [
        replace(
            row,
            title=catalogue.title(row.control, language),
            criticality=_criticality(settings, row.subject),
        )
        for row in rows.finding_rows(history.long.get("finding.changed", ())).values()
    ]
    return sorted(
        named,
        key=lambda row: (
            _WORST_FIRST.index(row.status),
            severities.index(row.severity),
            row.criticality or "~",
            row.control,
            row.subject,
        ),
    )


def _criticality(settings: Settings, subject: str) -> Criticality | None:
    scope, _, name = subject.partition("/")
    if scope not in ("application", "job"):
        return None
    application = settings.applications.get(name.partition(".")[0])
    return application.criticality if application else None


def _repositories(store: Store, settings: Settings, history: History) -> tuple[RepositoryRow, ...]:
    kinds = (
        "repository.inspected",
        "repository.verified",
        "inventory.listed",
        "inventory.confirmed",
    )
    seen: dict[str, dict[str, Fact]] = {}
    for subject, latest in store.latest(None, kinds).items():
        for kind, fact in latest.items():
            if fact.seq <= history.head_seq and fact.recorded_at <= history.as_of:
                seen.setdefault(subject, {})[kind] = fact
    for fact in history.of(*kinds):
        seen.setdefault(fact.observation.subject, {})[fact.observation.kind] = fact
    prefix = repository_subject("")
    recorded = {s.removeprefix(prefix) for s in seen if s.startswith(prefix)}
    return tuple(
        _repository_row(
            identifier, settings, seen.get(repository_subject(identifier), {}), history.as_of
        )
        for identifier in sorted(recorded | set(settings.repositories))
    )


def _origin(facts: Mapping[str, Fact]) -> Origin | None:
    listings = [
        facts[kind] for kind in ("inventory.listed", "inventory.confirmed") if kind in facts
    ]
    newest = max(listings, key=lambda fact: fact.seq, default=None)
    return newest.observation.origin if newest else None


def _repository_row(
    identifier: str, settings: Settings, facts: Mapping[str, Fact], as_of: datetime
) -> RepositoryRow:
    configured = settings.repositories.get(identifier)
    inspected = facts.get("repository.inspected")
    verified = facts.get("repository.verified")
    state = inspected.observation.data if inspected else {}
    check = verified.observation.data if verified else {}
    complete = check.get("complete_at")
    return RepositoryRow(
        repository=identifier,
        type=configured.type if configured else state.get("type"),
        configured=configured is not None,
        reachable=state.get("reachable"),
        code=state.get("code"),
        seen_at=inspected.observation.observed_at if inspected else None,
        tool=" ".join(filter(None, (state.get("tool"), state.get("tool_version")))) or None,
        points=_standing_points(facts),
        origin=_origin(facts),
        warnings=tuple(state.get("warnings", ())),
        medium_kind=configured.medium_kind if configured else None,
        failure_domain=configured.failure_domain if configured else None,
        device=state.get("device"),
        encrypted=state.get("encrypted"),
        verified_at=verified.observation.observed_at if verified else None,
        verified_verdict=Verdict(check["verdict"]) if check else None,
        verified_code=check.get("code"),
        verified_complete_at=None if complete is None else from_us(complete),
        detection_ms=_milliseconds(as_of - from_us(complete)) if complete is not None else None,
    )


def _standing_points(facts: Mapping[str, Fact]) -> int | None:
    counted = [
        (fact.seq, fact.observation.data[field])
        for kind, field in (("inventory.listed", "standing"), ("inventory.confirmed", "count"))
        if (fact := facts.get(kind)) is not None
    ]
    return max(counted)[1] if counted else None


def _evidence(store: Store, settings: Settings, history: History) -> EvidenceData:
    def last(kind: str) -> Fact | None:
        return next(reversed(history.long.get(kind, [])), None)

    anchor, key, loaded = (
        last("evidence.anchored"),
        last("evidence.key-created"),
        last("configuration.loaded"),
    )
    anchored = anchor.observation.data if anchor else {}
    seal = store.sealed()
    return EvidenceData(
        store_id=store.store_id,
        head_seq=history.head_seq,
        head_hash=history.head_hash.hex(),
        sealed_seq=seal[0] if seal else None,
        sealed_at=seal[1] if seal else None,
        key_fingerprint=key.observation.data["fingerprint"] if key else None,
        anchored_at=anchor.recorded_at if anchor else None,
        anchored_place=anchored.get("place"),
        anchored_seq=anchored.get("seq"),
        settings_sha256=settings.sha256,
        recorded_settings_sha256=loaded.observation.data["sha256"] if loaded else None,
        catalogue_sha256=loaded.observation.data["catalogue_sha256"] if loaded else None,
        maps_sha256=loaded.observation.data.get("maps", {}) if loaded else {},
        program_version=backupguard.__version__,
    )
