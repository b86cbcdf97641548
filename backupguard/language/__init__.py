"""French and English: the only place that makes sentences.

Sentences live in `catalogues/LANGUAGE/AREA.po` (gettext format, read by Babel); a message id is the
msgid, in both languages, and its placeholders are `{name}`. One area per part of the program, so that
a sentence is found where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from backupguard.model import Message, from_us

LANGUAGES = ("fr", "en")
CATALOGUES = Path(__file__).parent / "catalogues"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return every sentence of a language by message id, all areas merged."""
    sentences: dict[str, str] = {}
    for path in sorted((CATALOGUES / language).glob("*.po")):
        with path.open("rb") as file:
            for entry in read_po(file, locale=language):
                if entry.id and entry.string:
                    sentences[str(entry.id)] = str(entry.string)
    return sentences


class Words:
    """Puts messages, times, sizes and durations into one language and one time zone."""

    def __init__(self, language: str, timezone: str = "UTC") -> None:
        self.language = language if language in LANGUAGES else "en"
        self.timezone = ZoneInfo(timezone)
        self._locale = Locale.parse(self.language)

    def say(self, message: Message) -> str:
        """Return the sentence of a message; an unknown id is shown as it is, with its values.

        A value that is itself a message id after an "@" (`"@code.corrupt"`) is said too, with the
        other values in its places. Integers are put into words by the end of their name, as
        everywhere in facts: `_at` is a time in microseconds, `_ms` a duration, `_bytes` a size.
        """
        sentence = catalogue(self.language).get(message.id)
        values = {
            name: self._value(name, value, message.values) for name, value in message.values.items()
        }
        if sentence is None:
            return " ".join([message.id, *(f"{name}={value}" for name, value in values.items())])
        try:
            return sentence.format(**values)
        except (KeyError, IndexError, ValueError):
            return " ".join([message.id, *(f"{name}={value}" for name, value in values.items())])

    def _value(self, name: str, value: int | str, beside: Mapping[str, int | str]) -> int | str:
        if isinstance(value, str):
            if value[:1] != "@" or value[1:] not in catalogue(self.language):
                return value.removeprefix("@")
            others = {other: given for other, given in beside.items() if other != name}
            return self.say(Message(id=value[1:], values=others))
        if name.endswith("_at"):
            return self.time(from_us(value))
        if name.endswith("_ms"):
            return self.duration(value)
        return self.size(value) if name.endswith("_bytes") else value

    def text(self, identifier: str, /, **values: int | str) -> str:
        """Return the sentence of a message id: short for `say`."""
        return self.say(Message(id=identifier, values=values))

    def time(self, moment: datetime | None) -> str:
        """Return a time in the site's time zone, short: "5 mars 2026, 10:00"; "—" for none."""
        if moment is None:
            return "—"
        pattern = "d MMM y, HH:mm" if self.language == "fr" else "d MMM y HH:mm"
        return format_datetime(
            moment.astimezone(UTC), pattern, tzinfo=self.timezone, locale=self._locale
        )

    def quoted(self, text: str) -> str:
        """Return a text between quotation marks."""
        return f"«\u00a0{text}\u00a0»" if self.language == "fr" else f"“{text}”"

    def day(self, day: date | None) -> str:
        """Return a day: "5 mars 2026", "5 March 2026"; "—" for none."""
        if day is None:
            return "—"
        return format_date(day, "d MMMM y", locale=self._locale)

    def month(self, month: str) -> str:
        """Given "2026-11", return "novembre 2026" or "November 2026"."""
        return format_date(date.fromisoformat(f"{month}-01"), "LLLL y", locale=self._locale)

    def duration(self, milliseconds: int | None) -> str:
        """Return a duration in the two largest units: "3 h 20 min", "4,2 s"; "—" for none."""
        if milliseconds is None:
            return "—"
        if milliseconds < 60_000:
            return f"{self.number(milliseconds / 1000, 1)} s"
        seconds = timedelta(milliseconds=milliseconds) // timedelta(seconds=1)
        day = "j" if self.language == "fr" else "d"
        units = ((86400, day), (3600, "h"), (60, "min"), (1, "s"))
        parts: list[str] = []
        for size, unit in units:
            count, seconds = divmod(seconds, size)
            if count or parts:
                parts.append(f"{count} {unit}" if count else "")
        return " ".join(part for part in parts[:2] if part)

    def size(self, count: int | None) -> str:
        """Return a size in bytes with a decimal unit: "1,4 Go", "1.4 GB"; "—" for none."""
        if count is None:
            return "—"
        letter = "o" if self.language == "fr" else "B"
        for factor, prefix in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
            if count >= factor:
                return f"{self.number(count / factor, 1)} {prefix}{letter}"
        return f"{count} {letter}"

    def number(self, value: float, decimals: int = 0) -> str:
        """Return a number with the language's separators."""
        pattern = "#,##0" + ("." + "#" * decimals if decimals else "")
        return format_decimal(value, pattern, locale=self._locale)
