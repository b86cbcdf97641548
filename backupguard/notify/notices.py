"""Which mails are due: one when a cause begins or gets worse, reminders, one when it ends.

What was told is read from the records themselves (`notice.due`), so a restart tells nothing twice.
Pure: what is wrong and what was told in, notices out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backupguard.evidence.kinds import NoticeEvent
from backupguard.evidence.records import canonical
from backupguard.model import SITE, Fact, Observation, Severity, to_us
from backupguard.notify.causes import Cause, rank
from backupguard.settings.notify import Mail

KIND = "notice.due"
_HOUR = timedelta(hours=1)
_OVER = ("ended", "passed", "alive")
#: Reminders that fall due within so long of one that is due go into the same mail.
_TOGETHER = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last that people were told of a cause. `opened_by` is the key of its first notice."""

    event: NoticeEvent
    at: datetime
    opened_by: str

    @property
    def stands(self) -> bool:
        """Tell whether people believe that it is still so."""
        return self.event["event"] not in _OVER


@dataclass(slots=True)
class Ledger:
    """What people were told, from the records. `at` are the times of the newest notices."""

    told: dict[str, Told] = field(default_factory=dict)
    at: list[datetime] = field(default_factory=list)
    seq: int = 0

    def read(self, facts: Iterable[Fact]) -> None:
        """Take in notices that were recorded."""
        for fact in facts:
            self.seq = max(self.seq, fact.seq)
            self.at = [*self.at[-1000:], fact.recorded_at]
            for event in fact.observation.data["events"]:
                self.told[event["cause"]] = Told(
                    event=event,
                    at=fact.recorded_at,
                    opened_by=event["opened_by"] or fact.observation.key,
                )

    def within_an_hour(self, now: datetime) -> int:
        """Return how many notices there were in the last hour, or are to come: clocks are set back."""
        return sum(1 for at in self.at if abs(now - at) < _HOUR)


def changes(
    found: Sequence[Cause], ledger: Ledger, mail: Mail, now: datetime
) -> tuple[NoticeEvent, ...]:
    """Return what people must be told now, worst first."""
    wanted = rank(mail.minimum_severity)
    events = [
        event
        for cause in found
        if not cause.silent
        and rank(cause.severity) <= wanted
        and (event := _news(cause, ledger.told.get(cause.key))) is not None
    ]
    standing = {cause.key: cause for cause in found}
    events += _reminders(standing, ledger, mail, now, {event["cause"] for event in events})
    for key, told in ledger.told.items():
        if told.stands and key not in standing:
            events.append({**told.event, "event": "ended", "opened_by": told.opened_by})
    return tuple(events)


def _news(cause: Cause, told: Told | None) -> NoticeEvent | None:
    if told is None or not told.stands:
        return _event(cause, "opened", None)
    if rank(cause.severity) < rank(Severity(told.event["severity"])):
        return _event(cause, "worse", told.opened_by)
    return None


def passed(held: Mapping[str, NoticeEvent], besides: Iterable[NoticeEvent]) -> list[NoticeEvent]:
    """Return what began and ended while no more mails were allowed: nobody was told of it yet."""
    told = {event["cause"] for event in besides}
    return [{**event, "event": "passed"} for cause, event in held.items() if cause not in told]


def _reminders(
    standing: Mapping[str, Cause], ledger: Ledger, mail: Mail, now: datetime, besides: set[str]
) -> list[NoticeEvent]:
    waiting = {
        key: now - ledger.told[key].at
        for key, cause in standing.items()
        if key in ledger.told and ledger.told[key].stands and key not in besides
        if not cause.silent
    }
    if max(waiting.values(), default=timedelta(0)) < mail.remind_every:
        return []
    return [
        _event(standing[key], "reminder", ledger.told[key].opened_by)
        for key, since in waiting.items()
        if since >= mail.remind_every - min(_TOGETHER, mail.remind_every / 2)
    ]


def _event(cause: Cause, event: str, opened_by: str | None) -> NoticeEvent:
    return NoticeEvent(
        cause=cause.key,
        event=event,
        alert=cause.alert,
        control=cause.control,
        subject=cause.subject,
        severity=cause.severity.value,
        reason={"id": cause.reason.id, "values": dict(cause.reason.values)},
        since_at=cause.since,
        opened_by=opened_by,
    )


def alive(slot: datetime, values: Mapping[str, int | str]) -> NoticeEvent:
    """Return what a daily mail says: that judging works, and how everything stands."""
    return NoticeEvent(
        cause="alive",
        event="alive",
        alert=None,
        control=None,
        subject=SITE,
        severity=Severity.INFO.value,
        reason={"id": "mail.alive", "values": dict(values)},
        since_at=to_us(slot),
        opened_by=None,
    )


def grouped(
    events: Sequence[NoticeEvent], mail: Mail, left: int
) -> tuple[tuple[NoticeEvent, ...], ...]:
    """Return events as mails: those of one control together, everything in one where many would be.

    `left` is how many mails may still be sent this hour. People who are told of different severities
    get mails of their own.
    """
    together: dict[tuple[object, ...], list[NoticeEvent]] = {}
    for event in events:
        who = mail.recipients(Severity(event["severity"]))
        one_control = event["event"] != "reminder" and (event["control"] or event["cause"])
        together.setdefault((who, event["event"], one_control), []).append(event)
    if len(together) >= max(left, 2):
        by_reader: dict[tuple[object, ...], list[NoticeEvent]] = {}
        for event in events:
            who = mail.recipients(Severity(event["severity"]))
            by_reader.setdefault((who,), []).append(event)
        together = by_reader
    return tuple(tuple(group) for group in together.values())


def notice(events: Sequence[NoticeEvent], now: datetime) -> Observation:
    """Return the fact that these are to be told in one mail; the same events have the same key."""
    names = [[e["cause"], e["event"], e["since_at"], e["severity"]] for e in events]
    if any(event["event"] == "reminder" for event in events):
        names.append(["day", to_us(now) // (86_400 * 1_000_000)])
    digest = hashlib.sha256(canonical(names)).hexdigest()[:32]
    return Observation(
        kind=KIND,
        subject=SITE,
        observed_at=now,
        key=f"notice/{digest}",
        data={"events": [dict(event) for event in events]},
    )
