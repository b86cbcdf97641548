"""The pages' content: what a template is given, made from what was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backupguard.assess import is_open
from backupguard.language import Words
from backupguard.model import Finding, Status, application_subject, repository_subject
from backupguard.web.published import Published

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

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

_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finding as a line of a page: what, how bad, since when, and what to do.

    `runbook` is the path of the page that says what to do, `command` what explains the finding; both
    are empty where there is nothing to do.
    """

    status: str
    label: str
    severity: str
    control: str
    title: str
    subject: str
    name: str
    reason: str
    since: str
    ago: str
    runbook: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One application in the list of all: the worst that is known of it, and how much of each."""

    id: str
    name: str
    status: str
    label: str
    counted: str


def render(template: str, words: Words, **values: object) -> str:
    """Return a page: a template of `templates/` filled with `values` and the language's labels."""
    return _TEMPLATES.get_template(template).render(
        text=words.text, language=words.language, **values
    )


def _rank(finding: Finding) -> tuple[bool, int, int, str, str]:
    """Order worst first. What was non-compliant and nobody has seen end stands with those that are."""
    stands = is_open(finding)
    severity = _SEVERITIES.index(finding.severity.value)
    order = 0 if stands else ORDER.index(finding.status)
    return not stands, order, severity, finding.subject, finding.control


def rows(published: Published, words: Words, findings: Iterable[Finding]) -> list[Row]:
    """Return findings worst first; what does not apply is counted, not listed."""
    return [
        _row(published, words, finding)
        for finding in sorted(findings, key=_rank)
        if finding.status is not Status.NOT_APPLICABLE
    ]


def _row(published: Published, words: Words, finding: Finding) -> Row:
    to_do = finding.status in _TO_DO
    alert = published.alerts.get((finding.control, finding.subject))
    lasted = max(published.judged_at - finding.since, timedelta(0))
    return Row(
        status=finding.status.value,
        label=words.text(f"web.status.{finding.status.value}"),
        severity=words.text(f"status.severity.{finding.severity.value}") if to_do else "",
        control=finding.control,
        title=published.titles.get(finding.control, ""),
        subject=finding.subject,
        name=published.names.get(finding.subject, finding.subject),
        reason=words.say(finding.reason),
        since=words.time(finding.since),
        ago=words.duration(lasted // timedelta(milliseconds=1)),
        runbook=f"/runbooks/{alert}" if alert is not None else "",
        command=f"backupguard why {finding.control} {finding.subject}" if to_do else "",
    )


def counts(findings: Sequence[Finding], words: Words) -> list[tuple[str, str, int]]:
    """Return (status, label, how many), worst first, zeros included: counts before lights."""
    found = Counter(finding.status for finding in findings)
    return [
        (status.value, words.text(f"web.status.{status.value}"), found[status]) for status in ORDER
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


def applications(published: Published, words: Words) -> list[Line]:
    """Return every application, the one in the worst state first."""
    lines = []
    for identifier in published.applications:
        found = about(published, identifier)
        worst = min(found, key=_rank, default=None)
        status = worst.status if worst is not None else Status.NOT_MEASURABLE
        told = [
            words.text("web.counted", label=label, count=count)
            for _, label, count in counts(found, words)[:3]
            if count
        ]
        line = Line(
            id=identifier,
            name=published.names.get(application_subject(identifier), identifier),
            status=status.value,
            label=words.text(f"web.status.{status.value}"),
            counted=", ".join(told) or "—",
        )
        lines.append((_rank(worst)[:3] if worst is not None else (True, 1, 0), line))
    return [line for _, line in sorted(lines, key=lambda one: (one[0], one[1].name))]


def _findings(published: Published, words: Words, findings: Sequence[Finding]) -> dict[str, object]:
    """Return what both pages show of findings."""
    to_do: list[Finding] = []
    unknown: list[Finding] = []
    rest: list[Finding] = []
    for one in findings:
        if is_open(one) or one.status is Status.WARNING:
            to_do.append(one)
        else:
            (unknown if one.status is Status.NOT_MEASURABLE else rest).append(one)
    return {
        "site": published.site,
        "judged": words.text("web.judged-at", at=words.time(published.judged_at)),
        "counts": counts(findings, words),
        "to_do": rows(published, words, to_do),
        "unknown": rows(published, words, unknown),
        "rest": rows(published, words, rest),
    }


def status_page(published: Published) -> str:
    """Return the status page of what was published."""
    words = Words(published.language, published.timezone)
    paused = None
    if published.paused:
        until = words.time(published.paused_until)
        paused = (
            words.text("web.paused-until", until=until)
            if published.paused_until
            else words.text("web.paused")
        )
    return render(
        "status.html",
        words,
        **_findings(published, words, published.findings),
        applications=applications(published, words),
        paused=paused,
        statements=[
            (words.text(f"status.{family}"), [words.say(one) for one in told])
            for family, told in published.statements.items()
            if told
        ],
    )


def application_page(published: Published, application: str) -> str | None:
    """Return the page of one application; None for one that is not configured."""
    if application not in published.applications:
        return None
    words = Words(published.language, published.timezone)
    subject = application_subject(application)
    return render(
        "application.html",
        words,
        **_findings(published, words, about(published, application)),
        name=published.names.get(subject, application),
        subject=subject,
    )
