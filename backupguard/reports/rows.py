"""Turns records into the rows of a report; knows the payloads, and no language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from backupguard.model import (
    REPLAYED,
    CheckResult,
    Fact,
    Message,
    Origin,
    Phase,
    PhaseResult,
    Severity,
    Status,
    Verdict,
    from_us,
)
from backupguard.reports.model import (
    EventRow,
    FindingRow,
    Standing,
    TestRow,
    UndecidedRow,
)
from backupguard.reports.tested import CONCLUSIVE, payload

#: Codes that mean: nothing on this host can restore this artifact.
WITHOUT_ENGINE = ("unrecognised_artifact",)


def _when(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def test_row(fact: Fact, names: Mapping[str, str]) -> TestRow:
    """Given a `restore-test.result` record and the applications' names, return its row."""
    seen = fact.observation
    data: Mapping[str, Any] = seen.data
    phases = tuple(
        PhaseResult(
            phase=Phase(p["phase"]),
            verdict=Verdict(p["verdict"]),
            duration_ms=p["duration_ms"],
            code=p["code"],
        )
        for p in data["phases"]
    )
    checks = tuple(
        CheckResult(
            name=c["name"],
            level=c["level"],
            verdict=Verdict(c["verdict"]),
            code=c["code"],
            numbers=c["numbers"],
            times={name: from_us(at) for name, at in c["times"].items()},
            configured=c["configured"],
        )
        # The site's own first: they are what the level rests on.
        for c in sorted(data["checks"], key=lambda check: not check["configured"])
    )
    return TestRow(
        seq=fact.seq,
        replayed=fact.author == REPLAYED,
        hash=fact.hash.hex(),
        at=seen.observed_at,
        application=data["application"],
        name=names.get(data["application"], data["application"]),
        repository=data["repository"],
        point=data["point"],
        point_at=_when(data["point_at"]),
        engine=data["engine"],
        origin=seen.origin,
        verdict=Verdict(data["verdict"]),
        code=data["code"],
        level=data["level"],
        percent=(data.get("partial") or {}).get("percent", 100),
        duration_ms=data["duration_ms"],
        data_loss_ms=data["data_loss_ms"],
        freshness_heuristic=_when(data["freshness_heuristic_at"]),
        bytes=data["bytes"],
        checks_configured=data["checks_configured"],
        baseline_accepted=data["baseline_accepted"],
        phases=phases,
        checks=checks,
        tools=data["tools"],
    )


def standing_of(
    copies: Iterable[TestRow], last: TestRow | None, as_of: datetime, period: timedelta
) -> Standing:
    """Return where an application stands, from the last conclusive test of each copy, newest first.

    A copy whose last conclusive test failed makes the application failed even if another copy was
    restored since: somebody relies on both. What could not be verified decides nothing, so the test
    before it counts until its period is over.
    """
    newest_first = tuple(copies)
    if any(test.verdict is Verdict.FAILED for test in newest_first):
        return Standing.FAILED
    if last is not None and last.code in WITHOUT_ENGINE and not newest_first:
        return Standing.NO_ENGINE
    valid = [test for test in newest_first if test.at + period >= as_of]
    if not valid:
        return Standing.DUE
    observed = [test for test in valid if test.origin is Origin.OBSERVED]
    if not observed:
        return Standing.DECLARED
    level = max(test.level for test in observed)
    standing = Standing.CONTROLLED if level >= 3 else Standing.OPENED
    return standing if level >= 2 else Standing.BYTES_ONLY


def learn_finding(standing: dict[tuple[str, str], FindingRow], fact: Fact) -> None:
    """Take a `finding.changed` into account: the judgement that stands per control and subject.

    Facts come in order. `since` is the time since which it has had its status; one whose body was
    pruned says nothing.
    """
    data = payload(fact)
    if not data:
        return
    key = (data["control"], fact.observation.subject)
    before = standing.get(key)
    status = Status(data["after"])
    unchanged = before is not None and before.status is status
    standing[key] = FindingRow(
        seq=fact.seq,
        control=data["control"],
        title=data["control"],
        subject=fact.observation.subject,
        criticality=None,
        status=status,
        cause=data["cause"],
        severity=Severity(data["severity"]),
        reason=Message(id=data["reason"]["id"], values=data["reason"]["values"]),
        since=before.since if unchanged and before else fact.observation.observed_at,
    )


def undecided_rows(facts: Iterable[Fact]) -> list[UndecidedRow]:
    """Return the runs that ended without a verdict on the backup, oldest first.

    One whose body was pruned says nothing.
    """
    return [
        UndecidedRow(
            run=fact.run or "",
            at=fact.recorded_at,
            task=data["task"],
            subject=fact.observation.subject,
            verdict=Verdict(data["verdict"]),
            code=data["code"],
        )
        for fact in facts
        if (data := payload(fact)) and data["verdict"] not in CONCLUSIVE
    ]


def _event_values(kind: str, data: Mapping[str, Any]) -> Mapping[str, int | str] | None:
    """Return what an event's sentence needs, or None for an event that is no news."""
    match kind:
        case "daemon.started":
            calm = data["clean"] and not data["recovered"]
            return None if calm else {"host": data["host"], "count": len(data["recovered"])}
        case "clock.stepped":
            return {"seconds": data["step_ms"] // 1000}
        case "configuration.rejected":
            return {"count": data["problems"], "key": data["first_key"]}
        case "pause.started" | "pause.ended" | "baseline.reset" | "baseline.accepted":
            return {"reason": data["reason"]}
        case "store.replaced":
            return {"file": data["old_file"]}
        case "evidence.pruned":
            return {"first": data["first_seq"], "last": data["last_seq"], "reason": data["reason"]}
        case "evidence.key-rotated":
            named = ("previous_fingerprint", "fingerprint", "reason")
            return {name: data[name] for name in named}
        case "report.acknowledged":
            who = data["signer"] or data["person"] or "—"
            signed = "signature" if data["issuer_checked"] else "unchecked"
            worth = signed if data["method"] == "signature" else "scan"
            said = {"month": data["month"], "who": who, "file": data["file"]}
            return {**said, "worth": f"@report.acknowledged.{worth}"}
        case "evidence.anchored":
            return {"place": data["place"], "seq": data["seq"]}
    return None


def event_rows(facts: Iterable[Fact]) -> list[EventRow]:
    """Return what happened to BackupGuard itself, oldest first."""
    rows = []
    for fact in facts:
        kind = fact.observation.kind
        values = _event_values(kind, payload(fact)) if payload(fact) else None
        if values is None:
            continue
        message = Message(id=f"report.event.{kind}", values=values)
        rows.append(
            EventRow(
                seq=fact.seq,
                at=fact.recorded_at,
                author=fact.author,
                subject=fact.observation.subject,
                message=message,
            )
        )
    return rows
