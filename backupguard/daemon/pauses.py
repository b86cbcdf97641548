"""Pauses: somebody asks the daemon to start nothing by itself for a while; a pause is a fact."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backupguard.contracts import Store
from backupguard.model import SITE, Observation, from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause that holds: the fact that started it, until when (None: until it is ended), why."""

    seq: int
    until: datetime | None
    reason: str
    author: str | None


def standing(store: Store) -> Pause | None:
    """Return the pause that was started last and not ended, over or not."""
    facts = store.latest([SITE], ["pause.started", "pause.ended"]).get(SITE, {})
    started, ended = facts.get("pause.started"), facts.get("pause.ended")
    if started is None or (ended is not None and ended.seq > started.seq):
        return None
    data = started.observation.data
    return Pause(
        seq=started.seq,
        until=from_us(data["until_at"]) if data["until_at"] is not None else None,
        reason=data["reason"],
        author=started.author,
    )


def start(store: Store, *, until: datetime | None, reason: str, author: str, now: datetime) -> None:
    """Record that a pause begins; a new one replaces one that stands."""
    data = {"until_at": to_us(until) if until else None, "reason": reason}
    store.append(
        [
            Observation(
                kind="pause.started",
                subject=SITE,
                observed_at=now,
                data=data,
                key=f"pause/{to_us(now)}/started",
            )
        ],
        author=author,
    )
    store.seal()


def end(store: Store, *, reason: str, author: str, now: datetime) -> bool:
    """Record that the pause that stands is over; False when none stands."""
    pause = standing(store)
    if pause is None:
        return False
    store.append(
        [
            Observation(
                kind="pause.ended",
                subject=SITE,
                observed_at=now,
                data={"reason": reason},
                key=f"pause/{pause.seq}/ended",
            )
        ],
        author=author,
    )
    store.seal()
    return True
