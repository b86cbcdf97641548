"""A restore test that BackupGuard did not do: what is told of it, and the fact it becomes.

It comes from another tool's record (`imported`) or from a person (`attested`); both have one shape,
`Declared`. What a person signs is its exact text, one line per part, as for any other statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any, Literal

from typing_extensions import TypedDict

from backupguard.evidence.kinds import Signature
from backupguard.evidence.statements import one_line
from backupguard.model import Json, Observation, Origin, Subject, application_subject, from_us

ATTESTED = "attested"
_FIRST = "backupguard restore test 1"
_LONGEST = 500
_MOST = 200


class DeclaredCheck(TypedDict):
    """What a record shows of one database or machine."""

    name: str
    level: int
    verdict: Literal["passed", "failed", "could_not_verify"]
    code: str
    numbers: dict[str, int]
    at: int


class Declared(TypedDict):
    """A restore test as it is handed in. Times are microseconds; `sha256` is that of the record."""

    application: str
    repository: str
    format: str  # "dbatools", …; "attested": filled in by a person
    engine: str
    sha256: str
    tested_at: int
    duration_ms: int | None
    verdict: Literal["passed", "failed", "could_not_verify"]
    level: int
    point: str | None
    point_at: int | None
    checks: list[DeclaredCheck]
    who: str | None
    checked: list[str]
    order: list[str]


@cache
def _adapter() -> Any:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(extra="forbid", strict=True))(Declared))


def declared(body: Mapping[str, Json]) -> Declared:
    """Return what is handed in as what it must be; raises ValueError for anything else."""
    test: Declared = _adapter().validate_python(dict(body))
    texts = [*test["checked"], *test["order"], *(check["name"] for check in test["checks"])]
    texts += [text for text in (test["who"], test["point"]) if text is not None]
    if any(not one_line(text) or len(text) > _LONGEST for text in texts):
        raise ValueError("not one line")
    if max(len(test["checks"]), len(test["checked"]), len(test["order"])) > _MOST:
        raise ValueError("too many")
    if not 0 <= test["level"] <= 4 or not all(0 <= one["level"] <= 4 for one in test["checks"]):
        raise ValueError("no level")
    return test


def origin_of(test: Declared) -> Origin:
    """Return whose word it is: a tool's record's, or a person's."""
    return Origin.ATTESTED if test["format"] == ATTESTED else Origin.IMPORTED


def canonical_text(site: str, person: str, test: Declared) -> str:
    """Return the text that `person` signs at `site`; it ends in a line break.

    Raise ValueError when a part is not one line.
    """

    def told(moment: int | None) -> str:
        return "-" if moment is None else from_us(moment).isoformat()

    lines = [
        _FIRST,
        f"site: {site}",
        f"person: {person}",
        f"subject: {application_subject(test['application'])}",
        f"repository: {test['repository']}",
        f"format: {test['format']}",
        f"record: {test['sha256']}",
        f"point: {test['point'] or '-'} {told(test['point_at'])}",
        f"tested: {told(test['tested_at'])}",
        f"verdict: {test['verdict']}",
        f"level: {test['level']}",
        f"who: {test['who'] or '-'}",
        *(f"checked: {text}" for text in test["checked"]),
        *(f"order: {text}" for text in test["order"]),
    ]
    wrong = next((line for line in lines if not one_line(line)), None)
    if wrong is not None:
        raise ValueError(f"not one line: {wrong!r}")
    return "\n".join(lines) + "\n"


_CODES = {"failed": "declared_failed", "could_not_verify": "declared_skipped"}


def observation(test: Declared, person: str | None, signature: Signature | None) -> Observation:
    """Return the fact `restore-test.result`; the same test told again has the same key.

    It is observed when it was done, not when it was handed in.
    """
    subject: Subject = application_subject(test["application"])
    origin = origin_of(test)
    told = json.dumps([test, person, signature is not None], sort_keys=True).encode()
    return Observation(
        kind="restore-test.result",
        subject=subject,
        origin=origin,
        observed_at=_moment(test["tested_at"]),
        data={
            "application": test["application"],
            "engine": test["engine"],
            "repository": test["repository"],
            "point": test["point"],
            "point_at": test["point_at"],
            "target_at": None,
            "verdict": test["verdict"],
            "code": _CODES.get(test["verdict"]),
            "level": test["level"],
            "phases": [],
            "checks": [
                {
                    "name": check["name"],
                    "level": check["level"],
                    "verdict": check["verdict"],
                    "code": check["code"],
                    "numbers": check["numbers"],
                    "times": {"tested": check["at"]},
                    "configured": False,
                }
                for check in test["checks"]
            ],
            "checks_configured": 0,
            "baseline_accepted": False,
            "data_loss_ms": None,
            "freshness_heuristic_at": None,
            "bytes": 0,
            "duration_ms": test["duration_ms"] or 0,
            "fingerprint": None,
            "tools": {},
            "declared": {
                "format": test["format"],
                "sha256": test["sha256"],
                "who": test["who"],
                "checked": test["checked"],
                "order": test["order"],
                "person": person,
                "signature": signature,
            },
        },
        key=f"restore-test.result/{subject}/{origin.value}/{sha256(told).hexdigest()}",
    )


def _moment(microseconds: int) -> datetime:
    return from_us(microseconds)
