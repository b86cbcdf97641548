"""A restore test from end to end: select, fetch, prepare, load, open, verify, discard.

Each phase is timed and recorded when it ends, however it ends. The class of an error decides the
verdict (only `BackupDefect` accuses the backup); what nobody foresaw is `could_not_verify`. `discard`
always happens. Nothing of the restored data passes through here but counts, times and codes.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

import psutil
import structlog
from pydantic import ValidationError

from backupguard.contracts import (
    Capability,
    Command,
    Context,
    Engine,
    EngineSettings,
    Fetched,
    FetchRequest,
    GivenInstance,
    JobSelector,
    Match,
    Part,
    Repositories,
    Repository,
    Requirements,
    Sandbox,
    Trial,
)
from backupguard.errors import (
    BackupDefect,
    BackupGuardError,
    Cancelled,
    Changing,
    MissingMeans,
    TimedOut,
    UsageError,
    verdict_of,
)
from backupguard.model import (
    AgeClass,
    Baseline,
    CheckResult,
    CleanPoint,
    Fingerprint,
    Measured,
    Observation,
    PartialTest,
    Phase,
    PhaseResult,
    RecoveryPoint,
    RestoreTestResult,
    Verdict,
    application_subject,
)
from restore_tests import canary, measures, outcome, partial, recognise, selection

log = structlog.get_logger(__name__)

#: Seconds a phase may take inside the sandbox when the plan says nothing else.
DEFAULT_LIMITS_S: Mapping[Phase, int] = {
    Phase.PREPARE: 1800,
    Phase.LOAD: 48 * 3600,
    Phase.OPEN: 3600,
    Phase.VERIFY: 12 * 3600,
}
#: Kept free beside what a test needs, so that the host itself never runs dry.
RESERVE_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTestPlan:
    """What to restore and how to judge it.

    `selectors` are the application's backup jobs by repository; `repository` restricts the test to one.
    `point` is "latest", "oldest", "rotate" (by `tested`, what was restored before; `first` are the
    repositories that come before all others) or an id.
    `limits` are seconds per phase; `timezone` the site's; `level` the highest level to try.
    `at` is the time to recover to: the log of the newest point before it is replayed so far.
    `instance` is the scratch server that the application's test names.
    `clean` are the points that were found clean, and what was measured in them. `in_clear`: restored
    data would lie in clear text on this host, which nobody accepted; nothing is fetched then.
    """

    run: str
    application: str
    selectors: Mapping[str, tuple[JobSelector, ...]]
    repository: str | None = None
    point: str = "latest"
    settings: EngineSettings | None = None
    rpo: timedelta | None = None
    rto: timedelta | None = None
    baseline: Baseline | None = None
    previous: Fingerprint | None = None
    limits: Mapping[Phase, int] = field(default_factory=dict)
    timezone: str = "UTC"
    tested: selection.Tested = field(default_factory=selection.Tested)
    first: frozenset[str] = frozenset()
    level: int = 3
    at: datetime | None = None
    instance: GivenInstance | None = None
    clean: tuple[CleanPoint, ...] = ()
    in_clear: bool = False


SandboxOpener = Callable[[Path], AbstractContextManager[Sandbox]]
Recorder = Callable[[Observation], None]


def restore_test(
    plan: RestoreTestPlan,
    *,
    repositories: Repositories,
    engines: Mapping[str, Engine],
    sandbox: SandboxOpener,
    context: Context,
    record: Recorder,
) -> RestoreTestResult:
    """Perform one restore test and return what was seen; each ended phase is given to `record`.

    `sandbox` is called with the directory that the sandbox shows as `/in`. Trouble of the backup or of
    the host never raises: it is the verdict and the code of the result. Cancelled and KeyboardInterrupt
    propagate, after `discard`.
    """
    test = _Test(
        plan=plan,
        repositories=repositories,
        engines=engines,
        sandbox=sandbox,
        context=context,
        record=record,
    )
    test.perform()
    return test.result()


def result_observation(result: RestoreTestResult, run: str, now: datetime) -> Observation:
    """Return the fact `restore-test.result` of a result; see `outcome.payload` for its shape."""
    return Observation(
        kind="restore-test.result",
        subject=application_subject(result.application),
        observed_at=now,
        data=outcome.payload(result),
        key=f"run/{run}/result",
    )


def _comparable(baseline: Baseline | None, point: RecoveryPoint) -> Baseline | None:
    """Return the baseline as it may be held against a point.

    What an older point lacks may have been added since: that is worth a word and proves no loss.
    """
    if baseline is None or baseline.point_at is None or point.at >= baseline.point_at:
        return baseline
    return replace(baseline, accepted=False)


def _as_read_by(engine: Engine, settings: EngineSettings | None) -> EngineSettings:
    """Return what the site says of a test as the engine that recognised the artifact reads it.

    Without `engine` in the file, the table was read by whichever class knew its keys: the checks in it
    are meant for this engine all the same. Raises MissingMeans (ambiguous_artifact) where a key says
    nothing to it.
    """
    if settings is None or isinstance(settings, engine.settings):
        return settings or engine.settings()
    given = settings.model_dump(by_alias=True, exclude_unset=True)
    try:
        return engine.settings.model_validate(given)
    except ValidationError as error:
        raise MissingMeans("ambiguous_artifact", engines=engine.name) from error


@dataclass(slots=True, kw_only=True)
class _Test:
    """The state of one restore test between its phases."""

    plan: RestoreTestPlan
    repositories: Repositories
    engines: Mapping[str, Engine]
    sandbox: SandboxOpener
    context: Context
    record: Recorder
    phases: list[PhaseResult] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    error: tuple[Verdict, str] | None = None
    repository: str | None = None
    point: RecoveryPoint | None = None
    age: AgeClass | None = None
    fetched: Fetched | None = None
    engine: Engine | None = None
    trial: Trial | None = None
    fingerprint: Fingerprint | None = None
    measured: tuple[Measured, ...] = ()
    canary_at: datetime | None = None
    lacked: str | None = None
    part: Part | None = None
    partial: PartialTest | None = None
    tools: dict[str, str] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def into(self) -> Path:
        """Where the artifact is fetched to."""
        return self.context.work / "fetched"

    # -- the order of things

    def perform(self) -> None:
        try:
            self._select_and_fetch()
            trial, engine = self._prepare()
            with self._phase(Phase.LOAD):
                engine.load(trial)
            with self._phase(Phase.OPEN):
                engine.open(trial)
            self.tools.update(trial.memory.get("tools", {}))
            self._verify(trial, engine)
        except Cancelled as error:
            self._end(error)
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, it must become a fact)
            self.error, self.lacked = self._classified(error), outcome.lacked(error)
            self._end(error)
        except BaseException as error:
            self._end(error)
            raise
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        with suppress(Exception), self._phase(Phase.DISCARD):
            self._discard(error)

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        """Time a phase, tell that it ended, and let what ended it pass on."""
        if phase is not Phase.DISCARD:
            self.context.cancel.raise_if_set()
        number = list(Phase).index(phase)
        self.context.progress(number, len(Phase), f"phase.{phase.value}")
        if self.trial is not None:
            limit = self.plan.limits.get(phase) or DEFAULT_LIMITS_S.get(phase, 3600)
            self.trial.memory["timeout_s"] = limit
        started = time.monotonic()
        verdict, code = Verdict.PASSED, None
        try:
            yield
            if phase is Phase.VERIFY:
                verdict, code = outcome.of_checks(self.checks)
        except BaseException as error:
            verdict, code = self._classified(error)
            raise
        finally:
            duration = round((time.monotonic() - started) * 1000)
            ended = PhaseResult(phase=phase, verdict=verdict, duration_ms=duration, code=code)
            self.phases.append(ended)
            self.record(self._phase_observation(ended))

    def _phase_observation(self, ended: PhaseResult) -> Observation:
        return Observation(
            kind="restore-test.phase",
            subject=application_subject(self.plan.application),
            observed_at=self.context.now(),
            data={
                "application": self.plan.application,
                "repository": self.repository,
                "phase": ended.phase.value,
                "verdict": ended.verdict.value,
                "duration_ms": ended.duration_ms,
                "code": ended.code,
            },
            # A phase that is tried again after a change of the repository is another fact.
            key=f"run/{self.plan.run}/phase/{ended.phase.value}{self._attempt(ended.phase)}",
        )

    def _attempt(self, phase: Phase) -> str:
        count = sum(done.phase is phase for done in self.phases)
        return "" if count == 1 else f"/{count}"

    def _classified(self, error: BaseException) -> tuple[Verdict, str]:
        if isinstance(error, KeyboardInterrupt):
            return Verdict.COULD_NOT_VERIFY, "by_operator"
        verdict, code = verdict_of(error)
        if code == "bug" and not isinstance(error, BackupGuardError):
            # Where, never what: the text of an unforeseen error may quote the data it stumbled on.
            places = [
                f"{frame.name}:{frame.lineno}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
            log.error(
                "restore_test.bug", run=self.plan.run, type=type(error).__name__, at=places[-6:]
            )
        return verdict, code

    # -- select, fetch

    def _select_and_fetch(self) -> None:
        try:
            self._select_and_fetch_once()
        except Changing:
            # Once more, from a fresh index; the second time it is what the verdict says.
            self._remove_fetched()
            self._select_and_fetch_once()

    def _select_and_fetch_once(self) -> None:
        with ExitStack() as opened:
            with self._phase(Phase.SELECT):
                repository, point = self._select(opened)
            with self._phase(Phase.FETCH):
                if self.plan.in_clear:
                    raise MissingMeans("scratch_in_clear")
                needed = self._needed(point)
                self._need_room(needed)
                self._need_allowance(needed)
                self.into.mkdir(mode=0o700, parents=True)
                at = self.plan.at
                if at is not None and Capability.PITR not in repository.capabilities:
                    at = None  # what came with the copy must do
                request = FetchRequest(
                    point=point,
                    selector=self._selector(point),
                    at=at,
                    exact=self._exact(),
                    part=self._part(),
                )
                self.fetched = repository.fetch(request, self.into)
                self._say_part(request.part)
                self.tools.update(self.fetched.tools)

    def _select(self, opened: ExitStack) -> tuple[Repository, RecoveryPoint]:
        """Return the opened repository and the point; another one serves where one does not answer."""
        plan, now = self.plan, self.context.now()
        names = [name for name, jobs in plan.selectors.items() if jobs]
        if plan.repository is not None:
            names = [name for name in names if name == plan.repository]
        if not names:
            raise UsageError("unknown_subject", subject=plan.repository or plan.application)
        found: dict[str, tuple[Repository, RecoveryPoint]] = {}
        errors: list[BackupGuardError] = []
        ages: dict[str, AgeClass] = {}
        for name in selection.order(names, plan.point, plan.tested, plan.first):
            try:
                repository = opened.enter_context(self.repositories.open(name))
                points = selection.leading_to(repository.points(plan.selectors[name]), plan.at)
                chosen = selection.choose(points, plan.point, now, plan.tested, name)
                found[name] = repository, chosen
                ages[name] = selection.age_of(points, chosen, now)
            except Cancelled:
                raise
            except BackupGuardError as error:
                errors.append(error)
            if found and plan.point not in {"latest", "oldest"}:
                break
        if not found:
            # A repository that could not be asked is no proof that there is nothing in it.
            raise next((e for e in errors if e.verdict is not Verdict.FAILED), errors[0])
        pick = min if plan.point == "oldest" else max
        self.repository = pick(found, key=lambda name: found[name][1].at)
        repository, self.point = found[self.repository]
        self.age = ages[self.repository]
        return repository, self.point

    def _selector(self, point: RecoveryPoint) -> JobSelector:
        assert self.repository is not None
        jobs = self.plan.selectors[self.repository]
        return next((job for job in jobs if job.job == point.job), jobs[0])

    def _part(self) -> Part | None:
        """Return how much of over-size data the site declares that a test restores."""
        said = partial.declared(self.plan.settings)
        if said is None:
            return None
        return partial.asked(self.context, self.plan.application, self.repository or "", said)

    def _say_part(self, asked: Part | None) -> None:
        said, fetched = partial.declared(self.plan.settings), self.fetched
        if asked is None or said is None or fetched is None or fetched.part is None:
            return
        self.part = asked
        self.partial = partial.done(said, asked, fetched.part, self.context.now())

    def _keep_part(self) -> None:
        """Remember which shares were read, once they were looked at as well."""
        fetched = self.fetched
        if self.part is None or fetched is None or fetched.part is None:
            return
        partial.keep(
            self.context,
            self.plan.application,
            self.repository or "",
            self.part,
            fetched.part,
            self.context.now(),
        )

    def _exact(self) -> bool:
        """Tell whether the engine that the site names leaves it to the repository to compare bytes."""
        named = self.plan.settings.engine if self.plan.settings else None
        return bool(named and getattr(self.engines.get(named), "exact", False))

    def _needed(self, point: RecoveryPoint) -> int:
        said = partial.declared(self.plan.settings)
        return min(point.bytes or 0, said.max_bytes) if said is not None else point.bytes or 0

    def _need_room(self, needed: int) -> None:
        free = psutil.disk_usage(str(self.context.work)).free
        if free < needed + RESERVE_BYTES:
            raise MissingMeans("no_disk", needed=needed + RESERVE_BYTES, free=free)

    def _need_allowance(self, needed: int) -> None:
        """Raise TimedOut when this point is more than may be read from its repository today."""
        assert self.repository is not None
        left = self.repositories.allowance(self.repository)
        if left is not None and (left == 0 or needed > left):
            raise TimedOut("daily_limit", needed=needed, left=left)

    # -- prepare

    def _prepare(self) -> tuple[Trial, Engine]:
        with self._phase(Phase.PREPARE):
            fetched, point = self.fetched, self.point
            assert fetched is not None
            assert point is not None
            match = self._match(fetched)
            self.engine = engine = self.engines[match.engine]
            if self.plan.at is not None and not getattr(engine, "point_in_time", False):
                raise MissingMeans("no_point_in_time")
            self._need(engine.requirements(match, fetched.bytes))
            opened = self.stack.enter_context(self.sandbox(self.into))
            self.trial = Trial(
                sandbox=opened,
                artifact=PurePosixPath("/in") / fetched.artifact,
                match=match,
                settings=_as_read_by(engine, self.plan.settings),
                # A part has a shape of its own, another one each time.
                baseline=None if self.partial else _comparable(self.plan.baseline, point),
                previous=None if self.partial else self.plan.previous,
                point_at=self.plan.at or point.at,
                context=self.context,
                memory=self._memory(),
                key=uuid4().bytes + uuid4().bytes,
            )
            engine.prepare(self.trial)
        return self.trial, engine

    def _memory(self) -> dict[str, Any]:
        limit = self.plan.limits.get(Phase.PREPARE) or DEFAULT_LIMITS_S[Phase.PREPARE]
        return {
            "timezone": self.plan.timezone,
            "rpo": self.plan.rpo,
            "timeout_s": limit,
            "at": self.plan.at,
            "instance": self.plan.instance,
            "source_host": self.point.source_host if self.point else None,
            "artifact_bytes": self.fetched.bytes if self.fetched else 0,
            "application": self.plan.application,
            "partial": self.partial,
        }

    def _match(self, fetched: Fetched) -> Match:
        """Return the match; what is nobody's is a defect once the engine is known."""
        named = self.plan.settings.engine if self.plan.settings else None
        if named is not None and named not in self.engines:
            raise MissingMeans("program_missing", program=named)
        engines = (
            {named: self.engines[named]}
            if named
            else {
                name: engine
                for name, engine in self.engines.items()
                if not getattr(engine, "only_when_named", False)
            }
        )
        sample = recognise.take_sample(self.into, fetched.artifact, self.context)
        try:
            return recognise.recognise(sample, engines)
        except MissingMeans as error:
            expected = bool(named) or self._known_engine()
            if error.code == "unrecognised_artifact" and expected and not recognise.wrapped(sample):
                raise BackupDefect("not_a_dump") from error
            raise

    def _known_engine(self) -> bool:
        if self.plan.previous is not None or self.plan.baseline is not None:
            return True
        subject = application_subject(self.plan.application)
        fact = self.context.known.latest("restore-test.result", subject)
        return bool(fact and fact.observation.data.get("engine"))

    def _need(self, needs: Requirements) -> None:
        for program in needs.programs:
            if not any((place / program.name).exists() for place in program.directories):
                raise MissingMeans("program_missing", program=program.name, package=program.package)
        self._need_room(needs.disk_bytes)
        available = psutil.virtual_memory().available
        if available < needs.memory_bytes:
            raise MissingMeans("no_memory", needed=needs.memory_bytes, free=available)

    # -- verify, discard

    def _verify(self, trial: Trial, engine: Engine) -> None:
        with self._phase(Phase.VERIFY):
            for check in engine.verify(trial, self.plan.level):
                self.checks.append(check)
                self.context.cancel.raise_if_set()
            self.fingerprint = None if self.partial else engine.fingerprint(trial)
            self._keep_part()
            if self.plan.level >= outcome.LEVEL_CONTENT:
                self._compare(trial, engine.name)

    def _compare(self, trial: Trial, engine: str) -> None:
        """Judge what was measured: the canary, and what must hold from one point to the next."""
        self.measured = measures.measured(trial, self.fingerprint)
        self.canary_at = canary.written_at(trial)
        accepted = self.plan.baseline.point_at if self.plan.baseline is not None else None
        others = self.plan.clean
        self.checks += canary.judged(trial, others, engine)
        self.checks += measures.judged(trial, self.fingerprint, others, engine, accepted)

    def _discard(self, error: BaseException | None) -> None:
        if self.engine is not None and self.trial is not None:
            with suppress(Exception):
                self.engine.close(self.trial)
        try:
            self.stack.__exit__(type(error) if error else None, error, None)
        except BackupGuardError as limit:
            # The sandbox knows better: what looked like a defect was a limit that it enforced.
            if error is None:
                raise
            self.error = self._classified(limit)
        finally:
            self._remove_fetched()
        left = self.trial.memory.get("left_behind") if self.trial is not None else None
        if isinstance(left, BackupGuardError):
            raise left

    def _remove_fetched(self) -> None:
        if not self.into.exists():
            return
        # In the jail: a tree made to be hard to remove must not hold up, or mislead, this process.
        command = Command(
            argv=("rm", "-rf", "--one-file-system", "--", str(self.into)),
            write=(self.context.work,),
            timeout_s=3600,
        )
        with suppress(BackupGuardError):
            self.context.tools.run(command)
        if self.into.exists():
            # A cancelled run starts no program any more.
            shutil.rmtree(self.into, ignore_errors=True)

    # -- the result

    def result(self) -> RestoreTestResult:
        accepted = self.plan.baseline is not None and self.plan.baseline.accepted
        point_at = self.point.at if self.point else self.context.now()
        verdict, code = self.error or outcome.of_phases(self.phases, self.checks)
        reached = outcome.level_reached(
            self.phases,
            self.checks,
            verdict,
            # Nobody can accept the shape of a part: its verdict rests on the site's checks alone.
            baseline_accepted=accepted or self.partial is not None,
        )
        # What an engine never proves, no check of the site's does either.
        reached = min(reached, getattr(self.engine, "highest_level", reached))
        return RestoreTestResult(
            application=self.plan.application,
            engine=self.engine.name if self.engine else "",
            repository=self.repository or "",
            point=self.point.native_id if self.point else "",
            point_at=point_at,
            target=self.plan.at,
            verdict=verdict,
            level=reached,
            phases=tuple(self.phases),
            checks=tuple(self.checks),
            data_loss_ms=outcome.data_loss_ms(self.checks, self.plan.at or point_at),
            bytes=self.fetched.bytes if self.fetched else 0,
            fingerprint=self.fingerprint,
            tools=dict(self.tools),
            code=code,
            freshness_heuristic=outcome.freshness(self.checks),
            baseline_accepted=accepted,
            checks_configured=sum(
                len(getattr(self.plan.settings, kind, ()) or ())
                for kind in ("checks", "invariants", "manifests")
            ),
            age=self.age,
            job=self.point.job if self.point else None,
            canary_at=self.canary_at,
            measured=self.measured,
            partial=self.partial,
            lacked=self.lacked,
        )


__all__ = [
    "JobSelector",
    "RestoreTestPlan",
    "restore_test",
    "result_observation",
]
