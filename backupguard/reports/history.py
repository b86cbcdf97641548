"""Reads a month, and what leads up to it, out of the chain of records: one place, two passes."""

from __future__ import annotations

import calendar
import itertools
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from backupguard.assess.attestations import KINDS as ATTESTATIONS
from backupguard.assess.overrides import KINDS as OVERRIDES
from backupguard.assess.waivers import KINDS as WAIVERS
from backupguard.contracts import Store
from backupguard.errors import UsageError
from backupguard.model import Fact, Message

#: Kinds whose whole history counts: what stands at the end of a month may have begun years before.
LONG = (
    "restore-test.result",
    "finding.changed",
    "configuration.loaded",
    "evidence.key-created",
    "evidence.anchored",
    *ATTESTATIONS,
    *WAIVERS,
    *OVERRIDES,
)
#: No record for longer than this is a gap: a daemon at work records at least once a day.
SILENCE = timedelta(hours=36)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A calendar month at the site, as the two moments it lies between."""

    month: str
    start: datetime
    end: datetime


def span_of(month: str, timezone: str) -> Span:
    """Given "2026-11" and the site's time zone, return the month. Raise UsageError for no month."""
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=ZoneInfo(timezone))
    except ValueError:
        message = Message(id="report.bad_month", values={"month": month})
        raise UsageError("usage", message) from None
    days = calendar.monthrange(first.year, first.month)[1]
    following = (first.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=first.tzinfo)
    return Span(month=month, start=first.astimezone(UTC), end=following.astimezone(UTC))


def month_of(moment: datetime, timezone: str) -> str:
    """Return the month at the site in which `moment` lies: "2026-11"."""
    return moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m")


@dataclass(slots=True, kw_only=True)
class History:
    """What the chain holds up to `as_of`: the long-lived kinds in full, the month's own records."""

    span: Span
    as_of: datetime
    head_seq: int
    head_hash: bytes
    first_record_at: datetime | None = None
    long: dict[str, list[Fact]] = field(default_factory=dict)
    month: list[Fact] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Fact]:
        """Return the month's records of these kinds, oldest first."""
        return [fact for fact in self.month if fact.observation.kind in kinds]


def read(store: Store, span: Span, now: datetime) -> History:
    """Read what was recorded before the end of the month (or before `now`, if that is sooner)."""
    head_seq, head_hash = store.head()
    history = History(span=span, as_of=min(now, span.end), head_seq=head_seq, head_hash=head_hash)
    first = store.fact(1) if head_seq else None
    history.first_record_at = first.recorded_at if first else None
    for fact in _until(store.facts(kinds=LONG), history):
        history.long.setdefault(fact.observation.kind, []).append(fact)
    begin = _first_since(store, head_seq, span.start)
    for fact in _until(store.facts(after=begin - 1), history):
        if fact.recorded_at >= span.start:
            history.month.append(fact)
    return history


def _until(facts: Iterator[Fact], history: History) -> Iterator[Fact]:
    # A record that is appended while the report is being made belongs to the next report.
    return (f for f in facts if f.seq <= history.head_seq and f.recorded_at <= history.as_of)


def _first_since(store: Store, head_seq: int, moment: datetime) -> int:
    """Return the sequence number of the first record not older than `moment`, by bisection."""

    def recorded(seq: int) -> datetime:
        fact = store.fact(seq)
        return fact.recorded_at if fact else moment

    return bisect_left(range(1, head_seq + 1), moment, key=recorded) + 1


def silences(history: History) -> list[tuple[datetime, datetime]]:
    """Return the spans of the month without any record, longer than `SILENCE`.

    What lies before the very first record is no gap: nothing was watching yet.
    """
    if history.first_record_at is None:
        return []
    begin = max(history.span.start, history.first_record_at)
    moments = sorted([begin, *(fact.recorded_at for fact in history.month), history.as_of])
    return [
        (earlier, later)
        for earlier, later in itertools.pairwise(moments)
        if later - earlier > SILENCE
    ]
