"""What the pages hold, each a function of what was published and of what is asked for.

Imported with the first page that somebody opens: the templates' engine is of no use to a daemon that
is only scraped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backupguard.web.pages import (
    application,
    calendar,
    evidence,
    findings,
    media,
    reports,
    restore_tests,
    runbooks,
    status,
)
from backupguard.web.pages.rendering import View

#: By name, what makes each page; None: there is no such page.
PAGES: Mapping[str, Callable[[View], str | None]] = {
    "status": status.page,
    "application": application.page,
    "calendar": calendar.page,
    "restore-tests": restore_tests.listing,
    "restore-test": restore_tests.page,
    "findings": findings.page,
    "media": media.page,
    "reports": reports.page,
    "evidence": evidence.page,
    "runbooks": runbooks.index,
    "runbook": runbooks.page,
}

#: Pages that need no judgement: what they show lies in files.
WITHOUT_JUDGEMENT = frozenset({"reports", "runbooks", "runbook"})

__all__ = ["PAGES", "WITHOUT_JUDGEMENT", "View"]
