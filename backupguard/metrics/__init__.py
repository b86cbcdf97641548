"""Findings and facts as Prometheus text, format 0.0.4: the whole text, once per assessment.

A scrape reads what was rendered. `families` is the table of everything there is; times are timestamps,
and a thing that never succeeded has the timestamp 0.
"""

from __future__ import annotations

from backupguard.assess import Assessment
from backupguard.metrics import copies, itself, judged, restored
from backupguard.metrics.judged import SEVERITY_VALUES, STATUS_VALUES
from backupguard.metrics.page import Page

__all__ = ["SEVERITY_VALUES", "STATUS_VALUES", "render"]


def render(assessment: Assessment) -> bytes:
    """Return every metric of an assessment in text format 0.0.4."""
    page = Page(assessment.site)
    for about in (
        itself.about,
        copies.about_probes,
        copies.about_jobs,
        restored.about_applications,
        copies.about_protections,
        restored.about_tests,
        judged.about,
    ):
        about(page, assessment)
    return page.encoded()
