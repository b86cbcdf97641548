"""An event as one flat JSON document, in the names of the Elastic Common Schema (ECS 8).

Names are dotted, values short, and those that ECS has no name for stand under `backupguard.`. The same
document goes to the journal and to syslog, and is what the sample file holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backupguard import __version__
from backupguard.language import Words
from backupguard.model import Json, Subject, from_us
from backupguard.notify.catalogue import Event, Level
from backupguard.notify.telling import sentence

ECS_VERSION = "8.11.0"
DATASET = "backupguard.events"

#: `event.severity`, where more is worse, in the steps that Elastic's own rules use.
SEVERITIES = {
    Level.CRITICAL: 99,
    Level.ERROR: 73,
    Level.WARNING: 47,
    Level.NOTICE: 21,
    Level.INFO: 1,
}
#: Values that ECS has a name for.
NAMES = {"code": "error.code", "reason": "backupguard.reason", "sha256": "backupguard.sha256"}

_AUTHOR = re.compile(r"uid/(\d+)(?: \((.+)\))?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who tells: the site and host, and the words for it. `names` are what people call subjects."""

    site: str
    host: str
    words: Words
    version: str = __version__
    names: Mapping[Subject, str] = field(default_factory=dict)


def moment(at: datetime) -> str:
    """Return a time in UTC, to the microsecond, as RFC 5424 and ECS both take it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def document(event: Event, sender: Sender) -> dict[str, Json]:
    """Return an event as flat JSON, the most telling first."""
    kind = event.type
    told: dict[str, Json] = {
        "@timestamp": moment(event.happened_at),
        "log.level": event.level.name.lower(),
        "event.code": event.code,
        "message": sentence(event, sender.words, sender.names),
        "event.id": event.id,
        "event.kind": kind.kind,
        "event.category": [kind.category],
        "event.type": [kind.type],
        "event.outcome": kind.outcome,
        "event.severity": SEVERITIES[event.level],
        "event.sequence": event.seq,
        "event.created": moment(event.recorded_at),
        "event.module": "backupguard",
        "event.dataset": DATASET,
        "organization.name": sender.site,
        "host.name": sender.host,
        "service.type": "backupguard",
        "service.version": sender.version,
        "ecs.version": ECS_VERSION,
        "backupguard.subject": event.subject,
        "backupguard.run": event.run,
        **_author(event.author),
    }
    for name, value in event.values.items():
        told[NAMES.get(name, f"backupguard.{name}")] = _value(name, value)
    return {name: value for name, value in told.items() if value is not None}


def _author(author: str | None) -> dict[str, Json]:
    if author is None:
        return {}
    match = _AUTHOR.match(author)
    if match is None:
        return {"user.name": author}
    return {"user.id": match[1], "user.name": match[2]}


def _value(name: str, value: int | str) -> Json:
    """Return a value so that its field has one type whatever the event: an index refuses two."""
    if name.endswith("_at"):
        return moment(from_us(int(value)))
    return str(value) if name in {"before", "after"} else value


def line(event: Event, sender: Sender, limit: int | None = None) -> str:
    """Return an event as one line of ASCII JSON; `limit` shortens its sentence to fit (characters)."""
    told = document(event, sender)
    text = json.dumps(told, separators=(",", ":"))
    while limit is not None and len(text) > limit and told["message"]:
        told["message"] = told["message"][: -max(1, (len(text) - limit) // 6)]
        text = json.dumps(told, separators=(",", ":"))
    return text
