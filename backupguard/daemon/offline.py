"""The task `offline`: what the settings say to the probe, and which of its facts are news."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backupguard import plugins
from backupguard.daemon import media_tests
from backupguard.helper.client import Helper
from backupguard.media import medium_plan
from backupguard.model import SITE, Fact, Observation, Verdict
from backupguard.runs import TaskContext
from probes.offline_found import Plan

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: Kinds that are recorded when they say something else than before, and once a day.
_CHANGES = frozenset({"medium.seen", "medium.copy", "media.unknown"})


def offline(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at which offline media are attached, and what is on them.

    Fails where a copy on a medium is damaged; a medium that could not be looked for proves nothing.
    """
    probe = plugins.probe("offline")
    plan = plan_of(task.settings)
    verdict: tuple[Verdict, str | None] = (Verdict.PASSED, None)
    for item in probe.observe(SITE, task.repositories(), task.context, plan):
        if isinstance(item, Observation):
            verdict = _worse(verdict, item)
            if item.kind in _CHANGES and not _is_news(item, task):
                continue
        task.recorded += len(task.keep(item))
    task.quiet = task.recorded == 0
    media_tests.ask(task)
    return verdict


def _worse(verdict: tuple[Verdict, str | None], seen: Observation) -> tuple[Verdict, str | None]:
    """Return how the run ends so far: damaged copies first, then what could not be looked at."""
    found: tuple[Verdict, str | None] = (Verdict.PASSED, None)
    if seen.kind == "medium.seen" and seen.data["mismatch"] is not None:
        found = (Verdict.FAILED, "medium_mismatch")
    elif seen.kind == "medium.seen" and seen.data["code"] is not None:
        found = (Verdict.COULD_NOT_VERIFY, seen.data["code"])
    elif seen.kind == "medium.copy" and seen.data["verdict"] == Verdict.FAILED:
        found = (Verdict.FAILED, seen.data["code"])
    order = (Verdict.PASSED, Verdict.COULD_NOT_VERIFY, Verdict.FAILED)
    return max(verdict, found, key=lambda one: order.index(one[0]))


def _is_news(seen: Observation, task: TaskContext) -> bool:
    """Tell whether an observation says something new, or is the first of its day."""
    before = task.context.known.latest(seen.kind, seen.subject)
    if before is None:
        return seen.kind != "media.unknown" or bool(seen.data["media"])
    zone = ZoneInfo(task.settings.site.timezone)
    return _said(before) != _settled(seen.data) or _day(before, zone) != _day_of(
        seen.observed_at, zone
    )


def _said(fact: Fact) -> Any:
    return _settled(fact.observation.data)


def _settled(data: Any) -> Any:
    """Return a payload without what differs at every look: how much was read."""
    if not isinstance(data, Mapping):
        return data
    return {name: value for name, value in data.items() if name != "bytes_read"}


def _day(fact: Fact, zone: ZoneInfo) -> object:
    return _day_of(fact.observation.observed_at, zone)


def _day_of(moment: datetime, zone: ZoneInfo) -> object:
    return moment.astimezone(zone).date()


def plan_of(settings: Settings) -> Plan:
    """Return what the settings say to the probe."""
    own = settings.probe("offline")
    return Plan(
        media=tuple(medium_plan(settings, name) for name in settings.media),
        helper=Helper(),
        sample_percent=getattr(own, "data_percent", 5),
        sample_bytes=getattr(own, "max_bytes", None),
        scan=getattr(own, "scan", True),
    )
