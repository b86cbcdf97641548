"""The task `offline`: what the settings say to the probe, and which of its facts are news."""

from __future__ import annotations

from backupguard import plugins
from backupguard.model import SITE, Observation, Verdict
from backupguard.runs import TaskContext


def offline(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at which offline media are attached, and what is on them."""
    probe = plugins.probe("offline")
    for item in probe.observe(
        SITE, task.repositories(), task.context, task.settings.probe("offline")
    ):
        assert isinstance(item, Observation)
        task.record(item)
    return Verdict.PASSED, None
