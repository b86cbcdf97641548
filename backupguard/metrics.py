"""Findings and facts as Prometheus text, format 0.0.4: the whole text, once per assessment.

A scrape reads what was rendered. Label values come from the configuration and the catalogue only, so
their strings are made once per subject and kept; `job` and `instance` are Prometheus' own and are
never used. Times are timestamps, and a thing that never succeeded has the timestamp 0.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from functools import lru_cache

from backupguard import __version__
from backupguard.assess import Assessment, JobPicture, ProbePicture, TestPicture, is_open
from backupguard.model import Finding, Severity, Status, Verdict, to_us

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

#: Labels as they stand between braces, and a value as text.
Sample = tuple[str, str]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@lru_cache(maxsize=65_536)
def _labels(*pairs: tuple[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _timestamp(microseconds: int | None) -> str:
    """Return a time in seconds since 1970, to the microsecond; 0 for never."""
    whole, rest = divmod(microseconds or 0, 1_000_000)
    return f"{whole}.{rest:06d}" if rest else str(whole)


def _seconds(milliseconds: int) -> str:
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


class _Text:
    """Collects families of samples; one that has no sample is left out."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def family(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        full = f"backupguard_{name}"
        lines = [f"{full}{{{labels}}} {value}\n" for labels, value in samples]
        if lines:
            self._parts.append(f"# HELP {full} {text}\n# TYPE {full} {kind}\n")
            self._parts.extend(lines)

    def gauge(self, name: str, text: str, samples: Iterable[Sample]) -> None:
        self.family(name, "gauge", text, samples)

    def encoded(self) -> bytes:
        return "".join(self._parts).encode()


def render(assessment: Assessment) -> bytes:
    """Return every metric of an assessment in text format 0.0.4."""
    text = _Text()
    _about_itself(text, assessment)
    _about_probes(text, assessment)
    _about_backups(text, assessment)
    _about_targets(text, assessment)
    _about_media(text, assessment)
    _about_immutability(text, assessment)
    _about_tests(text, assessment)
    _about_controls(text, assessment)
    return text.encoded()


def _about_itself(text: _Text, assessment: Assessment) -> None:
    site = ("site", assessment.site)
    only_site = _labels(site)
    version = _labels(site, ("version", __version__), ("python", platform.python_version()))
    text.gauge("build_info", "Version of BackupGuard and of Python; always 1.", [(version, "1")])
    text.gauge(
        "last_cycle_timestamp_seconds",
        "When the last cycle of judging ended.",
        [(only_site, _timestamp(assessment.last_cycle_at))],
    )
    text.gauge(
        "findings_evaluated_timestamp_seconds",
        "When the findings were last evaluated.",
        [(only_site, _timestamp(to_us(assessment.judged_at)))],
    )
    text.family(
        "evidence_records_total",
        "counter",
        "Records in the chain of evidence.",
        [(only_site, str(assessment.head_seq))],
    )
    if assessment.evidence.valid is not None:
        text.gauge(
            "evidence_valid",
            "Whether the chain of evidence was found whole (1) or broken (0).",
            [(only_site, str(int(assessment.evidence.valid)))],
        )
    text.gauge(
        "evidence_anchor_timestamp_seconds",
        "When the chain's head was last anchored off this host, 0 for never.",
        [(only_site, _timestamp(assessment.anchored_at))],
    )
    text.gauge(
        "self_test_timestamp_seconds",
        "When a copy was last broken on purpose and restored to a verdict, 0 for never.",
        [(only_site, _timestamp(assessment.self_tested_at))],
    )
    if assessment.self_test_noticed is not None:
        text.gauge(
            "self_test_noticed",
            "Whether the copy broken on purpose was found damaged (1), or passed all the same (0).",
            [(only_site, str(int(assessment.self_test_noticed)))],
        )
    endless = assessment.paused and assessment.paused_until is None
    text.gauge(
        "paused_until_timestamp_seconds",
        "Until when the daemon's own runs are paused, 0 when they are not, +Inf without an end.",
        [(only_site, "+Inf" if endless else _timestamp(assessment.paused_until))],
    )
    text.gauge(
        "commissioning_until_timestamp_seconds",
        "End of the commissioning period, 0 for none.",
        [(only_site, _timestamp(assessment.commissioning_until))],
    )


def _about_probes(text: _Text, assessment: Assessment) -> None:
    def labels(probe: ProbePicture) -> str:
        return _labels(
            ("site", assessment.site), ("probe", probe.probe), ("subject", probe.subject)
        )

    probes = assessment.probes
    text.gauge(
        "probe_success",
        "Whether the last run of a probe could see what it looks at; what it saw is in the controls.",
        ((labels(p), str(int(p.success))) for p in probes),
    )
    text.gauge(
        "probe_last_run_timestamp_seconds",
        "When a probe last ended, 0 for never.",
        ((labels(p), _timestamp(p.last_run_at)) for p in probes),
    )
    text.gauge(
        "probe_duration_seconds",
        "How long the last run of a probe took.",
        ((labels(p), _seconds(p.duration_ms)) for p in probes if p.duration_ms is not None),
    )
    text.gauge(
        "probe_expected_interval_seconds",
        "How often a probe is meant to run.",
        ((labels(p), str(p.interval_s)) for p in probes),
    )


def _about_backups(text: _Text, assessment: Assessment) -> None:
    def labels(job: JobPicture) -> str:
        return _labels(
            ("site", assessment.site),
            ("application", job.application),
            ("backup_job", job.job),
            ("repository", job.repository),
        )

    jobs = assessment.jobs
    text.gauge(
        "backup_last_success_timestamp_seconds",
        "Time of a backup job's newest restorable point, 0 for none; future points are set aside.",
        ((labels(j), _timestamp(j.restorable_at)) for j in jobs),
    )
    text.gauge(
        "backup_expected_interval_seconds",
        "Longest time between two points of a backup job, as it is scheduled.",
        ((labels(j), str(j.interval_s)) for j in jobs),
    )
    text.gauge(
        "backup_recovery_points",
        "Recovery points of a backup job that stand in its repository.",
        ((labels(j), str(j.points)) for j in jobs),
    )
    text.gauge(
        "backup_oldest_point_timestamp_seconds",
        "Time of a backup job's oldest restorable point: how far back one can go, 0 for none.",
        ((labels(j), _timestamp(j.oldest_at)) for j in jobs),
    )
    text.gauge(
        "backup_consecutive_failures",
        "Newest runs of a backup job that failed one after the other.",
        ((labels(j), str(j.failures)) for j in jobs),
    )
    text.gauge(
        "backup_newest_point_bytes",
        "Size of a backup job's newest point, where its tool tells it.",
        ((labels(j), str(j.newest_bytes)) for j in jobs if j.newest_bytes is not None),
    )


def _about_targets(text: _Text, assessment: Assessment) -> None:
    def of(application: str) -> str:
        return _labels(("site", assessment.site), ("application", application))

    targets = assessment.applications
    text.gauge(
        "application_rpo_target_seconds",
        "Declared RPO (PDMA) of an application; absent where none is declared.",
        ((of(a.application), str(a.rpo_s)) for a in targets if a.rpo_s is not None),
    )
    text.gauge(
        "backup_worst_exposure_seconds",
        "Worst loss an application was really exposed to in the last month; absent below two points.",
        (
            (of(a.application), _seconds(a.worst_exposure_ms))
            for a in targets
            if a.worst_exposure_ms is not None
        ),
    )
    text.gauge(
        "recovery_forecast_seconds",
        "When an application would be back if everything had to be restored, from the start; absent "
        "without declared steps, without a passed test, or behind something that has no figure.",
        (
            (of(a.application), _seconds(a.forecast_ms))
            for a in targets
            if a.forecast_ms is not None
        ),
    )
    text.gauge(
        "application_rto_target_seconds",
        "Declared RTO (DMIA) of an application; absent where none is declared.",
        ((of(a.application), str(a.rto_s)) for a in targets if a.rto_s is not None),
    )


def _about_media(text: _Text, assessment: Assessment) -> None:
    site = ("site", assessment.site)
    text.gauge(
        "offline_copy_timestamp_seconds",
        "Time of an application's newest point on a medium that is proved away, 0 for none.",
        (
            (_labels(site, ("application", application), ("medium_id", m.medium)), _timestamp(at))
            for m in assessment.media
            for application, at in m.offline_at.items()
        ),
    )
    text.gauge(
        "offline_medium_connected",
        "Whether an offline medium is attached (1) or not (0); absent where nobody can tell.",
        (
            (_labels(site, ("medium_id", m.medium)), str(int(m.connected)))
            for m in assessment.media
            if m.connected is not None
        ),
    )


def _about_immutability(text: _Text, assessment: Assessment) -> None:
    site = ("site", assessment.site)
    text.gauge(
        "immutability_verdict",
        "What an attacker was shown to achieve: 2 nothing (proved), 1 unknown, 0 something (refuted).",
        (
            (_labels(site, ("repository", one.repository), ("attacker", attacker)), str(verdict))
            for one in assessment.immutability
            for attacker, verdict in one.verdicts.items()
        ),
    )
    text.gauge(
        "immutability_locked_until_timestamp_seconds",
        "Earliest end of the locks of a repository's newest points, 0 where one is not locked.",
        (
            (_labels(site, ("repository", one.repository)), _timestamp(one.locked_until_at))
            for one in assessment.immutability
            if one.locked_until_at is not None
        ),
    )


def _about_tests(text: _Text, assessment: Assessment) -> None:
    def pairs(test: TestPicture) -> tuple[tuple[str, str], ...]:
        return (
            ("site", assessment.site),
            ("application", test.application),
            ("engine", test.engine),
            ("repository", test.repository),
            ("origin", test.origin),
        )

    tests = [(_labels(*pairs(test)), test) for test in assessment.tests]
    text.gauge(
        "restore_test_last_run_timestamp_seconds",
        "When a restore test last ended, however it ended; 0 for never.",
        ((labels, _timestamp(t.last_run_at)) for labels, t in tests),
    )
    text.gauge(
        "restore_test_last_success_timestamp_seconds",
        "When a restore test last passed, 0 for never.",
        ((labels, _timestamp(t.last_success_at)) for labels, t in tests),
    )
    text.gauge(
        "restore_test_last_failure_timestamp_seconds",
        "When a restore test last failed because of the backup, 0 for never.",
        ((labels, _timestamp(t.last_failure_at)) for labels, t in tests),
    )
    text.gauge(
        "restore_test_level",
        "Level the last restore test reached: 1 bytes, 2 opened, 3 content, 4 replayed; 0 none.",
        ((labels, str(t.level)) for labels, t in tests),
    )
    text.gauge(
        "restore_test_program_missing",
        "Whether the last restore test lacked a program, an extension or a version on this host.",
        ((labels, str(int(t.program_missing))) for labels, t in tests),
    )
    text.gauge(
        "restore_test_data_ratio",
        "Part of the bytes that the last restore test restored; 1 unless the site declares less.",
        ((labels, str(t.percent / 100)) for labels, t in tests),
    )
    text.gauge(
        "restore_test_duration_seconds",
        "Duration of the last restore test: a lower bound of a recovery, and no RTO.",
        ((labels, _seconds(t.duration_ms)) for labels, t in tests if t.duration_ms is not None),
    )
    text.gauge(
        "restore_test_phase_duration_seconds",
        "Duration of each phase of the last restore test.",
        (
            (_labels(*pairs(t), ("phase", phase)), _seconds(duration))
            for _, t in tests
            for phase, duration in t.phases.items()
        ),
    )
    text.gauge(
        "restore_test_data_loss_seconds",
        "Data missing from the last restored copy, as a check of the site's own measured it.",
        ((labels, _seconds(t.data_loss_ms)) for labels, t in tests if t.data_loss_ms is not None),
    )
    text.gauge(
        "restore_test_freshness_heuristic_seconds",
        "How much older than its point the newest data of the last good copy look; a guess.",
        ((labels, _seconds(t.freshness_ms)) for labels, t in tests if t.freshness_ms is not None),
    )
    text.gauge(
        "restore_test_expected_interval_seconds",
        "How often an application is meant to be restored.",
        ((labels, str(t.interval_s)) for labels, t in tests),
    )
    text.family(
        "restore_tests_total",
        "counter",
        "Restore tests by how they ended.",
        (
            (_labels(*pairs(t), ("outcome", outcome)), str(t.outcomes.get(outcome, 0)))
            for _, t in tests
            for outcome in Verdict
        ),
    )


def _about_controls(text: _Text, assessment: Assessment) -> None:
    text.gauge(
        "control_status",
        "State of a control: 0 compliant, 1 warning, 2 non-compliant, 3 not measurable, "
        "4 not applicable, 5 waived.",
        ((labels, str(STATUS_VALUES[finding.status])) for labels, finding in _controls(assessment)),
    )
    text.gauge(
        "control_severity",
        "How soon somebody must act on a control: 0 no hurry, 1 this week, 2 same day, 3 now; at most "
        "1 during commissioning.",
        ((labels, _severity(assessment, finding)) for labels, finding in _controls(assessment)),
    )
    judged_at = _timestamp(to_us(assessment.judged_at))
    text.gauge(
        "control_last_non_compliant_timestamp_seconds",
        "When a control was last non-compliant, or had not been seen to recover since; 0 for never.",
        (
            (labels, judged_at if is_open(finding) else _last(finding))
            for labels, finding in _controls(assessment)
        ),
    )


def _controls(assessment: Assessment) -> Iterator[tuple[str, Finding]]:
    for finding in assessment.findings:
        criticality = assessment.criticalities[finding.subject]
        yield (
            _labels(
                ("site", assessment.site),
                ("care_domain", assessment.care_domain),
                ("control", finding.control),
                ("subject", finding.subject),
                ("criticality", criticality.value),
            ),
            finding,
        )


def _severity(assessment: Assessment, finding: Finding) -> str:
    value = SEVERITY_VALUES[finding.severity]
    until = assessment.commissioning_until
    commissioning = until is not None and to_us(assessment.judged_at) <= until
    return str(min(value, 1) if commissioning else value)


def _last(finding: Finding) -> str:
    last = finding.last_non_compliant
    return _timestamp(to_us(last) if last is not None else None)
