"""What records and settings say of every application's recovery: what the forecast is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from backupguard.assess.forecast import Basis, Forecast, Step, ToRecover, forecast
from backupguard.assess.history import History, payload
from backupguard.controls.imm_02 import CONCLUDED
from backupguard.model import (
    Fact,
    JobSummary,
    Origin,
    Phase,
    Verdict,
    application_subject,
    repository_subject,
    to_us,
)

if TYPE_CHECKING:
    from backupguard.settings import Application, Settings

_MS = timedelta(milliseconds=1)


def site_forecast(
    settings: Settings, history: History, summaries: Iterable[JobSummary]
) -> Forecast:
    """Return the forecast of a whole site, from what its history and its inventory hold."""
    plan = settings.plan
    return forecast(
        estate(settings, history, summaries),
        parallel=plan.parallel,
        durable_percent=plan.durable_writes,
    )


def estate(
    settings: Settings, history: History, summaries: Iterable[JobSummary]
) -> tuple[ToRecover, ...]:
    """Return every configured application with the test that its forecast rests on."""
    passed: dict[tuple[str, str], list[Fact]] = {}
    for (application, _, repository, origin), fact in history.newest_success.items():
        if origin == Origin.OBSERVED.value:  # how long it took elsewhere says nothing of here
            passed.setdefault((application, repository), []).append(fact)
    known = {(one.job, one.repository): one for one in summaries}
    return tuple(
        ToRecover(
            application=name,
            criticality=owner.criticality,
            rto_ms=owner.rto // _MS if owner.rto is not None else None,
            steps=tuple(
                Step(name=step.name, duration_ms=step.duration // _MS, source=step.source)
                for step in owner.recovery.steps
            ),
            depends_on=tuple(owner.depends_on),
            basis=_basis(name, owner, settings, history, passed, known),
        )
        for name, owner in settings.applications.items()
    )


def _basis(
    name: str,
    owner: Application,
    settings: Settings,
    history: History,
    passed: Mapping[tuple[str, str], list[Fact]],
    summaries: Mapping[tuple[str, str], JobSummary],
) -> Basis | None:
    """Return the test to rest on: of a copy that did not fail since, then of one proved immutable."""
    found = []
    for repository in sorted({job.repository for job in owner.backups.values()}):
        tests = passed.get((name, repository))
        if not tests:
            continue
        newest = max(tests, key=lambda one: one.seq)
        size, at = _newest(name, owner, repository, summaries)
        found.append(_of_test(newest, name, repository, settings, history, size, at))
    return min(found, key=_preference, default=None)


def _preference(basis: Basis) -> tuple[bool, bool, int, str]:
    return (
        basis.failed_seq is not None,
        not basis.immutable,
        -(basis.newest_at or 0),
        basis.repository,
    )


def _of_test(
    fact: Fact,
    application: str,
    repository: str,
    settings: Settings,
    history: History,
    newest_bytes: int | None,
    newest_at: int | None,
) -> Basis:
    data = payload(fact)
    took = {phase["phase"]: int(phase["duration_ms"]) for phase in data.get("phases") or ()}
    bearing = history.concluded.get(application_subject(application), {})
    failed = [
        one.seq
        for place in (repository, "-")
        if (one := bearing.get(place)) is not None
        and payload(one).get("verdict") == Verdict.FAILED
        and one.seq > fact.seq
    ]
    tried = history.tried.of(repository_subject(repository)).get(CONCLUDED)
    fetch_ms, open_ms = took.get(Phase.FETCH.value, 0), took.get(Phase.OPEN.value, 0)
    load_ms = took.get(Phase.PREPARE.value, 0) + took.get(Phase.LOAD.value, 0)
    return Basis(
        seq=fact.seq,
        tested_at=to_us(fact.observation.observed_at),
        repository=repository,
        host=settings.repositories[repository].talks_to,
        engine=str(data.get("engine") or "unknown"),
        level=int(data.get("level") or 0),
        tested_bytes=int(data.get("bytes") or 0),
        fetch_ms=fetch_ms,
        load_ms=load_ms,
        open_ms=open_ms,
        newest_bytes=newest_bytes if data.get("bytes") else None,
        newest_at=newest_at,
        immutable=tried is not None and payload(tried).get("verdict") == Verdict.PASSED,
        failed_seq=max(failed, default=None),
        fact=fact,
    )


def _newest(
    name: str,
    owner: Application,
    repository: str,
    summaries: Mapping[tuple[str, str], JobSummary],
) -> tuple[int | None, int | None]:
    """Return the size and the time of an application's newest copy in a repository.

    Jobs that save different data are restored one after the other: their sizes add up.
    """
    sizes: dict[str, int] = {}
    times: list[int] = []
    for job, backup in owner.backups.items():
        summary = summaries.get((f"{name}.{job}", repository))
        if backup.repository != repository or summary is None or summary.newest is None:
            continue
        times.append(to_us(summary.newest))
        what = backup.select.model_dump_json()
        sizes[what] = max(sizes.get(what, 0), summary.newest_bytes or 0)
    return sum(sizes.values()) or None, max(times, default=None)
