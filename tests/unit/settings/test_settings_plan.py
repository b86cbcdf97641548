from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from backupguard import settings
from backupguard.settings.plan import Measures, Plan, plan, problems

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = 3600
TB = 10**12

TEXT = """\
[site]
name = "CH"
timezone = "UTC"
[repositories.nas]
type = "directory"
path = "/srv/nas"
[repositories.tape]
type = "directory"
path = "/srv/tape"
limits.windows = ["Sat 00:00-10:00"]
limits.bandwidth = "10MB/s"
limits.max-bytes-per-day = "100GB"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
[applications.dpi.restore-test]
schedule = "0 20 * * 1"
[daemon]
windows = ["Mon 20:00-24:00"]
"""
TAPE = '[applications.dpi.backups.weekly]\nrepository = "tape"\nevery = "7d"\n'


def load(directory: Path, text: str) -> settings.Loaded:
    path = directory / "backupguard.toml"
    path.write_text(text)
    return settings.load_located(path, environ={})


def planned(directory: Path, text: str, measures: Measures) -> Plan:
    return plan(load(directory, text).settings, measures, START)


def test_a_plan_that_fits(tmp_path: Path) -> None:
    found = planned(tmp_path, TEXT, Measures(job_bytes={"dpi.nightly": TB // 10}))

    [test] = found.tests
    assert (test.tests, test.seconds, test.basis) == (4, 2000, "estimated")
    assert found.fits
    assert found.budgets[0].available == 4 * 4 * HOUR
    assert found.assumed_throughput == ("nas",)
    assert found.unknown_sizes == ()


def test_a_plan_that_does_not_fit_says_so_at_the_window(tmp_path: Path) -> None:
    loaded = load(tmp_path, TEXT)
    found = plan(loaded.settings, Measures(job_bytes={"dpi.nightly": TB}), START)

    [problem] = problems(found, loaded.merged)
    assert problem.key == "daemon.windows"
    assert problem.line == TEXT.splitlines().index('windows = ["Mon 20:00-24:00"]') + 1
    assert problem.message.id == "settings.plan-too-long"
    assert problem.message.values == {"needed": "23 h", "available": "16 h", "days": 28}


def test_more_at_once_makes_it_fit(tmp_path: Path) -> None:
    text = TEXT.replace("[daemon]", "[daemon]\nparallel-restore-tests = 2")

    assert planned(tmp_path, text, Measures(job_bytes={"dpi.nightly": TB})).fits


def test_what_was_measured_counts(tmp_path: Path) -> None:
    found = planned(
        tmp_path, TEXT, Measures(job_bytes={"dpi.nightly": TB}, test_seconds={"dpi": HOUR})
    )
    assert (found.tests[0].seconds, found.tests[0].basis) == (HOUR, "measured")
    assert found.assumed_throughput == ()

    faster = Measures(job_bytes={"dpi.nightly": TB}, fetch_bytes_per_second={"nas": 1_000_000_000})
    assert planned(tmp_path, TEXT, faster).tests[0].seconds == 2000


def test_an_unknown_size_is_said_and_not_guessed(tmp_path: Path) -> None:
    found = planned(tmp_path, TEXT, Measures())

    assert found.unknown_sizes == ("dpi",)
    assert found.tests[0].basis == "unknown"
    assert found.fits


def test_the_limits_of_a_repository_count(tmp_path: Path) -> None:
    text = TEXT + TAPE
    sizes = Measures(job_bytes={"dpi.nightly": TB, "dpi.weekly": TB})
    found = planned(tmp_path, text.replace('["Mon 20:00-24:00"]', "[]"), sizes)

    # 10 MB/s for a terabyte: 27.8 h, twice that for a whole test, half the tests from here.
    windows = next(b for b in found.budgets if b.path[-1] == "windows" and b.path[1] == "tape")
    assert (windows.needed, windows.available) == (400_000, 4 * 10 * HOUR)
    assert not windows.fits
    most = next(b for b in found.budgets if b.unit == "bytes")
    assert (most.needed, most.available, most.fits) == (2 * TB, 28 * TB // 10, True)


def test_windows_that_never_meet_leave_no_time(tmp_path: Path) -> None:
    sizes = Measures(job_bytes={"dpi.nightly": 1, "dpi.weekly": 1})
    found = planned(tmp_path, TEXT + TAPE, sizes)

    windows = next(b for b in found.budgets if b.path[1] == "tape" and b.unit == "seconds")
    assert windows.available == 0
    assert not found.fits


def test_no_copies_no_tests(tmp_path: Path) -> None:
    start = TEXT.index("[applications.dpi.backups")
    text = TEXT[:start] + TEXT[TEXT.index("[applications.dpi.restore-test]") :]

    assert planned(tmp_path, text, Measures()).tests[0].tests == 0
