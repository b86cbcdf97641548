"""The task `self-test`: a copy is broken on purpose, and its restore test must fail.

Whatever comes of it is a fact of its own: nothing of it counts as a restore test of the application.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from backupguard import plugins
from backupguard.contracts import EngineSettings
from backupguard.errors import MissingMeans
from backupguard.media import is_away
from backupguard.model import (
    SITE,
    Fact,
    Json,
    Observation,
    Origin,
    RestoreTestResult,
    Verdict,
    application_subject,
)

if TYPE_CHECKING:
    from backupguard.contracts import Repositories
    from backupguard.runs import TaskContext
    from restore_tests.breaking import Harm
    from restore_tests.phases import RestoreTestPlan

KIND = "self-test.result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The copy to break: one whose restore test passed, so that only the damage can make it fail."""

    application: str
    repository: str
    engine: str
    results: tuple[Fact, ...]


def self_test(task: TaskContext) -> tuple[Verdict, str | None]:
    """Break a copy of the most vital application's and restore it.

    Passes when that restore test failed; fails (damage_missed) when it passed all the same. Anything
    else proves nothing. Raises MissingMeans (nothing_to_break) before any restore test has passed.
    """
    from backupguard.daemon import tasks  # which holds this task in its table
    from restore_tests import phases
    from restore_tests.breaking import Breaking

    chosen = choose(task)
    turn = sum(1 for _ in task.store.facts(kinds=[KIND], subject=SITE))
    breaking = Breaking(task.repositories(chosen.repository), chosen.engine, turn)
    result = phases.restore_test(
        _plan(task, chosen),
        repositories=cast("Repositories", breaking),
        engines=plugins.engines(),
        sandbox=tasks.sandboxes(task),
        context=task.context,
        record=lambda _: None,  # no phase of it is one of the application's
    )
    task.tools_used.update(result.tools)
    harm = breaking.done[-1] if breaking.done else None
    red = noticed(result, harm)
    task.record(
        Observation(
            kind=KIND,
            subject=SITE,
            observed_at=task.context.now(),
            data=payload(result, chosen, harm, red),
            key=f"run/{task.run.id}/self-test",
        )
    )
    if red is None:
        return Verdict.COULD_NOT_VERIFY, result.code
    return (Verdict.PASSED, None) if red else (Verdict.FAILED, "damage_missed")


def noticed(result: RestoreTestResult, harm: Harm | None) -> bool | None:
    """Tell whether the damage was noticed; None where nothing was broken or nobody can tell."""
    if harm is None or result.verdict not in (Verdict.PASSED, Verdict.FAILED):
        return None
    return result.verdict is Verdict.FAILED


def payload(
    result: RestoreTestResult, chosen: Chosen, harm: Harm | None, red: bool | None
) -> dict[str, Json]:
    """Return what the fact holds."""
    return {
        "application": chosen.application,
        "repository": chosen.repository,
        "point": result.point or None,
        "engine": chosen.engine,
        "harm": harm.value if harm is not None else None,
        "verdict": result.verdict.value,
        "code": result.code,
        "noticed": red,
    }


def choose(task: TaskContext) -> Chosen:
    """Return the copy to break: of the most vital application, the smallest. Raises MissingMeans."""
    found: list[tuple[tuple[str, int, str], Chosen]] = []
    for name, owner in task.settings.applications.items():
        facts = task.store.facts(kinds=["restore-test.result"], subject=application_subject(name))
        results = tuple(fact for fact in facts if fact.observation.origin is Origin.OBSERVED)
        newest = next((f.observation.data for f in reversed(results) if f.observation.data), None)
        if newest is None or newest["verdict"] != Verdict.PASSED.value or newest["level"] < 2:
            continue
        repository = str(newest["repository"])
        only = task.run.request.options.get("repository") or repository
        if repository != only or repository not in task.settings.fetchable(name):
            continue
        if is_away(task.settings, repository, task.context):
            continue
        chosen = Chosen(
            application=name, repository=repository, engine=newest["engine"], results=results
        )
        found.append(((owner.criticality.value, newest["bytes"], name), chosen))
    if not found:
        raise MissingMeans("nothing_to_break")
    return min(found, key=lambda one: one[0])[1]


def _plan(task: TaskContext, chosen: Chosen) -> RestoreTestPlan:
    from backupguard.daemon import tasks
    from restore_tests.phases import RestoreTestPlan

    settings, name = task.settings, chosen.application
    owner, subject = settings.applications[name], application_subject(name)
    jobs = tuple(
        settings.selector(name, job)
        for job, backup in owner.backups.items()
        if backup.repository == chosen.repository
    )
    facts = task.store.latest([subject]).get(subject, {})
    return RestoreTestPlan(
        run=task.run.id,
        application=name,
        selectors={chosen.repository: jobs},
        settings=owner.restore_test or EngineSettings(),
        rpo=owner.rpo,
        rto=owner.rto,
        baseline=tasks.baseline_of(facts, task.store.fact),
        previous=tasks.shape_of(chosen.results),
        limits=tasks.phase_limits(settings.daemon.limits),
        timezone=settings.site.timezone,
        in_clear=tasks.in_clear(task, name),
    )
