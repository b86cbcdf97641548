"""One fact for every event: what the sample file is written from, and what the tests derive from.

The hospital is the invented one of the demo. Facts come in an order in which they could have come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.model import SITE, Fact, Observation, Subject
from backupguard.notify.catalogue import Event
from backupguard.notify.derive import derive

#: The id of the store that the samples come from.
STORE = "01M80000000000000000000000"
SITE_NAME = "CH de Belle-Rive"
HOST = "srv-backupguard"

_BEGAN = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
_UNTIL = 1780300800000000
_SHA = "ab" * 32
_DPI, _NAS, _CLOUD = "application/dpi", "repository/nas", "repository/cloud"


def _finding(control: str, before: str | None, after: str, reason: str, **values: Any) -> Any:
    severity = "critical" if after == "non_compliant" else "warning"
    return {
        "control": control,
        "before": before,
        "after": after,
        "cause": None,
        "severity": severity,
        "reason": {"id": reason, "values": values},
        "facts": [12],
    }


def _restored(verdict: str, code: str | None) -> Any:
    return {
        "application": "dpi",
        "engine": "postgresql",
        "repository": "nas",
        "point": "4bba301e",
        "point_at": 1772701200000000,
        "target_at": None,
        "verdict": verdict,
        "code": code,
        "level": 3 if verdict == "passed" else 0,
        "phases": [],
        "checks": [],
        "checks_configured": 0,
        "baseline_accepted": True,
        "data_loss_ms": None,
        "freshness_heuristic_at": None,
        "bytes": 1403000000,
        "duration_ms": 31000,
        "fingerprint": None,
        "tools": {"postgresql": "15.14"},
    }


def _self_test(noticed: bool) -> Any:
    return {
        "application": "dpi",
        "repository": "nas",
        "point": "4bba301e",
        "engine": "postgresql",
        "harm": "truncated",
        "verdict": "failed" if noticed else "passed",
        "code": "truncated" if noticed else None,
        "noticed": noticed,
    }


def _inspected(reachable: bool, code: str | None) -> Any:
    return {
        "reachable": reachable,
        "code": code,
        "type": "restic",
        "tool": "restic",
        "tool_version": "0.18.0",
        "repository_id": "f00d",
        "format_version": "2",
        "encrypted": True,
        "locks": [],
        "device": "8:1",
    }


def _tried(verdict: str, before: str | None, worked: list[str], refused: list[str]) -> Any:
    return {
        "attacker": "backup_writer",
        "verdict": verdict,
        "code": "timeout" if verdict == "could_not_verify" else None,
        "worked": worked,
        "refused": refused,
        "untried": [],
        "credentials": "writer",
        "reaches_data": True,
        "before": before,
        "canaries": [],
        "attempts": [61],
    }


def _change(item: str, weakening: str | None, before: Any = None, after: Any = None) -> Any:
    path = f"borgmatic|/etc/borgmatic/config.yaml|{item}"
    return {"path": path, "before": before, "after": after, "weakening": weakening}


def _medium(attached: bool, mismatch: str | None = None) -> Any:
    return {
        "medium": "usb-3",
        "attached": attached,
        "attached_since_at": 1772697600000000 if attached else None,
        "device": "sdb1" if attached else None,
        "mounted": attached,
        "identity": "filesystem-uuid",
        "mismatch": mismatch,
        "slot": None,
        "code": None,
    }


def _loaded(weakened: bool) -> Any:
    difference = {
        "path": "applications.dpi.rpo",
        "change": "changed",
        "before": "24h",
        "after": "48h" if weakened else "12h",
        "weakened": weakened,
    }
    return {
        "sha256": _SHA,
        "catalogue_sha256": _SHA,
        "program_version": "0.1.0",
        "files": ["/etc/backupguard/backupguard.toml"],
        "differences": [difference],
    }


def _started(clean: bool) -> Any:
    run = [] if clean else ["01M80000000000000000000001"]
    return {"program_version": "0.1.0", "host": HOST, "recovered": run, "clean": clean}


_PORT = {
    "target": "coffre",
    "name": "nas-coffre.example",
    "address": "192.0.2.12",
    "family": "ipv4",
    "port": 445,
    "outcome": "open",
    "announced": False,
}
_ISOLATION = {
    "vantage": "bureautique",
    "zone": "bureautique",
    "witness": True,
    "families": ["ipv4"],
    "began_at": 1772701195000000,
    "ended_at": 1772701199000000,
    "rows": [_PORT],
    "code": None,
}
_ATTEMPT = {
    "attacker": "backup_writer",
    "name": "delete-version",
    "target": "site/backupguard-canary-0123456789abcdef-plain",
    "destructive": True,
    "outcome": "refused",
    "code": "AccessDenied",
    "request_id": "18EA64D80A7039D65005D87F",
}
_UNKNOWN = {
    "device": "sdc1",
    "identity": "filesystem-uuid",
    "value": "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c644",
    "tool": "restic",
}
_WEAKENED = [
    _change("retention.keep_daily", "retention_shortened", 14, 7),
    _change("protection.append_only", "append_only_dropped", True, False),
    _change("admin.stagiaire", "admin_added", None, "admin"),
    _change("job.exclusion|*.bak", "exclusion_added", None, True),
]
_LOSS = {
    "lost": 29,
    "before": 31,
    "percent": 93,
    "seen_at": 1772701200000000,
    "repository": "nas",
    "job": "dpi.nightly",
}
_STATED: dict[str, Any] = {
    "person": "claire",
    "signature": None,
    "values": {},
    "text": "",
    "topic": "escrow",
}
_JOINED = {"domains": ["ch-belle-rive.local"], "seen_by": ["krb5"], "unread": []}

#: Kind, subject and payload of every sample fact.
FACTS: tuple[tuple[str, Subject, Any], ...] = (
    ("evidence.key-created", SITE, {"key_id": "k1", "fingerprint": "SHA256:9Tn2l1Qm0bXv6o4uQ0x"}),
    ("daemon.started", SITE, _started(clean=True)),
    ("configuration.loaded", SITE, _loaded(weakened=False)),
    ("configuration.loaded", SITE, _loaded(weakened=True)),
    (
        "configuration.rejected",
        SITE,
        {"problems": 2, "first_file": "/etc/backupguard/backupguard.toml"}
        | {"first_line": 12, "first_key": "applications.dpi.rpo"},
    ),
    ("repository.inspected", _NAS, _inspected(True, None)),
    ("repository.inspected", _NAS, _inspected(False, "timeout")),
    ("repository.inspected", _NAS, _inspected(True, None)),
    ("restore-test.result", _DPI, _restored("passed", None)),
    ("restore-test.result", _DPI, _restored("failed", "truncated")),
    ("restore-test.result", _DPI, _restored("could_not_verify", "no_disk")),
    ("self-test.result", SITE, _self_test(True)),
    ("self-test.result", SITE, _self_test(False)),
    (
        "repository.verified",
        _NAS,
        {
            "units": [{"unit": "bucket/017", "verdict": "failed", "bytes": 17, "code": "corrupt"}],
            "units_total": 64,
            "verdict": "failed",
            "code": "corrupt",
            "complete_at": None,
        },
    ),
    ("immutability.attempt", _CLOUD, _ATTEMPT),
    ("immutability.tried", _CLOUD, _tried("passed", None, [], ["delete-version"])),
    ("immutability.tried", _CLOUD, _tried("could_not_verify", "passed", [], [])),
    (
        "immutability.tried",
        _CLOUD,
        _tried("failed", "could_not_verify", ["delete-version"], []),
    ),
    ("policy.changed", SITE, {"changes": _WEAKENED, "from_seq": 25}),
    (
        "policy.changed",
        SITE,
        {"changes": [_change("retention.keep_daily", None, 7, 14)], "from_seq": 26},
    ),
    ("medium.seen", "medium/usb-3", _medium(True)),
    ("medium.seen", "medium/usb-3", _medium(False)),
    ("medium.seen", "medium/usb-3", _medium(False, "serial")),
    ("media.unknown", SITE, {"media": [_UNKNOWN]}),
    (
        "medium.moved",
        "medium/usb-3",
        {
            "medium": "usb-3",
            "direction": "out",
            "holder": "pharmacie",
            "place": "coffre du bâtiment B",
            "seal": "0042",
            "at": 1772701140000000,
            "content": {},
        },
    ),
    ("isolation.seen", "vantage/bureautique", _ISOLATION),
    ("host.joined", f"host/{HOST}", {"host": HOST, "joined": True, **_JOINED}),
    ("finding.changed", _DPI, _finding("RST-01", None, "warning", "reason.RST-01.never_tested")),
    (
        "finding.changed",
        _DPI,
        _finding("RET-01", "compliant", "non_compliant", "reason.RET-01.loss")
        | {"reason": {"id": "reason.RET-01.loss", "values": _LOSS}},
    ),
    (
        "finding.changed",
        SITE,
        _finding("PRV-01", "warning", "non_compliant", "reason.PRV-01.broken", seq=1204),
    ),
    (
        "waiver.asked",
        _DPI,
        {"control": "RST-01", "reason": "", "owner": "DSI", "person": "claire"}
        | {"until_at": _UNTIL, "needs_confirmation": True},
    ),
    ("waiver.confirmed", _DPI, {"waiver": 33, "person": "marc"}),
    (
        "finding.changed",
        _DPI,
        _finding("RST-01", "warning", "waived", "reason.RST-01.never_tested"),
    ),
    ("waiver.ended", _DPI, {"waiver": 33, "reason": ""}),
    (
        "override.asked",
        _DPI,
        {"control": "RST-01", "threshold": "period", "value": 3888000, "given": "45d"}
        | {"reason": "", "person": "claire", "until_at": _UNTIL}
        | {"loosens": True, "needs_confirmation": True},
    ),
    ("override.confirmed", _DPI, {"override": 36, "person": "marc"}),
    ("override.ended", _DPI, {"override": 36, "reason": ""}),
    (
        "finding.changed",
        _DPI,
        _finding("RST-01", "waived", "warning", "reason.RST-01.never_tested"),
    ),
    (
        "finding.changed",
        SITE,
        _finding("PRV-01", "non_compliant", "compliant", "reason.PRV-01.kept"),
    ),
    ("attestation.made", _NAS, {**_STATED, "expires_at": _UNTIL}),
    ("attestation.withdrawn", _NAS, {"attestation": 37, "reason": ""}),
    (
        "baseline.accepted",
        _DPI,
        {"fingerprint": {"tables": {}, "objects": {}, "columns": {}}, "from_seq": 9, "reason": ""},
    ),
    ("baseline.reset", _DPI, {"reason": ""}),
    ("pause.started", SITE, {"until_at": _UNTIL, "reason": ""}),
    ("pause.ended", SITE, {"reason": ""}),
    ("clock.stepped", SITE, {"step_ms": 3600000}),
    ("evidence.anchored", SITE, {"place": "syslog", "seq": 43, "hash": _SHA, "receipt": None}),
    (
        "evidence.pruned",
        SITE,
        {"first_seq": 1, "last_seq": 8, "kinds": ["repository.inspected"], "reason": "age"},
    ),
    (
        "report.issued",
        SITE,
        {"month": "2026-02", "format": "html", "language": "fr"} | {"sha256": _SHA, "bytes": 48000},
    ),
    (
        "report.reminded",
        SITE,
        {"month": "2026-02", "issued_at": 1772690400000000, "time": 1},
    ),
    (
        "report.acknowledged",
        SITE,
        {
            "month": "2026-02",
            "language": "fr",
            "report": 44,
            "report_sha256": _SHA,
            "provisional": False,
            "sha256": _SHA,
            "bytes": 412000,
            "file": "backupguard-2026-02-fr.signed-abababababab.pdf",
            "method": "signature",
            "person": "claire",
            "signer": "CN=Claire Martin,O=CH de Belle-Rive,C=FR",
            "certificate": _SHA,
            "signed_at": 1772697600000000,
            "issuer_checked": True,
            "text": None,
        },
    ),
    ("daemon.stopped", SITE, {"host": HOST, "reason": "SIGTERM"}),
    (
        "store.replaced",
        SITE,
        {
            "old_file": "store.corrupt-20260305T090000Z.sqlite3",
            "old_sha256": _SHA,
            "last_anchored_seq": 43,
            "last_anchored_hash": _SHA,
        },
    ),
    ("daemon.started", SITE, _started(clean=False)),
)


def facts() -> Iterator[tuple[Fact, Fact | None]]:
    """Yield every sample as a recorded fact, with the one of its kind and subject before it."""
    last: dict[tuple[str, Subject], Fact] = {}
    for seq, (kind, subject, data) in enumerate(FACTS, 1):
        at = _BEGAN + timedelta(minutes=seq)
        fact = Fact(
            seq=seq,
            recorded_at=at + timedelta(seconds=1),
            run=None,
            author="uid/1000 (alice)" if kind.startswith(("waiver", "override", "pause")) else None,
            hash=b"",
            observation=Observation(
                kind=kind, subject=subject, observed_at=at, data=data, key=f"sample/{seq}"
            ),
        )
        yield fact, last.get((kind, subject))
        last[kind, subject] = fact


def events() -> tuple[Event, ...]:
    """Return what the sample facts tell: every event of the catalogue at least once."""
    found: list[Event] = []
    for fact, before in facts():
        found.extend(derive(fact, before, STORE))
    return tuple(found)


def names() -> Mapping[Subject, str]:
    """Return what people call the sample subjects."""
    return {_DPI: "Dossier patient informatisé"}
