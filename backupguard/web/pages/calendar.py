"""A year of days of one application: to which of them one can go back, and when that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from backupguard.language.signs import LOOKS
from backupguard.model import REPLAYED, Fact, Verdict, application_subject, worst
from backupguard.web.pages.rendering import View
from backupguard.web.pages.restore_tests import KIND

_EPOCH = date(1970, 1, 1).toordinal()
MONTHS = 12
#: Restore tests that are looked at for the marks: one a day for a year, and then some.
TESTS = 400

_SIGNS = {"all": "●", "some": "◐", "none": "·"} | {one: LOOKS[one][1] for one in Verdict}
#: Beside the sign of a test that was told again for a demonstration.
_REPLAYED = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day: what can be gone back to ("all", "some", "none" of its data; "" outside), and a test.

    Of several tests the worst is shown. `told` says the same in words, `address` leads to that test.
    """

    state: str
    sign: str
    test: str
    tested: str
    told: str
    address: str
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A row of the calendar, and on how many of its days there is something to go back to."""

    name: str
    days: tuple[Day, ...]
    count: int


def page(view: View) -> str | None:
    """Return the calendar of one application, or of one copy of it (`copy=REPOSITORY`)."""
    identifier, records = view.asked.parts["application"], view.outputs.records
    if identifier not in view.published.applications or records is None:
        return None
    owner = records.settings().applications.get(identifier)
    if owner is None:
        return None
    chosen = view.asked.choice("copy")
    places = sorted({job.repository for job in owner.backups.values()})
    if chosen and chosen not in places:
        return None
    known = {
        (one.job, one.repository): frozenset(one.point_days)
        for one in records.store.summaries([f"{identifier}.{name}" for name in owner.backups])
    }
    # jobs of one selection are copies of the same data: a point of any of them will do
    data: dict[str, frozenset[int]] = {}
    for name, job in owner.backups.items():
        days = known.get((f"{identifier}.{name}", job.repository), frozenset())
        if chosen in ("", job.repository):
            selection = repr(job.select)
            data[selection] = data.get(selection, frozenset()) | days
    made = _Calendar(view, list(data.values()), _tests(view, identifier, chosen))
    months = made.months()
    return view.render(
        "calendar.html",
        name=view.application(identifier),
        about=view.asked.link(f"/applications/{identifier}"),
        months=months,
        replayed=any(day.replayed for month in months for day in month.days),
        chosen=chosen,
        places=[(one, view.asked.same(copy=one)) for one in places],
        every=view.asked.same(copy=None),
        numbers=range(1, 32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """How a restore test ended, the number of its record, and whether it was told again."""

    verdict: Verdict
    seq: int
    replayed: bool


def _tests(view: View, identifier: str, chosen: str) -> dict[int, _Test]:
    """Return the worst restore test of each day, the last of equals; of `chosen` alone unless ""."""
    records = view.outputs.records
    assert records is not None
    zone = ZoneInfo(view.published.timezone)
    found: dict[int, list[_Test]] = {}
    for fact in records.store.newest([KIND], application_subject(identifier), limit=TESTS):
        seen = fact.observation
        if seen.data is not None and chosen in ("", seen.data["repository"]):
            day = seen.observed_at.astimezone(zone).date().toordinal() - _EPOCH
            found.setdefault(day, []).append(_test(fact))
    return {day: _worst(tests) for day, tests in found.items()}


def _test(fact: Fact) -> _Test:
    verdict = Verdict(fact.observation.data["verdict"])
    return _Test(verdict=verdict, seq=fact.seq, replayed=fact.author == REPLAYED)


def _worst(tests: Sequence[_Test]) -> _Test:
    verdict = worst([test.verdict for test in tests])
    return next(test for test in tests if test.verdict is verdict)


class _Calendar:
    def __init__(
        self,
        view: View,
        points: list[frozenset[int]],
        tests: Mapping[int, _Test],
    ) -> None:
        self.view, self.points, self.tests = view, points, tests
        zone = ZoneInfo(view.published.timezone)
        self.today = view.published.judged_at.astimezone(zone).date()
        self.first = min((day for days in points for day in days), default=None)

    def months(self) -> list[Month]:
        """Return the last twelve months, this one last."""
        months = []
        year, month = self.today.year, self.today.month
        for back in range(MONTHS - 1, -1, -1):
            at = year * 12 + month - 1 - back
            months.append(self._month(date(at // 12, at % 12 + 1, 1)))
        return months

    def _month(self, first: date) -> Month:
        after = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
        days = [self._day(first + timedelta(days=n)) for n in range((after - first).days)]
        blank = Day(state="", sign="", test="", tested="", told="", address="")
        return Month(
            name=self.view.words.month(first.isoformat()[:7]),
            days=tuple(days + [blank] * (31 - len(days))),
            count=sum(day.state in ("all", "some") for day in days),
        )

    def _day(self, day: date) -> Day:
        number = day.toordinal() - _EPOCH
        count = sum(number in days for days in self.points)
        state = "none" if not count else "all" if count == len(self.points) else "some"
        if day > self.today or self.first is None or number < self.first:
            state = ""
        view, test = self.view, self.tests.get(number)
        told = []
        if state:
            told.append(view.text(f"web.calendar.{state}", count=count, jobs=len(self.points)))
        if test is not None:
            told.append(view.text("web.calendar.tested", verdict=view.mark(test.verdict).label))
        replayed = test is not None and test.replayed
        if replayed:
            told.append(view.text("web.replayed"))
        sign = _SIGNS[test.verdict] if test is not None else ""
        return Day(
            state=state,
            sign=_SIGNS.get(state, ""),
            test=sign + _REPLAYED if replayed else sign,
            tested=view.mark(test.verdict).look if test is not None else "",
            told=", ".join(told),
            address=view.asked.link(f"/restore-tests/{test.seq}") if test is not None else "",
            replayed=replayed,
        )
