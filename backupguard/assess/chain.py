"""Watches the chain of records: whether it is whole, looked at in full once a day."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import structlog

from backupguard.assess.picture import EvidenceState
from backupguard.contracts import Store
from backupguard.evidence.records import Record
from backupguard.evidence.seals import Seal
from backupguard.evidence.verify import prunings, verify

log = structlog.get_logger(__name__)

EVERY = timedelta(days=1)
#: So many runs may have ended, side by side or cancelled before they began, before one of them seals.
UNSEALED_RUNS = 20


class _Key(Protocol):
    @property
    def public(self) -> bytes:
        """The public half of the store's signing key."""


@runtime_checkable
class _Chain(Protocol):
    """What a store offers beside the contract when its chain can be read here."""

    store_id: str

    @property
    def key(self) -> _Key:
        """The store's signing key."""

    def extent(self) -> tuple[tuple[int, bytes], int]:
        """Return the head and the highest number any record has."""

    def records(self, *, to: int | None = None, kinds: Collection[str] = ()) -> Iterator[Record]:
        """Yield records as stored."""

    def seals(self) -> tuple[Seal, ...]:
        """Return the seals, in order."""


class ChainWatch:
    """Verifies a store's chain, and remembers the answer for a day.

    A chain that was found broken stays broken until it is looked at again. A store whose records
    cannot be read here is not checked, and the answer says so.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checked_at: datetime | None = None
        self._state = EvidenceState()

    def state(self, now: datetime) -> EvidenceState:
        """Return how the chain stands; verifies it when that was not done for a day."""
        store = self._store
        if not isinstance(store, _Chain):
            return self._state
        if self._checked_at is not None and timedelta(0) <= now - self._checked_at < EVERY:
            return self._state
        # Others may be writing. Seals first: none of them can then speak of a record not yet there.
        seals = store.seals()
        head, last = store.extent()
        found = verify(
            store.records(to=last),
            seals,
            store=store.store_id,
            keys=[store.key.public],
            pruned=tuple(prunings(store.records(to=last, kinds=["evidence.pruned"]))),
            head=head,
        )
        wrong = found.problem.seq if found.problem is not None else None
        problem = found.problem.code if found.problem is not None else None
        if problem is None and found.unsealed_runs > UNSEALED_RUNS:
            wrong, problem = found.sealed_to + 1, "seals_missing"
        self._state = EvidenceState(valid=problem is None, wrong_seq=wrong)
        self._checked_at = now
        if problem is not None:
            log.error("evidence.broken", seq=wrong, problem=problem)
        return self._state
