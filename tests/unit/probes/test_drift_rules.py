"""Which way a policy became weaker: never both ways, and nothing by what is only written otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.drift_frequency import per_year
from probes.drift_rules import (
    KEEPS_ALL,
    READ,
    UNLIMITED,
    Value,
    compare,
    path,
    standing,
    undone,
    weakening,
)

KEYS = (
    "retention.keep_daily",
    "job.enabled",
    "job.runs_per_year",
    "job.source",
    "job.exclusion",
    "job.repository",
    "protection.mode",
    "protection.mechanism",
    "protection.append_only",
    "protection.versioning",
    "protection.encryption",
    "protection.weakness",
    "admin.sudo",
    "access.authentication",
    "info.schedule",
)
GIVEN = st.one_of(
    st.booleans(),
    st.integers(-1, 400),
    st.sampled_from(
        ["unlimited", "7 days", "4 weeks", "3 backups", "none", "compliance", "governance", "x"]
    ),
)
VALUES = st.none() | GIVEN
PLACE = ("borgmatic", "/etc/borgmatic/config.yaml")


def place(**items: Value) -> dict[str, Value]:
    found: dict[str, Value] = {path(*PLACE, READ): True}
    for key, value in items.items():
        aspect, _, rest = key.partition("_")
        found[path(*PLACE, f"{aspect}.{rest}")] = value
    return found


def weak(before: dict[str, Value], after: dict[str, Value]) -> list[str]:
    return [one["weakening"] for one in compare(before, after) if one["weakening"]]


@given(st.sampled_from(KEYS), VALUES, VALUES)
def test_a_change_and_its_reverse_are_never_both_weakenings(
    key: str, before: Value | None, after: Value | None
) -> None:
    assert weakening(key, before, after) is None or weakening(key, after, before) is None
    assert weakening(key, before, before) is None


@given(st.integers(0, 4000), st.integers(0, 4000))
def test_a_shorter_retention_is_always_named_and_a_longer_one_never(one: int, other: int) -> None:
    code = weakening("retention.keep_daily", one, other)
    assert (code == "retention_shortened") == (other < one)


@given(
    st.dictionaries(st.sampled_from(KEYS), GIVEN),
    st.dictionaries(st.sampled_from(KEYS), GIVEN),
)
def test_what_is_put_back_is_undone(one: dict[str, Value], other: dict[str, Value]) -> None:
    before, after = (
        {path(*PLACE, READ): True} | {path(*PLACE, key): value for key, value in items.items()}
        for items in (one, other)
    )
    for change in compare(before, after):
        if change["weakening"]:
            assert undone(change, before)
            assert not undone(change, after)


@given(st.dictionaries(st.sampled_from(KEYS), GIVEN))
def test_what_cannot_be_read_changes_nothing(items: dict[str, Value]) -> None:
    before = {path(*PLACE, READ): True} | {path(*PLACE, key): v for key, v in items.items()}
    for hidden in ("borgmatic|", "borgmatic|/etc/borgmatic", f"borgmatic|{PLACE[1]}"):
        assert standing(before, {}, [hidden]) == before
    assert standing(before, {}, ["borgmatic|/etc/borg"]) == {}


def test_keeping_everything_is_no_shorter_retention() -> None:
    some = place(retention_keep_daily=7)
    everything = place(**{KEEPS_ALL.replace(".", "_"): UNLIMITED})
    assert weak(some, everything) == []
    assert weak(everything, some) == ["retention_shortened"]


def test_of_a_place_that_is_gone_only_the_job_is_a_loss_and_of_a_new_one_nothing() -> None:
    full = place(job_enabled=True, retention_keep_daily=7)
    assert weak(full, {}) == ["job_removed"]
    assert weak({}, full | {path(*PLACE, "job.exclusion", "*.tmp"): True}) == []


@pytest.mark.parametrize(
    ("often", "rare"),
    [
        ("0 * * * *", "0 2 * * *"),
        ("*/15 * * * *", "0 * * * *"),
        ("0 2 * * *", "0 2 * * 0"),
        ("0 2 * * mon-fri", "0 2 * * sun"),
        ("0 2 * * 0", "0 2 1 * *"),
        ("@daily", "@weekly"),
        ("daily", "monthly"),
        ("OnCalendar=*-*-* 02:00:00", "OnCalendar=Mon *-*-* 02:00:00"),
        ("OnCalendar=*-*-* 00/6:00:00", "OnCalendar=*-*-* 00:00:00"),
        ("OnCalendar=Mon..Fri *-*-* 02:00:00", "OnCalendar=*-*-01 02:00:00"),
        ("OnCalendar=*-*-* 02:00:00; OnCalendar=*-*-* 14:00:00", "OnCalendar=*-*-* 02:00:00"),
        ("OnBoot=10min; OnUnitActive=1d", "OnBoot=10min; OnUnitActive=1month 2d"),
        ("OnUnitActive=30min", "OnUnitActive=1h 30min"),
    ],
)
def test_which_schedule_is_rarer(often: str, rare: str) -> None:
    first, second = per_year(often), per_year(rare)
    assert first is not None
    assert second is not None
    assert first > second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0 2 * * *", "30 4 * * *"),
        ("0 2 * * *", "@daily"),
        ("0 0,12 * * *", "0 */12 * * *"),
        ("0 2 * * 0", "0 2 * * 7"),
        ("0 2 * * 1,2", "0 2 * * tue,mon"),
        ("OnCalendar=*-*-* 02:00:00", "OnCalendar=*-*-* 03:30:00"),
    ],
)
def test_another_hour_or_writing_is_as_often(one: str, other: str) -> None:
    assert per_year(one) == per_year(other) is not None


@pytest.mark.parametrize(
    "schedule", ["@reboot", "WeeklyCycle", "", "1 2 3", "61-70 * * * *", "x * * * *"]
)
def test_what_says_no_frequency(schedule: str) -> None:
    assert per_year(schedule) is None
