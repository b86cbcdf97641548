"""Reads a month, and what leads up to it, out of the chain of records: one place, one pass."""

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
from backupguard.model import REPLAYED, Fact, Message, Subject
from backupguard.reports import rows
from backupguard.reports.listed import Listed
from backupguard.reports.loads import Loads
from backupguard.reports.model import FindingRow
from backupguard.reports.tested import CONCLUSIVE, Tested, payload

#: Kinds of which every record is kept: what stands at the end of a month may have begun years before.
LONG = (
    "evidence.key-created",
    "evidence.key-rotated",
    "evidence.anchored",
    *ATTESTATIONS,
    *WAIVERS,
    *OVERRIDES,
)
#: Kinds that are folded as they are read: of a year only what stands is kept.
FOLDED = (
    "restore-test.result",
    "finding.changed",
    "configuration.loaded",
    "policy.changed",
    "immutability.tried",
)
#: Kinds of which the newest of each subject stands.
LATEST = (
    "repository.inspected",
    "repository.verified",
    "inventory.confirmed",
    "protection.seen",
    "immutability.tried",
    "medium.seen",
    "medium.copy",
    "medium.moved",
)
#: What ends a run that a report counts.
CLOSING_KINDS = ("restore-test.closed", "integrity.closed", "inventory.closed")
#: What happened to BackupGuard itself.
EVENT_KINDS = (
    "daemon.started",
    "clock.stepped",
    "configuration.rejected",
    "pause.started",
    "pause.ended",
    "baseline.accepted",
    "baseline.reset",
    "store.replaced",
    "evidence.pruned",
    "evidence.anchored",
    "evidence.key-rotated",
    "report.acknowledged",
)
#: Kinds of which the month's own records are shown one by one.
SHOWN = (
    "restore-test.result",
    "inventory.listed",
    "attestation.withdrawn",
    "waiver.ended",
    "override.ended",
    *EVENT_KINDS,
    *CLOSING_KINDS,
)
#: No record for longer than this is a gap: a daemon at work records at least once a day.
SILENCE = timedelta(hours=36)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A calendar month at the site, as the two moments it lies between."""

    month: str
    timezone: str
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
    return Span(
        month=month,
        timezone=timezone,
        start=first.astimezone(UTC),
        end=following.astimezone(UTC),
    )


def month_of(moment: datetime, timezone: str) -> str:
    """Return the month at the site in which `moment` lies: "2026-11"."""
    return moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m")


@dataclass(slots=True, kw_only=True)
class History:
    """What the chain holds up to `as_of`: what stands, and the month's own records."""

    span: Span
    as_of: datetime
    head_seq: int
    head_hash: bytes
    tested: Tested
    first_record_at: datetime | None = None
    long: dict[str, list[Fact]] = field(default_factory=dict)
    latest: dict[Subject, dict[str, Fact]] = field(default_factory=dict)
    tried: dict[Subject, Fact] = field(default_factory=dict)  # the last that concluded anything
    findings: dict[tuple[str, str], FindingRow] = field(default_factory=dict)
    loads: Loads = field(default_factory=Loads)
    listed: Listed = field(default_factory=Listed)
    month: list[Fact] = field(default_factory=list)
    replayed: int = 0  # restore tests that were told again for a demonstration
    moments: list[datetime] = field(default_factory=list)  # when the month's records were made
    pruned: int = 0  # of the month's records, those whose body is gone

    def of(self, *kinds: str) -> list[Fact]:
        """Return the month's records of these kinds, oldest first."""
        return [fact for fact in self.month if fact.observation.kind in kinds]

    def learn(self, fact: Fact) -> None:
        """Take one record into account, of whatever time; records come in order."""
        kind, subject = fact.observation.kind, fact.observation.subject
        if kind in LONG:
            self.long.setdefault(kind, []).append(fact)
        if kind in LATEST:
            self.latest.setdefault(subject, {})[kind] = fact
        if kind == "restore-test.result":
            self.tested.learn(fact)
            self.replayed += fact.author == REPLAYED
        elif kind == "finding.changed":
            rows.learn_finding(self.findings, fact)
        elif kind in ("configuration.loaded", "policy.changed"):
            self.loads.learn(fact)
        elif kind == "immutability.tried" and payload(fact).get("verdict") in CONCLUSIVE:
            self.tried[subject] = fact

    def learn_of_month(self, fact: Fact) -> None:
        """Take one of the month's own records into account, after `learn`."""
        kind = fact.observation.kind
        self.moments.append(fact.recorded_at)
        self.pruned += fact.observation.data is None
        if kind == "inventory.listed":
            self.latest.setdefault(fact.observation.subject, {})[kind] = fact
            self.listed.learn(fact)
        elif kind in SHOWN and not _is_calm(fact):
            self.month.append(fact)


def _is_calm(fact: Fact) -> bool:
    """Tell whether a run ended with a verdict on the backup: its own record says more."""
    return fact.observation.kind.endswith(".closed") and payload(fact).get("verdict") in CONCLUSIVE


def read(store: Store, span: Span, now: datetime) -> History:
    """Read what was recorded before the end of the month (or before `now`, if that is sooner).

    Every record is read once at most: before the month only the kinds that can still stand.
    """
    head_seq, head_hash = store.head()
    history = History(
        span=span,
        as_of=min(now, span.end),
        head_seq=head_seq,
        head_hash=head_hash,
        tested=Tested(span.month, span.timezone),
    )
    first = store.fact(1) if head_seq else None
    history.first_record_at = first.recorded_at if first else None
    begin = _first_since(store, head_seq, span.start)
    before = store.facts(kinds=(*LONG, *FOLDED, *LATEST))
    for fact in _until(itertools.takewhile(lambda one: one.seq < begin, before), history):
        history.learn(fact)
    for fact in _until(store.facts(after=begin - 1), history):
        history.learn(fact)
        if fact.recorded_at >= span.start:
            history.learn_of_month(fact)
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
    moments = sorted([begin, *history.moments, history.as_of])
    return [
        (earlier, later)
        for earlier, later in itertools.pairwise(moments)
        if later - earlier > SILENCE
    ]
