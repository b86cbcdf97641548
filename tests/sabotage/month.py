"""An ordinary month of a hospital, as Prometheus sees it: what daemons serve, hour by hour.

The jobs are those of `tests.sabotage.quarter`; here is what happens to them in October: runs that are
late, a night of patches, a Sunday without admissions, a network that is cut for two hours, an upgrade
by the vendor, and the night on which the clock goes back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.assess import Assessment
from backupguard.metrics import render
from backupguard.model import RecoveryPoint
from backupguard.resources import shipped
from tests.sabotage.quarter import DAY, HOUR, PARIS, Job

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
LATE = {"dpi.nuit": (6, timedelta(minutes=100)), "urgences.nuit": (9, timedelta(minutes=50))}
QUIET_SUNDAY, PATCHES, CUT, UPGRADE = 11, 13, datetime(2026, 10, 20, 14, tzinfo=UTC), 22
#: Hours in which something happens are looked at one by one, others twice a day.
BUSY = ((6, 22, 4), (13, 20, 12), (20, 13, 4), (22, 22, 4), (25, 0, 4))

#: Times that move with each judgement, though nothing else is new.
_MOVING = ("last_cycle_timestamp_seconds", "findings_evaluated_timestamp_seconds")
_SAMPLE = re.compile(r"(backupguard_(\w+)\{.*\}) (\S+)")


def ordinary(job: Job, point: RecoveryPoint) -> RecoveryPoint | None:
    """Return what ordinary life in October makes of a run."""
    local = point.at.astimezone(PARIS)
    if (local.year, local.month) != (2026, 10):
        return point
    ended = point.ended_at or point.at
    day, late = LATE.get(job.id, (0, HOUR))
    if local.day == day:
        return replace(point, ended_at=ended + late)
    if local.day == PATCHES and local.hour >= 22:
        if job.every == HOUR:
            return None  # its host was being restarted
        return replace(point, ended_at=ended + 2 * HOUR)
    if local.day == QUIET_SUNDAY:
        return replace(point, bytes_added=(point.bytes_added or 0) // 20)
    if job.application == "dpi" and local.day >= UPGRADE:
        grown = (point.bytes or 0) * 125 // 100
        added = grown * 6 // 10 if local.day == UPGRADE else point.bytes_added
        return replace(point, bytes=grown, bytes_added=added)
    return point


def moments(first: datetime, last: datetime) -> list[datetime]:
    """Return when the site is judged: twice a day, and each hour while something happens."""
    found = set()
    hours = int((last - first) / HOUR)
    for at in (first + number * HOUR for number in range(hours)):
        begins = [(START + (day - 1) * DAY + hour * HOUR, length) for day, hour, length in BUSY]
        if at.hour in (5, 17) or any(b <= at < b + length * HOUR for b, length in begins):
            found.add(at)
    return sorted(found)


def _read() -> frozenset[str]:
    text = shipped("prometheus/backupguard.rules.yml").read_text(encoding="utf-8")
    return frozenset(re.findall(r"\bbackupguard_(\w+)", text))


@dataclass
class Record:
    """What was served, hour by hour, of the metrics that the rules read.

    Times are counted from the day before `START`, because a test of promtool begins in 1970.
    """

    values: dict[str, dict[int, float]] = field(default_factory=dict)
    _metrics: frozenset[str] = field(default_factory=_read)

    def serve(self, assessment: Assessment, first: datetime, last: datetime) -> None:
        """Serve an assessment from one hour to another, judged again each hour with no news."""
        epoch = (START - DAY).timestamp()
        judged = assessment.judged_at.timestamp()
        for line in render(assessment).decode().splitlines():
            sample = _SAMPLE.match(line)
            if sample is None or sample[2] not in self._metrics:
                continue
            value = float(sample[3])
            moves = sample[2] in _MOVING or (
                sample[2].endswith("_timestamp_seconds") and value > judged - 600
            )
            if sample[2].endswith("_timestamp_seconds") and value:
                value -= epoch
            row = self.values.setdefault(sample[1], {})
            begin, end = (int((at - START) / HOUR) for at in (first, last))
            for hour in range(begin, end):
                row[hour] = value + (hour - begin) * 3600 * moves

    def silence(self, first: datetime, length: timedelta) -> None:
        """Let Prometheus reach nobody for a while."""
        begin = int((first - START) / HOUR)
        for row in self.values.values():
            for hour in range(begin, begin + int(length / HOUR)):
                row.pop(hour, None)

    def test(self, checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a file of `promtool test rules` over the whole record."""
        hours = int((END - START) / HOUR)
        return {
            "rule_files": [str(shipped("prometheus/backupguard.rules.yml"))],
            "evaluation_interval": "1h",
            "tests": [
                {
                    "interval": "1h",
                    "input_series": [
                        {"series": _labelled(name), "values": _run_length(row, hours)}
                        for name, row in self.values.items()
                    ],
                    "promql_expr_test": list(checks),
                }
            ],
        }


def _labelled(series: str) -> str:
    return series.replace("{", '{job="backupguard",instance="srv:9789",', 1)


def _run_length(row: Mapping[int, float], hours: int) -> str:
    """Return values as promtool reads them, a day later than they were: time begins the day before."""
    told, hour = ["_x24"], 0
    while hour < hours:
        value, length = row.get(hour), 1
        while hour + length < hours and row.get(hour + length) == value:
            length += 1
        if value is None:
            told += ["stale"] if hour else ["_"]
            told += [f"_x{length - 1}"] if length > 1 else []
        else:
            told.append(f"{value:.6f}x{length - 1}" if length > 1 else f"{value:.6f}")
        hour += length
    return " ".join(told)
