"""Metrics about copies: what probes saw, what jobs keep, what protects it."""

from __future__ import annotations

from backupguard.assess import Assessment
from backupguard.metrics.page import Page, seconds, timestamp


def about_probes(page: Page, assessment: Assessment) -> None:
    """Add when each probe ran, and whether it saw anything."""
    probes = [((one.probe, one.subject), one) for one in assessment.probes]
    page.add("probe_success", ((key, str(int(p.success))) for key, p in probes))
    page.add(
        "probe_last_run_timestamp_seconds", ((key, timestamp(p.last_run_at)) for key, p in probes)
    )
    page.add(
        "probe_duration_seconds",
        ((key, seconds(p.duration_ms)) for key, p in probes if p.duration_ms is not None),
    )
    page.add("probe_expected_interval_seconds", ((key, str(p.interval_s)) for key, p in probes))


def about_jobs(page: Page, assessment: Assessment) -> None:
    """Add what every backup job keeps."""
    jobs = [((one.application, one.job, one.repository), one) for one in assessment.jobs]
    page.add(
        "backup_last_success_timestamp_seconds",
        ((key, timestamp(j.restorable_at)) for key, j in jobs),
    )
    page.add("backup_expected_interval_seconds", ((key, str(j.interval_s)) for key, j in jobs))
    page.add("backup_recovery_points", ((key, str(j.points)) for key, j in jobs))
    page.add(
        "backup_oldest_point_timestamp_seconds", ((key, timestamp(j.oldest_at)) for key, j in jobs)
    )
    page.add("backup_consecutive_failures", ((key, str(j.failures)) for key, j in jobs))
    page.add(
        "backup_newest_point_bytes",
        ((key, str(j.newest_bytes)) for key, j in jobs if j.newest_bytes is not None),
    )


def about_protections(page: Page, assessment: Assessment) -> None:
    """Add what stands of media, immutability and isolation."""
    media, repositories = assessment.media, assessment.immutability
    page.add(
        "offline_copy_timestamp_seconds",
        (
            ((application, m.medium), timestamp(at))
            for m in media
            for application, at in m.offline_at.items()
        ),
    )
    page.add(
        "offline_medium_connected",
        (((m.medium,), str(int(m.connected))) for m in media if m.connected is not None),
    )
    page.add(
        "immutability_verdict",
        (
            ((one.repository, attacker), str(verdict))
            for one in repositories
            for attacker, verdict in one.verdicts.items()
        ),
    )
    page.add(
        "immutability_locked_until_timestamp_seconds",
        (
            ((one.repository,), timestamp(one.locked_until_at))
            for one in repositories
            if one.locked_until_at is not None
        ),
    )
    page.add(
        "isolation_verdict",
        (
            ((target, one.vantage), str(verdict))
            for one in assessment.isolation
            for target, verdict in one.verdicts.items()
        ),
    )
    page.add(
        "isolation_last_look_timestamp_seconds",
        (((one.vantage,), timestamp(one.looked_at)) for one in assessment.isolation),
    )
