"""When something is due: cron expressions and windows, in the site's local time. Pure functions.

One slot per local date and time: on the autumn night the second 02:30 is the same slot as the first,
and on the spring night a time that does not exist moves forward by the hour that is left out. All
times taken and given are aware; slots are in UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A cron expression repeats within 28 years at most (29 February on a given weekday); 2100 adds 12.
_HORIZON_DAYS = 40 * 366
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A parsed cron expression: sorted values per field; weekdays count from Sunday = 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool  # the day-of-month field begins with "*"
    any_weekday: bool

    def falls_on(self, day: date) -> bool:
        """Tell whether the expression has slots on that date.

        As in every cron since Vixie's: when both day fields are restricted, either one suffices.
        """
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday


def _value(text: str, low: int, high: int, words: Sequence[str], first: int) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + first
    if not re.fullmatch(r"[0-9]{1,4}", text) or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not between {low} and {high}")
    return int(text)


def _field(text: str, low: int, high: int, words: Sequence[str] = (), first: int = 0) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _value(step_text, 1, high, (), 0) if slash else 1
        if span == "*":
            start, end = low, high
        elif "-" in span:
            one, _, other = span.partition("-")
            start = _value(one, low, high, words, first)
            end = _value(other, low, high, words, first)
            if end < start:
                raise ValueError(f"{span!r} runs backwards")
        else:
            start = _value(span, low, high, words, first)
            end = high if slash else start
        values.update(range(start, end + 1, step))
    return values


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """Given a cron expression of five fields, such as "0 22 * * Mon-Fri", return it parsed.

    Names of months and days, lists, ranges, steps and "@daily" and its kin are understood. Raise
    ValueError when it is none, or when it never comes (30 February).
    """
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ValueError(f"five fields are needed, {len(fields)} were found")
    weekdays = _field(fields[4], 0, 7, _WEEKDAYS)
    cron = Cron(
        minutes=tuple(sorted(_field(fields[0], 0, 59))),
        hours=tuple(sorted(_field(fields[1], 0, 23))),
        days=frozenset(_field(fields[2], 1, 31)),
        months=frozenset(_field(fields[3], 1, 12, _MONTHS, 1)),
        weekdays=frozenset(0 if day == 7 else day for day in weekdays),
        any_day=fields[2].startswith("*"),
        any_weekday=fields[4].startswith("*"),
    )
    longest = max(31 if m not in {2, 4, 6, 9, 11} else 29 if m == 2 else 30 for m in cron.months)
    if min(cron.days) > longest and (cron.any_day or cron.any_weekday):
        raise ValueError("that date never comes")
    return cron


def _instant(day: date, hour: int, minute: int, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local time; one that does not exist moves forward."""
    return datetime.combine(day, time(hour, minute), tzinfo=zone).astimezone(UTC)


def _walk(cron: Cron, first: date, last: date, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the slots of these local dates, ascending, each once."""
    pending: set[datetime] = set()
    day = first
    while day <= last:
        if cron.falls_on(day):
            pending.update(_instant(day, h, m, zone) for h in cron.hours for m in cron.minutes)
        day += _DAY
        if pending:  # what moved forward past midnight waits for the next day's own slots
            boundary = _instant(day, 0, 0, zone)
            due = sorted(slot for slot in pending if slot < boundary)
            pending.difference_update(due)
            yield from due
    yield from sorted(pending)


def _aligned(every: timedelta, after: datetime) -> datetime:
    """Return the first whole multiple of `every` since 1970 that lies after `after`."""
    return _EPOCH + ((after - _EPOCH) // every + 1) * every


def slots(
    schedule: str | timedelta, start: datetime, end: datetime, timezone: str
) -> Iterator[datetime]:
    """Yield the slots with `start` < slot <= `end`, ascending, in UTC.

    A schedule is a cron expression or an interval; an interval's slots are its multiples since 1970,
    so that every process finds the same ones.
    """
    if isinstance(schedule, timedelta):
        slot = _aligned(schedule, start)
        while slot <= end:
            yield slot
            slot += schedule
        return
    zone = ZoneInfo(timezone)
    # Two days of margin: a zone has once left out a whole day (Apia, 30 December 2011).
    first = start.astimezone(zone).date() - 2 * _DAY
    for slot in _walk(parse_cron(schedule), first, end.astimezone(zone).date(), zone):
        if start < slot <= end:
            yield slot


def next_slot(schedule: str | timedelta, after: datetime, timezone: str) -> datetime:
    """Return the first slot strictly after `after`, in UTC."""
    if isinstance(schedule, timedelta):
        return _aligned(schedule, after)
    zone = ZoneInfo(timezone)
    first = after.astimezone(zone).date() - 2 * _DAY
    walk = _walk(parse_cron(schedule), first, first + timedelta(days=_HORIZON_DAYS), zone)
    return next(slot for slot in walk if slot > after)


def last_slot(schedule: str | timedelta, until: datetime, timezone: str) -> datetime:
    """Return the last slot that is not after `until`, in UTC."""
    if isinstance(schedule, timedelta):
        return _EPOCH + ((until - _EPOCH) // schedule) * schedule
    zone = ZoneInfo(timezone)
    cron, day = parse_cron(schedule), until.astimezone(zone).date()
    reach = 2
    while reach <= _HORIZON_DAYS:
        found = [s for s in _walk(cron, day - reach * _DAY, day, zone) if s <= until]
        # The earliest days of the stretch lack what moved forward into them; two days are margin.
        if found and found[-1] > until - (reach - 1) * _DAY:
            return found[-1]
        reach *= 4
    return max(found)


def longest_gap(schedule: str | timedelta, around: datetime, timezone: str) -> timedelta:
    """Return the longest time between two slots in the year after `around`."""
    if isinstance(schedule, timedelta):
        return schedule
    times = [
        last_slot(schedule, around, timezone),
        *slots(schedule, around, around + timedelta(days=366), timezone),
    ]
    times.append(next_slot(schedule, times[-1], timezone))
    return max(later - earlier for earlier, later in pairwise(times))


# --------------------------------------------------------------------------------------- calendars


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A run that a calendar asks for. It begins at `first`, or as late as `last`.

    The two differ on the nights on which clocks change: in autumn a local time comes twice and
    schedulers differ on which is meant; in spring one is left out (`exists` is False), and they differ
    on whether they run before the gap, after it, or not at all that night.
    """

    first: datetime
    last: datetime
    exists: bool = True


#: A run counts for the slot it comes before by at most this: somebody began early by hand.
EARLY = timedelta(hours=6)


def _expected_at(day: date, hour: int, minute: int, zone: ZoneInfo) -> Expected:
    local = datetime.combine(day, time(hour, minute), tzinfo=zone)
    both = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    exists = both[0].astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
    return Expected(first=min(both), last=max(both), exists=exists)


@lru_cache(maxsize=4096)
def expected(cron_text: str, first: date, last: date, timezone: str) -> tuple[Expected, ...]:
    """Return the runs that a cron expression asks for on these local dates, ascending."""
    cron, zone = parse_cron(cron_text), ZoneInfo(timezone)
    found: set[Expected] = set()
    day = first
    while day <= last:
        if cron.falls_on(day):
            found.update(_expected_at(day, h, m, zone) for h in cron.hours for m in cron.minutes)
        day += _DAY
    return tuple(sorted(found, key=lambda slot: (slot.first, slot.last)))


def met_by(asked: Sequence[Expected], at: datetime, timezone: str) -> int | None:
    """Return which of the ascending runs `asked` for a point of time `at` stands for, None for none.

    It is the last one that had begun, or the next where that is near: within a quarter of the time
    between the two, and `EARLY` at most. A point at midnight sharp names a day only, as a file called
    after its date does, and stands for that day's first run.
    """
    local = at.astimezone(ZoneInfo(timezone))
    if local.time() == time(0):
        for index, slot in enumerate(asked):
            if slot.last.astimezone(local.tzinfo).date() == local.date():
                return index
    after = bisect_right(asked, at, key=lambda slot: slot.first)
    if after == len(asked):
        return after - 1 if after else None
    if after == 0:
        return 0 if asked[0].first - at <= EARLY else None
    early = min(EARLY, (asked[after].first - asked[after - 1].first) / 4)
    return after if asked[after].first - at <= early else after - 1


@lru_cache(maxsize=16384)
def due_after(cron_text: str, at: datetime, timezone: str) -> tuple[Expected, tuple[Expected, ...]]:
    """Return the run that is due once a point of time `at` stands, and the doubtful ones before it.

    Doubtful are those at a local time that the spring night leaves out: nobody can say that they must
    have come.
    """
    day = at.astimezone(ZoneInfo(timezone)).date()
    reach = 3
    while True:
        asked = expected(cron_text, day - reach * _DAY, day + reach * _DAY, timezone)
        index = met_by(asked, at, timezone)
        later = asked[index + 1 if index is not None else 0 :]
        due = next((number for number, slot in enumerate(later) if slot.exists), None)
        # A run before the point tells how far apart they are; a new calendar may have none.
        if due is not None and (asked[0].first <= at or reach > _HORIZON_DAYS):
            return later[due], later[:due]
        if reach > 2 * _HORIZON_DAYS:  # 02:30 on 29 March of a year: only ever left out
            return Expected(first=_NEVER, last=_NEVER), later
        reach *= 4


def asked_between(
    cron_text: str, start: datetime, end: datetime, timezone: str
) -> tuple[Expected, ...]:
    """Return the runs asked for with `start` < first and last <= `end`."""
    zone = ZoneInfo(timezone)
    around = expected(
        cron_text, start.astimezone(zone).date() - _DAY, end.astimezone(zone).date(), timezone
    )
    return tuple(slot for slot in around if start < slot.first and slot.last <= end)


# ----------------------------------------------------------------------------------------- windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A weekly window: weekdays (Monday = 1) on which it opens, minutes after midnight.

    `end` is at most `start` when it closes on the day after.
    """

    weekdays: frozenset[int]
    start: int
    end: int


_ISO_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIMES = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})\Z")


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(","):
        one, dash, other = part.partition("-")
        if one not in _ISO_WEEKDAYS or (dash and other not in _ISO_WEEKDAYS):
            raise ValueError(f"{part!r} is no weekday")
        first = _ISO_WEEKDAYS.index(one)
        last = _ISO_WEEKDAYS.index(other) if dash else first
        days.update(index % 7 + 1 for index in range(first, last + 1 + 7 * (last < first)))
    return frozenset(days)


@lru_cache(maxsize=256)
def parse_window(text: str) -> Window:
    """Given "Mon-Fri 09:00-17:00", "Sat,Sun 00:00-24:00" or "22:00-06:00", return it parsed.

    Without days, it opens every day; one that ends before it begins closes on the next day. Raise
    ValueError when the text is no window.
    """
    words = text.split()
    match = _TIMES.match(words[-1]) if 1 <= len(words) <= 2 else None
    if match is None:
        raise ValueError(f"{text!r} is no window; write for example Mon-Fri 09:00-17:00")
    numbers = [int(number) for number in match.groups()]
    start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if numbers[1] > 59 or numbers[3] > 59 or start >= 1440 or end > 1440 or start == end:
        raise ValueError(f"{words[-1]!r} are no times of a day")
    weekdays = _days(words[0]) if len(words) == 2 else frozenset(range(1, 8))
    return Window(weekdays=weekdays, start=start, end=end)


def opened(
    windows: Iterable[str], start: datetime, end: datetime, timezone: str
) -> list[tuple[datetime, datetime]]:
    """Return when the windows are open between `start` and `end`: disjoint, ascending, in UTC.

    No window at all means always open.
    """
    parsed = [parse_window(text) for text in windows]
    if not parsed:
        return [(start.astimezone(UTC), end.astimezone(UTC))] if start < end else []
    zone = ZoneInfo(timezone)
    spans: list[tuple[datetime, datetime]] = []
    day, last = start.astimezone(zone).date() - 2 * _DAY, end.astimezone(zone).date()
    while day <= last:
        for window in parsed:
            if day.isoweekday() in window.weekdays:
                closes = day + _DAY * ((window.end == 1440) + (window.end <= window.start))
                spans.append(
                    (
                        _instant(day, window.start // 60, window.start % 60, zone),
                        _instant(closes, window.end % 1440 // 60, window.end % 60, zone),
                    )
                )
        day += _DAY
    merged: list[tuple[datetime, datetime]] = []
    for opens, closes_at in sorted(spans):
        opens, closes_at = max(opens, start), min(closes_at, end)  # noqa: PLW2901
        if opens >= closes_at:
            continue
        if merged and opens <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], closes_at))
        else:
            merged.append((opens, closes_at))
    return [(opens.astimezone(UTC), closes.astimezone(UTC)) for opens, closes in merged]


def in_window(windows: Iterable[str], now: datetime, timezone: str) -> bool:
    """Tell whether one of the windows is open; without any, always."""
    return bool(opened(windows, now, now + timedelta(microseconds=1), timezone))


def open_seconds(windows: Iterable[str], start: datetime, end: datetime, timezone: str) -> int:
    """Return for how many seconds the windows are open between `start` and `end`."""
    spans = opened(windows, start, end, timezone)
    return sum(int((closes - opens).total_seconds()) for opens, closes in spans)
