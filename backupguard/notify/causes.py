"""What is wrong, by cause: findings that another one explains are not told beside it.

A repository that cannot be read silences what the inhibition rules of `config/alertmanager/` silence;
besides, a late job speaks for the RPO that it breaks. Pure: an assessment in, causes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta

from backupguard.assess import Assessment, ProbePicture, is_open
from backupguard.assess.alerting import UNAVAILABLE, alert_of, is_failing
from backupguard.model import Finding, Message, Severity, Subject, application_subject, to_us
from backupguard.settings import Settings

#: Worst first.
SEVERITIES = (Severity.CRITICAL, Severity.HIGH, Severity.WARNING, Severity.INFO)

#: A repository that cannot be read for less is not told: a reboot is no cause.
PATIENCE_US = timedelta(hours=1) // timedelta(microseconds=1)

#: What follows when a repository cannot be read: about itself and its jobs, about the applications
#: that keep copies there, and about those that keep them nowhere else. That it can be reached from
#: production and that a policy was weakened are seen in other ways.
_OF_REPOSITORY = frozenset({"JOB-01", "ANO-01", "IMM-01", "IMM-02", "INT-01", "CHF-01"})
_OF_APPLICATION = frozenset({"321-01", "OFF-01", "PDM-01", "RET-01", "RST-01"})
_WITHOUT_ANY = frozenset({"RST-02", "RST-03"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that is wrong. `silent`: it stands, and another cause speaks for it.

    `since` is in microseconds since 1970.
    """

    key: str
    alert: str | None
    control: str | None
    subject: Subject
    severity: Severity
    reason: Message
    since: int
    silent: bool = False


def unreadable(assessment: Assessment) -> frozenset[Subject]:
    """Return the repositories whose last inventory could not read them."""
    return frozenset(probe.subject for probe in assessment.probes if _is_unreadable(probe))


def _is_unreadable(probe: ProbePicture) -> bool:
    return probe.probe == "inventory" and not probe.success and bool(probe.last_run_at)


def causes(
    assessment: Assessment, settings: Settings, since: Mapping[Subject, int]
) -> tuple[Cause, ...]:
    """Return everything that is wrong, worst first; `since` says when each repository went silent."""
    down = unreadable(assessment)
    found = [*_repositories(assessment, down, since), *_findings(assessment, settings, down, since)]
    return tuple(sorted(found, key=lambda one: (rank(one.severity), one.since, one.key)))


def rank(severity: Severity) -> int:
    """Return 0 for the worst severity."""
    return SEVERITIES.index(severity)


def _repositories(
    assessment: Assessment, down: Set[Subject], since: Mapping[Subject, int]
) -> Iterator[Cause]:
    now = to_us(assessment.judged_at)
    for subject in sorted(down):
        began = since.get(subject, now)
        yield Cause(
            key=f"unavailable/{subject}",
            alert=UNAVAILABLE,
            control=None,
            subject=subject,
            severity=Severity.HIGH,
            reason=Message(id="mail.reason.unavailable"),
            since=began,
            silent=now - began < PATIENCE_US,
        )


def _findings(
    assessment: Assessment, settings: Settings, down: Set[Subject], since: Mapping[Subject, int]
) -> Iterator[Cause]:
    standing = [finding for finding in assessment.findings if is_open(finding)]
    late = _late(standing)
    for finding in standing:
        yield Cause(
            key=f"{finding.control}/{finding.subject}",
            alert=alert_of(finding, assessment),
            control=finding.control,
            subject=finding.subject,
            severity=finding.severity,
            reason=finding.reason,
            since=to_us(finding.since),
            silent=_follows_from_repository(finding, assessment, settings, down, since)
            or _follows_from_job(finding, late),
        )


def _late(standing: list[Finding]) -> Mapping[Subject, Severity]:
    """Return the applications of which a job left no good point, with the worst severity of that."""
    found: dict[Subject, Severity] = {}
    for finding in standing:
        if finding.control == "JOB-01":
            application = finding.subject.partition("/")[2].partition(".")[0]
            subject = application_subject(application)
            found[subject] = min(found.get(subject, Severity.INFO), finding.severity, key=rank)
    return found


def _follows_from_job(finding: Finding, late: Mapping[Subject, Severity]) -> bool:
    """Tell whether the RPO is broken because a job is: said once, where nothing is made worse."""
    explained = late.get(finding.subject) if finding.control == "PDM-01" else None
    return explained is not None and rank(explained) <= rank(finding.severity)


def _follows_from_repository(
    finding: Finding,
    assessment: Assessment,
    settings: Settings,
    down: Set[Subject],
    since: Mapping[Subject, int],
) -> bool:
    """Tell whether a finding is there because a repository cannot be read.

    What was there before, and a restore test that failed, has another cause and is told.
    """
    behind = _behind(finding, assessment, settings, down)
    began = [since.get(one, to_us(assessment.judged_at)) for one in behind]
    return bool(began) and to_us(finding.since) >= min(began)


def _behind(
    finding: Finding, assessment: Assessment, settings: Settings, down: Set[Subject]
) -> Set[Subject]:
    """Return the unreadable repositories that would explain a finding."""
    kind, _, name = finding.subject.partition("/")
    control = finding.control
    if kind == "repository":
        return {finding.subject} & down if control in _OF_REPOSITORY else set()
    if kind == "job":
        application, _, job = name.partition(".")
        owner = settings.applications.get(application)
        backup = owner.backups.get(job) if owner is not None else None
        return {f"repository/{backup.repository}"} & down if backup is not None else set()
    if kind != "application" or name not in settings.applications:
        return set()
    kept = {f"repository/{one}" for one in settings.repositories_of(name)}
    if control in _OF_APPLICATION:
        failed = control == "RST-01" and is_failing(name, assessment)
        return set() if failed else kept & down
    return kept if control in _WITHOUT_ANY and kept <= down else set()
