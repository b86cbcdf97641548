"""Writes the recovery plan to a directory off this host and says what was written."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.contracts import Store
from backupguard.errors import AccessRefused, MissingMeans, Unreachable
from backupguard.language import LANGUAGES, Words
from backupguard.model import SITE, Observation
from backupguard.reports.issue import replace_file
from backupguard.reports.plan import RecoveryPlan, recovery_plan
from backupguard.reports.runbook import runbook

if TYPE_CHECKING:
    from backupguard.settings import Settings


def file_name(language: str) -> str:
    """Return the name of the plan's file: "backupguard-plan-fr.md". The newest replaces the last."""
    return f"backupguard-plan-{language}.md"


def write_plan(plan: RecoveryPlan, directory: Path) -> dict[Path, bytes]:
    """Write the plan in every language, and return what each file holds.

    A file appears whole or not at all. The directory is never made: where a share is not mounted, the
    plan must not land on this host's own disk. Raises Unreachable (not_found) without it,
    AccessRefused (permission), MissingMeans (no_disk).
    """
    if not directory.is_dir():
        raise Unreachable("not_found", path=str(directory))
    written = {}
    for language in LANGUAGES:
        content = runbook(plan, Words(language, plan.timezone)).encode()
        path = directory / file_name(language)
        try:
            replace_file(path, content)
        except PermissionError as error:
            raise AccessRefused("permission", path=str(path)) from error
        except OSError as error:
            raise MissingMeans("no_disk", path=str(path)) from error
        written[path] = content
    return written


def issue_plan(
    store: Store, settings: Settings, directory: Path, now: datetime
) -> list[Observation]:
    """Write the plan and return the `plan.issued` observations for the run's record.

    `same_device` says that it lies on the disk that also holds the state: it would be lost with it.
    """
    written = write_plan(recovery_plan(store, settings, now), directory)
    same = directory.stat().st_dev == settings.state_directory.stat().st_dev
    return [
        Observation(
            kind="plan.issued",
            subject=SITE,
            observed_at=now,
            key=f"plan/{path.name}/{int(now.timestamp() * 1000)}",
            data={
                "file": str(path),
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "same_device": same,
                "configured": directory == settings.plan.directory,
            },
        )
        for path, content in written.items()
    ]
