"""The statements of people that stand, as views show them: one per subject, topic and name.

A statement replaces the one before it on the same topic for good: when it is withdrawn, none is left,
so that taking back a statement never makes an older one good again. One whose day has passed is kept
and marked, so that a control can say since when it does not hold any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backupguard.model import Fact, Json, Subject, to_us

KINDS = ("attestation.made", "attestation.withdrawn")


def key_of(data: Mapping[str, Any]) -> str:
    """Return under which key a statement stands: TOPIC, or TOPIC/NAME where it names something."""
    name = data["values"].get("name")
    return str(data["topic"]) if name is None else f"{data['topic']}/{name}"


def known(fact: Fact, now: datetime) -> dict[str, Json]:
    """Return what a view holds of one statement; times in microseconds.

    `authenticated`: it was signed with the key of the person who made it. `expired`: its day has
    passed at `now`.
    """
    data = fact.observation.data
    return {
        "seq": fact.seq,
        "made_at": to_us(fact.observation.observed_at),
        "expires_at": data["expires_at"],
        "expired": data["expires_at"] <= to_us(now),
        "authenticated": data["signature"] is not None,
        "person": data["person"],
        "author": fact.author,
        "origin": fact.observation.origin.value,
        "text": data["text"],
        "values": dict(data["values"]),
    }


@dataclass(slots=True)
class Attestations:
    """What stands of all statements that were made; facts come in order and once each."""

    _standing: dict[Subject, dict[str, Fact]] = field(default_factory=dict)

    def learn(self, fact: Fact) -> None:
        """Take one fact of `KINDS` into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        if not isinstance(data, Mapping):
            return
        about = self._standing.setdefault(fact.observation.subject, {})
        if fact.observation.kind == "attestation.made":
            about[key_of(data)] = fact
            return
        for key, made in list(about.items()):
            if made.seq == data["attestation"]:
                del about[key]

    def of(self, subject: Subject, now: datetime) -> dict[str, dict[str, Json]]:
        """Return what stands about one subject, by TOPIC or TOPIC/NAME."""
        about = self._standing.get(subject)
        return {key: known(fact, now) for key, fact in sorted(about.items())} if about else {}

    def standing(self) -> tuple[Fact, ...]:
        """Return every statement that stands, expired or not, in order."""
        found = [fact for about in self._standing.values() for fact in about.values()]
        return tuple(sorted(found, key=lambda fact: fact.seq))
