"""The canary file of a restored tree: what the fixed program inside says of it."""

from __future__ import annotations

import json

from backupguard.contracts import Trial
from restore_tests import canary, inside


def look(trial: Trial) -> None:
    """Look for the canary where the site says that there is one, and remember what was found."""
    if canary.wanted(trial) is None:
        return
    program = inside.text("files_canary.py")
    beginning = canary.beginning(canary.application_of(trial))
    done = trial.sandbox.run(
        [
            "/usr/bin/python3",
            "-I",
            "-S",
            "-c",
            program,
            str(trial.artifact),
            canary.FILE,
            beginning,
        ],
        scratch=False,
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
    )
    try:
        said, extra = json.loads(done.stdout)
    except ValueError:
        said, extra = canary.ERROR, "check_error"
    canary.tell(trial, str(said), str(extra))
