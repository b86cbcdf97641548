"""Which monthly reports were issued as PDF and have not come back signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from backupguard.model import Fact

KINDS = ("report.issued", "report.acknowledged")


def end_of_month(month: str, timezone: str) -> datetime:
    """Given "2026-10", return when that month is over at the site."""
    year, number = (int(part) for part in month.split("-"))
    following = date(year + number // 12, number % 12 + 1, 1)
    return datetime.combine(following, time(), ZoneInfo(timezone))


class Acknowledgements:
    """Reports that were issued and that came back; facts come in order."""

    def __init__(self) -> None:
        self._issued: dict[str, list[Fact]] = {}
        self._acknowledged: set[str] = set()

    def learn(self, fact: Fact) -> None:
        """Take one fact into account."""
        data = fact.observation.data
        if not isinstance(data, Mapping):  # pruned
            return
        if fact.observation.kind == "report.acknowledged":
            if not data["provisional"]:
                self._acknowledged.add(data["month"])
                self._issued.pop(data["month"], None)
        elif data["format"] != "pdf" or data.get("annex") is not None:
            return
        elif data["month"] not in self._acknowledged:
            self._issued.setdefault(data["month"], []).append(fact)

    def awaited(self, timezone: str) -> tuple[Fact, ...]:
        """Return per month that waits the first issue after its end, oldest month first.

        What was issued while the month lasted is provisional, and nobody need sign it.
        """
        found = []
        for month, facts in sorted(self._issued.items()):
            end = end_of_month(month, timezone)
            final = next((one for one in facts if one.observation.observed_at >= end), None)
            if final is not None:
                found.append(final)
        return tuple(found)
