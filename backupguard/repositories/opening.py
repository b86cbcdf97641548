"""What every entry point of this package is: a name, its settings, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from backupguard.contracts import Attacker, Capability, Context, Repository, RepositorySettings
from backupguard.model import Origin


@dataclass(frozen=True, slots=True)
class ReadingType:
    """A `contracts.RepositoryType` whose repositories are read and never attacked.

    `opener` gets the id, the settings and the context, and returns the opened repository.
    `capabilities` is what its repositories can do at most; `origin` whose word their points are;
    `unproven` says that its makers never saw it work against a live server.
    """

    name: str
    settings: type[RepositorySettings]
    opener: Callable[[str, Any, Context], Repository]
    capabilities: frozenset[Capability] = frozenset(Capability)
    origin: Origin = Origin.OBSERVED
    unproven: bool = False

    @contextmanager
    def _opened(self, identifier: str, settings: Any, context: Context) -> Iterator[Repository]:
        yield self.opener(identifier, settings, context)

    def open(
        self, identifier: str, settings: Any, context: Context
    ) -> AbstractContextManager[Repository]:
        """Open a repository for reading; what its opener raises comes when it is entered."""
        return self._opened(identifier, settings, context)

    def attack(
        self,
        identifier: str,  # noqa: ARG002
        settings: Any,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> AbstractContextManager[Attacker] | None:
        """Return None: nothing is tried against repositories of this type."""
        return None
