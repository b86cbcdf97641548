"""Findings as lines of a page: what, how bad, since when, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backupguard.assess import is_open
from backupguard.model import Finding, Status, application_subject, repository_subject
from backupguard.web.pages.rendering import Mark, View
from backupguard.web.published import Published

#: Worst first, as a reader wants them.
ORDER = (
    Status.NON_COMPLIANT,
    Status.NOT_MEASURABLE,
    Status.WARNING,
    Status.WAIVED,
    Status.COMPLIANT,
    Status.NOT_APPLICABLE,
)
_TO_DO = frozenset({Status.NON_COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING})
_SEVERITIES = ("critical", "high", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finding as a line of a page.

    `runbook` is the address of the page that says what to do, `command` what explains the finding,
    `about` the page of its application; each is empty where there is none.
    """

    mark: Mark
    severity: str
    control: str
    title: str
    subject: str
    name: str
    about: str
    reason: str
    since: str
    ago: str
    runbook: str
    command: str


def rank(finding: Finding) -> tuple[bool, int, int, str, str]:
    """Order worst first. What was non-compliant and nobody has seen end stands with those that are."""
    stands = is_open(finding)
    severity = _SEVERITIES.index(finding.severity.value)
    order = 0 if stands else ORDER.index(finding.status)
    return not stands, order, severity, finding.subject, finding.control


def to_do(finding: Finding) -> bool:
    """Tell whether somebody has to do something now."""
    return is_open(finding) or finding.status is Status.WARNING


def rows(view: View, findings: Iterable[Finding]) -> list[Row]:
    """Return findings as lines, in the order given."""
    return [_row(view, finding) for finding in findings]


def _row(view: View, finding: Finding) -> Row:
    published, words = view.published, view.words
    open_ = finding.status in _TO_DO
    alert = published.alerts.get((finding.control, finding.subject))
    lasted = max(published.judged_at - finding.since, timedelta(0))
    return Row(
        mark=view.mark(finding.status),
        severity=view.text(f"status.severity.{finding.severity.value}") if open_ else "",
        control=finding.control,
        title=view.title(finding.control),
        subject=finding.subject,
        name=view.name(finding.subject),
        about=_about(view, finding.subject),
        reason=words.say(finding.reason),
        since=words.time(finding.since),
        ago=words.duration(lasted // timedelta(milliseconds=1)),
        runbook=view.asked.link(f"/runbooks/{alert}") if alert is not None else "",
        command=f"backupguard why {finding.control} {finding.subject}" if open_ else "",
    )


def _about(view: View, subject: str) -> str:
    """Return the address of the application that a subject is or belongs to."""
    kind, _, rest = subject.partition("/")
    name = {"application": rest, "job": rest.partition(".")[0]}.get(kind, "")
    return view.asked.link(f"/applications/{name}") if name in view.published.applications else ""


def counts(view: View, findings: Sequence[Finding], **choices: str) -> list[tuple[Mark, int, str]]:
    """Return how many findings stand how, worst first, zeros included: counts before lights.

    With each goes the address of those findings; `choices` are what else chooses them there.
    """
    found = Counter(finding.status for finding in findings)
    return [
        (
            view.mark(status),
            found[status],
            view.asked.link("/findings/", status=status.value, **choices),
        )
        for status in ORDER
    ]


def about(published: Published, application: str) -> list[Finding]:
    """Return the findings of an application: its own, of its jobs, of the repositories it is in."""
    subjects = {
        application_subject(application),
        *map(repository_subject, published.applications.get(application, ())),
    }
    jobs = f"job/{application}."
    return [
        finding
        for finding in published.findings
        if finding.subject in subjects or finding.subject.startswith(jobs)
    ]


def by_application(published: Published) -> dict[str, list[Finding]]:
    """Return what `about` returns, for all applications in one pass."""
    subjects: dict[str, list[str]] = {}
    for name, repositories in published.applications.items():
        for subject in {application_subject(name), *map(repository_subject, repositories)}:
            subjects.setdefault(subject, []).append(name)
    found: dict[str, list[Finding]] = {name: [] for name in published.applications}
    for finding in published.findings:
        owners = subjects.get(finding.subject, ())
        if finding.subject.startswith("job/"):
            owners = [finding.subject[4:].partition(".")[0]]
        for name in owners:
            if name in found:
                found[name].append(finding)
    return found
