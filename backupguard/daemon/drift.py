"""The task `drift`: what the settings say to the probe, and which of its facts are news."""

from __future__ import annotations

from backupguard import plugins
from backupguard.model import SITE, Observation, Verdict
from backupguard.runs import TaskContext


def drift(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at what policies and protections say, and whether they were weakened."""
    probe = plugins.probe("drift")
    for item in probe.observe(
        SITE, task.repositories(), task.context, task.settings.probe("drift")
    ):
        assert isinstance(item, Observation)
        task.record(item)
    return Verdict.PASSED, None
