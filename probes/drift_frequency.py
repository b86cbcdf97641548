"""How often a schedule starts something: about how many times a year, only to be compared.

Sources: crontab(5); systemd.time(7), "Calendar events", in the normalised form that systemctl shows.
"""

from __future__ import annotations

import re

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = (*("jan", "feb", "mar", "apr", "may", "jun"), *("jul", "aug", "sep", "oct", "nov", "dec"))
#: The fields of a crontab line: first and last value, and how many there are.
_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_WORDS = {
    "minutely": 525_600,
    "hourly": 8760,
    "daily": 365,
    "midnight": 365,
    "weekly": 52,
    "monthly": 12,
    "quarterly": 4,
    "semiannually": 2,
    "yearly": 1,
    "annually": 1,
}
_SPAN = re.compile(r"(\d+)\s*([a-zA-Z]*)")
#: systemd.time(7), "Displaying time spans"; parts of seconds do not matter.
_SECONDS = {
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
    "month": 2_629_800,
    "y": 31_557_600,
}
_YEAR_S = 31_557_600


def per_year(schedule: str) -> int | None:
    """Return about how often a schedule of cron's or of a systemd timer's elapses in a year.

    None where it says nothing that can be compared: "@reboot", the name of a schedule elsewhere.
    """
    text = schedule.strip()
    if text.startswith("On"):
        return _timer(text)
    word = _WORDS.get(text.lstrip("@").lower())
    if word is not None:
        return word
    fields = text.split()
    return _cron(fields) if len(fields) == 5 else None


def _cron(fields: list[str]) -> int | None:
    counts = [
        _count(field, first, last) for field, (first, last) in zip(fields, _FIELDS, strict=True)
    ]
    if None in counts:
        return None
    minutes, hours, days, months, weekdays = (count or 0 for count in counts)
    of_month = days * months if fields[2] != "*" or fields[4] == "*" else 0
    # Where both are given, either is enough.
    of_week = weekdays * 52 * months // 12 if fields[4] != "*" else 0
    a_year = 365 if fields[2:] == ["*", "*", "*"] else min(365, of_month + of_week)
    return minutes * hours * a_year


def _count(field: str, first: int, last: int) -> int | None:
    """Return how many values a field of a crontab line stands for; None for no field."""
    values: set[int] = set()
    for part in field.lower().split(","):
        match = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", part)
        if match is None:
            return None
        low = first if match[1] == "*" else _number(match[1])
        high = last if match[1] == "*" else _number(match[2] or match[1])
        if match[3] and not match[2]:
            high = last
        step = int(match[3] or 1)
        if low is None or high is None or step == 0 or not first <= low <= high <= last + 1:
            return None
        values |= {value % 7 if last == 6 else value for value in range(low, high + 1, step)}
    return len(values)


def _number(text: str) -> int | None:
    if text.isdecimal():
        return int(text)
    if text[:3] in _DAYS:
        return _DAYS.index(text[:3]) + 1
    return _MONTHS.index(text[:3]) + 1 if text[:3] in _MONTHS else None


def _timer(text: str) -> int | None:
    total = 0
    for one in text.split("; "):
        name, _, value = one.partition("=")
        if name == "OnCalendar":
            count = _calendar(value)
        elif name in {"OnUnitActive", "OnUnitInactive"}:
            spans = _SPAN.findall(value)
            span = sum(int(amount) * _SECONDS.get(unit, 0) for amount, unit in spans)
            count = _YEAR_S // span if span else None
        else:  # after boot: once, whenever that is
            count = 0
        if count is None:
            return None
        total += count
    return total or None


def _calendar(expression: str) -> int | None:
    """Return how often a calendar event occurs: "Mon..Fri *-*-* 02:00:00", "daily"."""
    word = _WORDS.get(expression.strip().lower())
    if word is not None:
        return word
    parts = expression.split()
    weekdays = 7
    if parts and parts[0][:3].lower() in _DAYS:
        weekdays = _weekdays(parts.pop(0).lower())
    date = parts.pop(0).split("-") if parts and "-" in parts[0] else ["*", "*", "*"]
    time = parts[0].split(":") if parts and ":" in parts[0] else ["00", "00", "00"]
    date = ["*", *date] if len(date) == 2 else date
    time = [*time, "00"] if len(time) == 2 else time
    if len(date) != 3 or len(time) != 3 or date[0] != "*":
        return None
    counts = [
        _values(part, first, last)
        for part, first, last in zip(
            [*date[1:], *time], (1, 1, 0, 0, 0), (12, 31, 23, 59, 59), strict=True
        )
    ]
    if None in counts:
        return None
    months, days, hours, minutes, seconds = (count or 0 for count in counts)
    a_year = 365 if date[1:] == ["*", "*"] else min(365, months * days)
    return max(1, a_year * weekdays // 7) * hours * minutes * seconds


def _weekdays(text: str) -> int:
    days: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("..")
        if low[:3] in _DAYS:
            end = _DAYS.index(high[:3]) if high[:3] in _DAYS else _DAYS.index(low[:3])
            days |= set(range(_DAYS.index(low[:3]), end + 1))
    return len(days) or 7


def _values(field: str, first: int, last: int) -> int | None:
    values: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"(\*|\d+)(?:\.\.(\d+))?(?:/(\d+))?(?:\.0+)?", part)
        if match is None:
            return None
        low = first if match[1] == "*" else int(match[1])
        many = match[1] == "*" or match[3]
        high = int(match[2]) if match[2] else (last if many else low)
        step = int(match[3] or 1)
        if step == 0 or high > last:
            return None
        values |= set(range(low, high + 1, step))
    return len(values) or None
