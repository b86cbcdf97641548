"""An event in words: the sentence that people read, in the site's language."""

from __future__ import annotations

from collections.abc import Mapping

from backupguard.language import Words
from backupguard.model import Message, Subject
from backupguard.notify.catalogue import Event

#: What stands where a value is not known.
_UNKNOWN = "—"


def sentence(event: Event, words: Words, names: Mapping[Subject, str] | None = None) -> str:
    """Return what happened, in one line; `names` are what people call the subjects."""
    values: dict[str, int | str] = dict.fromkeys(event.type.fields, _UNKNOWN)
    values |= event.values
    values["name"] = (names or {}).get(event.subject, event.subject)
    values |= {name: words.say(message) for name, message in event.said.items()}
    told = words.say(Message(id=f"event.{event.code}", values=values))
    return " ".join(told.split())
