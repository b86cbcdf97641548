"""Which waiting runs may start now: a pure choice, so that every reason to wait can be tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from backupguard.daemon.cadence import Key, Schedule, open_repositories
from backupguard.daemon.requests import BISECTION, SCHEDULE
from backupguard.model import Run

if TYPE_CHECKING:
    from backupguard.settings import Settings


def bounds(settings: Settings) -> dict[str, int]:
    """Return how many runs may be running together, per resource."""
    return {
        "restore-test": settings.daemon.parallel_restore_tests,
        "probe": settings.daemon.parallel_probes,
        "report": 1,
        "anchor": 1,
    }


def may_start(
    waiting: Sequence[Run],
    *,
    allowed: Mapping[str, int],
    used: Mapping[str, int],
    excluded: Collection[str],
    schedules: Mapping[Key, Schedule],
    paused: bool,
    now: datetime,
) -> tuple[Run, ...]:
    """Return the runs to start, the longest-waiting first.

    Windows and pauses bind what the agenda asked for; what a person asks for starts at once. Nothing
    starts whose `exclusive` another run holds, or whose resource is used up.
    """
    taken, held = Counter(used), set(excluded)
    chosen = []
    for run in sorted(waiting, key=lambda run: (run.created_at, run.id)):
        request = run.request
        if request.exclusive in held or taken[request.resource] >= allowed.get(request.resource, 1):
            continue
        ours = request.requested_by in {SCHEDULE, BISECTION}
        if ours and (paused or not _open(run, schedules, now)):
            continue
        taken[request.resource] += 1
        held.add(request.exclusive)
        chosen.append(run)
    return tuple(chosen)


def _open(run: Run, schedules: Mapping[Key, Schedule], now: datetime) -> bool:
    schedule = schedules.get((run.request.task, run.request.subject))
    if schedule is None or not schedule.windows:
        return True
    readable = open_repositories(schedule, now)
    wanted = run.request.options.get("repository")
    # without a repository of its own a run may read any of them, so all must be open
    return wanted in readable if wanted else len(readable) == len(schedule.windows)
