"""Canaries: what the site's own job writes before each backup, and what a restored one says.

A canary says when it was written, and carries the SHA-256 of "backupguard-canary-1 APPLICATION TIME",
so that it can be told from an altered one without a secret in the database. It is no protection against
somebody who knows how it is made: it tells that the bytes came back as they were written, and when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from backupguard.contracts import Trial
from backupguard.model import CheckResult, CleanPoint, Verdict, from_us
from restore_tests import content, shape
from restore_tests.outcome import CANARY
from restore_tests.settings import Canary

TABLE = "backupguard_canary"
#: The entry of a directory, and the file of a tree.
ENTRY, FILE = "backupguard-canary", "backupguard-canary.txt"
_PREFIX = "backupguard-canary-1"
#: How long canaries are kept in a table.
KEPT_DAYS = 35
#: Without an RPO and without a setting, a canary older than this is old: a day and two hours.
OLD = timedelta(hours=26)
_AHEAD = timedelta(days=1)

FOUND, MISSING, ALTERED, ERROR = "found", "missing", "altered", "error"


def beginning(application: str) -> str:
    """Return what the hashed text begins with, up to the time."""
    return f"{_PREFIX} {application} "


def token(application: str, written_at: str) -> str:
    """Return the token of a canary written at that time ("2026-11-22T01:00:00Z")."""
    return hashlib.sha256((beginning(application) + written_at).encode()).hexdigest()


def wanted(trial: Trial) -> Canary | None:
    """Return what the site says of its canary; None where it writes none."""
    declared = getattr(trial.settings, "canary", None)
    return declared if isinstance(declared, Canary) else None


def application_of(trial: Trial) -> str:
    """Return the id of the application under test."""
    return str(trial.memory.get("application") or "")


def tell(trial: Trial, said: str, extra: str = "") -> None:
    """Remember what an engine found.

    "found" with when the newest was written in microseconds; "missing"; "altered"; "error" with a code.
    """
    trial.memory["canary"] = (said, extra)


def written_at(trial: Trial) -> datetime | None:
    """Return when the newest canary was written; None where none was found, or an altered one."""
    said, extra = trial.memory.get("canary", (MISSING, ""))
    return from_us(int(extra)) if said == FOUND and extra.lstrip("-").isdigit() else None


def judged(trial: Trial, clean: tuple[CleanPoint, ...], engine: str) -> Iterator[CheckResult]:
    """Yield what the canary amounts to; nothing where the site declares none.

    One that never was in any point may not be written yet: that is worth a word. One that older points
    have is lost.
    """
    declared = wanted(trial)
    if declared is None:
        return
    said, extra = trial.memory.get("canary", (ERROR, "check_error"))
    if said == MISSING:
        known = any(
            one.canary and one.engine == engine and one.at <= trial.point_at for one in clean
        )
        expected = known or trial.point_at >= _expected_from(trial, declared)
        if not expected:
            yield CheckResult(name=CANARY, level=2, verdict=Verdict.PASSED, code="canary_not_yet")
            return
        what = "canary_lost" if known else "canary_missing"
        yield shape.result(CANARY, what, wrong=True, proved=known, level=3)
    elif said == ALTERED:
        yield shape.result(CANARY, "canary_altered", wrong=True, proved=True, level=3)
    elif (moment := written_at(trial)) is None:
        yield CheckResult(
            name=CANARY,
            level=3,
            verdict=Verdict.COULD_NOT_VERIFY,
            code=extra if said == ERROR and extra else "check_error",
        )
    elif moment > trial.point_at + _AHEAD:
        yield CheckResult(
            name=CANARY, level=3, verdict=Verdict.COULD_NOT_VERIFY, code="check_future_time"
        )
    else:
        limit = declared.newer_than or content.rpo_of(trial) or OLD
        old = trial.point_at - moment > limit
        yield shape.result(
            CANARY, "canary_old", wrong=old, proved=True, level=3, times={"newest": moment}
        )


def _expected_from(trial: Trial, declared: Canary) -> datetime:
    zone = ZoneInfo(str(trial.memory.get("timezone") or "UTC"))
    day = datetime(declared.since.year, declared.since.month, declared.since.day, tzinfo=zone)
    return (day + timedelta(days=1)).astimezone(UTC)
