"""The task `isolation`: what the settings say to the probe, and which of its facts are news."""

from __future__ import annotations

from backupguard import plugins
from backupguard.model import SITE, Observation, Verdict
from backupguard.runs import TaskContext


def isolation(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at what must not answer, tried from here."""
    probe = plugins.probe("isolation")
    for item in probe.observe(
        SITE, task.repositories(), task.context, task.settings.probe("isolation")
    ):
        assert isinstance(item, Observation)
        task.record(item)
    return Verdict.PASSED, None
