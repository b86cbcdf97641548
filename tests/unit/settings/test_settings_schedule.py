from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.settings.schedule import (
    asked_between,
    due_after,
    in_window,
    last_slot,
    longest_gap,
    next_slot,
    open_seconds,
    opened,
    parse_cron,
    parse_window,
    slots,
)

PARIS = "Europe/Paris"
ZONES = (
    PARIS,
    "UTC",
    "America/St_Johns",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


# ------------------------------------------------------------------------------------------- cron


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "-1 * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "a * * * *",
        "0 0 30 2 *",
        "0 0 31 feb,apr *",
        "@reboot",
        "٣ * * * *",
        "0 0 * * lun",
    ],
)
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_cron(text)


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 22 * * *", utc(2026, 3, 5), utc(2026, 3, 5, 21)),
        ("0 22 * * *", utc(2026, 3, 5, 21), utc(2026, 3, 6, 21)),
        ("*/15 9-10 * * Mon-Fri", utc(2026, 3, 6, 9, 45), utc(2026, 3, 9, 8)),
        ("0 10 5 * *", utc(2026, 3, 5, 9), utc(2026, 4, 5, 8)),
        ("0 0 29 feb *", utc(2026, 3, 5), utc(2028, 2, 28, 23)),
        ("0 0 13 * fri", utc(2026, 3, 5), utc(2026, 3, 5, 23)),  # either day field suffices
        ("0 0 * * 7", utc(2026, 3, 5), utc(2026, 3, 7, 23)),
        ("@monthly", utc(2026, 3, 5), utc(2026, 3, 31, 22)),
    ],
)
def test_next_slot(text: str, after: datetime, expected: datetime) -> None:
    assert next_slot(text, after, PARIS) == expected


def test_the_second_half_past_two_of_an_autumn_night_is_the_same_slot() -> None:
    found = list(slots("30 2 * * *", utc(2026, 10, 24), utc(2026, 10, 27), PARIS))

    assert found == [utc(2026, 10, 24, 0, 30), utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]


def test_a_time_that_does_not_exist_moves_forward() -> None:
    found = list(slots("30 2 * * *", utc(2026, 3, 28), utc(2026, 3, 31), PARIS))

    assert (
        found
        == [
            utc(2026, 3, 28, 1, 30),
            utc(2026, 3, 29, 1, 30),  # shown as 03:30
            utc(2026, 3, 30, 0, 30),
            utc(2026, 3, 31, 0, 30),
        ][:3]
    )


def test_two_times_that_become_one_are_one_slot() -> None:
    found = list(slots("0 2,3 * * *", utc(2026, 3, 28, 12), utc(2026, 3, 29, 12), PARIS))

    assert found == [utc(2026, 3, 29, 1)]


CRONS = st.builds(
    lambda m, h, d, w: f"{m} {h} {d} * {w}",
    st.sampled_from(["0", "30", "*/20", "5,35"]),
    st.sampled_from(["*", "2", "0", "23", "1-3", "*/6"]),
    st.sampled_from(["*", "1", "29", "*/2"]),
    st.sampled_from(["*", "0", "mon-fri"]),
)
MOMENTS = st.integers(0, 20 * 365 * 86400).map(lambda s: utc(2009, 1, 1) + timedelta(seconds=s))
#: Nights on which clocks change, and the day that Apia left out.
NIGHTS = st.sampled_from(
    [utc(2026, 3, 29, 1), utc(2026, 10, 25, 1), utc(2011, 12, 30, 10), utc(2017, 10, 15, 3)]
)
AROUND = st.builds(lambda night, h: night + timedelta(hours=h), NIGHTS, st.integers(-60, 60))


@given(CRONS, st.one_of(MOMENTS, AROUND), st.sampled_from(ZONES))
def test_slots_ascend_and_agree_with_next_and_last(text: str, start: datetime, zone: str) -> None:
    end = start + timedelta(days=4)
    found = list(slots(text, start, end, zone))

    assert found == sorted(set(found))
    assert all(start < slot <= end for slot in found)
    after = next_slot(text, start, zone)
    assert after > start
    assert (found[0] == after) if found else (after > end)
    before = last_slot(text, end, zone)
    assert before <= end
    assert (found[-1] == before) if found else (before <= start)
    assert next_slot(text, before, zone) > end or not found


@given(CRONS, st.one_of(MOMENTS, AROUND), st.sampled_from(ZONES))
def test_a_slot_is_a_local_time_asked_for_or_moved_forward(
    text: str, start: datetime, zone: str
) -> None:
    cron, place = parse_cron(text), ZoneInfo(zone)
    seen = set()
    for slot in slots(text, start, start + timedelta(days=3), zone):
        local = slot.astimezone(place)
        wall = local.replace(tzinfo=None)
        assert wall not in seen, "one slot per local date and time"
        seen.add(wall)
        asked = (
            local.minute in cron.minutes
            and local.hour in cron.hours
            and cron.falls_on(local.date())
        )
        # What moved forward landed behind a gap that ended less than a day before it.
        jumped = (slot - timedelta(days=1)).astimezone(place).utcoffset() < local.utcoffset()
        assert asked or jumped


@given(st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=40)), MOMENTS)
def test_an_interval_has_the_same_slots_for_everybody(every: timedelta, start: datetime) -> None:
    following = next_slot(every, start, PARIS)

    assert start < following <= start + every
    assert last_slot(every, following, PARIS) == following
    assert last_slot(every, following - timedelta(microseconds=1), PARIS) == following - every
    assert list(slots(every, start, start + 3 * every, PARIS)) == [
        following,
        following + every,
        following + 2 * every,
    ]


def test_the_longest_gap_knows_weekends_and_short_months() -> None:
    assert longest_gap("0 22 * * 1-5", utc(2026, 1, 1), "UTC") == timedelta(days=3)
    assert longest_gap("0 0 1 * *", utc(2026, 1, 1), "UTC") == timedelta(days=31)
    assert longest_gap(timedelta(hours=6), utc(2026, 1, 1), "UTC") == timedelta(hours=6)


# ---------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(
    "text",
    ["", "9-17", "Mon", "Mon-Fri 9h-17h", "Mon-Fry 09:00-17:00", "09:00-09:00", "24:00-25:00",
     "09:60-10:00", "Mon Fri 09:00-17:00", "lun-ven 09:00-17:00"],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_window(text)


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        ("Mon-Fri 09:00-17:00", utc(2026, 3, 6, 8), True),  # Friday 09:00 in Paris
        ("Mon-Fri 09:00-17:00", utc(2026, 3, 6, 7, 59), False),
        ("Mon-Fri 09:00-17:00", utc(2026, 3, 6, 16), False),  # the end is outside
        ("Mon-Fri 09:00-17:00", utc(2026, 3, 7, 10), False),
        ("Fri 22:00-06:00", utc(2026, 3, 7, 4), True),  # Saturday morning, opened on Friday
        ("Fri 22:00-06:00", utc(2026, 3, 6, 4), False),
        ("22:00-06:00", utc(2026, 3, 6, 4), True),
        ("Sat,Sun 00:00-24:00", utc(2026, 3, 8, 22, 30), True),
        ("Sat,Sun 00:00-24:00", utc(2026, 3, 8, 23), False),
        ("Sat-Mon 10:00-11:00", utc(2026, 3, 9, 9, 30), True),
    ],
)
def test_in_window(window: str, moment: datetime, *, inside: bool) -> None:
    assert in_window([window], moment, PARIS) is inside


def test_no_window_means_always() -> None:
    assert in_window([], utc(2026, 3, 6), PARIS)
    assert open_seconds([], utc(2026, 3, 6), utc(2026, 3, 7), PARIS) == 86400


def test_overlapping_windows_count_once() -> None:
    both = ["Mon-Fri 09:00-17:00", "Wed 12:00-20:00"]

    assert open_seconds(both, utc(2026, 3, 2), utc(2026, 3, 9), PARIS) == (5 * 8 + 3) * 3600


def test_a_window_over_the_spring_gap_is_an_hour_shorter() -> None:
    start, end = utc(2026, 3, 28, 12), utc(2026, 3, 29, 12)

    assert open_seconds(["00:00-06:00"], start, end, PARIS) == 5 * 3600


@given(
    st.lists(
        st.builds(
            lambda day, start, end: f"{day} {start:%H:%M}-{end:%H:%M}",
            st.sampled_from(["Mon", "Tue-Thu", "Sat,Sun", "Fri-Tue"]),
            st.sampled_from([time(0, 0), time(9, 30), time(22, 0)]),
            st.sampled_from([time(1, 0), time(6, 15), time(23, 59)]),
        ),
        min_size=1,
        max_size=4,
    ),
    AROUND,
    st.sampled_from(ZONES),
)
def test_being_inside_agrees_with_when_it_is_open(
    windows: list[str], moment: datetime, zone: str
) -> None:
    spans = opened(windows, moment - timedelta(days=3), moment + timedelta(days=3), zone)

    assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert in_window(windows, moment, zone) is any(a <= moment < b for a, b in spans)


# --------------------------------------------------------------------------------------- calendars

SPRING = (utc(2026, 3, 29), utc(2027, 3, 28))
AUTUMN = (utc(2026, 10, 25), utc(2027, 10, 31))


def due(text: str, at: datetime) -> datetime:
    return due_after(text, at, PARIS)[0].last


@pytest.mark.parametrize("sunday", SPRING)
def test_a_time_left_out_in_spring_is_asked_of_nobody(sunday: datetime) -> None:
    saturday_run = sunday - timedelta(days=1) + timedelta(hours=1, minutes=30)  # 02:30 in winter
    slot, doubtful = due_after("30 2 * * *", saturday_run, PARIS)
    assert slot.last == sunday + timedelta(days=1, minutes=30)  # 02:30 in summer, on Monday
    assert [(one.first, one.last, one.exists) for one in doubtful] == [
        (sunday + timedelta(minutes=30), sunday + timedelta(minutes=90), False)
    ]


@pytest.mark.parametrize("sunday", SPRING)
@pytest.mark.parametrize("minutes", [30, 60, 61, 90])  # before the gap, at once after it, moved
def test_a_run_around_the_gap_counts_for_its_night_and_not_for_the_next(
    sunday: datetime, minutes: int
) -> None:
    slot, doubtful = due_after("30 2 * * *", sunday + timedelta(minutes=minutes), PARIS)
    assert (slot.last, doubtful) == (sunday + timedelta(days=1, minutes=30), ())


@pytest.mark.parametrize("sunday", AUTUMN)
@pytest.mark.parametrize("minutes", [30, 90])  # the first 02:30, and the second
def test_a_time_that_comes_twice_is_one_run_that_may_come_at_either(
    sunday: datetime, minutes: int
) -> None:
    before = sunday - timedelta(days=1) + timedelta(minutes=30)
    assert due("30 2 * * *", before) == sunday + timedelta(minutes=90)
    # neither of the two stands for Monday's
    assert due("30 2 * * *", sunday + timedelta(minutes=minutes)) == sunday + timedelta(
        days=1, minutes=90
    )


@pytest.mark.parametrize("sunday", SPRING + AUTUMN)
def test_the_evenings_around_a_clock_change_are_asked_for_one_by_one(sunday: datetime) -> None:
    at = datetime.combine(sunday.date() - timedelta(days=2), time(22, 0), tzinfo=ZoneInfo(PARIS))
    for days in (-1, 0, 1):
        slot, doubtful = due_after("0 22 * * *", at.astimezone(UTC), PARIS)
        assert doubtful == ()
        at = slot.last.astimezone(ZoneInfo(PARIS))
        assert (at.date(), at.hour) == (sunday.date() + timedelta(days=days), 22)


@pytest.mark.parametrize(
    ("text", "at", "expected_due"),
    [
        ("0 22 * * Mon-Fri", utc(2026, 6, 12, 20), utc(2026, 6, 15, 20)),  # Friday, then Monday
        ("0 22 * * Mon-Fri", utc(2026, 6, 9, 20), utc(2026, 6, 10, 20)),
        ("0 3 1 * *", utc(2026, 6, 1, 1, 5), utc(2026, 7, 1, 1)),
        ("0 3 1 * *", utc(2026, 6, 20), utc(2026, 7, 1, 1)),  # by hand, and no reason to skip one
        ("0 22 * * *", utc(2026, 6, 9, 18), utc(2026, 6, 10, 20)),  # two hours early
        ("0 22 * * *", utc(2026, 6, 9, 12), utc(2026, 6, 9, 20)),  # last night's, made late
        ("0 22 * * *", utc(2026, 6, 8, 22), utc(2026, 6, 10, 20)),  # named after the day: 9 June
        ("0 * * * *", utc(2026, 6, 9, 12, 50), utc(2026, 6, 9, 14)),
        ("0 * * * *", utc(2026, 6, 9, 12, 30), utc(2026, 6, 9, 13)),
        ("0 0 29 2 *", utc(2026, 6, 9), utc(2028, 2, 28, 23)),
        ("30 2 29 3 *", utc(2025, 4, 1), utc(2027, 3, 29, 0, 30)),  # 2026 leaves it out
    ],
)
def test_when_the_next_run_is_due(text: str, at: datetime, expected_due: datetime) -> None:
    assert due(text, at) == expected_due


@given(CRONS, st.one_of(MOMENTS, AROUND), st.sampled_from(ZONES))
def test_what_is_due_lies_ahead_and_follows_what_was_met(
    text: str, at: datetime, zone: str
) -> None:
    slot, doubtful = due_after(text, at, zone)
    assert slot.exists
    assert slot.first > at
    assert not [one for one in doubtful if one.exists]
    later = due_after(text, slot.last, zone)[0]
    assert later.first > slot.first


@pytest.mark.parametrize("sunday", SPRING + AUTUMN)
def test_a_week_with_a_clock_change_asks_for_seven_nights(sunday: datetime) -> None:
    end = sunday + timedelta(days=4)
    asked = asked_between("30 2 * * *", end - timedelta(days=7), end, PARIS)
    assert len(asked) == 7
    assert len([one for one in asked if one.exists]) == (6 if sunday in SPRING else 7)
