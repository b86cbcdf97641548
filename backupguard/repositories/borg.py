"""borg repositories, through the borg program itself (1.2 to 1.4), local or over ssh; only reads.

See `borg_calls` for the only calls that can be made, `borg_errors` for what its failures mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from backupguard.contracts import (
    Capability,
    Context,
    Fetched,
    FetchRequest,
    JobRun,
    JobSelector,
    Protection,
    ProtectionState,
    Repository,
    RepositoryState,
    VerifiedUnit,
    VerifyPlan,
)
from backupguard.model import RecoveryPoint
from backupguard.repositories import files_attack
from backupguard.repositories.borg_archives import (
    Inside,
    Insides,
    Listed,
    check_selectors,
    list_archives,
    points_of,
)
from backupguard.repositories.borg_attack import attack
from backupguard.repositories.borg_calls import BorgProgram, open_program
from backupguard.repositories.borg_fetch import fetch
from backupguard.repositories.borg_settings import BorgSettings
from backupguard.repositories.borg_state import BorgState
from backupguard.repositories.borg_verify import STRUCTURE, BorgVerifier, unit_name
from backupguard.repositories.opening import ReadingType


class BorgRepository:
    """One opened borg repository."""

    capabilities = frozenset({Capability.VERIFY, Capability.FETCH})

    def __init__(self, program: BorgProgram) -> None:
        self._program = program
        self._state = BorgState(program)
        self._insides = Insides(program)
        self._listed: Listed | None = None

    def inspect(self) -> RepositoryState:
        """Return the state; after `points` borg is not called again for it.

        Locks are seen in local repositories only. Raises Unreachable, AccessRefused, BackupDefect.
        """
        self._state.reach()
        return self._state.state(self._listed or self._state.listed())

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every point of these jobs: one listing, and one look into each new archive.

        Raises BackupDefect when the list of archives is damaged.
        """
        check_selectors(jobs)
        if not jobs:
            return
        listed, insides = self._look(jobs)
        yield from points_of(self._program, listed, insides, jobs)

    def _look(self, jobs: Sequence[JobSelector]) -> tuple[Listed, Mapping[str, Inside]]:
        """List anew; return the listing and what is in the archives of `jobs`, of all without."""

        def look() -> tuple[Listed, Mapping[str, Inside]]:
            listed = list_archives(self._program)
            return listed, self._insides.of(listed, jobs)

        self._state.reach()
        self._listed, insides = self._state.surely(look, None)
        return self._listed, insides

    def runs(self, since: datetime) -> Iterator[JobRun]:  # noqa: ARG002 - the protocol's
        """Yield nothing: borg keeps no record of its runs (capability `runs` is absent)."""
        return iter(())

    def units(self, plan: VerifyPlan) -> Sequence[str]:
        """Return the structure and a unit per archive of the plan's jobs; of all without jobs."""
        _, insides = self._look(plan.jobs)
        return (STRUCTURE, *(unit_name(archive) for archive in insides))

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Yield the structure and the least recently read archives (`borg_verify`)."""
        listed, insides = self._look(plan.jobs)
        archives = [archive for archive in listed.archives if archive.id in insides]
        yield from BorgVerifier(self._program, self._state).verify(plan, archives, insides)

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Extract the selection of an archive into the empty directory `into` (`borg_fetch`)."""
        self._state.reach()
        return fetch(self._program, self._state, request, into)

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:  # noqa: ARG002
        """Yield nothing: borg itself cannot tell (capability `protection` is absent)."""
        return iter(())

    def protection_state(self) -> ProtectionState:
        """Return how the newest segments are flagged; behind ssh nobody can tell but by trying."""
        path = self._program.settings.path
        if path is None:
            return ProtectionState(mechanism="none")
        return files_attack.protection_state(self._program.identifier, path)


def _open(identifier: str, settings: Any, context: Context) -> Repository:
    return BorgRepository(open_program(identifier, settings, context))


#: The entry point `borg`.
BORG = ReadingType("borg", BorgSettings, _open, attacker=attack)
