"""Thresholds that people change for a time: taken, confirmed and ended, as exceptions are."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from backupguard.assess.overrides import KINDS, Override, Overrides, demanded
from backupguard.assess.picture import WaiverState
from backupguard.assess.views import subjects
from backupguard.assess.waivers import LONGEST, LONGEST_VITAL, needs_second, uid_of
from backupguard.controls.catalogue import Threshold, ThresholdValue, Unit, ValueOrigin
from backupguard.controls.directions import loosens
from backupguard.daemon.requests import author
from backupguard.daemon.statements import (
    Statements,
    end_of,
    one_line_or_refused,
    person_of,
    refused,
)
from backupguard.model import SITE, Criticality, Json, Subject, to_us


def override(
    taken: Statements,
    *,
    control: str,
    threshold: str,
    value: str,
    subject: Subject,
    reason: str,
    until: date,
    uid: int,
    now: datetime,
) -> tuple[int, bool]:
    """Record that somebody wants another value; return its number, and whether it waits.

    What demands less than the catalogue waits for a second person. Raises UsageError for one that is
    not taken.
    """
    entry = taken.catalogue.entries.get(control)
    if entry is None or not entry.built:
        raise refused("no-control", control=control[:80])
    known = entry.thresholds.get(threshold)
    if known is None:
        names = ", ".join(entry.thresholds) or "—"
        raise refused("no-threshold", control=control, threshold=threshold[:80], known=names)
    own = subject.partition("/")[0] == entry.scope and subject in subjects(taken.settings)
    if subject != SITE and not own:
        raise refused("not-of-control", control=control, subject=subject[:80])
    number = _number(known, value)
    standards = _standards(taken, control, threshold, subject)
    if not standards:
        raise refused("not-demanded", control=control, threshold=threshold, subject=subject)
    if all(standard == number for standard in standards.values()):
        raise refused("changes-nothing", given=value[:80])
    one_line_or_refused("reason", reason)
    waits = any(loosens(control, threshold, one, number) for one in standards.values())
    vital = any(needs_second(c, taken.catalogue.policy(control, c).severity) for c in standards)
    taken.check_until(until, LONGEST_VITAL if waits and vital else LONGEST, now)
    data: dict[str, Json] = {
        "control": control,
        "threshold": threshold,
        "value": number,
        "given": value.strip(),
        "reason": reason,
        "person": person_of(taken.settings, uid),
        "until_at": to_us(end_of(until, taken.settings.site.timezone)),
        "loosens": waits,
        "needs_confirmation": waits,
    }
    return taken.record("override.asked", subject, data, uid, now), waits


def confirm(taken: Statements, seq: int, *, uid: int, now: datetime) -> None:
    """Record that a second person accepts an override. Raises UsageError when he may not."""
    asked = _standing(taken, seq, now, WaiverState.WAITING)
    person = person_of(taken.settings, uid)
    if person is None:
        raise refused("nobody", author=author(uid))
    if "rssi" not in taken.settings.people[person].roles:
        raise refused("not-rssi", person=person)
    if uid_of(asked.asked.author) == uid or asked.person == person:
        raise refused("own-override", person=person)
    zone = ZoneInfo(taken.settings.site.timezone)
    asked_on = asked.asked.observation.observed_at.astimezone(zone).date()
    vital = any(
        needs_second(c, taken.catalogue.policy(asked.control, c).severity)
        for c in _standards(taken, asked.control, asked.threshold, asked.subject)
    )
    longest = LONGEST_VITAL if vital else LONGEST
    if asked.until_at > to_us(end_of(asked_on + longest, taken.settings.site.timezone)):
        raise refused("too-long", days=longest.days)
    said: dict[str, Json] = {"override": seq, "person": person}
    taken.record("override.confirmed", asked.subject, said, uid, now)


def end(taken: Statements, seq: int, reason: str, *, uid: int, now: datetime) -> None:
    """Record that an override ends before its day; raises UsageError for one that is over."""
    one_line_or_refused("reason", reason)
    asked = _standing(taken, seq, now, WaiverState.WAITING, WaiverState.IN_FORCE)
    said: dict[str, Json] = {"override": seq, "reason": reason}
    taken.record("override.ended", asked.subject, said, uid, now)


def every(taken: Statements, now: datetime) -> list[dict[str, Json]]:
    """Return every override ever asked for, as JSON values."""
    from dataclasses import asdict

    found = Overrides(taken.store.facts(kinds=KINDS))
    return [asdict(one) for one in found.pictures(now, taken.catalogue)]


def _standing(taken: Statements, seq: int, now: datetime, *wanted: WaiverState) -> Override:
    found = Overrides(taken.store.facts(kinds=KINDS)).get(seq)
    if found is None:
        raise refused("no-override", seq=seq)
    state = found.state(now, needs_second=found.weaker_than(taken.catalogue))
    if state not in wanted:
        raise refused("override-state", seq=seq, state=f"@waiver.state.{state}")
    return found


def _standards(
    taken: Statements, control: str, threshold: str, subject: Subject
) -> dict[Criticality, int]:
    """Return what the catalogue demands of every class that an override would speak of."""
    site = taken.catalogue.entries[control].scope == SITE or subject == SITE
    classes = tuple(Criticality) if site else (taken.criticality(subject),)
    found = {c: demanded(taken.catalogue, control, threshold, c) for c in classes}
    return {c: value for c, value in found.items() if value is not None}


def _number(threshold: Threshold, given: str) -> int:
    text = given.strip()
    value: str | int = text
    try:
        if threshold.unit is not Unit.DURATION:
            value = int(text.removesuffix("%").rstrip("\u00a0 "))
        number = int(threshold.number(ThresholdValue(value=value, origin=ValueOrigin.PRODUCT)))
        if threshold.unit is Unit.DURATION and number <= 0:
            raise ValueError(text)
    except ValueError as error:
        unit = f"@threshold.unit.{threshold.unit.value}"
        raise refused("no-threshold-value", given=text[:80], unit=unit) from error
    return number
