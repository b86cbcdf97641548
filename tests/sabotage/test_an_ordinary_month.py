"""An ordinary month pages nobody and makes few tickets; with one real loss in it, it makes one page.

The site and its month are made up (`tests.sabotage.month`); store, views, controls, metrics and rules
are the real ones, and promtool evaluates the rules over every hour of the month.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import structlog

from backupguard.assess import Assessment
from tests.sabotage.month import CUT, END, START, Record, moments, ordinary
from tests.sabotage.quarter import DAY, HOUR, Quarter

#: The day of the real loss.
LOSS = datetime(2026, 10, 28, 5, tzinfo=START.tzinfo)
#: Nothing was served on the day before the month, which is no part of it.
FIRING = 'ALERTS{alertstate="firing", severity=~"%s", alertname!="BackupGuardAbsent"}'
#: How often each alert began, each subject by itself: at least as often as somebody was told. One that
#: goes on after the cut is no news: Alertmanager held its end back, and remembers that it told it.
BEGAN = (
    "sum by (alertname, severity) (count_over_time("
    "(group by (alertname, severity, subject, application) ({0})"
    " unless group by (alertname, severity, subject, application)"
    " (max_over_time({0}[4h:1h] offset 1h)))[32d:1h]))"
)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@dataclass(frozen=True)
class Months:
    """The ordinary month, and the same with a loss near its end."""

    ordinary: Record
    lossy: Record


def _live(site: Quarter, record: Record, first: datetime, last: datetime) -> None:
    at = moments(first, last)
    for moment, following in zip(at, [*at[1:], last], strict=True):
        record.serve(_judged(site, moment), moment, following)


def _judged(site: Quarter, at: datetime) -> Assessment:
    site.judge(at)
    return site.assessor.judge(at)


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Months:
    cut = dict.fromkeys(("nas", "site", "bande"), (CUT, CUT + 2 * HOUR))
    place = tmp_path_factory.mktemp("month")
    site = Quarter(root=place / "site", now=START, down=cut, disturb=ordinary)
    record = Record()
    _live(site, record, START, LOSS)
    site.close()
    lossy = copy.deepcopy(record)
    for name, into, loses in (("well", record, False), ("loss", lossy, True)):
        rest = site.copy(place / name)
        if loses:
            rest.broken, rest.broken_from = "labo.heure", LOSS
            rest.lose = lambda points: points[1::2]
        _live(rest, into, LOSS, END if not loses else LOSS + 2 * DAY)
        rest.close()
        into.silence(CUT, 2 * HOUR)
    return Months(record, lossy)


def began(record: Record, place: Path, severities: str, until: datetime = END) -> dict[str, int]:
    """Return how often each alert of these severities began."""
    expression = BEGAN.format(FIRING % severities)
    hours = int((until - START) / HOUR) + 23
    check = {"expr": expression, "eval_time": f"{hours}h", "exp_samples": []}
    file = place / "month.test.yml"
    file.write_text(json.dumps(record.test([check])), encoding="utf-8")
    ran = subprocess.run(
        ["promtool", "test", "rules", file.name],
        cwd=place, text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return _got(ran.stdout + ran.stderr, ok=ran.returncode == 0)


def _got(told: str, *, ok: bool) -> dict[str, int]:
    """Return what an expression gave, from what promtool says where nothing was expected."""
    import re

    found = {
        f"{name} {severity}": int(count)
        for name, severity, count in re.findall(
            r'\{alertname="(\w+)", severity="(\w+)"\} ([0-9]+)', told.replace("\\", "")
        )
    }
    assert ok == (not found), told
    return found


def test_an_ordinary_month_pages_nobody_and_makes_few_tickets(
    months: Months, tmp_path: Path
) -> None:
    told = began(months.ordinary, tmp_path, "critical|high|warning")
    assert [one for one in told if "critical" in one] == []
    assert sum(told.values()) <= 5, told
    assert "BackupGuardSilent high" in told  # the network was cut: promtool did see the month


def test_one_real_loss_in_it_makes_exactly_its_page(months: Months, tmp_path: Path) -> None:
    told = began(months.lossy, tmp_path, "critical", LOSS + 2 * DAY)
    assert told == {"BackupGuardRetentionShort critical": 1}
