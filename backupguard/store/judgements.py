"""Findings as they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from backupguard.contracts import FindingChange
from backupguard.evidence.records import canonical
from backupguard.model import (
    Fact,
    Finding,
    Message,
    NotMeasurableCause,
    Observation,
    Severity,
    Status,
    from_us,
    to_us,
)
from backupguard.store.core import Core, check, lock_head
from backupguard.store.engine import upsert
from backupguard.store.schema import findings


def finding_from_row(row: RowMapping) -> Finding:
    """Return the finding in a row of `findings`."""
    reason = json.loads(row["reason"])
    last = row["last_non_compliant"]
    return Finding(
        control=row["control"],
        subject=row["subject"],
        status=Status(row["status"]),
        cause=NotMeasurableCause(row["cause"]) if row["cause"] else None,
        severity=Severity(row["severity"]),
        reason=Message(id=reason["id"], values=reason["values"]),
        facts=tuple(json.loads(row["facts"])),
        since=from_us(row["since"]),
        last_non_compliant=from_us(last) if last is not None else None,
        waiver=row["waiver"],
    )


def standing(core: Core) -> tuple[Finding, ...]:
    """Return the findings that stand."""
    statement = select(findings).order_by(findings.c.control, findings.c.subject)
    with core.read() as connection:
        return tuple(finding_from_row(row) for row in connection.execute(statement).mappings())


def record(core: Core, changes: Sequence[FindingChange]) -> tuple[Fact, ...]:
    """Append one `finding.changed` per change and update the findings, together.

    What stands in the store is what a change is compared with: when two judges saw the same change
    at the same time, the second one records nothing.
    """
    recorded: list[Fact] = []
    with core.write() as connection:
        lock_head(connection)
        for change in changes:
            recorded.extend(_record_one(core, connection, change.after))
    return tuple(recorded)


def _record_one(core: Core, connection: Connection, after: Finding) -> tuple[Fact, ...]:
    row = (
        connection.execute(
            select(findings).where(
                findings.c.control == after.control, findings.c.subject == after.subject
            )
        )
        .mappings()
        .first()
    )
    before = finding_from_row(row) if row is not None else None
    after = _with_history(before, after)
    if before == after:
        return ()
    fact = Observation(
        kind="finding.changed",
        subject=after.subject,
        observed_at=core.now(),
        key=f"finding/{after.control}/{after.subject}/{row['change_seq'] if row else 0}",
        data={
            "control": after.control,
            "before": before.status.value if before else None,
            "after": after.status.value,
            "cause": after.cause.value if after.cause else None,
            "severity": after.severity.value,
            "reason": {"id": after.reason.id, "values": dict(after.reason.values)},
            "facts": list(after.facts),
        },
    )
    check([fact])
    recorded = core.append_in(connection, [fact], run=None, author=None)
    seq = recorded[0].seq
    values = _row(after, seq)
    keys = ("control", "subject")
    upsert(connection, findings, [values], keys=keys, update=[n for n in values if n not in keys])
    return recorded


def _with_history(before: Finding | None, after: Finding) -> Finding:
    """Keep `since` while the status stays, and when the finding was last non-compliant."""
    if before is not None and before.status is after.status:
        after = replace(after, since=min(before.since, after.since))
    last = after.last_non_compliant
    if last is None and before is not None:
        last = before.last_non_compliant
        if before.status is Status.NON_COMPLIANT and after.status is not Status.NON_COMPLIANT:
            last = after.since
    if last is None and after.status is Status.NON_COMPLIANT:
        last = after.since
    return replace(after, last_non_compliant=last)


def _row(finding: Finding, seq: int) -> dict[str, Any]:
    last = finding.last_non_compliant
    reason = {"id": finding.reason.id, "values": dict(finding.reason.values)}
    return {
        "control": finding.control,
        "subject": finding.subject,
        "status": finding.status.value,
        "cause": finding.cause.value if finding.cause else None,
        "severity": finding.severity.value,
        "reason": canonical(reason).decode("utf-8"),
        "facts": canonical(list(finding.facts)).decode("utf-8"),
        "since": to_us(finding.since),
        "last_non_compliant": to_us(last) if last else None,
        "waiver": finding.waiver,
        "change_seq": seq,
    }
