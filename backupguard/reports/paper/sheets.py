"""The words of every document that goes on paper: data in, HTML and its place on paper out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from backupguard.language import Words, catalogue
from backupguard.model import Fact, Origin, Verdict, from_us
from backupguard.reports.model import AnnexRow, MonthlyReport, TestRow
from backupguard.reports.paper.standings import ControlStanding
from backupguard.reports.render import WARNING, _Labels

if TYPE_CHECKING:
    from backupguard.controls import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A document in words: its title, its HTML, and what runs along its pages."""

    title: str
    html: str
    left: str
    right: str
    page: str
    created: datetime


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("backupguard.reports.paper"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Sentences:
    """Sentences of this area, and of the report's where this area has none of that name."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self._known = catalogue(words.language)

    def __call__(self, identifier: str, /, **values: int | str) -> str:
        own = f"paper.{identifier}"
        return self.words.text(own if own in self._known else f"report.{identifier}", **values)


def _render(template: str, words: Words, **values: Any) -> str:
    labels = _Labels(words)
    return (
        _environment()
        .get_template(template)
        .render(
            language=words.language,
            t=_Sentences(words),
            say=words.say,
            time=words.time,
            day=words.day,
            duration=words.duration,
            size=words.size,
            number=words.number,
            quoted=words.quoted,
            label=labels.label,
            mark=labels.mark,
            outcome=labels.outcome,
            counted=labels.counted,
            dated=labels.dated,
            **values,
        )
    )


def _written(
    title: str, html: str, site: str, about: str, created: datetime, words: Words
) -> Written:
    page = words.text("paper.page", page="{page}", pages="{pages}")
    running = f"{site} · {title}"
    return Written(
        title=title,
        html=html,
        left=running if len(running) <= 110 else f"{running[:109]}…",
        right=about,
        page=page,
        created=created,
    )


def of_report(report: MonthlyReport, html: str, words: Words) -> Written:
    """Return the report itself, as it was put into words."""
    title = words.text("report.title")
    return _written(title, html, report.site, words.month(report.month), report.issued_at, words)


def of_controls(
    report: MonthlyReport,
    controls: Sequence[ControlStanding],
    catalogue_: Catalogue,
    words: Words,
) -> Written:
    """Return the annex on controls: each with every judgement, its evidence and its sources."""
    month = words.month(report.month)
    html = _render(
        "annex-controls.html.j2",
        words,
        r=report,
        month=month,
        controls=controls,
        unverified=[one.id for one in catalogue_.maps if not one.verified],
    )
    title = words.text("paper.controls.title")
    return _written(title, html, report.site, month, report.issued_at, words)


def of_applications(report: MonthlyReport, minutes: Sequence[AnnexRow], words: Words) -> Written:
    """Return the annex on applications: every row in full, and the list of all minutes."""
    month = words.month(report.month)
    html = _render("annex-applications.html.j2", words, r=report, month=month, minutes=minutes)
    title = words.text("paper.applications.title")
    return _written(title, html, report.site, month, report.issued_at, words)


def minutes_title(row: TestRow, words: Words) -> str:
    """Return how the minutes (PV) of a restore test are called in a list."""
    return words.text("paper.minutes.of", name=row.name, at=words.time(row.at))


def of_test(site: str, store_id: str, row: TestRow, fact: Fact, words: Words) -> Written:
    """Return the minutes (PV) of one restore test: nothing in it but what its record says."""
    data = fact.observation.data
    target = data.get("target_at")
    html = _render(
        "pv.html.j2",
        words,
        x=row,
        site=site,
        store_id=store_id,
        target_at=None if target is None else from_us(target),
        key=data.get("key"),
        declared=data.get("declared"),
        deviations=tuple(deviations(row, words)),
        recorded_at=fact.recorded_at,
        run=fact.run,
        author=fact.author,
    )
    title = words.text("paper.minutes.title")
    about = words.text("paper.minutes.about", seq=row.seq)
    return _written(f"{title} · {row.name}", html, site, about, fact.recorded_at, words)


def deviations(row: TestRow, words: Words) -> Iterator[str]:
    """Yield what was not as it should be, or not as a full restore would be."""
    labels = _Labels(words)
    text = words.text
    if row.verdict is not Verdict.PASSED:
        yield text(
            "paper.deviation.verdict",
            verdict=labels.mark(row.verdict)["label"],
            code=labels.label("code", row.code),
        )
    for phase in row.phases:
        if phase.verdict is not Verdict.PASSED and phase.code:
            name = labels.label("phase", phase.phase)
            yield text("paper.deviation.phase", phase=name, code=labels.label("code", phase.code))
    for check in row.checks:
        if check.verdict is not Verdict.PASSED or check.code.startswith(WARNING):
            name = labels.label("check", check.name)
            yield text("paper.deviation.check", check=name, code=labels.label("code", check.code))
    if row.percent < 100:
        yield text("paper.deviation.partial", percent=row.percent)
    if row.origin is not Origin.OBSERVED:
        yield text("paper.deviation.not_observed", origin=labels.label("origin", row.origin))
        return
    if row.checks_configured == 0:
        yield text("paper.deviation.no_site_check")
    if not row.baseline_accepted:
        yield text("paper.deviation.baseline")


def iso(moment: datetime) -> str:
    """Return a time as a document's date: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
