"""Metrics about what comes back: what applications were promised, and what restore tests showed."""

from __future__ import annotations

from collections import Counter

from backupguard.assess import Assessment
from backupguard.metrics.page import Page, seconds, timestamp
from backupguard.model import Verdict


def about_applications(page: Page, assessment: Assessment) -> None:
    """Add targets, exposure, forecast and what is known of points, per application."""
    known = [((one.application,), one) for one in assessment.applications]
    overdue = Counter(one.application for one in assessment.due if one.overdue)
    page.add(
        "application_rpo_target_seconds",
        ((key, str(a.rpo_s)) for key, a in known if a.rpo_s is not None),
    )
    page.add(
        "application_rto_target_seconds",
        ((key, str(a.rto_s)) for key, a in known if a.rto_s is not None),
    )
    page.add(
        "backup_worst_exposure_seconds",
        (
            (key, seconds(a.worst_exposure_ms))
            for key, a in known
            if a.worst_exposure_ms is not None
        ),
    )
    page.add(
        "recovery_forecast_seconds",
        ((key, seconds(a.forecast_ms)) for key, a in known if a.forecast_ms is not None),
    )
    page.add("restore_test_copies_overdue", ((key, str(overdue[key[0]])) for key, _ in known))
    page.add(
        "restore_test_clean_point_timestamp_seconds",
        ((key, timestamp(a.clean_point_at)) for key, a in known),
    )
    page.add(
        "restore_test_first_bad_point_timestamp_seconds",
        ((key, timestamp(a.first_bad_point_at)) for key, a in known),
    )


def about_tests(page: Page, assessment: Assessment) -> None:
    """Add the last restore test of every copy."""
    tests = [((t.application, t.engine, t.repository, t.origin), t) for t in assessment.tests]
    for name in ("last_run", "last_success", "last_failure"):
        page.add(
            f"restore_test_{name}_timestamp_seconds",
            ((key, timestamp(getattr(t, f"{name}_at"))) for key, t in tests),
        )
    page.add("restore_test_level", ((key, str(t.level)) for key, t in tests))
    page.add(
        "restore_test_program_missing", ((key, str(int(t.program_missing))) for key, t in tests)
    )
    page.add("restore_test_data_ratio", ((key, str(t.percent / 100)) for key, t in tests))
    for name in ("duration", "data_loss", "freshness_heuristic"):
        field = f"{name.removesuffix('_heuristic')}_ms"
        page.add(
            f"restore_test_{name}_seconds",
            (
                (key, seconds(getattr(t, field)))
                for key, t in tests
                if getattr(t, field) is not None
            ),
        )
    page.add(
        "restore_test_canary_timestamp_seconds",
        ((key, timestamp(t.canary_at)) for key, t in tests if t.canary_at is not None),
    )
    page.add(
        "restore_test_phase_duration_seconds",
        (
            ((*key, phase), seconds(duration))
            for key, t in tests
            for phase, duration in t.phases.items()
        ),
    )
    page.add("restore_test_expected_interval_seconds", ((k, str(t.interval_s)) for k, t in tests))
    page.add(
        "restore_tests_total",
        (
            ((*key, outcome.value), str(t.outcomes.get(outcome, 0)))
            for key, t in tests
            for outcome in Verdict
        ),
    )
