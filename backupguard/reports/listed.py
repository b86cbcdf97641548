"""Which recovery points came in a month, and how far behind the newest one is at its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backupguard.assess.declared_estate import Owner
from backupguard.model import Fact, JobSummary, PointState, from_us, repository_subject, to_us
from backupguard.reports.outlook import Tonight
from backupguard.reports.tested import payload

_USABLE = frozenset({PointState.COMPLETE.value, PointState.WARNING.value})


@dataclass(frozen=True, slots=True)
class _Point:
    at: int
    until: int  # up to when it brings data back, the logs that follow included
    bytes: int | None
    state: str


class Listed:
    """The points that the listings of a month told of and that still stood at its end."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], dict[str, _Point]] = {}
        self._pruned: set[str] = set()  # repositories

    def learn(self, fact: Fact) -> None:
        """Take one `inventory.listed` into account; facts come in order.

        One whose body was pruned may have told of points that came or went: none is known any more.
        """
        repository = fact.observation.subject.removeprefix(repository_subject(""))
        data = payload(fact)
        if not data:
            self._pruned.add(repository)
            self._points = {key: of for key, of in self._points.items() if key[1] != repository}
        for name in ("appeared", "changed"):
            for point in data.get(name, ()):
                self._add(repository, point)
        for gone in data.get("vanished", ()):
            self._points.get((gone["job"], repository), {}).pop(gone["native_id"], None)

    def _add(self, repository: str, point: dict[str, Any]) -> None:
        self._points.setdefault((point["job"], repository), {})[point["native_id"]] = _Point(
            point["at"],
            max(point["at"], point["covers_until"]),
            point["bytes"],
            point["state"],
        )

    def summaries(self, as_of: datetime) -> list[JobSummary]:
        """Return the newest usable point of each job and repository, as a forecast wants them."""
        found = []
        for (job, repository), points in self._points.items():
            newest = _newest(points, to_us(as_of))
            if newest is not None:
                found.append(
                    JobSummary(
                        job=job,
                        repository=repository,
                        newest=from_us(newest.at),
                        oldest=None,
                        newest_bytes=newest.bytes,
                        newest_state=PointState(newest.state),
                        points=len(points),
                        days=0,
                    )
                )
        return found

    def tonight(self, application: str, owner: Owner, since: datetime, as_of: datetime) -> Tonight:
        """Return how much of an application would be lost at `as_of`.

        Jobs of equal data are copies of one another: the newest of their points counts. Where no
        point came since `since`, the newest one is older than that, and how old it is stands in no
        record of the month. Where the records that would tell were pruned, there is no figure.
        """
        newest: dict[str, tuple[int, str, str]] = {}
        for name, job in owner.jobs.items():
            points = self._points.get((f"{application}.{name}", job.repository), {})
            point = _newest(points, to_us(as_of))
            if point is None and job.repository in self._pruned:
                return Tonight(pruned=True, job=name, repository=job.repository)
            reached = (point.until if point else -1, name, job.repository)
            newest[job.data] = max(newest.get(job.data, (-2, "", "")), reached)
        if not newest:
            return Tonight()
        until, name, repository = min(newest.values())
        unseen = until < 0
        begun = to_us(since) if unseen else until
        lost_ms = max(0, to_us(as_of) - begun) // 1000
        return Tonight(loss_ms=lost_ms, at_least=unseen, job=name, repository=repository)


def _newest(points: dict[str, _Point], as_of: int) -> _Point | None:
    usable = [one for one in points.values() if one.state in _USABLE and one.at <= as_of]
    return max(usable, key=lambda one: (one.until, one.at), default=None)
