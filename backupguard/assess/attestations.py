"""The statements of people that stand, as views show them: one per subject, topic and name.

A statement replaces the one before it on the same topic for good: when it is withdrawn, none is left,
so that taking back a statement never makes an older one good again. One whose day has passed is kept
and marked, so that a control can say since when it does not hold any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backupguard.assess.picture import AttestationPicture, AttestationState
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


@dataclass(slots=True, kw_only=True)
class _Attestation:
    """One statement with what became of it."""

    made: Fact
    replaced: bool = False
    withdrawn: Fact | None = None

    def state(self, now: datetime) -> AttestationState:
        """Return where it stands."""
        if self.withdrawn is not None:
            return AttestationState.WITHDRAWN
        if self.replaced:
            return AttestationState.REPLACED
        expired = self.made.observation.data["expires_at"] <= to_us(now)
        return AttestationState.EXPIRED if expired else AttestationState.IN_FORCE

    def picture(self, now: datetime) -> AttestationPicture:
        """Return it as outputs show it."""
        data = self.made.observation.data
        signature = data["signature"]
        gone = self.withdrawn
        return AttestationPicture(
            seq=self.made.seq,
            subject=self.made.observation.subject,
            topic=data["topic"],
            text=data["text"],
            values=dict(data["values"]),
            person=data["person"],
            author=self.made.author,
            made_at=to_us(self.made.observation.observed_at),
            expires_at=data["expires_at"],
            key=signature["key"] if signature is not None else None,
            state=self.state(now),
            withdrawn_by=gone.author if gone is not None else None,
            withdrawn_for=gone.observation.data["reason"] if gone is not None else None,
        )


class Attestations:
    """All statements that were made; facts come in order and once each."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._all: dict[int, _Attestation] = {}
        self._standing: dict[Subject, dict[str, _Attestation]] = {}
        for fact in facts:
            self.learn(fact)

    def learn(self, fact: Fact) -> None:
        """Take one fact of `KINDS` into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        if not isinstance(data, Mapping):
            return
        if fact.observation.kind == "attestation.made":
            about = self._standing.setdefault(fact.observation.subject, {})
            before = about.get(key_of(data))
            if before is not None:
                before.replaced = True
            about[key_of(data)] = self._all[fact.seq] = _Attestation(made=fact)
            return
        known = self._all.get(data["attestation"])
        if known is None or known.withdrawn is not None:
            return
        known.withdrawn = fact
        about = self._standing[known.made.observation.subject]
        key = key_of(known.made.observation.data)
        if about.get(key) is known:
            del about[key]

    def of(self, subject: Subject, now: datetime) -> dict[str, dict[str, Json]]:
        """Return what stands about one subject, by TOPIC or TOPIC/NAME."""
        about = self._standing.get(subject)
        if not about:
            return {}
        return {key: known(one.made, now) for key, one in sorted(about.items())}

    def made(self, seq: int) -> Fact | None:
        """Return a statement by its number; None when there is none."""
        found = self._all.get(seq)
        return found.made if found is not None else None

    def pictures(self, now: datetime) -> tuple[AttestationPicture, ...]:
        """Return all statements, in the order in which they were made."""
        return tuple(one.picture(now) for one in self._all.values())

    def standing(self, now: datetime) -> tuple[AttestationPicture, ...]:
        """Return the statements that stand, expired or not, in order."""
        found = (one for about in self._standing.values() for one in about.values())
        return tuple(one.picture(now) for one in sorted(found, key=lambda one: one.made.seq))
