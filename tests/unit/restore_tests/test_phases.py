"""The order of phases and who is to blame, with a repository and an engine that do as they are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from backupguard.contracts import EngineSettings, Fetched, JobSelector, Match, Program, Requirements
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    Cancelled,
    Changing,
    MissingMeans,
    Unreachable,
    UsageError,
)
from backupguard.evidence.kinds import check_payload
from backupguard.model import (
    AgeClass,
    CheckResult,
    Fact,
    Fingerprint,
    Observation,
    Phase,
    PointState,
    RecoveryPoint,
    RestoreTestResult,
    Verdict,
    to_us,
)
from backupguard.testing.contexts import TestContext, context
from restore_tests import selection
from restore_tests.outcome import payload
from restore_tests.phases import RestoreTestPlan, restore_test

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def point(
    native_id: str, hours: int, state: PointState = PointState.COMPLETE, **values: Any
) -> RecoveryPoint:
    at = NOW - timedelta(hours=hours)
    return RecoveryPoint(
        repository="nas",
        job="dpi.nightly",
        native_id=native_id,
        at=at,
        covers_until=at,
        state=state,
        **values,
    )


@dataclass
class Repository:
    standing: list[RecoveryPoint]
    errors: list[Exception] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def points(self, jobs: Any) -> Iterator[RecoveryPoint]:
        yield from self.standing

    def fetch(self, request: Any, into: Path) -> Fetched:
        self.fetched.append(request.point.native_id)
        (into / "dump").write_bytes(b"dump")
        if self.errors:
            raise self.errors.pop(0)
        return Fetched(artifact=PurePosixPath("dump"), bytes=4, files=1, tools={"restic": "0.14"})


@dataclass
class Repositories:
    entries: dict[str, Repository | Exception]
    left: int | None = None

    def allowance(self, identifier: str) -> int | None:
        return self.left

    @contextmanager
    def open(self, identifier: str) -> Iterator[Any]:
        entry = self.entries[identifier]
        if isinstance(entry, Exception):
            raise entry
        yield entry


@dataclass
class Engine:
    name: str = "stub"
    settings: type[EngineSettings] = EngineSettings
    raises: dict[str, BaseException] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    programs: tuple[Program, ...] = ()
    needs: int = 0
    recognises: bool = True

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.raises:
            raise self.raises[name]

    def recognise(self, sample: Any) -> Match | None:
        return (
            Match(engine="stub", certainty=90, format="f", version=None)
            if self.recognises
            else None
        )

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        return Requirements(programs=self.programs, disk_bytes=self.needs, memory_bytes=0)

    def prepare(self, trial: Any) -> None:
        self._called("prepare")

    def load(self, trial: Any) -> None:
        self._called("load")

    def open(self, trial: Any) -> None:
        self._called("open")

    def verify(self, trial: Any, level: int) -> Iterator[CheckResult]:
        self._called("verify")
        yield CheckResult(name="engine-consistency", level=2, verdict=Verdict.PASSED, code="ok")

    def fingerprint(self, trial: Any) -> Fingerprint | None:
        return Fingerprint(tables={"a.b": 1})

    def close(self, trial: Any) -> None:
        self._called("close")


@dataclass
class Bench:
    context: TestContext
    engine: Engine = field(default_factory=Engine)
    repositories: dict[str, Any] = field(default_factory=dict)
    facts: list[Any] = field(default_factory=list)
    sandboxes: list[str] = field(default_factory=list)
    limit: Exception | None = None
    left: int | None = None

    def run(self, **plan: Any) -> RestoreTestResult:
        names = self.repositories or {"nas": Repository([point("p1", 4)])}
        selectors = {n: (JobSelector(job="dpi.nightly", application="dpi"),) for n in names}

        @contextmanager
        def sandbox(artifact: Path) -> Iterator[Any]:
            self.sandboxes.append("opened")
            try:
                yield object()
            except Exception as error:
                self.sandboxes.append("closed")
                raise self.limit or error from error
            self.sandboxes.append("closed")

        values = {"run": "01JRUN", "application": "dpi", "selectors": selectors, **plan}
        return restore_test(
            RestoreTestPlan(**values),
            repositories=Repositories(names, self.left),  # type: ignore[arg-type]
            engines={"stub": self.engine},  # type: ignore[dict-item]
            sandbox=sandbox,
            context=self.context,
            record=self.facts.append,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = context(tmp_path)
    made.clock.set(NOW)
    return Bench(made)


def phases(result: RestoreTestResult) -> list[Phase]:
    return [done.phase for done in result.phases]


def test_all_phases_are_timed_recorded_and_cleaned_up(bench: Bench) -> None:
    result = bench.run()
    assert (result.verdict, result.code, result.level) == (Verdict.PASSED, None, 2)
    assert phases(result) == list(Phase)
    assert [fact.key for fact in bench.facts] == [f"run/01JRUN/phase/{phase}" for phase in Phase]
    for fact in bench.facts:
        check_payload(fact.kind, 1, fact.data)
    assert bench.sandboxes == ["opened", "closed"]
    assert not list(bench.context.work.iterdir())
    assert result.tools == {"restic": "0.14"}


@pytest.mark.parametrize("name", ["prepare", "load", "open", "verify"])
@pytest.mark.parametrize(
    ("error", "verdict", "code"),
    [
        (BackupDefect("load_refused"), Verdict.FAILED, "load_refused"),
        (MissingMeans("no_disk"), Verdict.COULD_NOT_VERIFY, "no_disk"),
        (ValueError("Dupont, née le 3 mars"), Verdict.COULD_NOT_VERIFY, "bug"),
    ],
)
def test_the_class_of_the_error_decides_and_discard_happens(
    bench: Bench, capfd, name: str, error: Exception, verdict: Verdict, code: str
) -> None:
    bench.engine.raises[name] = error
    result = bench.run()
    assert (result.verdict, result.code) == (verdict, code)
    assert phases(result)[-2:] == [Phase(name), Phase.DISCARD]
    assert bench.engine.calls[-1] == "close"
    assert bench.sandboxes == ["opened", "closed"]
    assert not list(bench.context.work.iterdir())
    assert "Dupont" not in "".join(capfd.readouterr()) + repr(result) + repr(bench.facts)


@pytest.mark.parametrize("left", [0, 3, 4, None], ids=["none", "too-little", "just", "no-limit"])
def test_a_point_larger_than_what_may_be_read_today_is_not_fetched(
    bench: Bench, left: int | None
) -> None:
    repository = Repository([point("p1", 4, bytes=4)])
    bench.repositories = {"nas": repository}
    bench.left = left
    result = bench.run()
    if left in {0, 3}:
        assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "daily_limit")
        assert repository.fetched == []
        assert phases(result) == [Phase.SELECT, Phase.FETCH, Phase.DISCARD]
    else:
        assert (result.verdict, repository.fetched) == (Verdict.PASSED, ["p1"])


def test_a_limit_of_the_sandbox_explains_what_it_ended(bench: Bench) -> None:
    bench.engine.raises["load"] = BackupDefect("load_refused")
    bench.limit = MissingMeans("no_disk")
    result = bench.run()
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "no_disk")


@pytest.mark.parametrize("error", [Cancelled("by_operator"), KeyboardInterrupt()])
def test_who_ends_a_test_still_leaves_nothing_behind(bench: Bench, error: BaseException) -> None:
    bench.engine.raises["load"] = error
    with pytest.raises(type(error)):
        bench.run()
    assert bench.facts[-1].data["phase"] == "discard"
    assert bench.facts[-2].data["code"] == "by_operator"
    assert bench.engine.calls[-1] == "close"
    assert not list(bench.context.work.iterdir())


def test_a_repository_that_changed_is_asked_once_more(bench: Bench) -> None:
    nas = Repository([point("p1", 4)], errors=[Changing("repository_changed")])
    bench.repositories = {"nas": nas}
    assert bench.run().verdict is Verdict.PASSED
    assert nas.fetched == ["p1", "p1"]
    nas.errors = [Changing("repository_changed"), Changing("repository_changed")]
    result = bench.run()
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "repository_changed")
    assert len({fact.key for fact in bench.facts[-5:]}) == 5


def test_another_repository_serves_where_one_does_not_answer(bench: Bench) -> None:
    bench.repositories = {"far": Unreachable("timeout"), "nas": Repository([point("p1", 4)])}
    result = bench.run()
    assert (result.verdict, result.repository) == (Verdict.PASSED, "nas")
    bench.repositories = {"far": Unreachable("timeout"), "nas": Repository([])}
    result = bench.run()
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "timeout")
    bench.repositories = {"nas": AccessRefused("wrong_key")}
    assert bench.run().code == "wrong_key"


def test_the_newest_point_of_all_repositories_is_the_latest(bench: Bench) -> None:
    bench.repositories = {"a": Repository([point("old", 30)]), "b": Repository([point("new", 5)])}
    assert bench.run().point == "new"
    assert bench.run(point="oldest").point == "old"
    assert bench.run(repository="a").point == "old"
    assert bench.run(point="new").repository == "b"
    assert bench.run(repository="c").code == "unknown_subject"


def test_nothing_that_could_be_restored_is_a_failure(bench: Bench) -> None:
    bench.repositories = {"nas": Repository([point("p", 1, PointState.FAILED)])}
    result = bench.run()
    assert (result.verdict, result.code, result.level) == (Verdict.FAILED, "no_point", 0)
    assert phases(result) == [Phase.SELECT, Phase.DISCARD]


def test_points_of_the_future_accuse_a_clock_and_no_backup(bench: Bench) -> None:
    bench.repositories = {"nas": Repository([point("p", 1, PointState.FAILED), point("f", -48)])}
    result = bench.run()
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "clock_behind")


def test_means_are_checked_before_anything_is_loaded(bench: Bench) -> None:
    bench.engine.programs = (Program(name="nothing", directories=(Path("/usr/bin"),), package="x"),)
    lacking = bench.run()
    assert (lacking.code, lacking.lacked) == ("program_missing", "x")
    assert payload(lacking)["lacked"] == "x"  # type: ignore[index]
    bench.engine.programs = ()
    bench.engine.needs = 1 << 60
    assert bench.run().code == "no_disk"
    bench.engine.needs = 0
    bench.repositories = {"nas": Repository([point("p1", 4, bytes=1 << 60)])}
    result = bench.run()
    assert (result.code, phases(result)[-2]) == ("no_disk", Phase.FETCH)
    assert bench.sandboxes == []


def test_what_nobody_recognises_is_a_defect_only_where_an_engine_is_known(bench: Bench) -> None:
    bench.engine.recognises = False
    assert bench.run().code == "unrecognised_artifact"
    named = bench.run(settings=EngineSettings(engine="stub"))
    assert (named.verdict, named.code) == (Verdict.FAILED, "not_a_dump")
    known = bench.run(previous=Fingerprint(tables={"a.b": 1}))
    assert (known.verdict, known.code) == (Verdict.FAILED, "not_a_dump")
    unknown = bench.run(settings=EngineSettings(engine="oracle"))
    assert (unknown.verdict, unknown.code) == (Verdict.COULD_NOT_VERIFY, "program_missing")


# ----------------------------------------------------------------------------------------- selection


def test_rotation_takes_every_copy_and_every_age_in_turn() -> None:
    """A year of weekly tests of two copies with the same points, replayed from what each recorded."""
    ages = {"new": 1, "d3": 3 * 24, "d20": 20 * 24, "d21": 21 * 24, "d90": 90 * 24}
    points = [point(name, hours) for name, hours in sorted(ages.items(), key=lambda one: -one[1])]
    done: list[Fact] = []
    taken: list[tuple[str, str]] = []
    for week in range(16):
        before = selection.tested(done)
        name = selection.order(["b", "a"], "rotate", before)[0]
        chosen = selection.choose(points, "rotate", NOW, before, name)
        taken.append((name, chosen.native_id))
        age = selection.age_of(points, chosen, NOW)
        done.append(_restored(name, chosen, age, NOW + timedelta(days=7 * week)))
    assert [name for name, _ in taken[:4]] == ["a", "b", "a", "b"]
    of_a = [native for name, native in taken if name == "a"]
    of_b = [native for name, native in taken if name == "b"]
    assert of_a == ["new", "d3", "new", "d90", "new", "d21", "new", "d3"]
    assert of_b == ["new", "d21", "new", "d3", "new", "d90", "new", "d20"]
    assert selection.order(["b", "a"], "latest", selection.tested(done)) == ["a", "b"]


def test_a_copy_that_cannot_be_verified_does_not_keep_the_others_waiting() -> None:
    late = _restored("a", point("p1", 1), AgeClass.NEWEST, NOW, verdict="could_not_verify")
    early = _restored("b", point("p1", 1), AgeClass.NEWEST, NOW - timedelta(days=1))
    before = selection.tested([early, late])
    assert selection.order(["a", "b", "c"], "rotate", before) == ["c", "b", "a"]
    assert selection.order(["a", "b", "c"], "rotate", before, first={"a"}) == ["a", "c", "b"]


def test_results_that_reached_no_point_and_pruned_ones_say_nothing() -> None:
    nowhere = _restored("a", None, None, NOW)
    pruned = replace(nowhere, observation=replace(nowhere.observation, data=None))
    assert selection.tested([nowhere, pruned]) == selection.Tested()


def test_a_result_from_before_age_classes_counts_for_the_age_of_its_point() -> None:
    old = _restored("a", point("p1", 24 * 40), AgeClass.OLDER, NOW)
    data = {name: value for name, value in old.observation.data.items() if name != "age"}
    bare = replace(old, observation=replace(old.observation, data=data))
    assert selection.tested([bare]) == selection.tested([old])


def _restored(
    repository: str,
    chosen: RecoveryPoint | None,
    age: AgeClass | None,
    at: datetime,
    verdict: str = "passed",
) -> Fact:
    data = {
        "repository": repository,
        "point": chosen.native_id if chosen else None,
        "point_at": to_us(chosen.at) if chosen else None,
        "verdict": verdict,
        "age": age.value if age else None,
    }
    seen = Observation(
        kind="restore-test.result", subject="application/dpi", observed_at=at, data=data, key="k"
    )
    return Fact(seq=1, recorded_at=at, run=None, author=None, hash=b"", observation=seen)


def test_an_id_may_be_shortened_but_not_guessed() -> None:
    points = [point("abcdef01", 1), point("abcdef02", 2)]
    assert selection.choose(points, "abcdef02", NOW).native_id == "abcdef02"
    assert selection.choose(points, "abcdef01", NOW).native_id == "abcdef01"
    for wanted in ("abcdef0", "abc", "zzzzzzzz"):
        with pytest.raises(UsageError):
            selection.choose(points, wanted, NOW)
