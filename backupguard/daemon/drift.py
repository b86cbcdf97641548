"""The task `drift`: what the records say to the probe, and which of its facts are news.

The probe itself asks nothing of a repository, and reads how one says it is protected from the newest
record. That is written by the probe `immutability`, once a week; so settings are looked at here before,
and what differs is recorded anew: a lock that was taken off is told as soon as a shorter retention.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog

from backupguard import plugins
from backupguard.contracts import Known, StatesProtection
from backupguard.daemon import secret_ages
from backupguard.errors import BackupGuardError
from backupguard.media import is_away
from backupguard.model import SITE, Fact, Observation, Verdict, repository_subject
from backupguard.runs import TaskContext
from backupguard.settings import Settings
from probes.drift_found import Plan
from probes.immutability_protection import protection_seen, stated

log = structlog.get_logger(__name__)

#: How long repositories are waited for, all together, in seconds: one that hangs must not hide what
#: this host says.
PATIENCE_S = 60.0


def drift(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at what policies and protections say, and whether they were weakened."""
    for observation in _protections(task):
        task.recorded += len(task.record(observation))
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


def _protections(task: TaskContext) -> list[Observation]:
    """Return what repositories say of their protection, of those that say something else than before.

    One that was never looked at has nothing to differ from; one that does not answer now, or is away,
    keeps what it said last.
    """
    found: dict[str, Observation] = {}
    threads = []
    for name in task.settings.repositories:
        before = task.context.known.latest("protection.seen", repository_subject(name))
        if before is None or is_away(task.settings, name, task.context):
            continue
        threads.append(
            threading.Thread(
                target=_ask,
                args=(task, name, _data(before), found),
                name=f"drift-{name}",
                daemon=True,  # one that hangs does not keep the process from ending
            )
        )
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [found[name] for name in sorted(found)]


def _ask(
    task: TaskContext, name: str, before: Mapping[str, Any], found: dict[str, Observation]
) -> None:
    """Put into `found` what a repository says of its protection, if that is news."""
    try:
        with task.repositories(name).open(name) as repository:
            if not isinstance(repository, StatesProtection):
                return
            now = stated(repository.protection_state())
        if all(before.get(key) == value for key, value in now.items()):
            return
        points = int(getattr(task.settings.probe("immutability"), "points", 1))
        subject = repository_subject(name)
        seen, error = protection_seen(subject, task.repositories(name), task.context, points)
        if error is None:
            found[name] = seen
    except BackupGuardError as error:
        log.info("drift.protection-unread", repository=name, code=error.code)
    except Exception:  # what this host says must not be lost with it
        log.exception("drift.protection-unread", repository=name, code="bug")


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
