"""Every number of a report, counted again from the records by other means, and found as printed."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backupguard.controls import load_catalogue
from backupguard.language import Words
from backupguard.model import Fact, from_us
from backupguard.reports import monthly, render_html, render_json

from .ledgers import OUTCOMES, PERIODS, estate, year
from .records import Records, settings

END = datetime(2026, 11, 30, 23, tzinfo=UTC)  # midnight in Paris
START = datetime(2026, 10, 31, 23, tzinfo=UTC)
COUNT = 40


@pytest.fixture(scope="module")
def records() -> Records:
    return year(COUNT, END - timedelta(hours=1))


@pytest.fixture(scope="module")
def printed(records: Records) -> tuple[dict[str, Any], str]:
    report = monthly(
        records, settings(), load_catalogue(), "2026-11", "en", END + timedelta(hours=6)
    )  # type: ignore[arg-type]
    return json.loads(render_json(report)), render_html(report, Words("en", "Europe/Paris"))


def of_kind(records: Records, kind: str, since: datetime | None = None) -> list[Fact]:
    return [
        fact
        for fact in records.facts(kinds=(kind,))
        if fact.recorded_at <= END and (since is None or fact.recorded_at >= since)
    ]


def told_standing(records: Records, name: str, level: str) -> str:
    """Say where an application stands, by going backwards through its tests one by one."""
    mine = [
        fact
        for fact in reversed(of_kind(records, "restore-test.result"))
        if fact.observation.data["application"] == name
    ]
    conclusive = [f for f in mine if f.observation.data["verdict"] in ("passed", "failed")]
    stands: dict[Any, Fact] = {}
    cleared: set[Any] = set()
    for fact in conclusive:
        data, origin = fact.observation.data, fact.observation.origin.value
        place = data["repository"]
        if not (origin != "observed" and place in cleared):
            stands.setdefault((place, origin), fact)
        if origin == "observed" and data["verdict"] == "passed":
            cleared.add(place)
    if any(f.observation.data["verdict"] == "failed" for f in stands.values()):
        return "failed"
    if not stands and mine and mine[0].observation.data["code"] == "unrecognised_artifact":
        return "no_engine"
    demanded = next(values for key, values in PERIODS.items() if key.value == level)
    oldest = END - timedelta(seconds=demanded["period"] + demanded["grace"])
    good = [f for f in stands.values() if f.observation.observed_at >= oldest]
    seen = [f for f in good if f.observation.origin.value == "observed"]
    if not good:
        return "due"
    if not seen:
        return "declared"
    best = max(f.observation.data["level"] for f in seen)
    return "controlled" if best >= 3 else "opened" if best == 2 else "bytes_only"


def test_the_ledger_holds_every_outcome(records: Records) -> None:
    found = {
        (f.observation.data["verdict"], f.observation.data["code"], f.observation.data["level"])
        for f in of_kind(records, "restore-test.result")
    }
    assert found == {one[:3] for one in OUTCOMES}


def test_the_counts_are_those_of_the_records(
    records: Records, printed: tuple[dict[str, Any], str]
) -> None:
    data, html = printed
    declared = estate(COUNT).applications
    told = {n: told_standing(records, n, one.criticality.value) for n, one in declared.items()}
    for level in ("C1", "C2", "C3"):
        own = Counter(told[n] for n, one in declared.items() if one.criticality.value == level)
        assert {k: v for k, v in data["counts"][level].items() if v} == own
    vital = Counter(told[n] for n, one in declared.items() if one.criticality.value == "C1")
    total = sum(vital.values())
    first = html[html.index(f"Of {total} vital applications") :].split("</p>")[0]
    parts = (
        f"{vital['controlled']} restored and checked", f"{vital['opened']} only opened",
        f"{vital['declared']} imported or attested", f"{vital['failed']} failed",
        f"{vital['due']} due and not done", f"{vital['no_engine']} without",
    )  # fmt: skip
    for part in parts:
        assert part in first
    assert {row["application"] for row in data["due"]} == {n for n in told if told[n] == "due"}


def test_the_tests_of_the_month_are_those_of_the_records(
    records: Records, printed: tuple[dict[str, Any], str]
) -> None:
    data, html = printed
    of_month = of_kind(records, "restore-test.result", START)
    assert [row["seq"] for row in data["tests"]] == [fact.seq for fact in of_month]
    verdicts = Counter(fact.observation.data["verdict"] for fact in of_month)
    said = re.search(r"Restore tests of the month: (\d+); passed: (\d+); failed: (\d+)", html)
    assert said is not None
    assert [int(n) for n in said.groups()] == [
        len(of_month), verdicts["passed"], verdicts["failed"],
    ]  # fmt: skip
    assert f"Restore tests recorded: {len(of_month)}, of which passed: {verdicts['passed']}" in html
    undecided = [
        f
        for f in of_kind(records, "restore-test.closed", START)
        if f.observation.data["verdict"] not in ("passed", "failed")
    ]
    assert len(data["undecided"]) == len(undecided)


def test_findings_are_the_last_word_on_each_subject(
    records: Records, printed: tuple[dict[str, Any], str]
) -> None:
    data, html = printed
    last: dict[tuple[str, str], str] = {}
    for fact in of_kind(records, "finding.changed"):
        body = fact.observation.data
        last[body["control"], fact.observation.subject] = body["after"]
    counts = Counter(last.values())
    assert data["finding_counts"] == counts
    assert f"non-compliant: {counts['non_compliant']}" in html


def test_what_is_lost_tonight_is_the_age_of_the_newest_point(
    records: Records, printed: tuple[dict[str, Any], str]
) -> None:
    data, html = printed
    newest: dict[str, datetime] = {}
    for fact in of_kind(records, "inventory.listed", START):
        for point in fact.observation.data["appeared"]:
            name = point["job"].partition(".")[0]
            newest[name] = max(newest.get(name, START), from_us(point["at"]))
    rows = {row["application"]: row["tonight"] for row in data["applications"]}
    for name in estate(COUNT).applications:
        unseen = name not in newest
        begun = START if unseen else newest[name]
        assert rows[name]["loss_ms"] == (END - begun) // timedelta(milliseconds=1)
        assert rows[name]["at_least"] is unseen
    vital = [n for n, one in estate(COUNT).applications.items() if one.criticality.value == "C1"]
    beyond = [n for n in vital if rows[n]["loss_ms"] > 24 * 3_600_000]
    assert f"Beyond the declared RPO: {len(beyond)} – " in html


def test_the_year_of_each_application_is_that_of_the_records(
    records: Records, printed: tuple[dict[str, Any], str]
) -> None:
    from zoneinfo import ZoneInfo

    data, _ = printed
    told: dict[tuple[str, str], dict[Any, str]] = {}
    for fact in of_kind(records, "restore-test.result"):
        body = fact.observation.data
        if body["verdict"] in ("passed", "failed"):
            month = f"{fact.observation.observed_at.astimezone(ZoneInfo('Europe/Paris')):%Y-%m}"
            copy = (body["repository"], fact.observation.origin)
            told.setdefault((body["application"], month), {})[copy] = body["verdict"]
    for row in data["applications"]:
        assert [mark["month"] for mark in row["trend"]] == [
            f"{2025 + (11 + n) // 12}-{(11 + n) % 12 + 1:02d}" for n in range(12)
        ]
        for mark in row["trend"]:
            seen = told.get((row["application"], mark["month"]), {}).values()
            expected = "none" if not seen else "failed" if "failed" in seen else "passed"
            assert mark["outcome"] == expected


def test_the_order_of_return_adds_up(records: Records, printed: tuple[dict[str, Any], str]) -> None:
    data, html = printed
    returns = data["recovery"]["returns"]
    assert [row["position"] for row in returns] == list(range(1, COUNT + 1))
    passed: dict[tuple[str, str], Fact] = {}
    for fact in of_kind(records, "restore-test.result"):
        body = fact.observation.data
        if body["verdict"] == "passed" and fact.observation.origin.value == "observed":
            passed[body["application"], body["repository"]] = fact
    free, host_free = 0, {"nas": 0, "coffre": 0}
    for row in returns:  # one at a time: each begins when the one before is done
        owner = estate(COUNT).applications[row["application"]]
        steps = sum(step.duration_ms for step in owner.steps)
        if row["record"] is None:
            assert not any(name == row["application"] for name, _ in passed)
            took = 0
        else:
            fact = passed[row["application"], row["repository"]]
            assert fact.seq == row["record"]
            phases = {p["phase"]: p["duration_ms"] for p in fact.observation.data["phases"]}
            load = -(-(phases["prepare"] + phases["load"]) * 165 // 100)
            took = phases["fetch"] + load + phases["open"]
        assert row["end_ms"] == free + steps + took
        free = row["end_ms"]
    late = sum(row["end_ms"] > row["rto_ms"] for row in returns)
    assert f"Miss their RTO: {late};" in html
    del host_free


def test_numbers_of_a_changed_record_change_with_it(records: Records) -> None:
    changed = Records()
    for fact in records.facts():
        seen = fact.observation
        body = dict(seen.data)
        if seen.kind == "restore-test.result" and fact.recorded_at >= START:
            body |= {"verdict": "failed", "code": "corrupt"}
        changed.add(seen.kind, seen.subject, body, fact.recorded_at, origin=seen.origin)
    now = END + timedelta(hours=6)
    before = monthly(records, settings(), load_catalogue(), "2026-11", "en", now)  # type: ignore[arg-type]
    after = monthly(changed, settings(), load_catalogue(), "2026-11", "en", now)  # type: ignore[arg-type]
    assert after.counts != before.counts
    assert len(after.tests) == len(before.tests)
