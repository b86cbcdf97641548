"""What is due: catch-up, coalescing, windows, retries, clocks that jump, nights of an hour more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.daemon.cadence import (
    ATTEMPTS_LIMIT,
    Due,
    LastSlot,
    Schedule,
    deadline,
    due,
    schedules,
)
from backupguard.model import RunState
from backupguard.settings import Settings

NOW = datetime(2026, 3, 5, 9, 7, tzinfo=UTC)
HOURLY = Schedule(task="inventory", subject="site", when=timedelta(hours=1), timezone="UTC")
MONTHLY = Schedule(
    task="restore-test", subject="application/dpi", when="0 10 5 * *", timezone="Europe/Paris"
)


def last(slot: datetime, state: RunState = RunState.FINISHED, **changes: object) -> LastSlot:
    values = {"slot": slot, "attempt": 1, "state": state, "ended_at": slot + timedelta(minutes=5)}
    return LastSlot(**(values | changes))  # type: ignore[arg-type]


def one(schedule: Schedule, before: LastSlot | None, now: datetime = NOW) -> Due | None:
    found = due([schedule], {schedule.key: before} if before else {}, now)
    assert len(found) <= 1
    return found[0] if found else None


def test_what_never_ran_is_due_at_its_newest_slot() -> None:
    found = one(HOURLY, None)
    assert found is not None
    assert found.slot == datetime(2026, 3, 5, 9, tzinfo=UTC)


def test_nothing_is_due_twice_for_one_slot() -> None:
    assert one(HOURLY, last(datetime(2026, 3, 5, 9, tzinfo=UTC))) is None


def test_a_week_of_downtime_is_caught_up_once() -> None:
    found = one(HOURLY, last(NOW - timedelta(days=7)))
    assert found is not None
    assert found.slot == datetime(2026, 3, 5, 9, tzinfo=UTC)
    assert one(HOURLY, last(found.slot)) is None


def test_nothing_is_due_while_the_last_slot_waits_or_runs() -> None:
    for state in (RunState.WAITING, RunState.RUNNING):
        assert one(HOURLY, last(NOW - timedelta(days=7), state)) is None


def test_what_a_daily_limit_held_back_is_due_again_the_next_day_of_the_site() -> None:
    slot = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
    held = last(slot, code="daily_limit")
    assert one(MONTHLY, held, slot + timedelta(hours=13)) is None  # 23:00 in Paris
    again = one(MONTHLY, held, slot + timedelta(hours=14))
    assert again is not None
    assert (again.slot, again.attempt) == (slot, 2)
    assert one(MONTHLY, last(slot, code="corrupt"), slot + timedelta(days=2)) is None
    often = last(slot, code="daily_limit", attempt=ATTEMPTS_LIMIT)
    assert one(MONTHLY, often, slot + timedelta(days=20)) is None


def test_a_monthly_slot_comes_at_its_local_time() -> None:
    before = last(datetime(2026, 2, 5, 9, tzinfo=UTC))
    assert one(MONTHLY, before, datetime(2026, 3, 5, 8, 59, tzinfo=UTC)) is None
    found = one(MONTHLY, before, datetime(2026, 3, 5, 9, 0, tzinfo=UTC))
    assert found is not None


def test_a_last_slot_in_the_future_counts_as_never() -> None:
    found = one(HOURLY, last(NOW + timedelta(days=1)))
    assert found is not None
    assert found.slot == datetime(2026, 3, 5, 9, tzinfo=UTC)


def test_the_second_half_past_two_of_an_autumn_night_is_the_same_slot() -> None:
    nightly = Schedule(task="t", subject="s", when="30 2 * * *", timezone="Europe/Paris")
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 summer time
    found = one(nightly, last(first - timedelta(days=1)), first)
    assert found is not None
    assert found.slot == first
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 again, winter time
    assert one(nightly, last(first), second) is None


def test_a_time_that_a_spring_night_leaves_out_is_not_left_out() -> None:
    nightly = Schedule(task="t", subject="s", when="30 2 * * *", timezone="Europe/Paris")
    before = last(datetime(2026, 3, 28, 1, 30, tzinfo=UTC))
    found = one(nightly, before, datetime(2026, 3, 29, 1, 45, tzinfo=UTC))
    assert found is not None
    assert found.slot.date() == datetime(2026, 3, 29, tzinfo=UTC).date()


def windowed(**windows: tuple[str, ...]) -> Schedule:
    return Schedule(
        task="restore-test",
        subject="application/dpi",
        when="0 3 * * *",
        timezone="Europe/Paris",
        windows=windows,
    )


def test_nothing_starts_outside_the_windows_and_stays_due() -> None:
    schedule = windowed(nas=("Mon-Fri 09:00-17:00",))
    night = datetime(2026, 3, 5, 4, tzinfo=UTC)
    assert one(schedule, None, night) is None
    found = one(schedule, None, datetime(2026, 3, 5, 8, 30, tzinfo=UTC))  # 09:30 in Paris
    assert found is not None
    assert found.slot == datetime(2026, 3, 5, 2, tzinfo=UTC)
    assert found.repository is None


def test_where_only_some_repositories_are_open_the_run_keeps_to_them() -> None:
    schedule = windowed(nas=("Mon-Fri 09:00-17:00",), tape=("22:00-06:00",), s3=())
    found = one(schedule, None, datetime(2026, 3, 5, 4, tzinfo=UTC))
    assert found is not None
    assert found.repository in ("tape", "s3")


def test_the_daemons_own_windows_bind_too() -> None:
    schedule = Schedule(
        task="restore-test",
        subject="application/dpi",
        when="0 3 * * *",
        timezone="UTC",
        windows={"nas": ()},
        general=("20:00-22:00",),
    )
    assert one(schedule, None, datetime(2026, 3, 5, 19, 59, tzinfo=UTC)) is None
    assert one(schedule, None, datetime(2026, 3, 5, 20, 1, tzinfo=UTC)) is not None


def test_an_interrupted_slot_is_tried_after_ten_minutes_then_an_hour_then_never() -> None:
    slot = datetime(2026, 3, 5, 9, tzinfo=UTC)
    ended = datetime(2026, 3, 5, 9, 1, tzinfo=UTC)

    def after(minutes: int, attempt: int) -> Due | None:
        before = last(
            slot,
            RunState.INTERRUPTED,
            attempt=attempt,
            ended_at=ended,
            interruptions=attempt,
        )
        return one(MONTHLY, before, ended + timedelta(minutes=minutes))

    assert after(9, 1) is None
    second = after(10, 1)
    assert second is not None
    assert (second.slot, second.attempt) == (slot, 2)
    assert after(59, 2) is None
    third = after(60, 2)
    assert third is not None
    assert third.attempt == 3
    assert after(60 * 24, 3) is None


def test_what_a_stop_took_away_is_due_at_once_and_not_for_ever() -> None:
    slot = datetime(2026, 3, 5, 9, tzinfo=UTC)
    before = last(slot, RunState.CANCELLED, code="by_stop")
    found = one(MONTHLY, before, NOW)
    assert found is not None
    assert found.attempt == 2
    worn = last(slot, RunState.CANCELLED, code="by_stop", attempt=ATTEMPTS_LIMIT)
    assert one(MONTHLY, worn, NOW) is None


def test_what_an_operator_cancelled_is_not_due_again() -> None:
    before = last(datetime(2026, 3, 5, 9, tzinfo=UTC), RunState.CANCELLED, code="by_operator")
    assert one(MONTHLY, before, NOW) is None


def test_no_report_is_due_for_a_month_before_the_store_began() -> None:
    began = datetime(2026, 3, 3, tzinfo=UTC)
    report = Schedule(
        task="report", subject="site", when="0 6 1 * *", timezone="Europe/Paris", since=began
    )
    assert one(report, None, NOW) is None
    assert one(report, None, datetime(2026, 4, 1, 6, tzinfo=UTC)) is not None


times = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)
whens = st.one_of(
    st.sampled_from(["0 10 5 * *", "30 2 * * *", "*/7 * * * *", "0 6 1 1,4,7,10 *", "0 0 * * Sun"]),
    st.integers(1, 60 * 24 * 40).map(lambda minutes: timedelta(minutes=minutes)),
)
zones = st.sampled_from(["UTC", "Europe/Paris", "America/Cayenne", "Pacific/Noumea"])


@given(when=whens, zone=zones, now=times, subject=st.sampled_from(["site", "a/b", "a/c"]))
def test_once_enqueued_nothing_is_due_until_time_passes(
    when: str | timedelta, zone: str, now: datetime, subject: str
) -> None:
    schedule = Schedule(task="t", subject=subject, when=when, timezone=zone)
    found = one(schedule, None, now)
    assert found is not None
    assert found.slot <= now
    assert one(schedule, last(found.slot), now) is None


@given(when=whens, zone=zones, now=times, back=st.integers(1, 60 * 48))
def test_a_clock_set_back_makes_one_slot_due_and_then_is_quiet(
    when: str | timedelta, zone: str, now: datetime, back: int
) -> None:
    schedule = Schedule(task="t", subject="site", when=when, timezone=zone)
    ahead = one(schedule, None, now)
    assert ahead is not None
    earlier = now - timedelta(minutes=back)
    found = one(schedule, last(ahead.slot), earlier)
    if ahead.slot > earlier:
        assert found is not None
        assert found.slot <= earlier
        assert one(schedule, last(found.slot), earlier) is None
    else:
        assert found is None


@given(now=times, step=st.integers(1, 120))
def test_ticks_at_any_pace_miss_no_hour(now: datetime, step: int) -> None:
    seen, before = [], last(HOURLY.last(now))
    for tick in range(1, 30):
        found = one(HOURLY, before, now + timedelta(minutes=step * tick))
        if found is not None:
            seen.append(found.slot)
            before = last(found.slot)
    assert seen == sorted(set(seen))
    assert before.slot == HOURLY.last(now + timedelta(minutes=step * 29))


# ------------------------------------------------------------------------------------- defaults


def settings(**applications: dict[str, object]) -> Settings:
    from backupguard.settings.loading import model_for

    data = {
        "site": {"name": "x"},
        "repositories": {"nas": {"type": "directory", "path": "/srv"}},
        "applications": {
            name: {
                "name": name,
                "backups": {"n": {"repository": "nas", "select": {"pattern": "x"}, "every": "24h"}},
            }
            | more
            for name, more in applications.items()
        },
    }
    return model_for(data).model_validate(data)


def test_inventory_is_more_frequent_as_soon_as_one_application_is_vital() -> None:
    quiet = {s.task: s for s in schedules(settings(ged={"criticality": "C3"}))}
    assert quiet["inventory"].when == timedelta(hours=1)
    vital = schedules(settings(ged={"criticality": "C3"}, dpi={"criticality": "C1"}))
    assert {s.task: s.when for s in vital}["inventory"] == timedelta(minutes=15)


def test_restore_tests_come_by_criticality_or_as_the_site_says() -> None:
    found = {
        s.subject: s.when
        for s in schedules(
            settings(
                dpi={"criticality": "C1"},
                ged={"criticality": "C2"},
                old={"criticality": "C3"},
                own={"criticality": "C3", "restore-test": {"schedule": "0 10 5 * *"}},
            )
        )
        if s.task == "restore-test"
    }
    assert found["application/dpi"] == timedelta(days=31)
    assert found["application/ged"] == timedelta(days=92)
    assert found["application/old"] == timedelta(days=365)
    assert found["application/own"] == "0 10 5 * *"


def test_an_application_without_backups_has_no_restore_test() -> None:
    bare = settings(dpi={"criticality": "C1", "backups": {}})
    assert "restore-test" not in {s.task for s in schedules(bare)}


def test_a_hundred_applications_do_not_meet_in_one_hour() -> None:
    many = settings(**{f"a{n}": {"criticality": "C1"} for n in range(100)})
    slots = [s.last(NOW) for s in schedules(many) if s.task == "restore-test"]
    assert len(set(slots)) > 70


@pytest.mark.parametrize(
    ("task", "hours"), [("inventory", 0.25), ("integrity", 12), ("report", 1), ("restore-test", 66)]
)
def test_a_run_has_a_deadline_the_sum_of_its_phases(task: str, hours: float) -> None:
    found = deadline(settings(dpi={"criticality": "C1"}), task)
    assert abs(found / timedelta(hours=1) - hours) < 1


def test_discovery_runs_once_a_day_unless_the_site_says_otherwise() -> None:
    usual = {s.task: s.when for s in schedules(settings(dpi={"criticality": "C1"}))}
    assert usual["discovery"] == timedelta(days=1)
    assert deadline(settings(dpi={"criticality": "C1"}), "discovery") == timedelta(minutes=30)


def test_the_recovery_plan_is_written_weekly_where_a_place_is_named() -> None:
    bare = settings(dpi={"criticality": "C1"})
    assert "plan" not in {s.task for s in schedules(bare)}
    kept = bare.model_copy(
        update={"plan": bare.plan.model_copy(update={"directory": Path("/mnt/coffre")})}
    )
    (found,) = [s for s in schedules(kept) if s.task == "plan"]
    assert found.when == timedelta(days=7)
    assert deadline(kept, "plan") == timedelta(minutes=10)
