"""The search for the last clean point: it ends soon, and never calls a bad point clean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backupguard.assess.clean_points import (
    Candidate,
    Health,
    Promise,
    Search,
    TestedPoints,
    search,
    standing,
)
from backupguard.model import Fact, Observation, to_us

START = datetime(2026, 1, 1, tzinfo=UTC)
GROWS = Promise("0123456789abcdef")


def at(index: int) -> int:
    return to_us(START + timedelta(days=index))


def result(index: int, seq: int, verdict: str = "passed", **data: Any) -> Fact:
    """A restore test of the point `index`, as it is recorded."""
    wrong = data.pop("wrong", None)
    value = data.pop("value", None)
    digest = data.pop("digest", None)
    checks = [{"name": "lignes", "verdict": "failed", "code": wrong}] if wrong else []
    measured = [
        {"name": "lignes", "definition": GROWS.definition, "value": value, "digest": digest}
    ]
    recorded = START + timedelta(days=400, seconds=seq)
    payload = {
        "repository": "nas", "point": f"p{index}", "point_at": at(index), "target_at": None,
        "engine": "sqlite", "verdict": verdict, "code": None, "level": 3, "checks": checks,
        "measured": measured if value is not None else [], "job": "dpi.nightly", **data,
    }  # fmt: skip
    observation = Observation(
        kind="restore-test.result",
        subject="application/dpi",
        observed_at=recorded,
        data=payload,
        key=f"run/{seq}/result",
    )
    return Fact(
        seq=seq, recorded_at=recorded, run=None, author=None, hash=b"", observation=observation
    )


def points(count: int) -> list[Candidate]:
    return [Candidate(at=at(index), repository="nas", point=f"p{index}") for index in range(count)]


def told(health: str, index: int, seq: int) -> Fact:
    if health == "bad":
        return result(index, seq, "failed", wrong="random_text")
    return result(index, seq, "passed" if health == "clean" else "could_not_verify")


def bisected(
    truth: Sequence[str], tested: TestedPoints, promises: Mapping[str, Promise] | None = None
) -> tuple[Search | None, int]:
    """Test what the search asks for until it asks for nothing."""
    tests, tried = 0, set[tuple[str, str]]()
    while True:
        found = search(standing(tested, promises or {}), points(len(truth)), tried)
        if found is None or found.next is None:
            return found, tests
        assert found.next.key not in tried, "no point is tested twice"
        tried.add(found.next.key)
        index = int(found.next.point[1:])
        tests += 1
        tested.learn(told(truth[index], index, 1000 + tests))


@given(st.lists(st.sampled_from(["clean", "bad", "unknown"]), min_size=2, max_size=40), st.data())
def test_whatever_the_points_are_no_bad_one_is_called_clean(
    truth: list[str], data: st.DataObject
) -> None:
    before = data.draw(st.sets(st.integers(0, len(truth) - 1)))
    tested = TestedPoints(told(truth[index], index, 1 + index) for index in sorted(before))
    found, tests = bisected(truth, tested)
    assert tests <= len(truth)
    if found is None:
        return
    bad = int(found.bad.point[1:])
    assert truth[bad] == "bad"
    if found.clean is None:
        assert all(one != "clean" for one in truth[: bad + 1])
        return
    clean = int(found.clean.point[1:])
    assert truth[clean] == "clean"
    assert clean < bad
    assert {truth[index] for index in range(clean + 1, bad)} <= {"unknown"}
    assert found.between == found.unverified == bad - clean - 1


@given(st.integers(2, 300), st.data())
def test_where_all_can_be_verified_the_first_bad_point_is_found_in_a_logarithm(
    count: int, data: st.DataObject
) -> None:
    first_bad = data.draw(st.integers(1, count - 1))
    truth = ["clean"] * first_bad + ["bad"] * (count - first_bad)
    ends = (0, count - 1)
    found, tests = bisected(truth, TestedPoints(told(truth[i], i, 1 + i) for i in ends))
    assert found is not None
    assert found.clean is not None
    assert (found.clean.point, found.bad.point) == (f"p{first_bad - 1}", f"p{first_bad}")
    assert tests <= (count - 1).bit_length()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.permutations(range(12)))
def test_a_number_that_shrank_is_clean_in_no_order_of_tests(
    values: list[int], order: list[int]
) -> None:
    tested = TestedPoints()
    for seq, index in enumerate(i for i in order if i < len(values)):
        tested.learn(result(index, 1 + seq, value=values[index]))
    highest = -1
    for one in standing(tested, {"lignes": GROWS}):
        value = values[int(one.point[1:])]
        assert one.health is (Health.BAD if value < highest else Health.CLEAN)
        highest = max(highest, value)


def test_an_older_point_that_is_tested_later_accuses_the_newer_one() -> None:
    tested = TestedPoints([result(9, 1, value=40), result(3, 2, value=100)])
    judged = standing(tested, {"lignes": GROWS})
    assert [one.health for one in judged] == [Health.CLEAN, Health.BAD]
    assert judged[1].code == "invariant_shrank"


def test_what_was_tested_before_anybody_asked_is_not_clean() -> None:
    judged = standing(TestedPoints([result(1, 1)]), {"lignes": GROWS})
    assert judged[0].health is Health.UNKNOWN


def test_what_a_person_accepted_holds_from_there_on() -> None:
    tested = TestedPoints(
        [
            result(1, 1, value=100),
            result(2, 2, "failed", wrong="invariant_shrank", value=60),
            result(3, 3, value=61),
        ]
    )
    promises = {"lignes": GROWS}
    assert [one.health for one in standing(tested, promises)][1:] == [Health.BAD, Health.BAD]
    assert {one.health for one in standing(tested, promises, at(2))} == {Health.CLEAN}


def test_a_closed_set_that_differs_is_bad_and_one_of_another_key_unknown() -> None:
    tested = TestedPoints(
        [
            result(1, 1, value=10, digest="k1:aa"),
            result(2, 2, value=10, digest="k1:ab"),
            result(3, 3, value=10, digest="k2:aa"),
            result(4, 4, value=9, digest="k2:aa"),
        ]
    )
    judged = standing(tested, {"lignes": GROWS})
    assert [one.health.value for one in judged] == ["clean", "bad", "unknown", "bad"]


def test_damaged_bytes_of_one_copy_say_nothing_of_the_data() -> None:
    corrupt = result(5, 2, "failed", code="corrupt")
    found = search(standing(TestedPoints([result(1, 1), corrupt]), {}), points(6))
    assert found is None


def test_a_pass_that_may_be_encrypted_is_not_clean() -> None:
    doubtful = result(1, 1)
    doubtful.observation.data["checks"] = [
        {"name": "random-text", "verdict": "passed", "code": "warning_random_text"}
    ]
    tested = TestedPoints([doubtful, result(5, 2, "failed", wrong="random_text")])
    found = search(standing(tested, {}), points(6), tested.set_aside(0))
    assert found is not None
    assert found.clean is None


def test_a_clean_point_that_is_gone_is_not_offered() -> None:
    tested = TestedPoints([told("clean", 1, 1), told("clean", 2, 2), told("bad", 5, 3)])
    found = search(standing(tested, {}), [one for one in points(6) if one.point != "p2"])
    assert found is not None
    assert found.clean is not None
    assert found.clean.point == "p1"
