"""Every event that a SOC may receive: its code, what it means and which fields it has.

A code is stable: it is never given another meaning, and one that goes is not used again. Kind, category
and type are those of the Elastic Common Schema (ECS 8, "Event Categorization Fields"); a sentence for
people stands in the catalogues of `backupguard.language` as `event.CODE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from backupguard.model import Message, Subject


class Level(IntEnum):
    """How bad an event is, by the numbers of syslog (RFC 5424, 6.2.1): less is worse."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """What an event code means. `level` is the worst; of findings it follows their severity.

    `fields` are the names of its values: what its sentence and its documents may hold.
    """

    code: str
    kind: str  # "alert": somebody should look; "event": it happened
    category: str
    type: str
    level: Level
    outcome: str | None  # "success", "failure", "unknown"; None where nothing was tried
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, as it is told. `id` is the same however often it is sent.

    `values` are ids, counts and times, named as in facts (`_at` in microseconds, `_ms`); `said` are
    messages that only the sentence has. `seq` is the number of the fact it was derived from.
    """

    id: str
    code: str
    level: Level
    subject: Subject
    seq: int
    happened_at: datetime
    recorded_at: datetime
    author: str | None
    run: str | None
    values: Mapping[str, int | str]
    said: Mapping[str, Message] = field(default_factory=dict)

    @property
    def type(self) -> EventType:
        """What its code means."""
        return EVENTS[self.code]


def _alert(code: str, category: str, level: Level, outcome: str | None, *fields: str) -> EventType:
    sort, name = category.split("/")
    return EventType(
        code=code,
        kind="alert",
        category=sort,
        type=name,
        level=level,
        outcome=outcome,
        fields=fields,
    )


def _event(
    code: str,
    category: str,
    outcome: str | None,
    *fields: str,
    level: Level = Level.INFO,
) -> EventType:
    sort, name = category.split("/")
    return EventType(
        code=code,
        kind="event",
        category=sort,
        type=name,
        level=level,
        outcome=outcome,
        fields=fields,
    )


_C, _E, _W, _N = Level.CRITICAL, Level.ERROR, Level.WARNING, Level.NOTICE
_FINDING = ("control", "status", "before", "severity", "cause", "reason")
_TEST = ("application", "engine", "repository", "level", "code", "duration_ms")
_CHANGE = ("place", "item", "weakening", "before", "after")
_TRIED = ("repository", "attacker", "worked", "refused", "code", "before")

EVENTS: Mapping[str, EventType] = {
    one.code: one
    for one in (
        # findings
        _alert("finding.opened", "configuration/info", _C, "failure", *_FINDING),
        _alert("finding.changed", "configuration/info", _C, "failure", *_FINDING),
        _event("finding.closed", "configuration/info", "success", *_FINDING, level=_N),
        _event("finding.waived", "configuration/info", None, *_FINDING, level=_N),
        _alert("waiver.lapsed", "configuration/info", _W, None, "control", "status"),
        # restore tests
        _event("restore-test.passed", "host/info", "success", *_TEST),
        _alert("restore-test.failed", "host/info", _C, "failure", *_TEST),
        _alert("restore-test.could-not-verify", "host/info", _W, "unknown", *_TEST),
        _alert(
            "self-test.missed", "host/info", _C, "failure", "application", "engine", "harm", "code"
        ),
        _event("self-test.noticed", "host/info", "success", "application", "engine", "harm"),
        # repositories and their points
        _alert("repository.unreachable", "network/info", _W, "failure", "repository", "code"),
        _event("repository.reachable", "network/info", "success", "repository", level=_N),
        _alert("points.deleted", "file/deletion", _C, None, "repository", "job", "lost", "before"),
        _alert("integrity.failed", "file/change", _C, "failure", "repository", "units", "code"),
        # protections
        _alert("immutability.refuted", "intrusion_detection/allowed", _C, "failure", *_TRIED),
        _event("immutability.proved", "intrusion_detection/denied", "success", *_TRIED),
        _alert("immutability.inconclusive", "intrusion_detection/info", _W, "unknown", *_TRIED),
        _event(
            "immutability.attempted",
            "intrusion_detection/info",
            None,
            *("repository", "attacker", "attempt", "target", "result", "code", "request_id"),
        ),
        _alert("retention.shortened", "configuration/change", _E, None, *_CHANGE),
        _alert("lock.lost", "configuration/change", _C, None, *_CHANGE),
        _alert("administrator.added", "iam/admin", _E, None, *_CHANGE),
        _alert("policy.weakened", "configuration/change", _E, None, *_CHANGE),
        _event("policy.changed", "configuration/change", None, "changes", level=_N),
        # offline media
        _event("medium.attached", "host/change", None, "medium", "device", level=_N),
        _event("medium.detached", "host/change", None, "medium", level=_N),
        _alert("medium.mismatch", "host/change", _E, None, "medium", "mismatch"),
        _alert("medium.unknown", "host/change", _E, None, "device", "identity", "tool"),
        _event("medium.moved", "host/change", None, "medium", "direction", level=_N),
        # isolation
        _alert(
            "isolation.open",
            "network/allowed",
            _E,
            "failure",
            *("vantage", "target", "address", "port", "ports"),
        ),
        _alert("host.joined", "iam/change", _E, None, "host", "domains"),
        # BackupGuard itself
        _event(
            "configuration.changed",
            "configuration/change",
            "success",
            "changes",
            "sha256",
            level=_N,
        ),
        _alert(
            "configuration.weakened",
            "configuration/change",
            _W,
            "success",
            *("changes", "weakened", "item", "sha256"),
        ),
        _alert(
            "configuration.rejected",
            "configuration/info",
            _W,
            "failure",
            "problems",
            "file",
            "item",
        ),
        _event("daemon.started", "process/start", "success", "version", "host", "interrupted"),
        _alert(
            "daemon.recovered", "process/start", _W, "failure", "version", "host", "interrupted"
        ),
        _event("daemon.stopped", "process/end", "success", "host", "reason", level=_N),
        _alert("clock.stepped", "host/change", _W, None, "step_ms"),
        _alert("pause.started", "configuration/change", _W, None, "until_at"),
        _event("pause.ended", "configuration/change", None, level=_N),
        # what people state
        _event("waiver.asked", "configuration/creation", None, "control", "until_at", level=_N),
        _event("waiver.confirmed", "configuration/change", None, "person", level=_N),
        _event("waiver.ended", "configuration/deletion", None, level=_N),
        _event(
            "override.asked",
            "configuration/creation",
            None,
            *("control", "threshold", "given", "loosens", "until_at"),
            level=_N,
        ),
        _event("override.confirmed", "configuration/change", None, "person", level=_N),
        _event("override.ended", "configuration/deletion", None, level=_N),
        _event(
            "attestation.made",
            "configuration/creation",
            None,
            *("topic", "person", "signed", "until_at"),
            level=_N,
        ),
        _event("attestation.withdrawn", "configuration/deletion", None, level=_N),
        _event("baseline.accepted", "configuration/creation", None, level=_N),
        _event("baseline.reset", "configuration/deletion", None, level=_N),
        # evidence
        _alert("evidence.broken", "file/change", _C, "failure", "record"),
        _event("evidence.anchored", "file/creation", "success", "place", "record", "sha256"),
        _event("evidence.pruned", "file/deletion", None, "first", "last", level=_N),
        _event("evidence.key-created", "file/creation", None, "fingerprint", level=_N),
        _alert("store.replaced", "database/change", _C, "failure", "file", "sha256"),
        _event("report.issued", "file/creation", "success", "month", "format", "sha256"),
        _event(
            "report.acknowledged",
            "file/creation",
            "success",
            *("month", "method", "certificate", "sha256"),
            level=_N,
        ),
        _alert("report.reminded", "file/info", _W, None, "month", "issued_at", "time"),
    )
}
