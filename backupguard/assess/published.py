"""`status.json`: what stands, for whoever cannot or need not open the store."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from backupguard.assess.picture import Assessment
from backupguard.model import Criticality, Finding, Json, to_us
from backupguard.settings import Settings

NAME = "status.json"
FORMAT = 1
#: Two assessments of everything must have been missed before a status is called stale.
STALE_AFTER = timedelta(minutes=10)


def place(settings: Settings) -> Path:
    """Return where `status.json` belongs: the runtime directory if it exists, else the state."""
    runtime = settings.runtime_directory
    return (runtime if runtime.is_dir() else settings.state_directory) / NAME


def finding_json(finding: Finding, criticality: Criticality) -> dict[str, Json]:
    """Return a finding as JSON values; times are microseconds since 1970."""
    last = finding.last_non_compliant
    return {
        "control": finding.control,
        "subject": finding.subject,
        "criticality": criticality.value,
        "status": finding.status.value,
        "cause": finding.cause.value if finding.cause else None,
        "severity": finding.severity.value,
        "reason": {"id": finding.reason.id, "values": dict(finding.reason.values)},
        "facts": list(finding.facts),
        "since": to_us(finding.since),
        "last_non_compliant": to_us(last) if last is not None else None,
        "waiver": finding.waiver,
    }


def status_json(assessment: Assessment, settings: Settings) -> dict[str, Json]:
    """Return an assessment as `status.json` holds it."""
    return {
        "format": FORMAT,
        "site": assessment.site,
        "language": assessment.language,
        "timezone": assessment.timezone,
        "settings_sha256": settings.sha256,
        "judged_at": to_us(assessment.judged_at),
        "stale_after": to_us(assessment.judged_at + STALE_AFTER),
        "head_seq": assessment.head_seq,
        "titles": {control: dict(titles) for control, titles in assessment.titles.items()},
        "names": dict(assessment.names),
        "copies": {
            name: sorted({job.repository for job in application.backups.values()})
            for name, application in settings.applications.items()
        },
        "findings": [
            finding_json(finding, assessment.criticalities[finding.subject])
            for finding in assessment.findings
        ],
        "due": [asdict(one) for one in assessment.due],
        "attestations": [asdict(one) for one in assessment.attestations],
        "waivers": [asdict(one) for one in assessment.waivers],
        "overrides": [asdict(one) for one in assessment.overrides],
        "aligned": {
            "name": dict(assessment.catalogue_name),
            "controls": {name: list(rows) for name, rows in assessment.references.items()},
        },
    }


def publish(assessment: Assessment, settings: Settings) -> Path:
    """Write `status.json` by rename, readable by owner and group; raises OSError."""
    path = place(settings)
    document = json.dumps(
        status_json(assessment, settings), ensure_ascii=False, separators=(",", ":")
    )
    temporary = path.with_name(f".{NAME}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(document)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path
