"""What a refresh costs and remembers: partial listings, sightings, the tools' runs, summaries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import MetaData, insert, select, text

from backupguard.contracts import JobRun, JobRuns
from backupguard.model import Observation, PointState, RecoveryPoint, Sighting
from backupguard.store import open_store, summaries
from backupguard.store.engine import postgresql_engine, sqlite_engine
from backupguard.store.migrations import upgrade
from backupguard.store.schema import job_summaries, metadata
from backupguard.store.sql import SqlStore

from .conftest import SetClock
from .test_store_listings import JOB, NOW, content, listing, merge, point

JOBS = (JOB, "lab.daily")


def partial(store: SqlStore, *points: RecoveryPoint, standing: int, mark: str = "m2") -> object:
    told = replace(listing(*points), partial=True, standing={JOB: standing}, mark=mark)
    return store.merge_listing(told, run=None)


# ------------------------------------------------------------------------------------- partial ones


def test_by_a_partial_listing_nothing_vanishes(store: SqlStore) -> None:
    merge(store, point(1), point(2))
    (fact,) = partial(store, point(3), standing=3)
    data = fact.observation.data
    assert [one["native_id"] for one in data["appeared"]] == ["p3"]
    assert (data["vanished"], data["standing"]) == ([], 3)
    assert len(store.points(JOB)) == 3
    assert store.summaries()[0].standing == 3


def test_a_point_that_changed_is_told_by_a_partial_listing(store: SqlStore) -> None:
    merge(store, point(1, state=PointState.RUNNING), point(2))
    (fact,) = partial(store, point(1), standing=2)
    assert [one["native_id"] for one in fact.observation.data["changed"]] == ["p1"]
    assert store.summaries()[0].newest == point(1).at


def test_a_mark_is_remembered_where_the_counts_come_out_right(store: SqlStore) -> None:
    first = replace(listing(point(1), point(2)), standing={JOB: 2}, mark="m1")
    store.merge_listing(first, run=None)
    assert store.sightings()["nas"].mark == "m1"
    assert partial(store, point(3), standing=3)
    assert store.sightings()["nas"].mark == "m2"
    partial(store, standing=2, mark="m3")  # one is gone, and nobody said which
    assert store.sightings()["nas"].mark is None
    assert len(store.points(JOB)) == 3


def test_a_partial_listing_with_nothing_new_appends_nothing(store: SqlStore) -> None:
    merge(store, point(1))
    head = store.head()
    assert partial(store, standing=1) == ()
    assert store.head() == head
    assert store.sightings()["nas"].listed_at == NOW


def test_a_listing_of_some_jobs_speaks_for_them_alone(store: SqlStore) -> None:
    other = replace(point(5), job="lab.daily")
    merge(store, point(1), point(2), other, jobs=JOBS)
    before = store.sightings()["nas"]
    later = NOW + timedelta(hours=1)
    told = replace(listing(point(1), at=later), some_jobs=True)
    (fact,) = store.merge_listing(told, run=None)
    assert [one["native_id"] for one in fact.observation.data["vanished"]] == ["p2"]
    assert store.points("lab.daily") == (other,)
    assert store.sightings()["nas"] == replace(before, asked_at=later)


def test_what_would_stand_with_listed_points(store: SqlStore) -> None:
    merge(store, point(1), point(2))
    listed = [point(2), point(3), point(3), replace(point(1), job="lab.daily")]
    assert dict(store.standing("nas", listed)) == {JOB: 3, "lab.daily": 1}
    assert dict(store.standing("other")) == {}


def test_the_same_point_named_twice_is_one(store: SqlStore) -> None:
    merge(store, point(1), point(2))
    (fact,) = merge(store, point(1), point(1))  # as many as stood, and one of them is gone
    assert [one["native_id"] for one in fact.observation.data["vanished"]] == ["p2"]


# ---------------------------------------------------------------------------------------- sightings


def inspected(at: datetime, number: int, *, code: str | None = None, locks: int = 0) -> Observation:
    lock = {"host": "srv", "pid": 4, "since_at": 1, "exclusive": True, "alive": True}
    return Observation(
        kind="repository.inspected",
        subject="repository/nas",
        observed_at=at,
        key=f"inspected/nas/{number}",
        data={
            "reachable": code is None,
            "code": code,
            "type": "restic",
            "tool": "restic",
            "tool_version": "0.18.0",
            "repository_id": None,
            "format_version": "2",
            "encrypted": True,
            "locks": [lock] * locks,
            "device": None,
        },
    )


def test_an_inspection_that_says_nothing_new_is_no_fact(store: SqlStore) -> None:
    def inspect(minutes: int, **told: object) -> int:
        at = NOW + timedelta(minutes=minutes)
        one = inspected(at, minutes, **told)  # type: ignore[arg-type]
        return len(store.record_inspection(one, run=None, author=None))

    assert inspect(0) == 1
    assert inspect(15) == 0
    assert inspect(30, locks=1) == 1
    assert inspect(45, locks=1) == 0
    assert inspect(60, code="timeout") == 1
    assert inspect(75, code="timeout") == 0
    assert store.sightings()["nas"] == Sighting(
        repository="nas",
        asked_at=NOW + timedelta(minutes=75),
        inspected_at=NOW + timedelta(minutes=45),
    )
    assert inspect(24 * 60, code="timeout") == 1  # another day
    assert inspect(-24 * 60, code="timeout") == 1  # the clock was set back
    newest = store.latest(["repository/nas"])["repository/nas"]["repository.inspected"]
    assert newest.observation.observed_at == NOW - timedelta(days=1)


# --------------------------------------------------------------------------------- the tools' runs


def tool_run(number: int, state: str = "complete", job: str = JOB, **fields: int) -> JobRun:
    started = NOW - timedelta(hours=number)
    return JobRun(
        job=job,
        native_id=f"r{number}",
        started_at=started,
        ended_at=None if state == "running" else started + timedelta(minutes=9),
        state=state,
        **fields,
    )


def runs(*seen: JobRun) -> JobRuns:
    return JobRuns(repository="nas", runs=seen, observed_at=NOW)


def test_runs_that_are_new_or_changed_are_recorded_once(store: SqlStore) -> None:
    full = tool_run(1, bytes=5, files=2, bytes_added=1, files_changed=1, duration_ms=7)
    (fact,) = store.merge_runs(runs(full, tool_run(2, "running"), tool_run(3, "failed")), run=None)
    assert [one["native_id"] for one in fact.observation.data["runs"]] == ["r1", "r2", "r3"]
    head = store.head()
    assert store.merge_runs(runs(tool_run(3, "failed"), full), run=None) == ()
    assert store.head() == head
    assert store.job_runs(JOB) == (full, tool_run(2, "running"), tool_run(3, "failed"))
    assert len(store.merge_runs(runs(tool_run(2, "warning")), run=None)) == 1
    assert store.job_runs(JOB, "nas", limit=2) == (full, tool_run(2, "warning"))
    # What it once was it may become again.
    assert len(store.merge_runs(runs(tool_run(2, "running")), run=None)) == 1
    assert store.job_runs(JOB)[1] == tool_run(2, "running")
    assert store.job_runs(JOB, "other") == store.job_runs("lab.daily") == ()


def test_at_most_five_hundred_runs_in_a_fact(store: SqlStore) -> None:
    facts = store.merge_runs(runs(*(tool_run(number) for number in range(1100))), run=None)
    assert [len(fact.observation.data["runs"]) for fact in facts] == [500, 500, 100]
    before = content(store)
    store.rebuild_derived()
    assert content(store) == before


def test_from_when_on_a_tool_is_asked_for_its_runs(store: SqlStore) -> None:
    assert store.runs_since("nas") is None
    store.merge_runs(runs(tool_run(1)), run=None)
    assert store.runs_since("nas") == NOW - timedelta(days=2, hours=1)
    store.merge_runs(runs(tool_run(100, "running")), run=None)
    assert store.runs_since("nas") == NOW - timedelta(hours=100)
    store.merge_runs(runs(tool_run(2000, "running")), run=None)  # it will never end
    store.merge_runs(runs(tool_run(100)), run=None)
    assert store.runs_since("nas") == NOW - timedelta(days=2, hours=1)
    store.merge_runs(runs(tool_run(-500)), run=None)  # by a clock that is ahead
    assert store.runs_since("nas") == NOW - timedelta(days=2)


# ---------------------------------------------------------------------------------------- summaries


def test_days_are_those_of_the_sites_calendar(tmp_path: Path, clock: SetClock) -> None:
    """At 01:30 in Paris every night, a night after the clocks went back is no night without."""
    store = open_store(
        tmp_path, now=lambda: datetime(2026, 11, 1, tzinfo=UTC), timezone="Europe/Paris"
    )
    nights = [
        datetime(2026, 10, 23, 23, 30, tzinfo=UTC),
        datetime(2026, 10, 24, 23, 30, tzinfo=UTC),
    ]
    nights += [datetime(2026, 10, 26, 0, 30, tzinfo=UTC), datetime(2026, 10, 27, 0, 30, tzinfo=UTC)]
    store.merge_listing(
        listing(
            *(
                replace(point(number), at=night, covers_until=night)
                for number, night in enumerate(nights)
            )
        ),
        run=None,
    )
    (summary,) = store.summaries()
    first = (datetime(2026, 10, 24, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert summary.point_days == tuple(range(first, first + 4))
    assert summary.days == 4
    store.close()


@pytest.mark.parametrize(
    ("days", "text"),
    [
        ((), ""),
        ((20000,), "20000"),
        ((20000, 20001, 20002, 20004), "20000-20002,20004"),
        ((-3, -2, 0), "-3--2,0"),
    ],
    ids=["none", "one", "spans", "before-1970"],
)
def test_days_are_packed(days: tuple[int, ...], text: str) -> None:
    assert summaries.packed(days) == text
    assert summaries.unpacked(text) == days


@pytest.mark.parametrize("seed", range(4))
def test_a_summary_kept_right_equals_one_counted_anew(
    store: SqlStore, clock: SetClock, seed: int
) -> None:
    chance = random.Random(seed)
    clock.time = NOW
    stands: dict[tuple[str, str], RecoveryPoint] = {}
    for step in range(25):
        for _ in range(chance.randrange(1, 9)):
            job = chance.choice(JOBS)
            number = chance.randrange(40)
            if chance.random() < 0.35:
                stands.pop((job, f"p{number}"), None)
            else:
                hours = chance.choice((number * 7, number, -3, -1, 0))
                state = chance.choice((*PointState, PointState.COMPLETE))
                size = chance.randrange(3)
                made = replace(point(number, hours, state=state, bytes=size), job=job)
                stands[job, made.native_id] = made
        clock.time += timedelta(minutes=chance.choice((0, 20, 200, -100)))
        merge(store, *stands.values(), jobs=JOBS, at=NOW + timedelta(minutes=step))
        kept = summarised(store)
        with store._core.write() as connection:
            summaries.recount(connection, "nas", JOBS, clock.time)
        assert summarised(store) == kept
        assert {s.job: s.standing for s in store.summaries()} == {
            job: sum(1 for name, _ in stands if name == job) for job in JOBS
        }


def summarised(store: SqlStore) -> list[dict[str, object]]:
    with store._core.read() as connection:
        rows = connection.execute(select(job_summaries).order_by(job_summaries.c.job)).mappings()
        return [dict(row) for row in rows]


# ---------------------------------------------------------------------------------------- migration


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_store_of_the_first_schema_keeps_what_it_holds(
    kind: str, tmp_path: Path, clock: SetClock, database_url: Callable[[], str]
) -> None:
    state = tmp_path / "state"

    def opened(url: str | None) -> SqlStore:
        return open_store(state, url, now=clock, timezone="Europe/Paris")

    urls = [None, None] if kind == "sqlite" else [database_url(), database_url()]
    store = opened(urls[0])
    merge(store, *map(point, range(1, 9)), point(9, hours=-5), jobs=(JOB, "no.points"))
    before, facts = content(store), [fact.hash for fact in store.facts()]
    rows = of_the_first_schema(store)
    store.close()
    for file in state.glob("store.sqlite3*"):
        file.unlink()
    make_old(urls[1], state / "store.sqlite3", rows)
    store = opened(urls[1])
    assert content(store) == before
    assert [fact.hash for fact in store.facts()] == facts
    assert store.sightings() == {}
    assert store.merge_runs(runs(tool_run(1)), run=None)
    assert merge(store, *map(point, range(1, 8)))
    store.close()


def of_the_first_schema(store: SqlStore) -> dict[str, list[dict[str, object]]]:
    with store._core.read() as connection:
        rows = {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in metadata.sorted_tables
        }
    for row in rows["recovery_points"]:
        row["day"] -= 1  # type: ignore[operator] # another calendar's
    return rows


def make_old(url: str | None, file: Path, rows: dict[str, list[dict[str, object]]]) -> None:
    """Make a database of the first schema and put into it what fits there."""
    engine = postgresql_engine(url) if url else sqlite_engine(file)
    with engine.begin() as connection:
        upgrade(connection, "0001")
        old = MetaData()
        old.reflect(connection)
        for table in old.sorted_tables:
            fitting = [
                {name: value for name, value in row.items() if name in table.c}
                for row in rows[table.name]
            ]
            if fitting and table.name != "alembic_version":
                connection.execute(insert(table), fitting)
    engine.dispose()


def test_the_second_schema_comes_after_the_first(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "made.sqlite3")
    with engine.begin() as connection:
        upgrade(connection, "0001")
    with engine.begin() as connection:
        upgrade(connection)
        assert (
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0002"
        )
    engine.dispose()
