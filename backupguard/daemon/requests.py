"""What a request for a run looks like, task by task: one place for what excludes and bounds what."""

from __future__ import annotations

import os
import pwd
from datetime import datetime

from backupguard.model import Json, Run, RunRequest, Subject

#: Which bound a task counts against.
RESOURCES = {
    "inventory": "probe",
    "integrity": "probe",
    "discovery": "probe",
    "immutability": "probe",
    "offline": "probe",
    "isolation": "probe",
    "drift": "probe",
    "self-test": "restore-test",
    "imports": "probe",
    "restore-test": "restore-test",
    "report": "report",
    "plan": "report",
    "anchor": "anchor",
}

#: `requested_by` of what the agenda asks for by itself.
SCHEDULE = "schedule"
#: `requested_by` of restore tests of a copy whose medium was attached.
MEDIUM = "medium"
#: `requested_by` of restore tests between a clean point and a bad one.
BISECTION = "bisection"
#: What BackupGuard starts by itself.
BY_ITSELF = frozenset({SCHEDULE, MEDIUM, BISECTION})


def request(
    task: str,
    subject: Subject,
    *,
    requested_by: str,
    due_at: datetime | None = None,
    options: Json = None,
    attempt: int = 1,
) -> RunRequest:
    """Return the request for a task on a subject; two of them never run at the same time.

    Raise KeyError when there is no such task.
    """
    return RunRequest(
        task=task,
        subject=subject,
        due_at=due_at,
        exclusive=f"{task}/{subject}",
        resource=RESOURCES[task],
        requested_by=requested_by,
        options=options or {},
        attempt=attempt,
    )


def author(uid: int | None = None) -> str:
    """Return how a person stands in the records: "uid/1000 (alice)"; this process's by default."""
    number = os.getuid() if uid is None else uid
    try:
        return f"uid/{number} ({pwd.getpwuid(number).pw_name})"
    except KeyError:
        return f"uid/{number}"


def run_json(run: Run) -> dict[str, Json]:
    """Return a run as the control socket tells it: plain JSON, times in ISO 8601."""

    def told(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment else None

    return {
        "id": run.id,
        "task": run.request.task,
        "subject": run.request.subject,
        "requested_by": run.request.requested_by,
        "due_at": told(run.request.due_at),
        "attempt": run.request.attempt,
        "state": run.state.value,
        "created_at": told(run.created_at),
        "started_at": told(run.started_at),
        "ended_at": told(run.ended_at),
        "verdict": run.verdict.value if run.verdict else None,
        "code": run.code,
        "progress": run.progress,
    }
