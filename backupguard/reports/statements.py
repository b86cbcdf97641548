"""What people stated and accepted, as a report's rows: all that stood at any time of the month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from backupguard.assess.attestations import KINDS as ATTESTATIONS
from backupguard.assess.attestations import Attestations
from backupguard.assess.overrides import KINDS as OVERRIDES
from backupguard.assess.overrides import Overrides
from backupguard.assess.picture import AttestationState, WaiverState
from backupguard.assess.waivers import KINDS as WAIVERS
from backupguard.assess.waivers import Waivers, needs_second
from backupguard.model import Criticality, Fact, Severity, from_us, to_us
from backupguard.reports.history import History
from backupguard.reports.model import ChangeRow, FindingRow
from backupguard.reports.statement_rows import AttestationRow, OverrideRow, WaiverRow

if TYPE_CHECKING:
    from backupguard.controls import Catalogue


def attestation_rows(history: History) -> tuple[AttestationRow, ...]:
    """Return the statements that stand at the end of the month, or ended within it."""
    ended = _named(history.of("attestation.withdrawn"), "attestation")
    rows = []
    for one in Attestations(_in_order(history, *ATTESTATIONS)).pictures(history.as_of):
        recent = one.expires_at >= to_us(history.span.start)
        stands = one.state is AttestationState.IN_FORCE
        expired = one.state is AttestationState.EXPIRED
        if not (stands or expired or (one.seq in ended and recent)):
            continue
        name = one.values.get("name")
        rows.append(
            AttestationRow(
                seq=one.seq,
                subject=one.subject,
                topic=one.topic,
                name=None if name is None else str(name),
                text=one.text,
                person=one.person,
                author=one.author,
                made_at=from_us(one.made_at),
                expires_at=from_us(one.expires_at),
                key=one.key,
                state=one.state.value,
                withdrawn_by=one.withdrawn_by,
                withdrawn_for=one.withdrawn_for,
            )
        )
    return tuple(rows)


def with_reasons(history: History, changes: list[ChangeRow]) -> list[ChangeRow]:
    """Return changes with the reason that a person stated for the record that holds them."""
    stated = {
        str(one.values.get("name")): one
        for one in Attestations(_in_order(history, *ATTESTATIONS)).pictures(history.as_of)
        if one.topic == "change" and one.state is not AttestationState.WITHDRAWN
    }
    return [
        replace(change, reason=one.text, reason_by=one.person or one.author)
        if (one := stated.get(str(change.seq))) is not None
        else change
        for change in changes
    ]


def with_owners(findings: list[FindingRow], waivers: Iterable[WaiverRow]) -> list[FindingRow]:
    """Return findings with owner and end of the waiver, in force or waiting, that covers each."""
    owned = {
        (one.control, one.subject): one for one in waivers if one.state in ("in_force", "waiting")
    }
    return [
        replace(row, owner=one.owner, due_at=one.until)
        if (one := owned.get((row.control, row.subject))) is not None
        else row
        for row in findings
    ]


def waiver_rows(history: History, findings: list[FindingRow]) -> tuple[WaiverRow, ...]:
    """Return the exceptions that hold or wait at the end of the month, or ended within it."""
    standing = {(row.control, row.subject): row for row in findings}

    def demands(control: str, subject: str) -> bool:
        row = standing.get((control, subject))
        severity = row.severity if row is not None else Severity.INFO
        return needs_second((row and row.criticality) or Criticality.C3, severity)

    over = _named(history.of("waiver.ended"), "waiver")
    rows = []
    for one in Waivers(_in_order(history, *WAIVERS)).pictures(history.as_of, demands):
        gone = one.state is WaiverState.ENDED and one.seq not in over
        old = one.state is WaiverState.EXPIRED and one.until_at < to_us(history.span.start)
        if gone or old:
            continue
        rows.append(
            WaiverRow(
                seq=one.seq,
                control=one.control,
                subject=one.subject,
                reason=one.reason,
                owner=one.owner,
                person=one.person,
                author=one.author,
                asked_at=from_us(one.asked_at),
                until=from_us(one.until_at),
                state=one.state.value,
                confirmed_by=one.confirmed_by,
                confirmed_author=one.confirmed_author,
                ended_by=one.ended_by,
                ended_for=one.ended_for,
            )
        )
    return tuple(rows)


def override_rows(history: History, catalogue: Catalogue) -> tuple[OverrideRow, ...]:
    """Return the thresholds that stand changed at the end of the month, or were within it."""
    over = _named(history.of("override.ended"), "override")
    rows = []
    for one in overrides_of(history).pictures(history.as_of, catalogue):
        gone = one.state is WaiverState.ENDED and one.seq not in over
        old = one.state is WaiverState.EXPIRED and one.until_at < to_us(history.span.start)
        if gone or old:
            continue
        rows.append(
            OverrideRow(
                seq=one.seq,
                control=one.control,
                threshold=one.threshold,
                given=one.given,
                subject=one.subject,
                reason=one.reason,
                person=one.person,
                author=one.author,
                asked_at=from_us(one.asked_at),
                until=from_us(one.until_at),
                loosens=one.loosens,
                state=one.state.value,
                confirmed_by=one.confirmed_by,
                confirmed_author=one.confirmed_author,
                ended_by=one.ended_by,
                ended_for=one.ended_for,
            )
        )
    return tuple(rows)


def overrides_of(history: History) -> Overrides:
    """Return the thresholds that people changed, as the records up to the end of the month say."""
    return Overrides(_in_order(history, *OVERRIDES))


def _named(facts: list[Fact], name: str) -> set[int]:
    """Return what records name; one whose body was pruned names nothing."""
    bodies = (fact.observation.data for fact in facts)
    return {body[name] for body in bodies if isinstance(body, Mapping)}


def _in_order(history: History, *kinds: str) -> list[Fact]:
    found = [fact for kind in kinds for fact in history.long.get(kind, ())]
    return sorted(found, key=lambda fact: fact.seq)
