"""The pages' content: what a template is given, made from what was published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backupguard.language import Words
from backupguard.model import Finding, Status
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
    """One finding as a line of the status page."""

    status: str
    label: str
    control: str
    subject: str
    name: str
    reason: str
    since: str


def render(template: str, words: Words, **values: object) -> str:
    """Return a page: a template of `templates/` filled with `values` and the language's labels."""
    return _TEMPLATES.get_template(template).render(
        text=words.text, language=words.language, **values
    )


def rows(published: Published, words: Words) -> list[Row]:
    """Return the findings worst first; what does not apply is counted, not listed."""

    def rank(finding: Finding) -> tuple[int, int, str, str]:
        severity = _SEVERITIES.index(finding.severity.value)
        return ORDER.index(finding.status), severity, finding.subject, finding.control

    return [
        Row(
            status=finding.status.value,
            label=words.text(f"web.status.{finding.status.value}"),
            control=finding.control,
            subject=finding.subject,
            name=published.names.get(finding.subject, finding.subject),
            reason=words.say(finding.reason),
            since=words.time(finding.since),
        )
        for finding in sorted(published.findings, key=rank)
        if finding.status is not Status.NOT_APPLICABLE
    ]


def counts(published: Published, words: Words) -> list[tuple[str, str, int]]:
    """Return (status, label, how many), worst first, zeros included: counts before lights."""
    found = Counter(finding.status for finding in published.findings)
    return [
        (status.value, words.text(f"web.status.{status.value}"), found[status]) for status in ORDER
    ]


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
        site=published.site,
        judged=words.text("web.judged-at", at=words.time(published.judged_at)),
        counts=counts(published, words),
        rows=rows(published, words),
        paused=paused,
        statements=[
            (words.text(f"status.{family}"), [words.say(one) for one in told])
            for family, told in published.statements.items()
            if told
        ],
    )
