"""pgBackRest repositories, through the pgBackRest program itself (2.40 and later); only reads.

See `pgbackrest_calls` for the only calls that can be made, `pgbackrest_errors` for what its failures
mean, `wal_points` for how far the log leads from each backup: pgBackRest prints the oldest and the
newest segment as if there were none missing between, and its `verify` does not notice either.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
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
    LockSeen,
    Protection,
    Repository,
    RepositoryState,
    VerifiedUnit,
    VerifyPlan,
)
from backupguard.errors import Misunderstood
from backupguard.model import RecoveryPoint
from backupguard.repositories.devices import device_of_bucket, device_of_host, device_of_path
from backupguard.repositories.lockfiles import lock_of
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.pgbackrest_calls import STANZA, PgBackRestProgram, open_program
from backupguard.repositories.pgbackrest_fetch import fetch
from backupguard.repositories.pgbackrest_info import stanzas
from backupguard.repositories.pgbackrest_points import Seen, points_of, see, stanza_name
from backupguard.repositories.pgbackrest_settings import PgBackRestSettings
from backupguard.repositories.pgbackrest_verify import PgBackRestVerifier

_CAPABILITIES = frozenset({Capability.VERIFY, Capability.FETCH, Capability.PITR})


class PgBackRestRepository:
    """One opened pgBackRest repository."""

    capabilities = _CAPABILITIES

    def __init__(self, program: PgBackRestProgram) -> None:
        self._program = program
        self._seen: dict[str, Seen] = {}  # what `points` saw, for the fetch that follows it

    def inspect(self) -> RepositoryState:
        """Return the state; raises Unreachable, AccessRefused, BackupDefect (info is damaged)."""
        program = self._program
        found = stanzas(program)
        formats = {
            str(backup["backrest"]["format"])
            for stanza in found
            for backup in stanza.get("backup", ())
            if "backrest" in backup
        }
        root = program.root
        room = os.statvfs(root) if root is not None else None
        return RepositoryState(
            tool="pgbackrest",
            tool_version=program.version_text,
            format_version=max(formats, default=None),
            encrypted=program.encrypted,
            locks=self._locks([str(stanza["name"]) for stanza in found]),
            free_bytes=room.f_bavail * room.f_frsize if room is not None else None,
            device=self._device(),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every backup of the stanzas that these jobs name, three calls for each stanza.

        Raises Unreachable (not_found) for a stanza that is not there.
        """
        for name, selectors in self._by_stanza(jobs).items():
            self._seen[name] = see(self._program, name)
            yield from points_of(self._program, self._seen[name], selectors)

    def runs(self, since: datetime) -> Iterator[JobRun]:  # noqa: ARG002 - the protocol's
        """Yield nothing: pgBackRest keeps no record of runs that made no backup."""
        return iter(())

    def units(self, plan: VerifyPlan) -> Sequence[str]:
        """Return the four units of each stanza of the plan's jobs, of every one without jobs."""
        return PgBackRestVerifier.units(self._names(plan))

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Yield what `pgbackrest_verify` says of the stanzas of the plan's jobs."""
        yield from PgBackRestVerifier(self._program).verify(plan, self._names(plan))

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Restore a backup set into the empty directory `into`, log included (`pgbackrest_fetch`)."""
        return fetch(
            self._program, request, into, self._seen.pop(stanza_name(request.selector), None)
        )

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:  # noqa: ARG002
        """Yield nothing: pgBackRest itself cannot tell (capability `protection` is absent)."""
        return iter(())

    # ---- details

    def _by_stanza(self, jobs: Sequence[JobSelector]) -> dict[str, list[JobSelector]]:
        named: dict[str, list[JobSelector]] = {}
        for selector in jobs:
            named.setdefault(stanza_name(selector), []).append(selector)
        return named

    def _names(self, plan: VerifyPlan) -> Sequence[str]:
        if plan.jobs:
            return tuple(self._by_stanza(plan.jobs))
        names = tuple(str(stanza["name"]) for stanza in stanzas(self._program))
        if not all(STANZA.match(name) for name in names):
            raise Misunderstood("output_unparsable", program="pgbackrest")
        return names

    def _locks(self, names: Sequence[str]) -> tuple[LockSeen, ...]:
        """Return who holds a lock of a stanza, where that is this host."""
        directory = self._program.settings.lock_path
        seen = (
            lock_of(directory / f"{name}-{kind}.lock")
            for name in names
            if STANZA.match(name)
            for kind in ("backup", "archive")
        )
        return tuple(lock for lock in seen if lock is not None)

    def _device(self) -> str:
        place, root = self._program.place, self._program.root
        if root is not None:
            return device_of_path(root)
        kind = place["type"]
        bucket = place.get(f"{kind}-bucket") or place.get(f"{kind}-container") or ""
        host = place.get("storage-host") or place.get(f"{kind}-endpoint") or kind
        return device_of_bucket(host, bucket) if bucket else device_of_host(host)


def _open(identifier: str, settings: Any, context: Context) -> Repository:
    return PgBackRestRepository(open_program(identifier, settings, context))


#: The entry point `pgbackrest`.
PGBACKREST = ReadingType("pgbackrest", PgBackRestSettings, _open, capabilities=_CAPABILITIES)
