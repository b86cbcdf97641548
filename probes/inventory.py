"""What copies are there: every repository is asked what it holds, side by side.

One repository that hangs holds back no other: it keeps one of the bounded places for ten seconds and
gives it back then, though its thread goes on waiting for the time-out of its call.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from backupguard.contracts import (
    Context,
    LockSeen,
    ProbeSettings,
    Repositories,
    RepositoryState,
)
from backupguard.errors import BackupDefect, BackupGuardError, Cancelled, Interrupted
from backupguard.model import (
    Listing,
    Observation,
    Scope,
    Subject,
    repository_subject,
    to_us,
)

log = structlog.get_logger(__name__)

#: How long a repository counts against the bound, in seconds.
PATIENCE_S = 10.0

_Result = tuple[str, Sequence[Observation | Listing], BaseException | None]


class Inventory:
    """Probe `inventory`: a `Listing` and a `repository.inspected` for each repository."""

    name = "inventory"
    scope = Scope.SITE
    settings: type[ProbeSettings] = ProbeSettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002 - there is one site
        repositories: Repositories,
        context: Context,
        settings: Any,  # noqa: ARG002 - nothing to set but its cadence
    ) -> Iterator[Observation | Listing]:
        """Yield what each repository holds as soon as it has answered, the dead ones included.

        Raises Cancelled after the repositories under way have ended.
        """
        waiting = _healthy_first(repositories, context)
        total = len(waiting)
        results: queue.Queue[_Result] = queue.Queue()
        started: dict[str, tuple[float, threading.Thread]] = {}
        done = 0
        try:
            while waiting or started:
                while waiting and _busy(started) < repositories.parallelism():
                    context.cancel.raise_if_set()
                    identifier = waiting.pop(0)
                    thread = threading.Thread(
                        target=_look,
                        args=(identifier, repositories, context, results),
                        name=f"inventory-{identifier}",
                    )
                    started[identifier] = (time.monotonic(), thread)
                    thread.start()
                try:
                    identifier, seen, error = results.get(timeout=1.0)
                except queue.Empty:
                    continue
                started.pop(identifier)[1].join()
                if error is not None:
                    raise error
                done += 1
                context.progress(done, total, "repositories")
                yield from seen
        finally:
            # A tool dies with the thread that started it, so none may be left behind.
            for _, thread in started.values():
                thread.join()


def _busy(started: dict[str, tuple[float, threading.Thread]]) -> int:
    now = time.monotonic()
    return sum(1 for since, _ in started.values() if now - since < PATIENCE_S)


def _healthy_first(repositories: Repositories, context: Context) -> list[str]:
    """Return the repositories, those that could not be seen last time at the end."""

    def trouble(identifier: str) -> bool:
        fact = context.known.latest("repository.inspected", repository_subject(identifier))
        return fact is not None and not fact.observation.data["reachable"]

    return sorted(repositories.identifiers(), key=trouble)


def _look(
    identifier: str,
    repositories: Repositories,
    context: Context,
    results: queue.Queue[_Result],
) -> None:
    """Look at one repository in a thread of its own; always puts one result."""
    try:
        results.put((identifier, _observations(identifier, repositories, context), None))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
        results.put((identifier, (), error))


def _observations(
    identifier: str, repositories: Repositories, context: Context
) -> Sequence[Observation | Listing]:
    """Return the listing and the state of one repository; the points first, as they open it."""
    seen: list[Observation | Listing] = []
    state: RepositoryState | None = None
    code: str | None = None
    reachable = True
    try:
        with repositories.open(identifier) as repository:
            jobs = tuple(repositories.jobs(identifier))
            points = tuple(repository.points(jobs))
            seen.append(
                Listing(
                    repository=identifier,
                    jobs=tuple(selector.job for selector in jobs),
                    points=points,
                    observed_at=context.now(),
                )
            )
            state = repository.inspect()
    except (Cancelled, Interrupted):
        raise
    except BackupGuardError as error:
        code = error.code
        # Who finds a damaged repository has reached it; whose listing came, too.
        reachable = bool(seen) or isinstance(error, BackupDefect)
    except Exception:
        # A mistake in one plug-in must not hide the other repositories.
        log.exception("repository.bug", repository=identifier)
        code, reachable = "bug", False
    seen.append(_inspected(identifier, repositories, context, state, reachable, code))
    return seen


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
        },
    )


def _lock(lock: LockSeen) -> dict[str, Any]:
    return {
        "host": lock.holder_host,
        "pid": lock.holder_pid,
        "since_at": to_us(lock.since) if lock.since else None,
        "exclusive": lock.exclusive,
        "alive": lock.alive,
    }


INVENTORY = Inventory()
