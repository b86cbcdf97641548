from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backupguard.repositories.local_times import candidates, resolve, zone_named

PARIS = ZoneInfo("Europe/Paris")
TWICE = datetime.fromisoformat("2026-10-25T02:30")
FIRST = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
SECOND = FIRST + timedelta(hours=1)


def test_most_times_mean_one_moment() -> None:
    noon = datetime.fromisoformat("2026-07-01T12:00")
    assert candidates(noon, PARIS) == (datetime(2026, 7, 1, 10, tzinfo=UTC),)


def test_an_hour_of_autumn_means_two() -> None:
    assert candidates(TWICE, PARIS) == (FIRST, SECOND)


def test_an_hour_of_spring_never_was_and_means_one() -> None:
    never = datetime.fromisoformat("2026-03-29T02:30")
    assert candidates(never, PARIS) == (datetime(2026, 3, 29, 1, 30, tzinfo=UTC),)


@pytest.mark.parametrize(
    ("known", "moment"),
    [
        ({}, FIRST),
        ({"not_before": SECOND}, SECOND),
        ({"not_after": FIRST}, FIRST),
        ({"offset": timedelta(hours=1)}, SECOND),
        ({"offset": timedelta(hours=2)}, FIRST),
        ({"offset": timedelta(hours=9)}, FIRST),
        ({"not_before": SECOND + timedelta(days=1)}, FIRST),
    ],
    ids=["nothing", "after", "before", "winter", "summer", "foreign", "impossible"],
)
def test_what_else_is_known_decides(known: dict, moment: datetime) -> None:
    assert resolve(TWICE, PARIS, **known) == moment


def test_a_zone_must_exist_and_a_local_time_has_none() -> None:
    with pytest.raises(ValueError):
        zone_named("Europe/Nowhere")
    with pytest.raises(ValueError):
        candidates(FIRST, PARIS)
