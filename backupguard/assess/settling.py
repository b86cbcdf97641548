"""Compares a judgement with the finding that stood: what changed, and since when it stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from backupguard.assess.picture import UNSETTLED, is_open
from backupguard.model import Finding, Judgement, Message, Severity, Status, Subject, to_us

_URGENCY = (Severity.INFO, Severity.WARNING, Severity.HIGH, Severity.CRITICAL)
#: For how long the failures of something removed from the configuration stay in sight.
REMOVED_STAYS = timedelta(days=366)


def as_urgent(before: Finding | None, judgement: Judgement) -> Judgement:
    """Return a judgement as urgent as the finding it does not end: nobody saw that it ended."""
    if before is None or not is_open(before) or judgement.status not in UNSETTLED:
        return judgement
    severity = max(judgement.severity, before.severity, key=_URGENCY.index)
    return replace(judgement, severity=severity)


def settle(
    before: Finding | None,
    control: str,
    subject: Subject,
    judgement: Judgement,
    now: datetime,
    *,
    waiver: int | None = None,
) -> Finding:
    """Return the finding that stands from now on, given the one that stood and a new judgement.

    `since` is kept while the status stays. `last_non_compliant` is the last moment at which the
    finding was non-compliant, or was not seen to have recovered since (`picture.is_open`). `waiver` is
    the number of the one that covers it.
    """
    judgement = as_urgent(before, judgement)
    same = before is not None and before.status is judgement.status
    since = before.since if before is not None and same else now
    last = before.last_non_compliant if before is not None else None
    if judgement.status is Status.NON_COMPLIANT:
        last = last if same else now
    elif before is not None and is_open(before) and not same:
        ended = before.status in UNSETTLED and judgement.status not in UNSETTLED
        last = last if ended else now
    return Finding(
        control=control,
        subject=subject,
        status=judgement.status,
        cause=judgement.cause,
        severity=judgement.severity,
        reason=judgement.reason,
        facts=judgement.facts,
        since=since,
        last_non_compliant=last,
        waiver=waiver,
    )


def differs(before: Finding | None, after: Finding) -> bool:
    """Tell whether a finding says something else than before, for a reader.

    The facts it rests on are no difference: a newer fact that says the same is no news.
    """
    if before is None:
        return True
    return (before.status, before.cause, before.severity, before.reason, before.waiver) != (
        after.status,
        after.cause,
        after.severity,
        after.reason,
        after.waiver,
    )


def removed(before: Finding, now: datetime) -> Finding:
    """Return what becomes of a finding whose subject or control is no longer configured.

    Taking a failing application out of the configuration does not make it vanish: it stays as a
    warning for a year.
    """
    if before.reason.id == "reason.removed":
        if now - before.since <= REMOVED_STAYS or before.status is Status.NOT_APPLICABLE:
            return before
        gone = before.reason
        failing = False
    else:
        gone = Message(id="reason.removed", values={"removed_at": to_us(now)})
        failing = is_open(before)
    judgement = Judgement(
        status=Status.WARNING if failing else Status.NOT_APPLICABLE,
        severity=Severity.WARNING if failing else Severity.INFO,
        reason=gone,
        facts=before.facts,
    )
    after = settle(before, before.control, before.subject, judgement, now)
    # Not open any more: nobody can repair what is not there; the warning says that it failed.
    return replace(after, since=now, last_non_compliant=before.last_non_compliant)
