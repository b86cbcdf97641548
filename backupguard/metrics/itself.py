"""Metrics about BackupGuard itself: its cycle, its evidence, its own test, its pauses."""

from __future__ import annotations

import platform

from backupguard import __version__
from backupguard.assess import Assessment
from backupguard.metrics.page import Page, timestamp
from backupguard.model import to_us


def about(page: Page, assessment: Assessment) -> None:
    """Add what is known of BackupGuard itself."""
    page.one("build_info", "1", __version__, platform.python_version())
    page.one("last_cycle_timestamp_seconds", timestamp(assessment.last_cycle_at))
    page.one("findings_evaluated_timestamp_seconds", timestamp(to_us(assessment.judged_at)))
    page.one("evidence_records_total", str(assessment.head_seq))
    if assessment.evidence.valid is not None:
        page.one("evidence_valid", str(int(assessment.evidence.valid)))
    page.one("evidence_anchor_timestamp_seconds", timestamp(assessment.anchored_at))
    page.one("self_test_timestamp_seconds", timestamp(assessment.self_tested_at))
    if assessment.self_test_noticed is not None:
        page.one("self_test_noticed", str(int(assessment.self_test_noticed)))
    endless = assessment.paused and assessment.paused_until is None
    until = "+Inf" if endless else timestamp(assessment.paused_until)
    page.one("paused_until_timestamp_seconds", until)
    page.one("commissioning_until_timestamp_seconds", timestamp(assessment.commissioning_until))
