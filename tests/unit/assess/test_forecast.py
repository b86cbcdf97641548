"""The recovery forecast: order, shared hosts, dependencies, what is not known; nothing slower helps."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.assess.forecast import Basis, Forecast, Return, Step, ToRecover, forecast
from backupguard.daemon.judge import recovery_told
from backupguard.language import Words
from backupguard.model import Criticality, NotMeasurableCause, Severity, Status, to_us
from backupguard.settings import load

from .conftest import CONFIGURATION, START, Hospital

MINUTE = 60_000


def basis(
    fetch: int = 10, load: int = 20, *, host: str = "nas", tested: int = 100, **changed: Any
) -> Basis:
    """Return a test whose fetch and load took so many minutes."""
    found = Basis(
        seq=7,
        tested_at=to_us(START),
        repository=host,
        host=host,
        engine="postgresql",
        level=3,
        tested_bytes=tested,
        fetch_ms=fetch * MINUTE,
        load_ms=load * MINUTE,
        open_ms=MINUTE,
    )
    return replace(found, **changed)


def app(name: str, criticality: str = "C1", steps: int = 30, **changed: Any) -> ToRecover:
    return ToRecover(
        **{
            "application": name,
            "criticality": Criticality(criticality),
            "rto_ms": 240 * MINUTE,
            "steps": (Step(name="serveur", duration_ms=steps * MINUTE),) if steps else (),
            "basis": basis(),
        }
        | changed
    )


def of(found: Forecast, name: str) -> Return:
    one = found.of(name)
    assert one is not None
    return one


def test_the_parts_of_one_application_add_up() -> None:
    one = of(forecast([app("dpi")], durable_percent=150), "dpi")
    assert (one.steps_ms, one.fetch_ms, one.load_ms, one.durable_ms, one.open_ms) == tuple(
        MINUTE * minutes for minutes in (30, 10, 30, 10, 1)
    )
    assert one.end_ms == 71 * MINUTE
    assert one.measured
    assert not one.late


def test_a_chain_comes_back_in_its_order_and_is_the_critical_path() -> None:
    chain = [
        app("dpi", "C1", depends_on=("socle",)),
        app("socle", "C3", depends_on=("annuaire",)),
        app("annuaire", "C2", basis=basis(host="usb")),
        app("autre", "C1", steps=1, basis=basis(1, 1, host="s3")),
    ]
    found = forecast(chain, parallel=4)
    names = [one.application for one in found.returns]
    assert names.index("annuaire") < names.index("socle") < names.index("dpi")
    assert of(found, "socle").start_ms == of(found, "annuaire").end_ms
    assert of(found, "dpi").start_ms == of(found, "socle").end_ms
    assert found.critical_path == ("annuaire", "socle", "dpi")


def test_what_a_vital_application_needs_comes_before_what_it_does_not() -> None:
    found = forecast([app("a", "C2"), app("dpi", "C1", depends_on=("z",)), app("z", "C3")])
    assert [one.application for one in found.returns] == ["z", "dpi", "a"]


def test_two_applications_share_one_slow_repository() -> None:
    slow = basis(100, 10)
    both = [app("a", basis=slow), app("b", basis=slow)]
    found = forecast(both, parallel=2)
    assert of(found, "a").queue_ms == 0
    assert of(found, "b").queue_ms == 100 * MINUTE
    apart = forecast([both[0], app("b", basis=replace(slow, host="usb"))], parallel=2)
    assert of(apart, "b").queue_ms == 0
    assert of(apart, "b").end_ms == of(apart, "a").end_ms


def test_without_hands_for_two_the_second_begins_when_the_first_is_back() -> None:
    found = forecast([app("a"), app("b", basis=basis(host="usb"))], parallel=1)
    assert of(found, "b").start_ms == of(found, "a").end_ms


def test_what_is_not_known_is_a_lower_bound_and_said_of_what_waits_for_it() -> None:
    found = forecast([app("dpi", depends_on=("ad",)), app("ad", basis=None), app("labo", "C2")])
    ad, dpi, labo = (of(found, name) for name in ("ad", "dpi", "labo"))
    assert (ad.missing, ad.measured, ad.end_ms) == (("test",), False, 30 * MINUTE)
    assert (dpi.missing, dpi.waits_for, dpi.measured) == ((), ("ad",), False)
    assert (labo.measured, labo.behind) == (True, 1)
    assert of(forecast([app("x", steps=0)]), "x").missing == ("steps",)


def test_a_vital_application_that_misses_its_target_is_named() -> None:
    one = of(forecast([app("dpi", steps=240)]), "dpi")
    assert one.late
    assert not of(forecast([app("dpi", steps=240, rto_ms=None)]), "dpi").late


def test_a_copy_that_grew_takes_longer_and_one_that_shrank_does_not_take_less() -> None:
    grown = of(forecast([app("a", basis=basis(newest_bytes=300))]), "a")
    assert grown.fetch_ms == 30 * MINUTE
    shrunk = of(forecast([app("a", basis=basis(newest_bytes=1))]), "a")
    assert shrunk.fetch_ms == 10 * MINUTE


def test_a_circle_does_not_hang() -> None:
    found = forecast([app("a", depends_on=("b",)), app("b", depends_on=("a",)), app("c")])
    assert {one.application for one in found.returns} == {"a", "b", "c"}


def test_five_hundred_applications_take_less_than_a_second() -> None:
    many = [
        app(
            f"a{n:03}",
            ("C1", "C2", "C3")[n % 3],
            basis=basis(host=f"h{n % 7}") if n % 5 else None,
            depends_on=tuple(f"a{other:03}" for other in range(max(0, n - 3), n)),
        )
        for n in range(500)
    ]
    began = time.process_time()
    found = forecast(many, parallel=3)
    assert time.process_time() - began < 1
    assert len(found.returns) == 500


minutes = st.integers(0, 300)


@st.composite
def estates(draw: st.DrawFn) -> list[ToRecover]:
    count = draw(st.integers(1, 7))
    return [
        app(
            f"a{number}",
            draw(st.sampled_from(["C1", "C2", "C3"])),
            draw(minutes),
            basis=draw(
                st.none()
                | st.builds(basis, minutes, minutes, host=st.sampled_from(["nas", "usb", "s3"]))
            ),
            depends_on=tuple(
                f"a{other}" for other in range(number) if draw(st.integers(0, 3)) == 0
            ),
        )
        for number in range(count)
    ]


@settings(max_examples=200, deadline=None)
@given(estates(), st.data(), st.integers(1, 3), st.integers(1, 500))
def test_nothing_that_takes_longer_makes_anything_end_sooner(
    estate: list[ToRecover], data: st.DataObject, parallel: int, more: int
) -> None:
    before = forecast(estate, parallel=parallel)
    number = data.draw(st.integers(0, len(estate) - 1))
    one = estate[number]
    what = data.draw(st.sampled_from(["steps", "fetch_ms", "load_ms", "open_ms", "newest_bytes"]))
    if what == "steps" or one.basis is None:
        slower = replace(one, steps=(*one.steps, Step(name="x", duration_ms=more * MINUTE)))
    elif what == "newest_bytes":
        slower = replace(one, basis=replace(one.basis, newest_bytes=100 + more))
    else:
        worse = {what: getattr(one.basis, what) + more * MINUTE}
        slower = replace(one, basis=replace(one.basis, **worse))
    after = forecast([*estate[:number], slower, *estate[number + 1 :]], parallel=parallel)
    for was in before.returns:
        assert of(after, was.application).end_ms >= was.end_ms


# ------------------------------------------------------------------------------ from real records


def with_steps(hospital: Hospital, duration: str, application: str = "dpi") -> None:
    """Declare what people do before an application is back; the records stay."""
    home = hospital.settings.state_directory.parent
    file = home / "backupguard.toml"
    declared = f'recovery.steps = [{{ name = "serveur", duration = "{duration}" }}]\n'
    key = f"[applications.{application}]\n"
    text = CONFIGURATION.replace("HERE", str(home)).replace(key, key + declared)
    file.write_text(text, encoding="utf-8")
    hospital.settings = load(file, environ={})
    hospital.assessor = hospital.new_assessor()


def phases(**took: int) -> list[dict[str, Any]]:
    return [
        {"phase": name, "verdict": "passed", "duration_ms": ms, "code": None}
        for name, ms in took.items()
    ]


def tested(hospital: Hospital, **changed: Any) -> None:
    hospital.tested(
        **{"phases": phases(fetch=60_000, load=120_000, open=5000), "bytes": 1000} | changed
    )


def test_without_declared_steps_nothing_is_measured(hospital: Hospital) -> None:
    tested(hospital)
    finding = hospital.finding("RST-03", "application/dpi")
    assert finding.status is Status.NOT_MEASURABLE
    assert finding.cause is NotMeasurableCause.NEVER_SET_UP
    assert finding.reason.id == "reason.RST-03.no_steps"


def test_steps_and_measures_are_within_the_target_and_twice_as_long_are_not(
    hospital: Hospital,
) -> None:
    hospital.list_points("nas", ("dpi.nightly", START))
    tested(hospital)
    with_steps(hospital, "90m")
    good = hospital.finding("RST-03", "application/dpi")
    assert good.status is Status.COMPLIANT
    # 90 min of steps, 60 s, 120 s with durable writes, 5 s
    assert good.reason.values["forecast_ms"] == 5_400_000 + 60_000 + 198_000 + 5000
    with_steps(hospital, "4h")
    bad = hospital.finding("RST-03", "application/dpi")
    assert (bad.status, bad.severity) == (Status.NON_COMPLIANT, Severity.HIGH)
    assert bad.reason.id == "reason.RST-03.exceeded"


def test_a_forecast_whose_copy_failed_since_is_marked(hospital: Hospital) -> None:
    with_steps(hospital, "90m")
    tested(hospital)
    assert hospital.finding("RST-03", "application/dpi").status is Status.COMPLIANT
    hospital.pass_time(hours=1)
    hospital.tested(verdict="failed", code="corrupt", level=0)
    marked = hospital.finding("RST-03", "application/dpi")
    assert (marked.status, marked.reason.id) == (Status.WARNING, "reason.RST-03.failed")
    hospital.pass_time(hours=1)
    tested(hospital, repository="tape")  # another copy proves itself
    assert hospital.finding("RST-03", "application/dpi").status is Status.COMPLIANT


def test_a_copy_that_is_proved_immutable_is_rested_on_first(hospital: Hospital) -> None:
    with_steps(hospital, "90m")
    tested(hospital, repository="tape", phases=phases(fetch=7_200_000, load=1))
    tested(hospital, repository="nas")
    hospital.list_points("nas", ("dpi.nightly", START))
    assert of(hospital.assess().forecast, "dpi").basis.repository == "nas"  # type: ignore[arg-type,union-attr]
    data = {
        "attacker": "backup_writer",
        "verdict": "passed",
        "code": None,
        "attempts": [],
        "weaknesses": [],
    }
    hospital.assessor._history.tried._concluded["repository/tape"] = replace(
        next(iter(hospital.store.facts(kinds=["restore-test.result"]))),
        observation=replace(
            next(iter(hospital.store.facts(kinds=["restore-test.result"]))).observation, data=data
        ),
    )
    assert of(hospital.assess().forecast, "dpi").basis.repository == "tape"  # type: ignore[arg-type,union-attr]


@pytest.mark.parametrize("days", [0, 34, 36, 37, 39, 41])
def test_time_alone_only_worsens(hospital: Hospital, days: int) -> None:
    with_steps(hospital, "90m")
    tested(hospital)
    first = hospital.finding("RST-03", "application/dpi").status
    hospital.now = START + timedelta(days=days)
    later = hospital.finding("RST-03", "application/dpi").status
    ladder = [Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT]
    assert ladder.index(later) >= ladder.index(first)


def test_the_status_page_has_the_order_and_who_misses_its_target(hospital: Hospital) -> None:
    with_steps(hospital, "5h")
    tested(hospital)
    words = Words("fr")
    lines = [words.say(line) for line in recovery_told(hospital.assess())]
    assert lines[0].startswith("1. Dossier patient\u00a0: 5 h 4 min, manque sa DMIA de 4 h")
    assert lines[1].startswith("2. Laboratoire\u00a0: pas de prévision, au moins 5 h 4 min")
