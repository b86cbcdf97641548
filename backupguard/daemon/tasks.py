"""The table of tasks: what a run's name stands for. Imported by whoever performs runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from backupguard import plugins
from backupguard.assess import clean_points
from backupguard.contracts import EngineSettings, GivenInstance, Sandbox, Secret
from backupguard.daemon import escrow, media_tests
from backupguard.daemon.anchors import anchor
from backupguard.daemon.declared_tests import imports
from backupguard.daemon.discovery import discovery
from backupguard.daemon.drift import drift
from backupguard.daemon.isolation import isolation
from backupguard.daemon.offline import offline
from backupguard.daemon.requests import BY_ITSELF
from backupguard.daemon.self_test import self_test
from backupguard.errors import (
    MEDIUM_AWAY,
    BackupDefect,
    BackupGuardError,
    EvidenceError,
    MissingMeans,
    UsageError,
)
from backupguard.media import is_away
from backupguard.model import (
    Baseline,
    Criticality,
    Fact,
    Fingerprint,
    Json,
    Message,
    Observation,
    Origin,
    Phase,
    Subject,
    Verdict,
    application_subject,
    from_us,
    instance_subject,
    repository_subject,
    worst,
)
from backupguard.runs import Task, TaskContext, repository_of, sandbox_limits
from backupguard.sandbox import open_sandbox, scratch_protection
from backupguard.settings.model import PhaseLimits

log = structlog.get_logger(__name__)

#: What a person said of a scratch server of a kind that was never seen alive.
CONFIRMED = "instance.confirmed"


def _observe(task: TaskContext, probe_name: str, *repositories: str) -> Iterator[Observation]:
    """Let a probe observe, store what it sees at once, and yield its observations."""
    probe = plugins.probe(probe_name)
    seen = probe.observe(
        task.run.request.subject,
        task.repositories(*repositories),
        task.context,
        task.settings.probe(probe_name),
    )
    unrecordable: set[Subject] = set()
    for item in seen:
        task.context.cancel.raise_if_set()
        if isinstance(item, Observation):
            observation = _stumbled(item) if item.subject in unrecordable else item
            task.recorded += len(task.keep(observation))
            yield observation
            continue
        try:
            task.recorded += len(task.keep(item))
        except (EvidenceError, TypeError, ValueError):
            # Values that no record can hold. They must not take the other repositories with them.
            log.exception("repository.unrecordable", repository=item.repository)
            unrecordable.add(repository_subject(item.repository))


def _stumbled(inspected: Observation) -> Observation:
    """Return an inspection that says that what the repository told could not be understood."""
    if inspected.kind != "repository.inspected" or inspected.data["code"] is not None:
        return inspected
    return replace(inspected, data={**inspected.data, "code": "output_unparsable"})


def _verdict(outcomes: Iterable[tuple[Verdict, str | None]]) -> tuple[Verdict, str | None]:
    """Return the worst verdict with the first code that goes with it."""
    known = list(outcomes)
    verdict = worst([verdict for verdict, _ in known])
    return verdict, next((code for candidate, code in known if candidate is verdict), None)


def inventory(task: TaskContext) -> tuple[Verdict, str | None]:
    """List the recovery points of the repositories asked for, all of them by default."""
    only = tuple(task.run.request.options.get("repositories") or ())
    outcomes: list[tuple[Verdict, str | None]] = []
    away = False
    for observation in _observe(task, "inventory", *only):
        if observation.kind == "repository.inspected":
            data = observation.data
            if (
                data["code"] == MEDIUM_AWAY
            ):  # nothing is wrong with that; what is on it was seen before
                away = True
                continue
            outcomes.append((_seen(data["reachable"], data["code"]), data["code"]))
            if data["tool"] and data["tool_version"]:
                task.tools_used[data["tool"]] = data["tool_version"]
    task.quiet = task.recorded == 0
    if away and not outcomes:
        return Verdict.SKIPPED, MEDIUM_AWAY
    return _verdict(outcomes)


def _seen(reachable: bool, code: str | None) -> Verdict:
    """Return what an inventory amounts to: one that stumbled over anything did not see everything."""
    if code in BackupDefect.codes:
        return Verdict.FAILED
    return Verdict.PASSED if reachable and code is None else Verdict.COULD_NOT_VERIFY


def integrity(task: TaskContext) -> tuple[Verdict, str | None]:
    """Verify one repository's structure and the share of its data that is due."""
    if is_away(task.settings, repository_of(task.run.request.subject), task.context):
        return Verdict.SKIPPED, MEDIUM_AWAY
    outcomes = [
        (Verdict(observation.data["verdict"]), observation.data["code"])
        for observation in _observe(task, "integrity", repository_of(task.run.request.subject))
        if observation.kind == "repository.verified"
    ]
    return _verdict(outcomes)


def immutability(task: TaskContext) -> tuple[Verdict, str | None]:
    """Read how one repository is protected, then try to break that as its backup writer."""
    if is_away(task.settings, repository_of(task.run.request.subject), task.context):
        return Verdict.SKIPPED, MEDIUM_AWAY
    kinds = ("protection.seen", "immutability.tried")
    outcomes = [
        (Verdict(observation.data["verdict"]), observation.data["code"])
        for observation in _observe(task, "immutability", repository_of(task.run.request.subject))
        if observation.kind in kinds
    ]
    return _verdict(outcomes)


def _fingerprint(data: Mapping[str, Json] | None) -> Fingerprint | None:
    return Fingerprint(**data) if data else None


def baseline_of(facts: Mapping[str, Fact], tested: Callable[[int], Fact | None]) -> Baseline | None:
    """Return the accepted shape of an application, None while nobody accepted one.

    `facts` are the newest facts of the application by kind; `tested` returns a fact by its number.
    """
    accepted, reset = facts.get("baseline.accepted"), facts.get("baseline.reset")
    if accepted is not None and (reset is None or reset.seq < accepted.seq):
        shape = _fingerprint(accepted.observation.data["fingerprint"])
        if shape is None:
            return None
        result = tested(accepted.observation.data["from_seq"])
        found = result.observation.data if result is not None else None
        point_at = found.get("point_at") if found else None  # None also where it was pruned
        return Baseline(
            fingerprint=shape,
            accepted=True,
            seq=accepted.seq,
            point_at=from_us(point_at) if point_at is not None else None,
        )
    return None


def shape_of(results: Sequence[Fact]) -> Fingerprint | None:
    """Return the shape seen by the last restore test that passed."""
    for fact in reversed(results):
        data = fact.observation.data
        if isinstance(data, Mapping) and data["verdict"] == Verdict.PASSED.value:
            return _fingerprint(data["fingerprint"])
    return None


def phase_limits(limits: PhaseLimits) -> Mapping[Phase, int]:
    """Return how long each phase may take, in seconds."""
    return {phase: int(getattr(limits, phase.value).total_seconds()) for phase in Phase}


def restore_test(
    task: TaskContext, handed: Callable[[], Secret] | None = None
) -> tuple[Verdict, str | None]:
    """Restore an application in the sandbox and record what was seen.

    `handed` returns the escrowed key that a person brought, where the run is to use one.
    """
    # The engines and what they share are heavy; the idle daemon holds this table too.
    from restore_tests import phases, selection

    options = task.run.request.options
    identifier = task.run.request.subject.removeprefix(application_subject(""))
    application = task.settings.applications.get(identifier)
    if application is None:
        raise UsageError("unknown_subject", subject=task.run.request.subject)
    fetchable = task.settings.fetchable(identifier)
    held = {*task.settings.repositories_of(identifier)} - {*fetchable}
    if held and (not fetchable or options.get("repository") in held):
        raise MissingMeans("not_fetchable")
    away = {name for name in fetchable if is_away(task.settings, name, task.context)}
    if away and (away == {*fetchable} or options.get("repository") in away):
        return Verdict.SKIPPED, MEDIUM_AWAY
    selectors: dict[str, list[phases.JobSelector]] = {}
    for job, backup in application.backups.items():
        if backup.repository not in fetchable or backup.repository in away:
            continue
        selectors.setdefault(backup.repository, []).append(task.settings.selector(identifier, job))
    facts = task.store.latest([task.run.request.subject]).get(task.run.request.subject, {})
    results = tuple(
        fact
        for fact in task.store.facts(
            kinds=["restore-test.result"], subject=task.run.request.subject
        )
        if fact.observation.origin is Origin.OBSERVED
    )
    # By itself BackupGuard goes through older points and all copies; a person gets what was asked.
    usual = "rotate" if task.run.request.requested_by in BY_ITSELF else "latest"
    tested = selection.tested(results)
    plan = phases.RestoreTestPlan(
        run=task.run.id,
        application=identifier,
        selectors={name: tuple(jobs) for name, jobs in selectors.items()},
        repository=options.get("repository"),
        point=options.get("point") or usual,
        settings=application.restore_test or EngineSettings(),
        rpo=application.rpo,
        rto=application.rto,
        baseline=baseline_of(facts, task.store.fact),
        previous=shape_of(results),
        limits=phase_limits(task.settings.daemon.limits),
        timezone=task.settings.site.timezone,
        at=datetime.fromisoformat(str(options["at"])) if options.get("at") else None,
        tested=tested,
        first=media_tests.leaving(task.settings, identifier, tested, task.context.now()),
        clean=clean_points.clean(
            task.store, task.settings, identifier, clean_points.TestedPoints(results)
        ),
        instance=_instance(task, application.restore_test),
        in_clear=in_clear(task, identifier),
    )

    escrowed = escrow.is_asked(options)
    if escrowed:
        task = escrow.with_escrowed_key(
            task, handed() if handed and escrow.HANDED in options else None
        )

    def record(observation: Observation) -> None:
        task.record(observation)

    result = phases.restore_test(
        plan,
        repositories=task.repositories(),
        engines=plugins.engines(),
        sandbox=sandboxes(task),
        context=task.context,
        record=record,
    )
    task.tools_used.update(result.tools)
    seen = phases.result_observation(result, task.run.id, task.context.now())
    key = {"key": escrow.ESCROW if escrowed else escrow.READER}
    if escrowed:  # the one that was asked for, also where the key did not open it
        key["repository"] = str(options.get("repository"))
    task.record(replace(seen, data={**seen.data, **key}))
    return result.verdict, result.code


def _instance(task: TaskContext, settings: EngineSettings | None) -> GivenInstance | None:
    """Return the scratch server that a test names, None where it names none."""
    name = getattr(settings, "instance", None)
    if not name:
        return None
    facts = task.store.latest([instance_subject(name)], [CONFIRMED])
    fact = facts.get(instance_subject(name), {}).get(CONFIRMED)
    data = fact.observation.data if fact is not None else None
    given = task.settings.instance(name)
    if given is None or not data or data["kind"] != given.settings.kind:
        return given
    return replace(given, confirmed=data["tool_major"])


def in_clear(task: TaskContext, application: str) -> bool:
    """Tell whether restored data of a vital application would lie in clear text, accepted by nobody.

    That is in scratch, or in what a scratch server reads copies from; its own disks cannot be seen.
    """
    owner = task.settings.applications[application]
    if owner.criticality is not Criticality.C1 or task.settings.scratch.clear_text_accepted_by:
        return False
    places = [task.context.work]
    name = getattr(owner.restore_test, "instance", None)
    given = task.settings.instance(name) if name else None
    if given is not None and given.settings.exchange is not None:
        places.append(given.settings.exchange)
    return any(_is_clear(place) for place in places)


def _is_clear(place: Path) -> bool:
    try:
        return scratch_protection(place) == "clear"
    except OSError:  # nothing can be put where nobody may look: the test ends there, and says so
        return False


def sandboxes(task: TaskContext) -> Callable[[Path], AbstractContextManager[Sandbox]]:
    """Return how a restore test opens its sandbox around a fetched artifact."""

    def open_around(artifact: Path) -> AbstractContextManager[Sandbox]:
        return open_sandbox(
            task.context.work / "sandbox",
            artifact,
            limits=sandbox_limits(task.settings.scratch),
            cancel=task.context.cancel,
        )

    return open_around


def last_month(now: datetime) -> str:
    """Return the month before `now` as "YYYY-MM"."""
    return (now.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


def report(task: TaskContext) -> tuple[Verdict, str | None]:
    """Write the monthly report; last month's by default."""
    from backupguard import reports

    options, wanted = task.run.request.options, task.settings.report
    problems: list[BackupGuardError] = []
    observations = reports.issue(
        task.store,
        task.settings,
        options.get("month") or last_month(task.context.now()),
        languages=tuple(
            options.get("languages") or wanted.languages or (task.settings.site.language,)
        ),
        formats=tuple(options.get("formats") or wanted.formats),
        output=Path(options["output"]) if options.get("output") else None,
        now=task.context.now(),
        without_paper=problems.append,
        cancel=task.context.cancel,
    )
    task.record(*observations)
    if problems:  # what could be written is written and on record
        raise problems[0]
    return Verdict.PASSED, None


def plan(task: TaskContext) -> tuple[Verdict, str | None]:
    """Write the recovery plan where the settings keep it, or where it was asked for."""
    from backupguard.reports.plan_issue import issue_plan

    asked = task.run.request.options.get("output")
    directory = Path(asked) if asked else task.settings.plan.directory
    if directory is None:
        raise UsageError("usage", Message(id="plan.no_directory"))
    task.record(*issue_plan(task.store, task.settings, directory, task.context.now()))
    return Verdict.PASSED, None


TASKS: Mapping[str, Task] = {
    "inventory": inventory,
    "integrity": integrity,
    "discovery": discovery,
    "immutability": immutability,
    "offline": offline,
    "isolation": isolation,
    "drift": drift,
    "self-test": self_test,
    "imports": imports,
    "restore-test": restore_test,
    "report": report,
    "plan": plan,
    "anchor": anchor,
}
