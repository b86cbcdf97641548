"""What copies are there: every repository is asked what it holds, side by side.

One repository that hangs holds back no other: it keeps one of the bounded places for ten seconds and
gives it back then, though its thread goes on waiting for the time-out of its call. What has no
time-out, as the directory of a file server that is gone, is waited for an hour, and no longer: the
next inventory must come.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backupguard.contracts import Context, JobRuns, ProbeSettings, Repositories
from backupguard.model import Listing, Observation, Scope, Subject, repository_subject
from probes.looking import Seen, look, unanswered

#: How long a repository counts against the bounds, in seconds.
PATIENCE_S = 10.0
#: How long a repository is waited for, in seconds.
LONGEST_S = 3600.0

_Result = tuple[str, Sequence[Seen], BaseException | None]


@dataclass(frozen=True, slots=True)
class _Started:
    """A repository that is being looked at."""

    host: str
    since: float
    thread: threading.Thread


class Inventory:
    """Probe `inventory`: listings, runs and a `repository.inspected` for each repository."""

    name = "inventory"
    scope = Scope.SITE
    settings: type[ProbeSettings] = ProbeSettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002 - there is one site
        repositories: Repositories,
        context: Context,
        settings: Any,  # noqa: ARG002 - nothing to set but its cadence
    ) -> Iterator[Observation | Listing | JobRuns]:
        """Yield what each repository holds as soon as it has answered, the dead ones included.

        Raises Cancelled after the repositories under way have ended.
        """
        waiting = _healthy_first(repositories, context)
        total = len(waiting)
        results: queue.Queue[_Result] = queue.Queue()
        started: dict[str, _Started] = {}
        done = 0
        try:
            while waiting or started:
                while (identifier := _next(waiting, started, repositories)) is not None:
                    context.cancel.raise_if_set()
                    waiting.remove(identifier)
                    started[identifier] = _start(identifier, repositories, context, results)
                try:
                    identifier, seen, error = results.get(timeout=1.0)
                except queue.Empty:
                    for identifier in _silent(started):
                        del started[identifier]
                        done += 1
                        yield unanswered(identifier, repositories, context)
                    continue
                ended = started.pop(identifier, None)
                if ended is None:
                    continue  # it was given up, and told as such
                ended.thread.join()
                if error is not None:
                    raise error
                done += 1
                context.progress(done, total, "repositories")
                yield from seen
        finally:
            # A tool dies with the thread that started it, so none may be left behind.
            for one in started.values():
                one.thread.join()


def _next(
    waiting: Sequence[str], started: dict[str, _Started], repositories: Repositories
) -> str | None:
    """Return the first repository that the bounds, in all and per host, let start now."""
    now = time.monotonic()
    busy = [one.host for one in started.values() if now - one.since < PATIENCE_S]
    if len(busy) >= repositories.parallelism():
        return None
    per_host = repositories.parallelism_per_host()
    return next((one for one in waiting if busy.count(repositories.host_of(one)) < per_host), None)


def _silent(started: dict[str, _Started]) -> list[str]:
    """Return the repositories that have been silent for too long."""
    now = time.monotonic()
    return [identifier for identifier, one in started.items() if now - one.since > LONGEST_S]


def _start(
    identifier: str,
    repositories: Repositories,
    context: Context,
    results: queue.Queue[_Result],
) -> _Started:
    thread = threading.Thread(
        target=_look,
        args=(identifier, repositories, context, results),
        name=f"inventory-{identifier}",
        daemon=True,  # one that was given up does not keep the process from ending
    )
    thread.start()
    return _Started(repositories.host_of(identifier), time.monotonic(), thread)


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
        results.put((identifier, look(identifier, repositories, context), None))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
        results.put((identifier, (), error))


INVENTORY = Inventory()
