"""Thresholds that people changed for a time: which of them hold, and what they make of a policy.

An override stands in for one threshold of one control, for the whole site or for one subject, until
its day. One that demands less than the catalogue counts only with a second person's word; that is
decided anew whenever it is read, for the catalogue may have become stricter since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backupguard.assess.picture import OverridePicture, WaiverState
from backupguard.assess.waivers import uid_of
from backupguard.controls import Catalogue
from backupguard.controls.directions import loosens
from backupguard.model import SITE, Criticality, Fact, Policy, Subject, to_us

KINDS = ("override.asked", "override.confirmed", "override.ended")
#: For how long one that is over is still told: the value of the catalogue holds again.
TOLD_FOR = timedelta(days=31)


@dataclass(slots=True, kw_only=True)
class Override:
    """One override with what became of it. `value` is counted as the control reads it."""

    asked: Fact
    control: str
    threshold: str
    value: int
    given: str
    subject: Subject
    reason: str
    person: str | None
    until_at: int
    confirmed: Fact | None = None
    ended: Fact | None = None

    @property
    def seq(self) -> int:
        """Return its number: that of the record in which it was asked for."""
        return self.asked.seq

    def state(self, now: datetime, *, needs_second: bool) -> WaiverState:
        """Return where it stands; `needs_second`: it demands less than the catalogue does now."""
        if self.ended is not None:
            return WaiverState.ENDED
        if self.until_at <= to_us(now):
            return WaiverState.EXPIRED
        asked_to_wait = bool(self.asked.observation.data["needs_confirmation"])
        if self.confirmed is None and (asked_to_wait or needs_second):
            return WaiverState.WAITING
        return WaiverState.IN_FORCE

    def weaker_than(self, catalogue: Catalogue) -> bool:
        """Tell whether it demands less than the catalogue of any class of criticality."""
        return any(
            loosens(self.control, self.threshold, standard, self.value)
            for criticality in Criticality
            if (standard := demanded(catalogue, self.control, self.threshold, criticality))
            is not None
        )

    def picture(self, now: datetime, catalogue: Catalogue) -> OverridePicture:
        """Return it as outputs show it."""
        asked, second, ended = self.asked, self.confirmed, self.ended
        weaker = self.weaker_than(catalogue)
        return OverridePicture(
            seq=self.seq,
            control=self.control,
            threshold=self.threshold,
            given=self.given,
            subject=self.subject,
            reason=self.reason,
            person=self.person,
            author=asked.author,
            asked_at=to_us(asked.observation.observed_at),
            until_at=self.until_at,
            loosens=weaker or bool(asked.observation.data["loosens"]),
            state=self.state(now, needs_second=weaker),
            confirmed_by=second.observation.data["person"] if second is not None else None,
            confirmed_author=second.author if second is not None else None,
            ended_by=ended.author if ended is not None else None,
            ended_for=ended.observation.data["reason"] if ended is not None else None,
        )


def demanded(
    catalogue: Catalogue, control: str, threshold: str, criticality: Criticality
) -> int | None:
    """Return what the catalogue itself demands; None where it demands nothing."""
    if control not in catalogue.entries:
        return None
    value = catalogue.policy(control, criticality).thresholds.get(threshold)
    return None if value is None or isinstance(value, str) else int(value)


class Overrides:
    """All overrides; facts come in order and once each."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._all: dict[int, Override] = {}
        self._of: dict[str, list[Override]] = {}
        for fact in facts:
            self.learn(fact)

    def learn(self, fact: Fact) -> None:
        """Take one fact of `KINDS` into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        if not isinstance(data, Mapping):
            return
        if fact.observation.kind == "override.asked":
            made = Override(
                asked=fact,
                control=data["control"],
                threshold=data["threshold"],
                value=data["value"],
                given=data["given"],
                subject=fact.observation.subject,
                reason=data["reason"],
                person=data["person"],
                until_at=data["until_at"],
            )
            self._all[fact.seq] = made
            self._of.setdefault(made.control, []).append(made)
            return
        known = self._all.get(data["override"])
        if known is None or known.ended is not None:
            return
        if fact.observation.kind == "override.ended":
            known.ended = fact
        elif _is_second(known, fact):
            known.confirmed = known.confirmed or fact

    def get(self, seq: int) -> Override | None:
        """Return an override by the number of the record in which it was asked for."""
        return self._all.get(seq)

    def __iter__(self) -> Iterator[Override]:
        """Go through all overrides, in the order in which they were asked for."""
        return iter(self._all.values())

    def pictures(self, now: datetime, catalogue: Catalogue) -> tuple[OverridePicture, ...]:
        """Return all overrides, in the order in which they were asked for."""
        return tuple(one.picture(now, catalogue) for one in self)

    def told(self, now: datetime, catalogue: Catalogue) -> tuple[OverridePicture, ...]:
        """Return those that hold or wait, and those whose day has passed lately."""
        lately = to_us(now - TOLD_FOR)
        return tuple(
            one
            for one in self.pictures(now, catalogue)
            if one.state in (WaiverState.IN_FORCE, WaiverState.WAITING)
            or (one.state is WaiverState.EXPIRED and one.until_at > lately)
        )

    def standing(self, now: datetime) -> frozenset[int]:
        """Return the numbers of those that neither ended nor are over: another set, another verdict."""
        return frozenset(
            seq * 2 + (one.confirmed is not None)
            for seq, one in self._all.items()
            if one.ended is None and one.until_at > to_us(now)
        )

    def policy(
        self,
        catalogue: Catalogue,
        control: str,
        criticality: Criticality,
        subject: Subject,
        now: datetime,
    ) -> tuple[Policy, tuple[int, ...]]:
        """Return what a control demands of a subject now, and the records that changed it.

        One for the subject goes before one for the site, a newer one before an older one. None gives
        a class of criticality a demand that the catalogue does not make of it.
        """
        policy = catalogue.policy(control, criticality)
        chosen: dict[str, Override] = {}
        for one in self._of.get(control, ()):
            if one.subject not in (SITE, subject):
                continue
            standard = demanded(catalogue, control, one.threshold, criticality)
            if standard is None:
                continue
            weaker = loosens(control, one.threshold, standard, one.value)
            if one.state(now, needs_second=weaker) is not WaiverState.IN_FORCE:
                continue
            before = chosen.get(one.threshold)
            if before is None or before.subject == SITE or one.subject != SITE:
                chosen[one.threshold] = one
        if not chosen:
            return policy, ()
        values = {name: one.value for name, one in chosen.items()}
        numbers = {one.seq for one in chosen.values()}
        numbers |= {one.confirmed.seq for one in chosen.values() if one.confirmed is not None}
        changed = replace(policy, thresholds={**policy.thresholds, **values})
        return changed, tuple(sorted(numbers))


def _is_second(override: Override, confirmed: Fact) -> bool:
    """Tell whether a confirmation comes from somebody else than who asked, whoever recorded it."""
    asker, second = uid_of(override.asked.author), uid_of(confirmed.author)
    person = confirmed.observation.data["person"]
    return second is not None and second != asker and person != override.person
