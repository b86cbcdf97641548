"""Exceptions that people accepted: which of them hold, and what they make of a judgement.

Controls know nothing of waivers. One covers one control on one subject until its day; it hides
nothing that is compliant, was never set up, or is about anything else, and what it covers stays
visible in the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backupguard.assess.picture import WaiverPicture, WaiverState
from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    Message,
    NotMeasurableCause,
    Severity,
    Status,
    Subject,
    to_us,
)

KINDS = ("waiver.asked", "waiver.confirmed", "waiver.ended")
#: For how long a vital application or a critical finding may be waived, by two persons.
LONGEST_VITAL = timedelta(days=90)
#: For how long anything else may be: a choice of the product's, as a budget lasts a year.
LONGEST = timedelta(days=366)
_UID = re.compile(r"uid/(\d+)")


def uid_of(author: str | None) -> int | None:
    """Return the user id in an author as records hold it ("uid/1000 (alice)"); None without one."""
    found = _UID.match(author or "")
    return int(found[1]) if found else None


@dataclass(slots=True, kw_only=True)
class Waiver:
    """One waiver with what became of it."""

    asked: Fact
    control: str
    subject: Subject
    reason: str
    owner: str
    person: str | None
    until_at: int
    confirmed: Fact | None = None
    ended: Fact | None = None

    @property
    def seq(self) -> int:
        """Return its number: that of the record in which it was asked for."""
        return self.asked.seq

    def state(self, now: datetime, *, needs_second: bool) -> WaiverState:
        """Return where it stands; `needs_second`: what it covers now demands a second person."""
        if self.ended is not None:
            return WaiverState.ENDED
        if self.until_at <= to_us(now):
            return WaiverState.EXPIRED
        asked_to_wait = bool(self.asked.observation.data["needs_confirmation"])
        if self.confirmed is None and (asked_to_wait or needs_second):
            return WaiverState.WAITING
        return WaiverState.IN_FORCE

    def picture(self, now: datetime, *, needs_second: bool) -> WaiverPicture:
        """Return it as outputs show it; `needs_second` as for `state`."""
        asked, second, ended = self.asked, self.confirmed, self.ended
        return WaiverPicture(
            seq=self.seq,
            control=self.control,
            subject=self.subject,
            reason=self.reason,
            owner=self.owner,
            person=self.person,
            author=asked.author,
            asked_at=to_us(asked.observation.observed_at),
            until_at=self.until_at,
            state=self.state(now, needs_second=needs_second),
            needs_second=needs_second or bool(asked.observation.data["needs_confirmation"]),
            confirmed_by=second.observation.data["person"] if second is not None else None,
            confirmed_author=second.author if second is not None else None,
            ended_by=ended.author if ended is not None else None,
            ended_for=ended.observation.data["reason"] if ended is not None else None,
        )


def needs_second(criticality: Criticality, severity: Severity) -> bool:
    """Tell whether two persons must accept an exception for such a subject or finding."""
    return criticality is Criticality.C1 or severity is Severity.CRITICAL


class Waivers:
    """All waivers; facts come in order and once each."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._all: dict[int, Waiver] = {}
        self._open: dict[tuple[str, Subject], list[Waiver]] = {}
        for fact in facts:
            self.learn(fact)

    def learn(self, fact: Fact) -> None:
        """Take one fact of `KINDS` into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        if not isinstance(data, Mapping):
            return
        if fact.observation.kind == "waiver.asked":
            waiver = Waiver(
                asked=fact,
                control=data["control"],
                subject=fact.observation.subject,
                reason=data["reason"],
                owner=data["owner"],
                person=data["person"],
                until_at=data["until_at"],
            )
            self._all[fact.seq] = waiver
            self._open.setdefault((waiver.control, waiver.subject), []).append(waiver)
            return
        known = self._all.get(data["waiver"])
        if known is None or known.ended is not None:
            return
        if fact.observation.kind == "waiver.ended":
            known.ended = fact
        elif _is_second(known, fact):
            known.confirmed = known.confirmed or fact

    def get(self, seq: int) -> Waiver | None:
        """Return a waiver by the number of the record in which it was asked for."""
        return self._all.get(seq)

    def pictures(
        self, now: datetime, demands: Callable[[str, Subject], bool]
    ) -> tuple[WaiverPicture, ...]:
        """Return all waivers, in the order in which they were asked for.

        `demands` tells of a control and a subject whether its finding demands a second person.
        """
        return tuple(
            one.picture(now, needs_second=demands(one.control, one.subject))
            for one in self._all.values()
        )

    def __iter__(self) -> Iterator[Waiver]:
        """Go through all waivers, in the order in which they were asked for."""
        return iter(self._all.values())

    def over(self, now: datetime) -> frozenset[Subject]:
        """Return the subjects of waivers whose day has passed, once each: they are judged again."""
        gone = [
            waiver
            for waivers in self._open.values()
            for waiver in waivers
            if waiver.until_at <= to_us(now)
        ]
        for waiver in gone:
            self._open[waiver.control, waiver.subject].remove(waiver)
        return frozenset(waiver.subject for waiver in gone)

    def in_force(
        self,
        control: str,
        subject: Subject,
        criticality: Criticality,
        severity: Severity,
        now: datetime,
    ) -> Waiver | None:
        """Return the waiver that covers a finding now: the one that lasts longest, or None."""
        second = needs_second(criticality, severity)
        holding = [
            waiver
            for waiver in self._open.get((control, subject), ())
            if waiver.state(now, needs_second=second) is WaiverState.IN_FORCE
        ]
        return max(holding, key=lambda waiver: (waiver.until_at, waiver.seq), default=None)

    def apply(
        self,
        control: str,
        subject: Subject,
        criticality: Criticality,
        judgement: Judgement,
        now: datetime,
    ) -> tuple[Judgement, int | None]:
        """Return what a control's judgement becomes, and the number of the waiver that covers it."""
        if not can_cover(judgement):
            return judgement, None
        waiver = self.in_force(control, subject, criticality, judgement.severity, now)
        return (judgement, None) if waiver is None else (_waived(judgement, waiver), waiver.seq)


def _is_second(waiver: Waiver, confirmed: Fact) -> bool:
    """Tell whether a confirmation comes from somebody else than who asked, whoever recorded it."""
    asker, second = uid_of(waiver.asked.author), uid_of(confirmed.author)
    person = confirmed.observation.data["person"]
    return second is not None and second != asker and person != waiver.person


def can_cover(judgement: Judgement) -> bool:
    """Tell whether an exception may cover a judgement: bad news, or sight that was lost."""
    if judgement.status in (Status.NON_COMPLIANT, Status.WARNING):
        return True
    return judgement.status is Status.NOT_MEASURABLE and judgement.cause is NotMeasurableCause.LOST


def _waived(judgement: Judgement, waiver: Waiver) -> Judgement:
    """Return the judgement as waived: what it would be, and why, stays in the reason."""
    said: dict[str, int | str] = {
        "waived_until_at": waiver.until_at,
        "waived_by": waiver.owner,
        "waived_status": f"@status.state.{judgement.status.value}",
        "waived_reason": f"@{judgement.reason.id}",
    }
    numbers = {waiver.seq} | ({waiver.confirmed.seq} if waiver.confirmed is not None else set())
    return replace(
        judgement,
        status=Status.WAIVED,
        cause=None,
        severity=Severity.INFO,
        reason=Message(id="reason.waived", values={**judgement.reason.values, **said}),
        facts=(*judgement.facts, *sorted(numbers)),
    )
