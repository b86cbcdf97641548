"""The task `isolation`: what the settings say to the probe, and which of its facts are news."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from backupguard import plugins
from backupguard.model import SITE, Observation, Verdict
from backupguard.runs import RunContext, TaskContext
from backupguard.settings.isolation import SELF, announced, wanted
from probes.isolation import Announced, Plan

if TYPE_CHECKING:
    from backupguard.settings import Settings


def isolation(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at what must not answer, and at whether this host is joined to a directory."""
    probe = plugins.probe("isolation")
    ended: tuple[Verdict, str | None] = Verdict.PASSED, None
    for item in probe.observe(SITE, task.repositories(), task.context, plan_of(task.settings)):
        assert isinstance(item, Observation)
        if item.kind == "isolation.seen":
            ended = _verdict(item)
        elif not _is_news(item, task.context):
            continue
        task.record(item)
    task.quiet = True  # what it saw is on record already
    return ended


def _verdict(seen: Observation) -> tuple[Verdict, str | None]:
    """Return what a look amounts to: an answer is one, whatever the witness says."""
    if any(row["outcome"] == "open" and not row["announced"] for row in seen.data["rows"]):
        return Verdict.FAILED, "answers"
    code = seen.data["code"]
    return (Verdict.COULD_NOT_VERIFY, code) if code else (Verdict.PASSED, None)


def _is_news(seen: Observation, context: RunContext) -> bool:
    """Tell whether a `host.joined` differs from the last one, or is the first of its day."""
    before = context.known.latest(seen.kind, seen.subject)
    return (
        before is None
        or before.observation.observed_at.date() != seen.observed_at.date()
        or before.observation.data != seen.data
    )


def plan_of(settings: Settings) -> Plan:
    """Return what the settings say to the probe on this host."""
    return Plan(
        wanted=wanted(settings.isolation, SELF, settings.repositories),
        witness=settings.isolation.witness,
        announced=announced_by(settings),
    )


def announced_by(settings: Settings) -> Announced:
    """Return what tells whether a target may answer at a time, by these settings."""

    def tell(target: str, began: datetime, ended: datetime) -> bool:
        known = settings.isolation.targets.get(target)
        return known is not None and announced(known, began, ended, settings.site.timezone)

    return tell
