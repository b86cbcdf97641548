"""What records and settings say of every application's recovery: what the forecast is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupguard.assess.declared_estate import Estate, Owner, declared_estate
from backupguard.assess.forecast import Basis, Forecast, ToRecover, forecast
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
    from backupguard.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a forecast rests on: the newest facts by application and repository, by repository.

    `passed` are our own tests that passed, `concluded` those that said anything of the backup ("-"
    stands for no repository), `tried` the last conclusive attempts against a repository.
    """

    passed: Mapping[tuple[str, str], Fact]
    concluded: Mapping[tuple[str, str], Fact]
    tried: Mapping[str, Fact]


def site_forecast(
    settings: Settings, history: History, summaries: Iterable[JobSummary]
) -> Forecast:
    """Return the forecast of a whole site, from what its history and its inventory hold."""
    return forecast_of(declared_estate(settings), _proof(settings, history), summaries)


def forecast_of(declared: Estate, proof: Proof, summaries: Iterable[JobSummary]) -> Forecast:
    """Return the forecast of what was declared, from what was proved and listed by then."""
    known = {(one.job, one.repository): one for one in summaries}
    wanted = [
        ToRecover(
            application=name,
            criticality=owner.criticality,
            rto_ms=owner.rto_ms,
            steps=owner.steps,
            depends_on=owner.depends_on,
            basis=_basis(name, owner, declared, proof, known),
        )
        for name, owner in declared.applications.items()
    ]
    return forecast(wanted, parallel=declared.parallel, durable_percent=declared.durable_percent)


def _proof(settings: Settings, history: History) -> Proof:
    passed: dict[tuple[str, str], Fact] = {}
    for (application, _, repository, origin), fact in history.newest_success.items():
        if origin != Origin.OBSERVED.value:  # how long it took elsewhere says nothing of here
            continue
        before = passed.get((application, repository))
        if before is None or fact.seq > before.seq:
            passed[application, repository] = fact
    concluded = {
        (application, repository): fact
        for application in settings.applications
        for repository, fact in history.concluded.get(application_subject(application), {}).items()
    }
    tried = {
        name: found
        for name in settings.repositories
        if (found := history.tried.of(repository_subject(name)).get(CONCLUDED)) is not None
    }
    return Proof(passed=passed, concluded=concluded, tried=tried)


def _basis(
    name: str,
    owner: Owner,
    declared: Estate,
    proof: Proof,
    summaries: Mapping[tuple[str, str], JobSummary],
) -> Basis | None:
    """Return the test to rest on: of a copy that did not fail since, then of one proved immutable."""
    found = []
    for repository in owner.repositories:
        newest = proof.passed.get((name, repository))
        if newest is None:
            continue
        size, at = _newest(name, owner, repository, summaries)
        host = declared.repositories[repository].host
        found.append(_of_test(newest, name, repository, host, proof, size, at))
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
    host: str,
    proof: Proof,
    newest_bytes: int | None,
    newest_at: int | None,
) -> Basis:
    data = payload(fact)
    took = {phase["phase"]: int(phase["duration_ms"]) for phase in data.get("phases") or ()}
    failed = [
        one.seq
        for place in (repository, "-")
        if (one := proof.concluded.get((application, place))) is not None
        and payload(one).get("verdict") == Verdict.FAILED
        and one.seq > fact.seq
    ]
    tried = proof.tried.get(repository)
    fetch_ms, open_ms = took.get(Phase.FETCH.value, 0), took.get(Phase.OPEN.value, 0)
    load_ms = took.get(Phase.PREPARE.value, 0) + took.get(Phase.LOAD.value, 0)
    return Basis(
        seq=fact.seq,
        tested_at=to_us(fact.observation.observed_at),
        repository=repository,
        host=host,
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
    owner: Owner,
    repository: str,
    summaries: Mapping[tuple[str, str], JobSummary],
) -> tuple[int | None, int | None]:
    """Return the size and the time of an application's newest copy in a repository.

    Jobs that save different data are restored one after the other: their sizes add up.
    """
    sizes: dict[str, int] = {}
    times: list[int] = []
    for job, backup in owner.jobs.items():
        summary = summaries.get((f"{name}.{job}", repository))
        if backup.repository != repository or summary is None or summary.newest is None:
            continue
        times.append(to_us(summary.newest))
        sizes[backup.data] = max(sizes.get(backup.data, 0), summary.newest_bytes or 0)
    return sum(sizes.values()) or None, max(times, default=None)
