"""Metrics about what was concluded: controls, and the exceptions that people accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from backupguard.assess import Assessment, is_open
from backupguard.assess.picture import STANDING_WAIVERS, WaiverState
from backupguard.metrics.page import Page, timestamp
from backupguard.model import Finding, Severity, Status, to_us

#: The values of `backupguard_control_status`. A page ends only on 0, 4 or 5.
STATUS_VALUES = {
    Status.COMPLIANT: 0,
    Status.WARNING: 1,
    Status.NON_COMPLIANT: 2,
    Status.NOT_MEASURABLE: 3,
    Status.NOT_APPLICABLE: 4,
    Status.WAIVED: 5,
}

#: The values of `backupguard_control_severity`.
SEVERITY_VALUES = {
    Severity.INFO: 0,
    Severity.WARNING: 1,
    Severity.HIGH: 2,
    Severity.CRITICAL: 3,
}

_Labels = tuple[str, ...]


def about(page: Page, assessment: Assessment) -> None:
    """Add every finding, and the accepted exceptions."""
    found = list(_controls(assessment))
    judged_at = timestamp(to_us(assessment.judged_at))
    page.add("control_status", ((key, str(STATUS_VALUES[one.status])) for key, one in found))
    page.add("control_severity", ((key, _severity(assessment, one)) for key, one in found))
    page.add(
        "control_last_non_compliant_timestamp_seconds",
        ((key, judged_at if is_open(one) else _last(one)) for key, one in found),
    )
    for name, accepted in (
        ("waivers", [(one.state, one.until_at) for one in assessment.waivers]),
        ("control_overrides", [(one.state, one.until_at) for one in assessment.overrides]),
    ):
        counted = Counter(state for state, _ in accepted)
        page.add(name, (((s.value,), str(counted[s])) for s in sorted(STANDING_WAIVERS)))
        ends = (until for state, until in accepted if state is WaiverState.IN_FORCE)
        page.one(f"{name}_next_end_timestamp_seconds", timestamp(min(ends, default=None)))


def _controls(assessment: Assessment) -> Iterator[tuple[_Labels, Finding]]:
    domain = assessment.care_domain
    for finding in assessment.findings:
        criticality = assessment.criticalities[finding.subject]
        yield (domain, finding.control, finding.subject, criticality.value), finding


def _severity(assessment: Assessment, finding: Finding) -> str:
    value = SEVERITY_VALUES[finding.severity]
    until = assessment.commissioning_until
    commissioning = until is not None and to_us(assessment.judged_at) <= until
    return str(min(value, 1) if commissioning else value)


def _last(finding: Finding) -> str:
    last = finding.last_non_compliant
    return timestamp(to_us(last) if last is not None else None)
