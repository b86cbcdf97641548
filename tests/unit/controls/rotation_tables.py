"""Views of an application with two copies, and what RST-01 says of the one that is left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from backupguard.model import Fact, JobSummary, PointState, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, application, job, result_of


def of_two_copies(
    *tests: Fact,
    since: datetime = NOW - 400 * DAY,
    criticality: str = "C1",
    fetchable: tuple[str, ...] = ("nas", "disk"),
    disk: dict[str, Any] | None = None,
    oldest: timedelta = 60 * DAY,
) -> View:
    """Return the view of an application that lies in `nas` and on `disk`."""
    summary = JobSummary(
        job="dpi.nightly",
        repository="nas",
        newest=NOW - HOUR,
        oldest=NOW - oldest,
        newest_bytes=1,
        newest_state=PointState.COMPLETE,
        points=30,
        days=30,
    )
    nightly = replace(job(NOW - HOUR), summaries=(summary,))
    view = application(
        *tests,
        criticality=criticality,
        repositories=("nas", "disk"),
        fetchable=list(fetchable),
        jobs=(nightly,),
    )
    standing = {"points": 30, "code": None}
    copies = [{"repository": "nas"} | standing, {"repository": "disk"} | standing | (disk or {})]
    began = {"nas": to_us(since), "disk": to_us(since)}
    aged = {
        f"restore-test.age/{test.observation.data['age']}": test
        for test in tests
        if test.observation.data.get("age")
    }
    return replace(
        view,
        latest={**view.latest, **aged},
        known={**view.known, "copies": copies, "repositories_since": began},
    )


def nas(ago: timedelta = DAY, **values: Any) -> Fact:
    return result_of(NOW - ago, repository="nas", **values)


def disk(ago: timedelta, **values: Any) -> Fact:
    return result_of(NOW - ago, repository="disk", seq=5, **values)


AWAY = {"code": "medium_away"}


ROWS = [
    # view, status, cause, severity, reason
    (of_two_copies(disk(96 * DAY), nas()), "compliant", None, "info", "passed"),
    (of_two_copies(disk(97 * DAY), nas()), "warning", None, "warning", "copy_due"),
    (of_two_copies(disk(185 * DAY), nas()), "non_compliant", None, "high", "copy_due"),
    (of_two_copies(nas()), "non_compliant", None, "high", "copy_never"),
    (of_two_copies(nas(), since=NOW - 100 * DAY), "warning", None, "warning", "copy_never"),
    (of_two_copies(nas(), since=NOW - 90 * DAY), "compliant", None, "info", "passed"),
    (of_two_copies(disk(97 * DAY), nas(), disk=AWAY), "warning", None, "warning", "copy_due_away"),
    (of_two_copies(nas(), disk=AWAY), "non_compliant", None, "high", "copy_never_away"),
    # what can't be fetched, is not reachable or holds nothing is not this control's matter
    (of_two_copies(nas(), fetchable=("nas",)), "compliant", None, "info", "passed"),
    (of_two_copies(nas(), disk={"code": "unreachable"}), "compliant", None, "info", "passed"),
    (of_two_copies(nas(), disk={"points": 0}), "compliant", None, "info", "passed"),
    # what could not be verified proves nothing of that copy
    (
        of_two_copies(disk(9 * DAY, verdict="could_not_verify", code="no_disk"), nas()),
        "non_compliant",
        None,
        "high",
        "copy_never",
    ),
    (
        of_two_copies(disk(300 * DAY), nas(), criticality="C3"),
        "compliant",
        None,
        "info",
        "passed",
    ),
    (
        of_two_copies(disk(370 * DAY), nas(), criticality="C3"),
        "warning",
        None,
        "warning",
        "copy_due",
    ),
]
