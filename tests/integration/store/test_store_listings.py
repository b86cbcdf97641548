from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, select

from backupguard.model import Fact, JobSummary, Listing, PointState, RecoveryPoint
from backupguard.store import schema
from backupguard.store.sql import SqlStore

from .conftest import SetClock

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
JOB = "dpi.nightly"


def point(number: int, hours: int | None = None, **fields: Any) -> RecoveryPoint:
    at = NOW - timedelta(hours=24 * number if hours is None else hours)
    fields = {"bytes": number, "job": JOB, "repository": "nas", **fields}
    return RecoveryPoint(native_id=f"p{number}", at=at, covers_until=at, **fields)


def listing(*points: RecoveryPoint, jobs: tuple[str, ...] = (JOB,), at: datetime = NOW) -> Listing:
    return Listing(repository="nas", jobs=jobs, points=points, observed_at=at)


def merge(store: SqlStore, *points: RecoveryPoint, **fields: Any) -> tuple[Fact, ...]:
    return store.merge_listing(listing(*points, **fields), run=None)


def content(store: SqlStore) -> Mapping[str, set[tuple[object, ...]]]:
    tables: list[Table] = [
        schema.latest,
        schema.recovery_points,
        schema.job_summaries,
        schema.job_runs,
        schema.coverage,
    ]
    with store._core.read() as connection:
        return {
            table.name: {tuple(row) for row in connection.execute(select(table))}
            for table in tables
        }


def test_a_first_listing_appears_whole(store: SqlStore) -> None:
    full = point(
        1,
        needs=("p0",),
        started_at=NOW,
        ended_at=NOW,
        bytes_added=3,
        files=2,
        content_id="c",
        source_host="srv-dpi",
        encrypted=True,
        extra={"tags": ["é"]},
    )
    (fact,) = merge(store, full, point(2))
    assert fact.observation.data["standing"] == 2
    assert [p["native_id"] for p in fact.observation.data["appeared"]] == ["p2", "p1"]
    assert store.points(JOB) == (full, point(2))
    assert store.points(JOB, "nas", limit=1) == (full,)
    assert store.points(JOB, "other") == ()
    assert store.summaries([JOB]) == (
        JobSummary(
            job=JOB,
            repository="nas",
            newest=full.at,
            oldest=point(2).at,
            newest_bytes=1,
            newest_state=PointState.COMPLETE,
            points=2,
            days=2,
            standing=2,
            point_days=(20515, 20516),
        ),
    )


def test_an_unchanged_listing_adds_one_fact_a_day(store: SqlStore) -> None:
    merge(store, point(1), point(2))
    head = store.head()
    assert merge(store, point(2), point(1)) == ()  # it was listed for the first time today
    assert store.head() == head
    later = NOW + timedelta(days=1)
    (confirmed,) = merge(store, point(2), point(1), at=later)
    assert confirmed.observation.kind == "inventory.confirmed"
    assert confirmed.observation.data["count"] == 2
    head = store.head()
    assert merge(store, point(1), point(2), at=later + timedelta(hours=3)) == ()
    assert store.head() == head
    (next_day,) = merge(store, point(1), point(2), at=NOW + timedelta(days=2))
    assert next_day.observation.data == confirmed.observation.data


def test_what_changed_and_what_vanished(store: SqlStore) -> None:
    running = point(3, state=PointState.RUNNING, bytes=None)
    merge(store, point(1), point(2), running)
    (fact,) = merge(store, point(1), point(3))
    data = fact.observation.data
    assert data["appeared"] == []
    assert [p["native_id"] for p in data["changed"]] == ["p3"]
    assert [p["native_id"] for p in data["vanished"]] == ["p2"]
    assert data["standing"] == 2
    assert store.points(JOB) == (point(1), point(3))
    (back,) = merge(store, point(1), point(2), point(3))
    assert [p["native_id"] for p in back.observation.data["appeared"]] == ["p2"]
    assert len(store.points(JOB)) == 3


def test_a_job_that_was_not_asked_for_loses_nothing(store: SqlStore) -> None:
    merge(store, point(1), replace(point(2), job="lab.daily"), jobs=(JOB, "lab.daily"))
    assert merge(store, point(1), jobs=(JOB,)) == ()
    assert len(store.points("lab.daily")) == 1
    (gone,) = merge(store, point(1), jobs=(JOB, "lab.daily"))
    assert gone.observation.data["vanished"][0]["job"] == "lab.daily"
    assert store.summaries(["lab.daily"])[0].points == 0


def test_one_snapshot_may_serve_two_jobs(store: SqlStore) -> None:
    both = (point(1), replace(point(1), job="lab.daily"))
    merge(store, *both, jobs=(JOB, "lab.daily"))
    assert [s.points for s in store.summaries()] == [1, 1]


def test_a_job_without_any_point_is_known_to_be_empty(store: SqlStore) -> None:
    (fact,) = merge(store, jobs=(JOB,))
    assert fact.observation.data["jobs"] == [JOB]
    (summary,) = store.summaries()
    assert (summary.newest, summary.points) == (None, 0)


def test_at_most_five_hundred_points_in_a_fact(store: SqlStore) -> None:
    facts = merge(store, *(point(number) for number in range(1, 1203)))
    assert [len(f.observation.data["appeared"]) for f in facts] == [500, 500, 202]
    assert {(f.observation.data["parts"], f.observation.data["standing"]) for f in facts} == {
        (3, 1202)
    }
    assert store.summaries()[0].points == 1202
    facts = merge(store, *(point(number) for number in range(1, 602)))
    assert [len(f.observation.data["vanished"]) for f in facts] == [500, 101]


@pytest.mark.parametrize("state", [PointState.FAILED, PointState.RUNNING])
def test_a_point_that_is_not_complete_is_not_the_newest(store: SqlStore, state: PointState) -> None:
    merge(store, point(1, state=state), point(2, state=PointState.WARNING))
    (summary,) = store.summaries()
    assert summary.newest == point(2).at
    assert summary.newest_state is PointState.WARNING
    assert summary.points == 1
    assert len(store.points(JOB)) == 2


def test_a_point_in_the_future_is_not_the_newest_until_its_time(
    store: SqlStore, clock: SetClock
) -> None:
    ahead, slightly = point(1, hours=-2), replace(point(2), at=NOW + timedelta(minutes=9))
    merge(store, ahead, slightly, point(3))
    (summary,) = store.summaries()
    assert (summary.newest, summary.points) == (slightly.at, 2)
    clock.forward(hours=2)
    merge(store, ahead, slightly, point(3))
    (summary,) = store.summaries()
    assert (summary.newest, summary.points) == (ahead.at, 3)


def test_what_is_derived_can_be_rebuilt(store: SqlStore, clock: SetClock) -> None:
    from backupguard.model import Verdict

    from .test_store_facts import step, verified

    merge(store, *(point(number) for number in range(1, 620)), jobs=(JOB, "empty.job"))
    merge(store, *(point(number) for number in range(10, 620)), point(700, hours=-3))
    for at in (NOW, NOW + timedelta(days=1)):
        merge(store, *(point(n, state=PointState.WARNING) for n in range(8, 620)), at=at)
    store.append([step(1), verified(("a", Verdict.PASSED), ("b", Verdict.FAILED))])
    before = content(store)
    assert all(rows for name, rows in before.items() if name != "job_runs")
    head = store.head()
    store.rebuild_derived()
    assert content(store) == before
    assert store.head() == head


def test_what_vanished_is_told_listing_by_listing(store: SqlStore, clock: SetClock) -> None:
    every = [point(number) for number in range(10)]
    merge(store, *every)
    assert store.losses(0) == ()
    head = store.head()[0]
    clock.time += timedelta(days=1)
    merge(store, *every[:7], point(20, 1), at=clock.time)
    (lost,) = store.losses(head)
    assert (lost.job, lost.repository, lost.lost) == (JOB, "nas", 3)
    assert (lost.before, lost.after, lost.at_first) == (10, 8, 10)
    assert (lost.oldest, lost.newest) == (every[9].at, every[7].at)
    assert (lost.standing_oldest, lost.seen_at) == (every[6].at, clock.time)
    assert [one.native_id for one in store.gone_points(JOB, "nas", 2)] == ["p7", "p8"]
    assert store.losses(store.head()[0]) == ()


def test_a_long_loss_is_one_and_what_failed_is_none(store: SqlStore, clock: SetClock) -> None:
    failed = point(5000, state=PointState.FAILED)
    every = [point(number, number) for number in range(1200)]
    merge(store, failed, *every)
    clock.time += timedelta(days=1)
    merge(store, *every[:10], at=clock.time)
    (lost,) = store.losses(0)
    assert (lost.lost, lost.before, lost.after, lost.at_first) == (1190, 1200, 10, 1200)
    merge(store, *every, at=clock.time)  # they come back
    assert store.losses(0) == ()
    assert store.gone_points(JOB, "nas", 9) == (failed,)
