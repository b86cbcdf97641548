"""One application: promises and what would hold, its copies, its last restore tests, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupguard.assess.forecast import Return
from backupguard.assess.picture import ApplicationPicture
from backupguard.model import Criticality, Finding, JobSummary, application_subject
from backupguard.web.pages import rows
from backupguard.web.pages.rendering import Mark, View
from backupguard.web.pages.restore_tests import Told, newest_tests
from backupguard.web.pages.status import LOSS, RETURN, copy_age

if TYPE_CHECKING:
    from backupguard.settings import Application, Settings

#: Restore tests on the page; the others are a link away.
TESTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What one repository keeps of one backup job; the newest point is one that can be restored."""

    job: str
    repository: str
    type: str
    medium: str
    place: str
    off_site: bool
    newest: datetime | None
    ago_ms: int | None
    points: int
    days: int
    bytes: int | None
    tested: Told | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of the forecast: what it is, and how long it takes."""

    label: str
    duration_ms: int


def page(view: View) -> str | None:
    """Return the page of one application; None for one that is not configured."""
    identifier, published = view.asked.parts["application"], view.published
    if identifier not in published.applications:
        return None
    found = rows.about(published, identifier)
    urgent = sorted(filter(rows.to_do, found), key=rows.rank)
    others = sorted((one for one in found if not rows.to_do(one)), key=rows.rank)
    records = view.outputs.records
    tests: Sequence[Told] = ()
    copies: list[Copy] = []
    owner = None
    if records is not None:
        settings = records.settings()
        tests, _ = newest_tests(view, application_subject(identifier), limit=TESTS)
        owner = settings.applications.get(identifier)
        if owner is not None:
            copies = _copies(view, identifier, owner, settings, tests)
    picture, back = _known(view, identifier)
    return view.render(
        "application.html",
        name=view.application(identifier),
        identifier=identifier,
        subject=application_subject(identifier),
        criticality=_criticality(view, picture, owner),
        counts=_counted(view, identifier, found),
        targets=_targets(view, identifier, found, picture, back),
        back=back,
        parts=_parts(view, back),
        missing=[view.text(f"web.forecast.missing.{one}") for one in (back.missing if back else ())]
        + [
            view.text("web.forecast.waits", name=view.application(one))
            for one in (back.waits_for if back else ())
        ],
        declared=_declared(view, owner),
        copies=copies,
        tests=tests,
        known=records is not None,
        findings=rows.rows(view, urgent),
        others=rows.rows(view, others),
    )


def _known(view: View, identifier: str) -> tuple[ApplicationPicture | None, Return | None]:
    assessment = view.published.assessment
    if assessment is None:
        return None, None
    pictures = (one for one in assessment.applications if one.application == identifier)
    forecast = assessment.forecast
    return next(pictures, None), forecast.of(identifier) if forecast is not None else None


def _criticality(view: View, picture: ApplicationPicture | None, owner: Application | None) -> str:
    known: Criticality | None = picture.criticality if picture is not None else None
    if known is None and owner is not None:
        known = owner.criticality
    return view.text(f"web.criticality.{known.value}") if known is not None else ""


def _counted(view: View, identifier: str, found: Sequence[Finding]) -> list[tuple[Mark, int, str]]:
    return rows.counts(view, found, application=identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A promise beside what would hold, and how the control of it judges; None where it does not."""

    label: str
    promised_ms: int | None
    seen_ms: int | None
    note: str
    control: str
    mark: Mark | None


def _targets(
    view: View,
    identifier: str,
    findings: Sequence[Finding],
    picture: ApplicationPicture | None,
    back: Return | None,
) -> list[Target]:
    """Return the loss of data and the return: promised, and as they would be now."""
    worst = picture.worst_exposure_ms if picture is not None else None
    known = back is not None and back.basis is not None
    return [
        Target(
            label=view.text("web.target.loss"),
            promised_ms=picture.rpo_s * 1000 if picture and picture.rpo_s is not None else None,
            seen_ms=copy_age(view, identifier),
            note=view.text("web.target.worst", worst_ms=worst) if worst is not None else "",
            control=LOSS,
            mark=_judged(view, findings, LOSS),
        ),
        Target(
            label=view.text("web.target.return"),
            promised_ms=picture.rto_s * 1000 if picture and picture.rto_s is not None else None,
            seen_ms=back.end_ms if back is not None and known else None,
            note=view.text("web.target.lower") if back and known and not back.measured else "",
            control=RETURN,
            mark=_judged(view, findings, RETURN),
        ),
    ]


def _judged(view: View, findings: Sequence[Finding], control: str) -> Mark | None:
    return next((view.mark(one.status) for one in findings if one.control == control), None)


def _parts(view: View, back: Return | None) -> list[Part]:
    """Return what the forecast is made of, in its order; pieces of no length are left out."""
    if back is None or back.basis is None:
        return []
    pieces = (
        ("wait", back.start_ms),
        ("steps", back.steps_ms),
        ("queue", back.queue_ms),
        ("fetch", back.fetch_ms),
        ("load", back.load_ms),
        ("open", back.open_ms),
    )
    return [
        Part(label=view.text(f"web.forecast.{name}"), duration_ms=length)
        for name, length in pieces
        if length
    ]


def _declared(view: View, owner: Application | None) -> str:
    if owner is None or owner.declared_by is None:
        return view.text("web.declared-by-nobody") if owner is not None else ""
    return view.text(
        "web.declared-by",
        who=owner.declared_by,
        on=view.words.day(owner.declared_on),
        reference=owner.bia_reference or "—",
    )


def _copies(
    view: View, identifier: str, owner: Application, settings: Settings, tests: Sequence[Told]
) -> list[Copy]:
    records = view.outputs.records
    assert records is not None
    jobs = [f"{identifier}.{job}" for job in owner.backups]
    known = {(one.job, one.repository): one for one in records.store.summaries(jobs)}
    last = _last(identifier, owner, tests)
    found = []
    for job, backup in owner.backups.items():
        place = settings.repositories[backup.repository]
        summary: JobSummary | None = known.get((f"{identifier}.{job}", backup.repository))
        newest = summary.newest if summary is not None else None
        ago = view.published.judged_at - newest if newest is not None else None
        found.append(
            Copy(
                job=job,
                repository=backup.repository,
                type=place.type,
                medium=view.text(f"web.medium.{place.medium_kind}"),
                place=place.failure_domain or "—",
                off_site=place.off_site,
                newest=newest,
                ago_ms=max(0, ago // timedelta(milliseconds=1)) if ago is not None else None,
                points=summary.points if summary is not None else 0,
                days=summary.days if summary is not None else 0,
                bytes=summary.newest_bytes if summary is not None else None,
                tested=last.get((f"{identifier}.{job}", backup.repository)),
            )
        )
    return found


def _last(
    identifier: str, owner: Application, tests: Sequence[Told]
) -> dict[tuple[str, str], Told]:
    """Return the newest of `tests` (newest first) of each job and repository.

    A record without a job counts only where the repository holds a single job of the application.
    """
    jobs: dict[str, list[str]] = {}
    for name, backup in owner.backups.items():
        jobs.setdefault(backup.repository, []).append(f"{identifier}.{name}")
    last: dict[tuple[str, str], Told] = {}
    for test in tests:
        if test.repository is None:
            continue
        held = jobs.get(test.repository, [])
        job = test.job or (held[0] if len(held) == 1 else None)
        if job is not None:
            last.setdefault((job, test.repository), test)
    return last
