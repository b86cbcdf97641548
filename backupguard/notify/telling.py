"""An event in words: the sentence that people read, in the site's language."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from backupguard.language import Words
from backupguard.model import Message, Subject
from backupguard.notify.catalogue import Event

#: What stands where a value is not known.
_UNKNOWN = "—"


class PlainWords(Words):
    """Words with times as ISO 8601 has them and plain figures, as a SIEM can read them too.

    No data of a locale is loaded for them, which would be 4 MiB in a daemon that stays small.
    """

    def time(self, moment: datetime | None) -> str:
        """Return a time with the site's offset, to the minute; "—" for none."""
        if moment is None:
            return _UNKNOWN
        return moment.astimezone(self.timezone).isoformat(timespec="minutes")

    def day(self, day: date | None) -> str:
        """Return a day: "2026-03-05"; "—" for none."""
        return _UNKNOWN if day is None else day.isoformat()

    def number(self, value: float, decimals: int = 0) -> str:
        """Return a number without separators of thousands: "1403.5"."""
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if decimals else text


def sentence(event: Event, words: Words, names: Mapping[Subject, str] | None = None) -> str:
    """Return what happened, in one line; `names` are what people call the subjects."""
    values: dict[str, int | str] = dict.fromkeys(event.type.fields, _UNKNOWN)
    values |= event.values
    values["name"] = (names or {}).get(event.subject, event.subject)
    values |= {name: words.say(message) for name, message in event.said.items()}
    told = words.say(Message(id=f"event.{event.code}", values=values))
    return " ".join(told.split())
