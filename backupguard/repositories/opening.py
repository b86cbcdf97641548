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
    """A `contracts.RepositoryType` made of functions.

    `opener` gets the id, the settings and the context, and returns the opened repository.
    `capabilities` is what its repositories can do at most; `origin` whose word their points are;
    `unproven` says that its makers never saw it work against a live server;
    `attacker` opens one as its backup writer, where anything can be tried.
    """

    name: str
    settings: type[RepositorySettings]
    opener: Callable[[str, Any, Context], Repository]
    capabilities: frozenset[Capability] = frozenset(Capability)
    origin: Origin = Origin.OBSERVED
    unproven: bool = False
    attacker: Callable[[str, Any, Context], AbstractContextManager[Attacker] | None] | None = None

    @contextmanager
    def _opened(self, identifier: str, settings: Any, context: Context) -> Iterator[Repository]:
        yield self.opener(identifier, settings, context)

    def open(
        self, identifier: str, settings: Any, context: Context
    ) -> AbstractContextManager[Repository]:
        """Open a repository for reading; what its opener raises comes when it is entered."""
        return self._opened(identifier, settings, context)

    def attack(
        self, identifier: str, settings: Any, context: Context
    ) -> AbstractContextManager[Attacker] | None:
        """Open a repository as its backup writer; None where nothing can be tried."""
        return self.attacker(identifier, settings, context) if self.attacker else None
