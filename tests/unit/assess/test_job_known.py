"""What points, runs, calendars and losses say of a job: clock changes, thinning, prunes, deletions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backupguard.contracts import JobRun, JobRuns
from backupguard.language import Words
from backupguard.model import Finding, Listing, PointState, RecoveryPoint
from backupguard.settings import load
from tests.unit.assess.conftest import CONFIGURATION, Hospital

PARIS = ZoneInfo("Europe/Paris")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JOB, DPI = "job/dpi.nightly", "application/dpi"

Make = Callable[..., "Watched"]


class Watched(Hospital):
    """A hospital whose nightly job is looked at as time passes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.points: list[RecoveryPoint] = []

    def back_up(self, at: datetime, **changed: object) -> RecoveryPoint:
        point = RecoveryPoint(
            repository="nas", job="dpi.nightly", native_id=at.isoformat(), at=at.astimezone(UTC),
            covers_until=at.astimezone(UTC), bytes=1000, files=10,
        )  # fmt: skip
        self.points.append(replace(point, **changed))  # type: ignore[arg-type]
        return self.points[-1]

    def look(self) -> None:
        jobs = tuple(sorted(s.job for s in self.settings.jobs_in("nas")))
        seen = Listing(repository="nas", jobs=jobs, points=tuple(self.points), observed_at=self.now)
        self.store.merge_listing(seen, run=None)
        self.inspect("nas")

    def keep(self, wanted: Callable[[RecoveryPoint], bool]) -> None:
        self.points = [point for point in self.points if wanted(point)]

    def judged(self, control: str, subject: str = JOB) -> Finding:
        self.look()
        return self.finding(control, subject)

    def said(self, control: str, subject: str = JOB) -> tuple[str, str]:
        found = self.judged(control, subject)
        assert "{" not in Words("fr").say(found.reason)
        return found.status.value, found.reason.id.removeprefix(f"reason.{control}.")


@pytest.fixture
def watched(tmp_path: Path) -> Iterable[Make]:
    made: list[Watched] = []

    def make(start: datetime, schedule: str = 'schedule = "0 22 * * *"', **more: str) -> Watched:
        for name in ("nas", "tape"):
            (tmp_path / name).mkdir()
        (tmp_path / "state").mkdir(mode=0o700)
        text = CONFIGURATION.replace("HERE", str(tmp_path))
        text = text.replace('schedule = "0 22 * * *"', schedule)
        head, tape = text.split("[applications.dpi.backups.weekly]")
        labo = tape[tape.index("[applications.labo]") :]
        text = head + more.get("extra", "") + labo
        file = tmp_path / "backupguard.toml"
        file.write_text(text, encoding="utf-8")
        made.append(Watched(load(file, environ={}), now=start.astimezone(UTC)))
        made[-1].assess()
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def local(day: datetime, hour: int, minute: int = 0, days: int = 0) -> datetime:
    at = datetime.combine(day.date() + timedelta(days=days), time(hour, minute), tzinfo=PARIS)
    return at.astimezone(UTC)


SPRING = [datetime(2026, 3, 29, tzinfo=UTC), datetime(2027, 3, 28, tzinfo=UTC)]
AUTUMN = [datetime(2026, 10, 25, tzinfo=UTC), datetime(2027, 10, 31, tzinfo=UTC)]
NIGHT_JOB = 'schedule = "30 2 * * *"'


def run_nights(site: Watched, sunday: datetime, skipped: Iterable[int] = ()) -> dict[int, str]:
    """Run the job on the nights around a Sunday, look each noon, return what was said that day."""
    said = {}
    for days in range(-3, 4):
        if days not in skipped:
            at = local(sunday, 2, 30, days) + timedelta(seconds=4)
            site.back_up(at)
        site.now = local(sunday, 12, 0, days)
        said[days] = site.said("JOB-01")[1]
        if days not in skipped:
            (rpo,) = [f for f in site.store.findings() if (f.control, f.subject) == ("PDM-01", DPI)]
            assert rpo.status != "non_compliant"
    return said


@pytest.mark.parametrize("sunday", SPRING + AUTUMN)
def test_a_job_that_runs_every_night_is_silent_over_clock_changes(
    watched: Make, sunday: datetime
) -> None:
    site = watched(local(sunday, 12, 0, -5), NIGHT_JOB)
    assert set(run_nights(site, sunday).values()) == {"done"}


@pytest.mark.parametrize("sunday", SPRING)
def test_a_night_without_its_hour_raises_no_alarm_and_says_why(
    watched: Make, sunday: datetime
) -> None:
    site = watched(local(sunday, 12, 0, -5), NIGHT_JOB)
    said = run_nights(site, sunday, skipped=(0,))
    assert said == {-3: "done", -2: "done", -1: "done", 0: "clock_change", 1: "done", 2: "done",
                    3: "done"}  # fmt: skip


@pytest.mark.parametrize("sunday", SPRING + AUTUMN)
@pytest.mark.parametrize("night", [-1, 1])
def test_a_run_missed_beside_a_clock_change_is_not_hidden(
    watched: Make, sunday: datetime, night: int
) -> None:
    site = watched(local(sunday, 12, 0, -5), NIGHT_JOB)
    said = run_nights(site, sunday, skipped=(night,))
    assert said[night] == "missed"
    assert {said[days] for days in range(-3, night)} <= {"done"}
    assert said[night + 1] == "rate"


@pytest.mark.parametrize("sunday", AUTUMN)
def test_a_missed_run_of_the_long_night_is_not_hidden(watched: Make, sunday: datetime) -> None:
    site = watched(local(sunday, 12, 0, -5), NIGHT_JOB)
    assert run_nights(site, sunday, skipped=(0,))[0] == "missed"


@pytest.mark.parametrize("sunday", AUTUMN)
def test_a_time_that_comes_twice_is_waited_for_until_the_second_one(
    watched: Make, sunday: datetime
) -> None:
    site = watched(local(sunday, 12, 0, -2), NIGHT_JOB + '\ngrace = "10m"')
    site.back_up(local(sunday, 2, 30, -1))
    second = sunday + timedelta(minutes=90)
    site.now = second + timedelta(minutes=20)  # ten of grace and fifteen until the next look
    assert site.said("JOB-01")[1] == "done"
    site.now = second + timedelta(minutes=30)
    assert site.said("JOB-01")[1] == "missed"
    site.back_up(second)
    assert site.said("JOB-01")[1] == "done"


def test_a_weekday_calendar_asks_for_nothing_at_the_weekend_and_for_every_weekday(
    watched: Make,
) -> None:
    friday = datetime(2026, 6, 12, tzinfo=UTC)
    site = watched(local(friday, 12, 0, -1), 'schedule = "0 22 * * Mon-Fri"')
    site.back_up(local(friday, 22))
    site.now = local(friday, 21, 0, 3)
    assert site.said("JOB-01")[1] == "done"
    site.now = local(friday, 23, 0, 3)
    assert site.said("JOB-01")[1] == "missed"
    site.back_up(local(friday, 22, 0, 3))
    assert site.said("JOB-01")[1] == "done"
    site.now = local(friday, 23, 0, 4)  # Tuesday's is not as late as a weekend is long
    assert site.said("JOB-01")[1] == "missed"


def test_a_monthly_calendar(watched: Make) -> None:
    first = datetime(2026, 6, 1, tzinfo=UTC)
    site = watched(local(first, 0, 30), 'schedule = "0 3 1 * *"')
    site.back_up(local(first, 3))
    site.now = local(first, 2, 0, 30)
    assert site.said("JOB-01")[1] == "done"
    site.now = local(first, 4, 0, 30)
    assert site.said("JOB-01")[1] == "missed"


# ----------------------------------------------------------------------------- the worst exposure


def three_hours(site: Watched, night: datetime) -> None:
    site.back_up(night, started_at=night, ended_at=night + 3 * HOUR)


def test_a_job_of_three_hours_exposes_twenty_seven(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening - HOUR)
    three_hours(site, evening)
    three_hours(site, evening + DAY)
    site.now = evening + DAY + 4 * HOUR
    found = site.judged("PDM-01", DPI)
    assert (found.status, found.severity) == ("warning", "warning")
    assert found.reason.values == {"exposure_ms": 27 * 3_600_000, "rpo_ms": 24 * 3_600_000}
    assert "1 j 3 h" in Words("fr").say(found.reason).replace("\xa0", " ").replace("\u202f", " ")
    (picture,) = [one for one in site.assess().applications if one.application == "dpi"]
    assert picture.worst_exposure_ms == 27 * 3_600_000
    # the next evening it is the same, and nobody is woken while it is
    site.now = evening + 2 * DAY + 4 * HOUR
    assert site.said("PDM-01", DPI) == ("warning", "exposed")
    site.now = evening + 2 * DAY + 8 * HOUR
    found = site.judged("PDM-01", DPI)
    assert (found.status, found.severity) == ("non_compliant", "critical")


def test_a_short_job_is_within_its_rpo(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening - HOUR)
    for night in (0, 1):
        at = evening + night * DAY
        site.back_up(at, started_at=at, ended_at=at + HOUR / 2)
    site.now = evening + DAY + HOUR
    assert site.said("PDM-01", DPI) == ("compliant", "met")


def test_what_was_thinned_out_before_it_was_seen_is_no_exposure(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening + HOUR)
    for night in (*range(8), 14, 21, 28):
        site.back_up(evening - night * DAY)
    assert site.said("PDM-01", DPI) == ("compliant", "met")
    assert site.said("JOB-01")[1] == "done"


def test_what_is_thinned_out_afterwards_is_remembered(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening - HOUR)
    for night in range(6):
        site.back_up(evening + night * DAY)
        site.now = evening + night * DAY + HOUR
        site.look()
    site.keep(lambda point: point.at in (evening, evening + 5 * DAY))
    assert site.said("PDM-01", DPI) == ("compliant", "met")
    assert site.said("JOB-01")[1] == "done"


# -------------------------------------------------------------------------------- runs of the tool


def test_a_failed_run_that_left_no_point_is_a_failure(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening - HOUR)
    site.back_up(evening)

    def ran(at: datetime, state: str, **more: int) -> None:
        run = JobRun(
            job="dpi.nightly", native_id=f"run-{at.isoformat()}", started_at=at,
            ended_at=at + HOUR / 4, state=state, **more,
        )  # fmt: skip
        site.store.merge_runs(
            JobRuns(repository="nas", runs=(run,), observed_at=site.now), run=None
        )

    ran(evening - timedelta(seconds=9), "complete", bytes=1000, files=10)
    site.now = evening + HOUR
    assert site.said("JOB-01") == ("compliant", "done")
    site.now = evening + 2 * HOUR
    ran(evening + HOUR, "failed")
    found = site.judged("JOB-01")
    assert (found.reason.id, found.severity) == ("reason.JOB-01.failed", "high")
    ran(evening + HOUR * 3 / 2, "failed")
    found = site.judged("JOB-01")
    assert (found.reason.id, found.severity) == ("reason.JOB-01.failed_again", "critical")
    site.now = evening + 3 * HOUR
    site.back_up(evening + 2 * HOUR)
    ran(evening + 2 * HOUR, "warning", bytes=1000, files=10)
    assert site.said("JOB-01") == ("warning", "warning")  # the point alone looks complete


def test_a_run_that_succeeded_without_a_file_is_no_success(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening - HOUR)
    site.now = evening + HOUR
    site.back_up(evening, files=0, bytes=None)
    assert site.said("JOB-01") == ("non_compliant", "no_files")


def test_a_run_that_hangs_behind_a_lock(watched: Make) -> None:
    evening = local(datetime(2026, 6, 10, tzinfo=UTC), 22)
    site = watched(evening - HOUR, 'schedule = "0 22 * * *"\ngrace = "2h"')
    for night in range(4):
        at = evening + night * DAY
        site.back_up(at, started_at=at, ended_at=at + HOUR)
    begun = evening + 3 * DAY + 10 * HOUR  # by hand, and the evening's one waits for it
    site.back_up(begun, started_at=begun, state=PointState.RUNNING)
    site.now = begun + HOUR * 5 / 2
    assert site.said("JOB-01") == ("compliant", "done")
    site.now = begun + HOUR * 7 / 2
    assert site.said("JOB-01") == ("warning", "hung")


# ------------------------------------------------------------------------------------------ losses


def days_of_points(site: Watched, count: int) -> None:
    for night in range(count, 0, -1):
        site.back_up(site.now - night * DAY)
    site.look()


def test_a_sudden_loss_of_points_wakes_somebody_at_the_next_look(watched: Make) -> None:
    site = watched(datetime(2026, 6, 10, 12, tzinfo=UTC))
    days_of_points(site, 50)
    assert site.finding("RET-01", DPI).status != "non_compliant"
    site.now += timedelta(minutes=15)
    site.keep(lambda point: point.at < site.now - 15 * DAY)
    found = site.judged("RET-01", DPI)
    assert (found.status, found.severity) == ("non_compliant", "critical")
    assert found.reason.id == "reason.RET-01.loss"
    assert {n: found.reason.values[n] for n in ("lost", "before", "percent", "repository")} == {
        "lost": 14, "before": 50, "percent": 28, "repository": "nas",
    }  # fmt: skip
    site.assessor = site.new_assessor()  # a restart forgets none of it
    assert site.finding("RET-01", DPI).reason == found.reason
    # once as many points stand again, it is over
    for night in range(1, 17):
        site.now += DAY / 10
        site.back_up(site.now, native_id=f"again-{night}")
    assert site.said("RET-01", DPI)[1] != "loss"


def test_a_slow_deletion_within_a_day_adds_up(watched: Make) -> None:
    site = watched(datetime(2026, 6, 10, 12, tzinfo=UTC))
    days_of_points(site, 50)
    for _ in range(6):
        site.now += HOUR
        site.points = site.points[:-2]
        found = site.judged("RET-01", DPI)
    assert (found.reason.id, found.reason.values["lost"]) == ("reason.RET-01.loss", 12)


def test_a_prune_every_week_is_no_loss(watched: Make) -> None:
    site = watched(datetime(2026, 6, 1, 12, tzinfo=UTC))
    days_of_points(site, 14)
    for day in range(1, 22):
        site.now += DAY
        site.back_up(site.now - HOUR)
        if day % 7 == 0:  # keeps fourteen days, takes seven away at once: a third of all
            site.keep(lambda point: point.at > site.now - 14 * DAY)
        assert site.judged("RET-01", DPI).reason.id != "reason.RET-01.loss", day


def test_hourly_points_thinned_to_daily_ones_are_no_loss(watched: Make) -> None:
    site = watched(datetime(2026, 6, 1, 12, tzinfo=UTC), 'every = "1h"')
    days_of_points(site, 20)
    for day in range(1, 4):
        for _ in range(24):
            site.now += HOUR
            site.back_up(site.now)
        site.keep(lambda point: point.at > site.now - DAY or point.at.hour == 12)
        assert site.judged("RET-01", DPI).reason.id != "reason.RET-01.loss", day


def test_a_tool_that_keeps_a_fortnight_is_found_out_at_its_first_prune(watched: Make) -> None:
    site = watched(datetime(2026, 6, 1, 12, tzinfo=UTC))
    days_of_points(site, 14)
    assert site.said("RET-01", DPI) == ("not_measurable", "young")
    site.now += DAY
    site.back_up(site.now - HOUR)
    site.keep(lambda point: point.at > site.now - 14 * DAY)
    assert site.said("RET-01", DPI) == ("non_compliant", "pruned")


def test_an_application_may_demand_less(watched: Make) -> None:
    extra = "[applications.dpi.retention]\ndaily = 40\nmonthly = 0\nyearly = 0\n"
    site = watched(datetime(2026, 6, 1, 12, tzinfo=UTC), 'every = "24h"', extra=extra)
    days_of_points(site, 45)
    assert site.said("RET-01", DPI) == ("compliant", "kept")
    site.points = [point for point in site.points if point.at.day != 20]
    assert site.said("RET-01", DPI) == ("warning", "gaps")
    assert site.finding("RET-01", DPI).reason.values["gaps"] == "2026-05-20"


def test_one_backup_that_hung_for_days_keeps_no_missed_run_silent(watched: Make) -> None:
    evening = local(AUTUMN[0], 22, 0, -20)
    site = watched(evening - HOUR)
    for night in range(5):
        began = evening + night * DAY
        ended = began + (9 * DAY if night == 3 else HOUR)
        site.back_up(began, started_at=began, ended_at=ended)
    site.now = evening + 5 * DAY
    assert site.said("JOB-01")[1] != "missed"
    site.now = evening + 6 * DAY + 2 * HOUR  # the night after the one that was left out
    assert site.said("JOB-01") == ("non_compliant", "missed")


# ---------------------------------------------------------------------------------------- anomalies


def test_a_moved_directory_shows_in_the_numbers(watched: Make) -> None:
    site = watched(datetime(2026, 6, 10, 12, tzinfo=UTC))
    for night in range(14, 0, -1):
        site.back_up(
            site.now - night * DAY, bytes=900_000_000 + night * 1_000_000, files=4000 + night
        )
    assert site.said("ANO-01") == ("compliant", "usual")
    site.back_up(site.now - HOUR, bytes=899_000_000, files=1)
    found = site.judged("ANO-01")
    assert (found.status, found.reason.id) == ("non_compliant", "reason.ANO-01.fell_count")
    sentence = Words("fr").say(found.reason)
    assert "nombre de fichiers" in sentence
    assert "4007" in sentence.replace("\u202f", "").replace("\xa0", "")
