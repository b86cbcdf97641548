"""Repository types that were never seen against a live server prove nothing until a person confirms.

Done here for all controls at once: what rests on the points of such a repository is not measurable,
and an application takes no good news from them either. A restored copy is proof of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from backupguard import plugins
from backupguard.assess.history import payload
from backupguard.controls import facts
from backupguard.model import (
    Fact,
    Judgement,
    RecoveryPoint,
    Scope,
    Subject,
    View,
    repository_subject,
    to_us,
)
from backupguard.settings import Settings

#: The controls that rest on what a repository says of its points.
OF_POINTS = frozenset({"JOB-01", "PDM-01", "RET-01", "ANO-01", "INT-01"})
_MAJOR = re.compile(r"\d+")


def major(version: object) -> str | None:
    """Return the first number of a tool's version: "12" of "Veeam 12.1.2"; None without any."""
    found = _MAJOR.search(version) if isinstance(version, str) else None
    return found[0] if found else None


def is_confirmed(kind: str, kinds: Mapping[str, Fact]) -> bool:
    """Tell whether a person confirmed a repository of that type, under the tool's major version.

    `kinds` are the newest facts about the repository. A version that is not known now, because the
    repository does not answer, ends nothing.
    """
    confirmed = kinds.get("repository.confirmed")
    if confirmed is None or payload(confirmed).get("type") != kind:
        return False
    inspected = kinds.get("repository.inspected")
    now = major(payload(inspected).get("tool_version")) if inspected is not None else None
    return now is None or now == payload(confirmed).get("tool_major")


def unconfirmed(settings: Settings, latest: Mapping[Subject, Mapping[str, Fact]]) -> frozenset[str]:
    """Return the repositories whose type is unproven and that nobody has confirmed."""
    return frozenset(
        name
        for name, repository in settings.repositories.items()
        if plugins.unproven(repository.type)
        and not is_confirmed(repository.type, latest.get(repository_subject(name), {}))
    )


def sample(points: Mapping[str, Sequence[RecoveryPoint]], count: int) -> list[RecoveryPoint]:
    """Return at most `count` points, in turn from each job, spread over the time each one covers.

    `points` are a repository's standing points by job, in order of time. The newest and the oldest
    of a job come first.
    """
    turns = [_spread(sorted(own, key=lambda p: p.at)) for _, own in sorted(points.items())]
    chosen: list[RecoveryPoint] = []
    for turn in range(max(map(len, turns), default=0)):
        chosen += [own[turn] for own in turns if turn < len(own)]
    return sorted(chosen[:count], key=lambda point: (point.at, point.job, point.native_id))


def _spread(points: Sequence[RecoveryPoint]) -> list[RecoveryPoint]:
    """Return points so that however few are taken, they lie far apart: ends first, then middles."""
    if not points:
        return []
    order = [len(points) - 1, 0]
    spans = [(0, len(points) - 1)]
    while spans:
        low, high = spans.pop(0)
        middle = (low + high) // 2
        if high - low > 1:
            order.append(middle)
            spans += [(low, middle), (middle, high)]
    return [points[index] for index in dict.fromkeys(order)]


def digest(points: Sequence[RecoveryPoint]) -> str:
    """Return a SHA-256 over points as a person saw them: job, name, time, size, source."""
    seen = [[p.job, p.native_id, to_us(p.at), p.bytes, p.source_host] for p in points]
    return hashlib.sha256(json.dumps(seen, ensure_ascii=True).encode()).hexdigest()


def evidence(control: str, view: View) -> View:
    """Return what a control may look at: an application without its unconfirmed jobs."""
    if control not in OF_POINTS or view.scope is not Scope.APPLICATION:
        return view
    proven = tuple(job for job in view.children if not job.known.get("unproven"))
    if len(proven) == len(view.children):
        return view
    summaries = tuple(summary for job in proven for summary in job.summaries)
    return replace(view, children=proven, summaries=summaries)


def capped(control: str, judgement: Judgement, view: View) -> Judgement:
    """Return a control's judgement, or that it is not measurable, given the whole view."""
    if control not in OF_POINTS:
        return judgement
    inspected = view.latest.get("repository.inspected")
    if view.known.get("unproven") and view.scope in {Scope.JOB, Scope.REPOSITORY}:
        repository = view.settings.get("repository") or view.subject.partition("/")[2]
        return facts.unproven(str(repository), inspected)
    if view.scope is not Scope.APPLICATION:
        return judgement
    proven = {
        job.settings.get("selection") for job in view.children if not job.known.get("unproven")
    }
    alone = [
        job
        for job in view.children
        if job.known.get("unproven") and job.settings.get("selection") not in proven
    ]
    if not alone:
        return judgement
    doubt = facts.unproven(
        str(alone[0].settings.get("repository")), alone[0].latest.get("repository.inspected")
    )
    return facts.worst_of([judgement, doubt]) if proven else doubt
