"""Passwords against bcrypt hashes: never on the event loop, one at a time, and not guessed quickly.

A hash takes tens of milliseconds on purpose. Prometheus sends the same password at every scrape, so one
that was right is remembered as an HMAC under a key of this process and costs microseconds from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import anyio
import anyio.to_thread

#: Passwords that may wait for their check; beyond, whoever asks is told to come back.
WAITING = 8

#: Wrong passwords from one place that cost nothing; from then on each one doubles the wait.
FREE_TRIES = 5
LONGEST_WAIT_S = 60.0
#: What is remembered of places and of passwords at most.
_PLACES, _KNOWN = 4096, 256
#: bcrypt reads no further: a longer password would be known by its beginning.
_LONGEST = 72
_COST = slice(4, 6)


class Answer(Enum):
    """What became of a password."""

    RIGHT = "right"
    WRONG = "wrong"
    LATER = "later"  # too many wrong ones, or too many at once


@dataclass(slots=True)
class _Tries:
    count: int = 0
    not_before: float = 0.0


class Passwords:
    """Checks passwords; `check` is what compares one with a hash, `now` counts seconds."""

    def __init__(
        self,
        check: Callable[[bytes, bytes], bool] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check or _bcrypt
        self._now = now
        self._key = secrets.token_bytes(32)
        self._known: set[bytes] = set()
        self._tries: dict[str, _Tries] = {}
        self._waiting = 0
        self._turn: anyio.CapacityLimiter | None = None

    async def verify(
        self, users: Mapping[str, bytes], place: str, user: str, password: bytes
    ) -> Answer:
        """Tell whether it is the user's; an unknown user costs the same as a known one."""
        known = users.get(user)
        mark = self._mark(user, known or b"", password)
        if known is not None and mark in self._known:
            return Answer.RIGHT
        tries = self._tries.get(place)
        if (tries is not None and self._now() < tries.not_before) or self._waiting >= WAITING:
            return Answer.LATER
        against = known if known is not None else _stand_in(users)
        if not await self._compare(password, against) or known is None:
            self._failed(place)
            return Answer.WRONG
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(mark)
        self._tries.pop(place, None)
        return Answer.RIGHT

    def _mark(self, user: str, known: bytes, password: bytes) -> bytes:
        parts = (user.encode("utf-8", "surrogateescape"), known, password)
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, text, hashlib.sha256)

    async def _compare(self, password: bytes, against: bytes) -> bool:
        if self._turn is None:
            self._turn = anyio.CapacityLimiter(1)
        self._waiting += 1
        try:
            right = await anyio.to_thread.run_sync(
                self._check, password[:_LONGEST], against, limiter=self._turn
            )
        finally:
            self._waiting -= 1
        return right and len(password) <= _LONGEST

    def _failed(self, place: str) -> None:
        tries = self._tries.pop(place, None) or _Tries()
        if self._now() - tries.not_before > 10 * LONGEST_WAIT_S:
            tries = _Tries()  # it has been quiet for long
        tries.count += 1
        beyond = tries.count - FREE_TRIES
        wait = min(2.0 ** min(beyond, 10), LONGEST_WAIT_S) if beyond > 0 else 0.0
        tries.not_before = self._now() + wait
        self._tries[place] = tries  # the newest last
        if len(self._tries) > _PLACES:
            del self._tries[next(iter(self._tries))]


def _stand_in(users: Mapping[str, bytes]) -> bytes:
    """Return a hash that nothing has, as costly as the costliest of the users."""
    cost = max((known[_COST] for known in users.values()), default=b"10")
    return b"$2b$" + cost + b"$" + b"." * 53


def _bcrypt(password: bytes, known: bytes) -> bool:
    import bcrypt

    return bcrypt.checkpw(password, known)
