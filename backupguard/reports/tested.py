"""Folds every restore test as it is read: what stands of each copy, and the last twelve months.

Of a year of tests, only the newest of each copy and one mark a month are kept, so that a report takes
no more memory than its applications do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.assess.estate import Proof
from backupguard.model import Fact, Origin, Verdict
from backupguard.reports.outlook import MonthMark

#: Verdicts that say something about the backup; the others speak about us.
CONCLUSIVE = (Verdict.PASSED, Verdict.FAILED)
MONTHS = 12
_TOLD = (Origin.IMPORTED, Origin.ATTESTED)

_Copy = tuple[str | None, Origin]


def payload(fact: Fact) -> Mapping[str, Any]:
    """Return a record's payload; nothing where its body was pruned."""
    found = fact.observation.data
    return found if isinstance(found, Mapping) else {}


def when(fact: Fact) -> tuple[datetime, int]:
    """Return by what tests are ordered: when they were done, then when they were recorded."""
    return fact.observation.observed_at, fact.seq


def months_until(month: str, count: int = MONTHS) -> tuple[str, ...]:
    """Return the months that end with `month`, oldest first."""
    last = date.fromisoformat(f"{month}-01")
    ordinal = last.year * 12 + last.month - 1
    found = (divmod(one, 12) for one in range(ordinal - count + 1, ordinal + 1))
    return tuple(f"{year:04d}-{number + 1:02d}" for year, number in found)


@dataclass(slots=True)
class _Application:
    last: Fact | None = None
    found: dict[_Copy, Fact] = field(default_factory=dict)
    passed: dict[str | None, Fact] = field(default_factory=dict)  # observed, by repository
    months: dict[str, dict[_Copy, Fact]] = field(default_factory=dict)


class Tested:
    """What all restore tests say up to the end of a month."""

    def __init__(self, month: str, timezone: str) -> None:
        self._months = months_until(month)
        self._zone = ZoneInfo(timezone)
        self._all: dict[str, _Application] = {}
        self._passed: dict[tuple[str, str], Fact] = {}
        self._concluded: dict[tuple[str, str], Fact] = {}

    def learn(self, fact: Fact) -> None:
        """Take one `restore-test.result` into account; one whose body was pruned says nothing."""
        data = payload(fact)
        if not data:
            return
        name, repository = data["application"], data["repository"]
        origin, verdict = fact.observation.origin, data["verdict"]
        one = self._all.setdefault(name, _Application())
        one.last = _newer(one.last, fact)
        if verdict not in CONCLUSIVE:
            return
        copy = (repository, origin)
        one.found[copy] = _newer(one.found.get(copy), fact)
        month = fact.observation.observed_at.astimezone(self._zone).strftime("%Y-%m")
        if month in self._months:
            of_month = one.months.setdefault(month, {})
            of_month[copy] = _newer(of_month.get(copy), fact)
        if origin is Origin.OBSERVED:
            self._observed(one, name, repository, fact, verdict)

    def _observed(
        self, one: _Application, name: str, repository: str | None, fact: Fact, verdict: str
    ) -> None:
        key = (name, repository or "-")
        self._concluded[key] = fact
        if verdict == Verdict.PASSED:
            self._passed[key] = fact
            one.passed[repository] = _newer(one.passed.get(repository), fact)

    @property
    def applications(self) -> Iterable[str]:
        """Return every application that was ever tested."""
        return self._all

    def last(self, application: str) -> Fact | None:
        """Return its newest test, whatever came of it."""
        return self._all[application].last if application in self._all else None

    def copies(self, application: str) -> list[Fact]:
        """Return the last conclusive test of each copy, newest first.

        What is told of a copy never stands for what was observed of it; only an observed pass clears
        what was told of it before.
        """
        one = self._all.get(application)
        if one is None:
            return []
        stands = [
            fact
            for (repository, origin), fact in one.found.items()
            if not (
                origin in _TOLD
                and (seen := one.passed.get(repository)) is not None
                and when(seen) > when(fact)
            )
        ]
        return sorted(stands, key=when, reverse=True)

    def newest_observed(self, application: str, repository: str) -> Fact | None:
        """Return the newest conclusive test of our own from a repository."""
        one = self._all.get(application)
        return None if one is None else one.found.get((repository, Origin.OBSERVED))

    def proof(self, tried: Mapping[str, Fact]) -> Proof:
        """Return what a forecast rests on, with the last conclusive attempts by repository."""
        return Proof(passed=self._passed, concluded=self._concluded, tried=tried)

    def marks(self, application: str) -> tuple[MonthMark, ...]:
        """Return the last twelve months of an application, oldest first."""
        months = self._all[application].months if application in self._all else {}
        return tuple(_mark(month, months.get(month, {}).values()) for month in self._months)


def _newer(known: Fact | None, fact: Fact) -> Fact:
    return fact if known is None or when(fact) >= when(known) else known


def _mark(month: str, tests: Iterable[Fact]) -> MonthMark:
    ordered = sorted(tests, key=when)
    if not ordered:
        return MonthMark(month=month, outcome="none")
    failed = any(payload(test)["verdict"] == Verdict.FAILED for test in ordered)
    passed = [test for test in ordered if payload(test)["verdict"] == Verdict.PASSED]
    observed = [test for test in passed if test.observation.origin is Origin.OBSERVED]
    shown = (observed or passed)[-1:]
    data = payload(shown[0]) if shown else {}
    return MonthMark(
        month=month,
        outcome="failed" if failed else "passed",
        level=data.get("level", 0),
        duration_ms=data.get("duration_ms"),
        observed=any(test.observation.origin is Origin.OBSERVED for test in ordered),
    )
