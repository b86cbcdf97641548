"""Whatever the facts: no control raises, time alone only worsens, nothing unseen is compliant."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.assess.job_known import NUMBERS
from backupguard.controls import BUILT
from backupguard.model import Judgement, NotMeasurableCause, Status, View, to_us
from tests.unit.controls.control_facts import (
    DAY,
    NOW,
    application,
    check,
    day,
    fact,
    job,
    judge,
    repository,
    result_of,
    site,
    verified,
)

#: A later moment may only bring a status at the same place or further right.
LADDER = (Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT)

verdicts = st.sampled_from(["passed", "failed", "could_not_verify", "skipped"])
codes = st.sampled_from([None, "corrupt", "timeout", "by_stop", "run_limit", "no_point"])
past = st.integers(0, 500 * 24).map(lambda hours: NOW - timedelta(hours=hours))
maybe_past = st.none() | past
criticalities = st.sampled_from(["C1", "C2", "C3"])
small = st.integers(0, 200_000)


@st.composite
def results(draw: st.DrawFn) -> object:
    return result_of(
        draw(past),
        draw(verdicts),
        seq=draw(st.integers(1, 50)),
        code=draw(codes),
        repository=draw(st.sampled_from([None, "nas", "tape", "gone"])),
        level=draw(st.integers(0, 4)),
        checks=draw(
            st.lists(st.builds(check, st.just("c"), verdicts, configured=st.booleans()), max_size=2)
        ),
        checks_configured=draw(st.integers(0, 2)),
        baseline_accepted=draw(st.booleans()),
        data_loss_ms=draw(st.none() | st.integers(0, 10**9)),
        phases=draw(
            st.just([])
            | st.just([{"phase": "load", "verdict": "passed", "duration_ms": 5, "code": None}])
        ),
        duration_ms=draw(st.integers(0, 10**9)),
    )


maybe_moment = maybe_past.map(lambda at: to_us(at) if at else None)
day_lists = st.lists(st.integers(-10, day(NOW) + 3), unique=True, max_size=6).map(
    lambda found: tuple(sorted(found))
)
losses = st.fixed_dictionaries(
    {name: st.integers(0, 50) for name in ("seen_at", "lost", "before", "after")}
)
sample = st.fixed_dictionaries(
    {
        "at": st.integers(0, 10**15),
        "weekday": st.integers(1, 7),
        "kind": st.sampled_from([None, "full"]),
    },
    optional={name: st.integers(0, 10**13) for name in NUMBERS},
)


@st.composite
def jobs(draw: st.DrawFn) -> View:
    newest = draw(maybe_past)
    return job(
        newest,
        draw(maybe_past),
        repository=draw(st.sampled_from(["nas", "tape"])),
        selection=draw(st.sampled_from(["a", "b"])),
        interval=draw(st.none() | st.just(DAY)),
        first_seen=draw(maybe_past),
        criticality=draw(criticalities),
        newest_state=draw(st.sampled_from([None, "complete", "warning", "failed"])),
        newest_bytes=draw(st.sampled_from([None, 0, 5])),
        newest_files=draw(st.sampled_from([None, 0, 5])),
        newest_kind=draw(st.sampled_from([None, "full", "incremental"])),
        failures=draw(st.integers(0, 3)),
        due_at=draw(maybe_moment),
        doubtful_at=draw(maybe_moment),
        running_since=draw(maybe_moment),
        usual_ms=draw(st.none() | st.integers(0, 10**8)),
        week_runs=draw(st.integers(0, 8)),
        week_done=draw(st.integers(0, 8)),
        week_missed=draw(st.integers(0, 8)),
        covers_until=draw(maybe_moment),
        days=draw(day_lists),
        asked_days=draw(st.none() | day_lists),
        kept_us=draw(st.none() | st.integers(0, 10**13)),
        loss=draw(st.none() | losses),
        exposure=draw(
            st.lists(st.lists(st.integers(0, 10**15), min_size=2, max_size=2), max_size=4)
        ),
        samples=draw(st.lists(sample, max_size=12)),
        future=draw(st.integers(0, 2)),
        code=draw(codes),
    )


@st.composite
def applications(draw: st.DrawFn) -> View:
    tests = sorted(
        draw(st.lists(results(), max_size=3)),
        key=lambda one: one.observation.observed_at,
    )
    latest = {}
    if draw(st.booleans()):
        data = {
            "task": "restore-test",
            "verdict": draw(verdicts),
            "code": draw(codes),
            "state": "finished",
            "started_at": None,
            "ended_at": to_us(NOW),
            "attempt": 1,
            "due_at": None,
            "requested_by": "agenda",
            "tools": {},
        }
        latest["restore-test.closed"] = fact(
            "restore-test.closed", "application/dpi", draw(past), data
        )
    return application(
        *tests,
        first_seen=draw(maybe_past),
        criticality=draw(criticalities),
        repositories=draw(st.sampled_from([(), ("nas",), ("nas", "tape")])),
        jobs=tuple(draw(st.lists(jobs(), max_size=3))),
        latest=latest,
        rpo_s=draw(st.none() | small),
        declared_by=draw(st.sampled_from([None, "direction"])),
        declared_at=draw(maybe_moment),
        retention=draw(
            st.none()
            | st.just({"daily": 3, "monthly": None, "yearly": 0})
            | st.just({"monthly": 40})
        ),
        rto_s=draw(st.none() | small),
        steps_s=draw(small),
        forecast=draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "end_ms": st.integers(0, 10**9),
                    "missing": st.sampled_from([[], ["steps"]]),
                    "waits_for": st.sampled_from([[], ["labo"]]),
                    "behind": st.integers(0, 2),
                    "failed": st.booleans(),
                },
            )
        ),
    )


@st.composite
def repositories(draw: st.DrawFn) -> View:
    def one() -> object:
        units = tuple(
            (f"b/{n}", draw(verdicts), draw(codes)) for n in range(draw(st.integers(0, 2)))
        )
        return verified(
            draw(past), draw(verdicts), complete_at=draw(maybe_past), code=draw(codes), units=units
        )

    return repository(
        verified=one() if draw(st.booleans()) else None,
        complete=one() if draw(st.booleans()) else None,
        failed=one() if draw(st.booleans()) else None,
        first_seen=draw(maybe_past),
        criticality=draw(criticalities),
    )


@st.composite
def sites(draw: st.DrawFn) -> View:
    return site(
        valid=draw(st.sampled_from([None, True, False])),
        anchored=draw(maybe_past),
        reported=draw(st.sampled_from([None, "2025-01", "2026-04", "2026-05", "2031-01"])),
        first_seen=draw(maybe_past),
        plan=draw(maybe_past),
        plan_every_s=draw(st.sampled_from([None, 86_400, 604_800])),
        plan_here=draw(st.booleans()),
        awaited=draw(maybe_past),
    )


VIEWS = {
    "application": applications(),
    "job": jobs(),
    "repository": repositories(),
    "site": sites(),
}
cases = st.sampled_from(sorted(BUILT)).flatmap(
    lambda name: st.tuples(st.just(name), VIEWS[BUILT[name].scope.value])
)


def sound(judgement: Judgement) -> None:
    measurable = judgement.status is not Status.NOT_MEASURABLE
    assert measurable or judgement.cause is not None
    assert judgement.status is not Status.COMPLIANT or judgement.cause is None
    if judgement.cause is NotMeasurableCause.NEVER_SET_UP:
        assert judgement.status is Status.NOT_MEASURABLE
    assert judgement.status not in (Status.WAIVED, Status.NOT_APPLICABLE)


@settings(max_examples=400, deadline=None)
@given(cases, st.integers(-1000, 1000))
def test_no_combination_of_facts_raises(case: tuple[str, View], hours: int) -> None:
    sound(judge(*case, NOW + timedelta(hours=hours)))


@settings(max_examples=600, deadline=None)
@given(cases, st.lists(st.integers(0, 5000), min_size=2, max_size=4))
def test_time_alone_only_worsens(case: tuple[str, View], hours: list[int]) -> None:
    states = [judge(*case, NOW + timedelta(hours=later)).status for later in sorted(hours)]
    assert states == sorted(states, key=LADDER.index)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(BUILT)), maybe_past, criticalities, st.integers(0, 5000))
def test_what_was_never_seen_is_never_compliant(
    control: str, first_seen: object, criticality: str, hours: int
) -> None:
    empty = {
        "application": application(
            first_seen=first_seen, criticality=criticality, jobs=(job(None, None),)
        ),
        "job": job(None, None, first_seen=first_seen, criticality=criticality),
        "repository": repository(first_seen=first_seen, criticality=criticality),
        "site": site(
            valid=None, anchored=None, reported=None, self_tested=None, first_seen=first_seen
        ),
    }[BUILT[control].scope.value]
    judgement = judge(control, empty, NOW + timedelta(hours=hours))
    assert judgement.status is not Status.COMPLIANT
    assert judgement.status is not Status.WARNING
