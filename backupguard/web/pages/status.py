"""The first page: how many findings stand how, what to do first, and every application in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backupguard.assess.picture import Assessment, TestPicture
from backupguard.model import Finding, Status, Verdict, from_us
from backupguard.web.pages import rows
from backupguard.web.pages.rendering import Mark, View

#: The controls that judge whether what was promised of data and time is kept.
LOSS, RETURN = "PDM-01", "RST-03"

#: Findings on the first page; the others are a link away.
FIRST = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The last restore test of an application: how it ended, how deep it went, whose word it is."""

    mark: Mark
    level: int
    origin: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One application in the list of all. Figures are None where nothing is known or promised.

    `late` and `old` tell that a promise is not kept: of the time to be back, of the data lost.
    """

    name: str
    address: str
    criticality: str
    mark: Mark
    counted: str
    tested: Tested | None
    age_ms: int | None
    rpo_ms: int | None
    old: bool
    forecast_ms: int | None
    measured: bool
    rto_ms: int | None
    late: bool


def page(view: View) -> str:
    """Return the status page."""
    published = view.published
    urgent = sorted(filter(rows.to_do, published.findings), key=rows.rank)
    found = rows.by_application(published)
    shown, turned = view.turned(_ranked(view, found))
    paused = None
    if published.paused:
        until = view.words.time(published.paused_until)
        paused = (
            view.text("web.paused-until", until=until)
            if published.paused_until
            else view.text("web.paused")
        )
    return view.render(
        "status.html",
        counts=rows.counts(view, published.findings),
        findings=rows.rows(view, urgent[:FIRST]),
        more=max(0, len(urgent) - FIRST),
        judged_any=bool(published.findings),
        applications=[_line(view, name, found[name]) for name in shown],
        turned=turned,
        paused=paused,
        recovery=[view.words.say(one) for one in published.statements.get("recovery", ())],
    )


def _ranked(view: View, found: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return every application, the one in the worst state first, then by name."""
    worst = {name: min(findings, key=rows.rank, default=None) for name, findings in found.items()}
    order = {
        name: (rows.rank(one)[:3] if one is not None else (True, 1, 0))
        for name, one in worst.items()
    }
    return sorted(found, key=lambda name: (order[name], view.application(name)))


def _line(view: View, identifier: str, findings: Sequence[Finding]) -> Line:
    assessment = view.published.assessment
    worst = min(findings, key=rows.rank, default=None)
    status = worst.status if worst is not None else Status.NOT_MEASURABLE
    counted = Counter(finding.status for finding in findings)
    told = [
        view.text("web.counted", label=view.mark(one).label, count=counted[one])
        for one in rows.ORDER[:3]
        if counted[one]
    ]
    picture = assessment and next(
        (one for one in assessment.applications if one.application == identifier), None
    )
    back = assessment.forecast.of(identifier) if assessment and assessment.forecast else None
    return Line(
        name=view.application(identifier),
        address=view.asked.link(f"/applications/{identifier}"),
        criticality=picture.criticality.value if picture else "",
        mark=view.mark(status),
        counted=", ".join(told) or "—",
        tested=last_test(view, assessment, identifier),
        age_ms=copy_age(view, identifier),
        rpo_ms=picture.rpo_s * 1000 if picture and picture.rpo_s is not None else None,
        old=kept(findings, LOSS) is False,
        forecast_ms=back.end_ms if back and back.basis else None,
        measured=back.measured if back else False,
        rto_ms=picture.rto_s * 1000 if picture and picture.rto_s is not None else None,
        late=kept(findings, RETURN) is False,
    )


def copy_age(view: View, application: str) -> int | None:
    """Return how old the newest copy is, in milliseconds, of the data that is furthest behind.

    Jobs of one selection are copies of the same data, as in control PDM-01. None where some data have
    no copy, or where nobody knows.
    """
    records, assessment = view.outputs.records, view.published.assessment
    owner = records.settings().applications.get(application) if records is not None else None
    if assessment is None or owner is None:
        return None
    newest: dict[str, int | None] = {}
    for job in assessment.jobs:
        declared = owner.backups.get(job.job.rpartition(".")[2])
        if job.application == application and declared is not None:
            data = repr(declared.select)
            times = [at for at in (newest.get(data), job.restorable_at) if at is not None]
            newest[data] = max(times, default=None)
    known = [at for at in newest.values() if at is not None]
    if not known or len(known) < len(newest):
        return None
    lasted = view.published.judged_at - from_us(min(known))
    return max(0, lasted // timedelta(milliseconds=1))


def kept(findings: Sequence[Finding], control: str) -> bool | None:
    """Tell whether a promise is kept, as its control judged it; None where it could not."""
    status = next((one.status for one in findings if one.control == control), None)
    if status is Status.COMPLIANT:
        return True
    return False if status is Status.NON_COMPLIANT else None


def last_test(view: View, assessment: Assessment | None, identifier: str) -> Tested | None:
    """Return the last restore test of an application over all its copies, None for never."""
    tests = assessment.tests if assessment is not None else ()
    every = [one for one in tests if one.application == identifier and one.last_run_at is not None]
    last = max(every, key=lambda one: one.last_run_at or 0, default=None)
    if last is None or last.last_run_at is None:
        return None
    return Tested(
        mark=view.mark(_verdict(last)),
        level=last.level,
        origin=view.label("origin", last.origin),
        at=view.words.time(from_us(last.last_run_at)),
    )


def _verdict(test: TestPicture) -> Verdict:
    if test.last_run_at == test.last_success_at:
        return Verdict.PASSED
    return Verdict.FAILED if test.last_run_at == test.last_failure_at else Verdict.COULD_NOT_VERIFY
