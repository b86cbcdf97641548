"""What repositories have in common that list what a server remembers, and can do nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from backupguard.contracts import (
    Capability,
    Context,
    Fetched,
    FetchRequest,
    JobRun,
    Protection,
    VerifiedUnit,
    VerifyPlan,
)
from backupguard.errors import MissingMeans
from backupguard.model import RecoveryPoint


class ListingOnly:
    """The parts of `contracts.Repository` that such a repository has no answer to."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, identifier: str, context: Context) -> None:
        self._identifier = identifier
        self._context = context

    def runs(self, since: datetime) -> Iterator[JobRun]:  # noqa: ARG002 - the protocol's
        """Yield nothing (capability `runs` is absent)."""
        return iter(())

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:  # noqa: ARG002
        """Yield nothing: the copies themselves are out of reach (capability `verify` is absent)."""
        return iter(())

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:  # noqa: ARG002
        """Raise MissingMeans (not_fetchable): a restore is the server's to make."""
        self._context.cancel.raise_if_set()
        raise MissingMeans("not_fetchable", repository=self._identifier)

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:  # noqa: ARG002
        """Yield nothing: locks are not known here (capability `protection` is absent)."""
        return iter(())
