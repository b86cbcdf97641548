"""What one repository is asked in an inventory: what it holds, its tool's runs, what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from backupguard.contracts import (
    Capability,
    Context,
    JobRuns,
    JobSelector,
    ListsChanges,
    LockSeen,
    Repositories,
    Repository,
    RepositoryState,
)
from backupguard.errors import BackupDefect, BackupGuardError, Cancelled, Interrupted
from backupguard.model import (
    Listing,
    Observation,
    Sighting,
    repository_subject,
    to_us,
)
from probes.spool import spooled

log = structlog.get_logger(__name__)

#: A repository that tells what is new is asked for everything again after this long.
FULLY_EVERY = timedelta(days=1)
#: How far back a tool is asked for its runs the first time.
RUNS_FROM = timedelta(days=400)

Seen = Observation | Listing | JobRuns


def look(identifier: str, repositories: Repositories, context: Context) -> Sequence[Seen]:
    """Return what one repository holds and is; the points first, as they open it.

    What it yielded to the end counts even when it fails afterwards. Raises Cancelled, Interrupted.
    """
    seen: list[Seen] = []
    state: RepositoryState | None = None
    code: str | None = None
    trouble: BackupGuardError | None = None
    reachable = True
    try:
        with repositories.open(identifier) as repository:
            jobs = tuple(repositories.jobs(identifier))
            found = _listings(identifier, repository, jobs, context)
            word = repositories.origin_of(identifier)
            seen.extend(replace(listing, origin=word) for listing in found)
            if Capability.RUNS in repository.capabilities:
                seen.append(_runs(identifier, repository, context))
            state = repository.inspect()
    except (Cancelled, Interrupted):
        raise
    except BackupGuardError as error:
        trouble, code = error, error.code
        # Who finds a damaged repository has reached it; whose listing came, too.
        reachable = bool(seen) or isinstance(error, BackupDefect)
    except Exception:
        # A mistake in one plug-in must not hide the other repositories.
        log.exception("repository.bug", repository=identifier)
        code, reachable = "bug", False
    inspected = _inspected(identifier, repositories, context, state, reachable, code)
    seen.append(replace(inspected, data={**inspected.data, **_said(trouble)}))
    return seen


def unanswered(identifier: str, repositories: Repositories, context: Context) -> Observation:
    """Return what is recorded of a repository that was waited for in vain."""
    return _inspected(identifier, repositories, context, None, reachable=False, code="timeout")


# -------------------------------------------------------------------------------------------- points


def _listings(
    identifier: str, repository: Repository, jobs: tuple[JobSelector, ...], context: Context
) -> list[Listing]:
    if not isinstance(repository, ListsChanges):
        return [_listing(identifier, repository, jobs, context)]
    selection = _digest(jobs)
    sighting = context.known.sighting(identifier)
    mark = _usable_mark(sighting, selection, context.now())
    changes = repository.changes(jobs, mark)
    points = spooled(changes.points, str(context.work))
    rest = Listing(
        repository=identifier,
        jobs=tuple(selector.job for selector in jobs),
        points=points,
        observed_at=context.now(),
        partial=mark is not None and not changes.complete,
        standing=dict(changes.standing),
        mark=f"{selection}:{changes.mark}",
    )
    if not rest.partial:
        return [rest]
    stands = context.known.standing(identifier, points)
    wrong = tuple(
        selector
        for selector in jobs
        if stands.get(selector.job, 0) != changes.standing.get(selector.job, 0)
    )
    if not wrong:
        return [rest]
    # Something is gone, or was overlooked: these jobs are listed one by one, at once.
    log.info("inventory.counts-differ", repository=identifier, jobs=[one.job for one in wrong])
    return [_listing(identifier, repository, wrong, context, some_jobs=True), rest]


def _listing(
    identifier: str,
    repository: Repository,
    jobs: tuple[JobSelector, ...],
    context: Context,
    *,
    some_jobs: bool = False,
) -> Listing:
    return Listing(
        repository=identifier,
        jobs=tuple(selector.job for selector in jobs),
        points=spooled(repository.points(jobs), str(context.work)),
        observed_at=context.now(),
        some_jobs=some_jobs,
    )


def _digest(jobs: Sequence[JobSelector]) -> str:
    """Return what tells whether the same is asked for: a mark says nothing of other selections."""
    return hashlib.sha256(repr(jobs).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _usable_mark(sighting: Sighting | None, selection: str, now: datetime) -> str | None:
    """Return the mark to go on from; None where everything is to be listed."""
    if sighting is None or sighting.mark is None or sighting.listed_fully_at is None:
        return None
    if not timedelta(0) <= now - sighting.listed_fully_at < FULLY_EVERY:
        return None
    asked, _, mark = sighting.mark.partition(":")
    return mark if asked == selection else None


# ---------------------------------------------------------------------------------------------- runs


def _runs(identifier: str, repository: Repository, context: Context) -> JobRuns:
    since = context.known.runs_since(identifier) or context.now() - RUNS_FROM
    return JobRuns(
        repository=identifier,
        runs=tuple(repository.runs(since)),
        observed_at=context.now(),
    )


# --------------------------------------------------------------------------------------------- state


def _inspected(
    identifier: str,
    repositories: Repositories,
    context: Context,
    state: RepositoryState | None,
    reachable: bool,
    code: str | None,
) -> Observation:
    return Observation(
        kind="repository.inspected",
        subject=repository_subject(identifier),
        observed_at=context.now(),
        key=f"inspected/{identifier}/{context.work.name}",
        data={
            "reachable": reachable,
            "code": code,
            "type": repositories.type_of(identifier),
            "tool": state.tool if state else None,
            "tool_version": state.tool_version if state else None,
            "repository_id": state.repository_id if state else None,
            "format_version": state.format_version if state else None,
            "encrypted": state.encrypted if state else None,
            "locks": [_lock(lock) for lock in state.locks] if state else [],
            "device": state.device if state else None,
            **({"warnings": list(state.warnings)} if state and state.warnings else {}),
        },
    )


def _said(error: BackupGuardError | None) -> dict[str, Any]:
    """Return what an error says beyond its code: file, line, what to do."""
    if error is None:
        return {}
    message, remedy = error.message, error.remedy
    more = message.id != f"error.{error.code}" or set(message.values) - {"repository"}
    return {
        **({"said": {"id": message.id, "values": dict(message.values)}} if more else {}),
        **({"remedy": {"id": remedy.id, "values": dict(remedy.values)}} if remedy else {}),
    }


def _lock(lock: LockSeen) -> dict[str, Any]:
    return {
        "host": lock.holder_host,
        "pid": lock.holder_pid,
        "since_at": to_us(lock.since) if lock.since else None,
        "exclusive": lock.exclusive,
        "alive": lock.alive,
    }
