"""The task `drift`: what the records say to the probe, and which of its facts are news."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backupguard import plugins
from backupguard.contracts import Known
from backupguard.daemon import secret_ages
from backupguard.model import SITE, Fact, Observation, Verdict, repository_subject
from backupguard.runs import TaskContext
from backupguard.settings import Settings
from probes.drift_found import Plan


def drift(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at what policies and protections say, and whether they were weakened."""
    probe = plugins.probe("drift")
    plan = plan_of(task.settings, task.context.known)
    seen = [
        item
        for item in probe.observe(SITE, task.repositories(), task.context, plan)
        if isinstance(item, Observation)
    ]
    # Both at once: without what stands now, the same change would be told again.
    if _is_news(seen, task.context.known.latest("policy.seen", SITE)):
        task.recorded += len(task.record(*seen))
    task.recorded += len(task.record(*secret_ages.news(task)))
    task.quiet = task.recorded == 0
    if any(item.data.get("unread") for item in seen):
        return Verdict.COULD_NOT_VERIFY, "permission"
    return Verdict.PASSED, None


def plan_of(settings: Settings, known: Known) -> Plan:
    """Return what the records say to the probe."""
    before = known.latest("policy.seen", SITE)
    protections: dict[str, Mapping[str, Any]] = {}
    encrypted: dict[str, bool | None] = {}
    for name in settings.repositories:
        subject = repository_subject(name)
        if (protection := known.latest("protection.seen", subject)) is not None:
            protections[name] = _data(protection)
        inspected = known.latest("repository.inspected", subject)
        encrypted[name] = _data(inspected).get("encrypted") if inspected is not None else None
    return Plan(
        before=_data(before).get("items") if before is not None else None,
        from_seq=before.seq if before is not None else None,
        protections=protections,
        encrypted=encrypted,
    )


def _data(fact: Fact) -> Mapping[str, Any]:
    found = fact.observation.data
    return found if isinstance(found, Mapping) else {}


def _is_news(seen: list[Observation], before: Fact | None) -> bool:
    """Tell whether anything differs from the last record, or a day has begun since."""
    newest = seen[-1]
    if before is None or before.observation.observed_at.date() != newest.observed_at.date():
        return True
    return bool(before.observation.data != newest.data)
