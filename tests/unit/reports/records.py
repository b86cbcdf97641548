"""A month of records for the report's tests, made of payloads that the store would accept."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.assess.declared_estate import Estate, as_data
from backupguard.evidence.kinds import KINDS, check_payload
from backupguard.model import Fact, Observation, Origin, to_us
from backupguard.settings.model import Settings, settings_type

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def at(day: float) -> datetime:
    """Return a moment of November 2026: day 1.0 is its first midnight (UTC)."""
    return NOVEMBER + timedelta(days=day - 1)


class Records:
    """The part of `contracts.Store` that a report reads, over facts in memory."""

    store_id = "store-of-tests"

    def __init__(self) -> None:
        self._facts: list[Fact] = []

    def add(
        self,
        kind: str,
        subject: str,
        data: Mapping[str, Any],
        when: datetime,
        *,
        author: str | None = None,
        origin: Origin = Origin.OBSERVED,
    ) -> int:
        check_payload(kind, KINDS[kind].version, data)
        seq = len(self._facts) + 1
        observation = Observation(
            kind=kind, subject=subject, observed_at=when, data=data, key=f"k{seq}", origin=origin
        )
        digest = hashlib.sha256(str(seq).encode()).digest()
        self._facts.append(
            Fact(
                seq=seq,
                recorded_at=when,
                run=f"RUN{seq}",
                author=author,
                hash=digest,
                observation=observation,
            )
        )
        return seq

    def head(self) -> tuple[int, bytes]:
        return (self._facts[-1].seq, self._facts[-1].hash) if self._facts else (0, b"\0" * 32)

    def sealed(self) -> tuple[int, datetime] | None:
        return (self._facts[-1].seq, self._facts[-1].recorded_at) if self._facts else None

    def fact(self, seq: int) -> Fact | None:
        return self._facts[seq - 1] if 0 < seq <= len(self._facts) else None

    def facts(
        self, *, after: int = 0, kinds: Collection[str] = (), subject: str | None = None
    ) -> Iterator[Fact]:
        for fact in self._facts[after:]:
            if kinds and fact.observation.kind not in kinds:
                continue
            if subject is None or fact.observation.subject == subject:
                yield fact

    def latest(
        self, subjects: Collection[str] | None = None, kinds: Collection[str] = ()
    ) -> Mapping[str, Mapping[str, Fact]]:
        result: dict[str, dict[str, Fact]] = {}
        for fact in self.facts(kinds=kinds):
            result.setdefault(fact.observation.subject, {})[fact.observation.kind] = fact
        return result

    # -- what happened, in short

    def restored(
        self,
        application: str,
        when: datetime,
        *,
        repository: str | None = "nas",
        verdict: str = "passed",
        code: str | None = None,
        level: int = 3,
        loss: timedelta | None = timedelta(minutes=7),
        origin: Origin = Origin.OBSERVED,
        checks: list[dict[str, Any]] | None = None,
    ) -> int:
        phases = [("select", 40), ("fetch", 2300), ("prepare", 900), ("load", 61_000)]
        phases += [("open", 120), ("verify", 4200), ("discard", 310)]
        default = [
            check("admissions récentes", times={"newest": to_us(when - timedelta(hours=5))}),
            check("pg_amcheck", level=2, configured=False, numbers={"relations": 48}),
        ]
        data = {
            "application": application,
            "engine": "postgresql",
            "repository": repository,
            "point": "3f9a1c22",
            "point_at": to_us(when - timedelta(hours=4)),
            "target_at": None,
            "verdict": verdict,
            "code": code,
            "level": level,
            "phases": [
                {"phase": name, "verdict": "passed", "duration_ms": ms, "code": None}
                for name, ms in phases
            ],
            "checks": default if checks is None else checks,
            "checks_configured": 1 if level >= 3 else 0,
            "baseline_accepted": level >= 3,
            "data_loss_ms": None if loss is None else loss // timedelta(milliseconds=1),
            "freshness_heuristic_at": to_us(when - timedelta(hours=4, minutes=3)),
            "bytes": 1_430_000_000,
            "duration_ms": sum(ms for _, ms in phases),
            "fingerprint": None,
            "tools": {"restic": "0.14.0", "postgresql": "15.14"},
        }
        return self.add(
            "restore-test.result", f"application/{application}", data, when, origin=origin
        )

    def listed(
        self,
        job: str,
        repository: str,
        when: datetime,
        *points: datetime,
        size: int = 1_000_000,
        gone: tuple[datetime, ...] = (),
        state: str = "complete",
    ) -> int:
        """Record that these points of a job appeared in a repository, and that others are gone."""
        appeared = [
            {
                "job": job,
                "native_id": f"{job}-{at_:%Y%m%d%H%M}",
                "at": to_us(at_),
                "covers_until": to_us(at_),
                "kind": "snapshot",
                "needs": [],
                "state": state,
                "started_at": None,
                "ended_at": None,
                "bytes": size,
                "bytes_added": None,
                "files": None,
                "content_id": None,
                "source_host": None,
                "encrypted": None,
                "extra": None,
            }
            for at_ in points
        ]
        vanished = [
            {"job": job, "native_id": f"{job}-{at_:%Y%m%d%H%M}", "at": to_us(at_)} for at_ in gone
        ]
        data = {
            "part": 1,
            "parts": 1,
            "standing": len(points),
            "appeared": appeared,
            "changed": [],
            "vanished": vanished,
        }
        return self.add("inventory.listed", f"repository/{repository}", data, when)

    def closed(
        self, task: str, subject: str, when: datetime, verdict: str, code: str | None
    ) -> int:
        data = {
            "task": task,
            "verdict": verdict,
            "code": code,
            "state": "finished",
            "started_at": None,
            "ended_at": to_us(when),
            "attempt": 1,
            "due_at": None,
            "requested_by": "daemon",
            "tools": {},
        }
        return self.add(f"{task}.closed", subject, data, when)

    def judged(self, control: str, subject: str, after: str, when: datetime, **values: Any) -> int:
        data = {
            "control": control,
            "before": values.get("before"),
            "after": after,
            "cause": values.get("cause"),
            "severity": values.get("severity", "critical"),
            "reason": {"id": values.get("reason", "test.reason"), "values": {}},
            "facts": [],
        }
        return self.add("finding.changed", subject, data, when)

    def loaded(
        self,
        when: datetime,
        *differences: dict[str, Any],
        author: str = "uid:1000",
        declared: Estate | None = None,
        version: str = "0.1.0",
        catalogue: str = "cd" * 32,
    ) -> int:
        data = {
            "sha256": "ab" * 32,
            "catalogue_sha256": catalogue,
            "program_version": version,
            "files": ["/etc/backupguard/backupguard.toml"],
            "differences": list(differences),
        }
        if declared is not None:
            data["estate"] = as_data(declared)
        return self.add("configuration.loaded", "site", data, when, author=author)


def check(name: str, **values: Any) -> dict[str, Any]:
    """Return a check's payload; passed, level 3 and configured unless told otherwise."""
    return {
        "name": name,
        "level": values.get("level", 3),
        "verdict": values.get("verdict", "passed"),
        "code": values.get("code", "ok"),
        "numbers": values.get("numbers", {}),
        "times": values.get("times", {}),
        "configured": values.get("configured", True),
    }


def settings(**applications: str) -> Settings:
    """Return settings with these applications (id = criticality) and two repositories."""
    names = {"dpi": "Dossier patient informatisé", "labo": "Laboratoire"}
    from backupguard.contracts import RepositorySettings

    cls = settings_type({"restic": RepositorySettings}, {}, {})
    return cls.model_validate(
        {
            "site": {"name": "CH de Belle-Rive"},
            "repositories": {
                "nas": {"type": "restic", "failure-domain": "campus-nord/baie-2"},
                "coffre": {"type": "restic", "failure-domain": "campus-sud"},
            },
            "applications": {
                identifier: {
                    "name": names.get(identifier, identifier.capitalize()),
                    "criticality": criticality,
                    "rpo": "24h",
                    "rto": "4h",
                    "declared-by": "direction des soins",
                    "declared-on": "2026-03-02",
                    "bia-reference": "BIA-2026-04",
                }
                for identifier, criticality in applications.items()
            },
        }
    )


def full_month() -> Records:
    """Return a month in which everything a report can say has happened."""
    records = Records()
    records.add(
        "evidence.key-created",
        "site",
        {"key_id": "k1", "fingerprint": "SHA256:9Yw3q2p1c0lF7V5bJxT8sE4nA6dUuRkZmHhGgWeQiKo"},
        at(-40),
    )
    records.loaded(at(-40))
    records.restored("archives", at(-30), level=2)
    for day in range(1, 31):
        if 12 <= day <= 15:
            continue
        for repository in ("nas", "coffre"):
            records.add(
                "inventory.confirmed",
                f"repository/{repository}",
                {"count": 180 + day, "digest": "ef" * 32},
                at(day + 0.1),
            )
    records._facts.sort(key=lambda fact: fact.recorded_at)
    return _renumbered(records, _events)


def _events(records: Records) -> None:
    for repository in ("nas", "coffre"):
        subject = f"repository/{repository}"
        records.add(
            "repository.inspected",
            subject,
            {
                "reachable": True,
                "code": None,
                "type": "restic",
                "tool": "restic",
                "tool_version": "0.14.0",
                "repository_id": "aa",
                "format_version": "2",
                "encrypted": True,
                "locks": [],
                "device": None,
            },
            at(30.2),
        )
        records.add(
            "repository.verified",
            subject,
            {
                "units": [],
                "units_total": 10,
                "verdict": "passed" if repository == "nas" else "failed",
                "code": None if repository == "nas" else "corrupt",
                "complete_at": to_us(at(3)) if repository == "nas" else None,
            },
            at(30.2),
        )
    records.restored("dpi", at(30.25))
    records.restored("dpi", at(30.3), repository="coffre", loss=timedelta(hours=26))
    records.restored(
        "labo",
        at(30.4),
        verdict="failed",
        code="rows_lost",
        level=2,
        checks=[
            check(
                "baseline",
                verdict="failed",
                code="rows_lost",
                configured=False,
                numbers={"before": 120_000, "after": 1_200, "tables": 1},
            )
        ],
    )
    records.closed("restore-test", "application/pharma", at(30.5), "could_not_verify", "no_disk")
    records.judged("RST-02", "application/labo", "non_compliant", at(30.41))
    records.judged("RST-01", "application/dpi", "compliant", at(30.41), severity="info")
    records.judged("RST-01", "application/pharma", "warning", at(30.41), severity="high")
    records.judged(
        "IMM-01",
        "repository/nas",
        "not_measurable",
        at(30.41),
        cause="never_set_up",
        severity="info",
    )
    records.loaded(
        at(30.6),
        {
            "path": "applications.dpi.rpo",
            "change": "changed",
            "before": "12h",
            "after": "24h",
            "weakened": True,
        },
        {"path": "applications.archives", "change": "removed", "before": "C2", "weakened": True},
        {"path": "applications.labo", "change": "added", "after": "C2", "weakened": False},
    )
    records.add(
        "baseline.accepted",
        "application/dpi",
        {
            "fingerprint": {"tables": {"public.stays": 2}, "objects": {}, "columns": {}},
            "from_seq": 1,
            "reason": "mise en service",
        },
        at(30.7),
        author="uid:1000",
    )


def _renumbered(records: Records, then: Any) -> Records:
    again = Records()
    for fact in records._facts:
        seen = fact.observation
        again.add(
            seen.kind,
            seen.subject,
            seen.data,
            fact.recorded_at,
            author=fact.author,
            origin=seen.origin,
        )
    then(again)
    return again
