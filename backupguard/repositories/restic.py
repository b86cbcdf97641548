"""restic repositories, through the restic program itself (0.14 to 0.19); only reads.

Backends: a local directory, `rest:`, `sftp:` and `s3:`. See `restic_calls` for the only calls that
can be made, `restic_errors` for what its failures mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
    Repository,
    RepositoryState,
    VerifiedUnit,
    VerifyPlan,
)
from backupguard.errors import BackupDefect, Changing, Misunderstood
from backupguard.model import RecoveryPoint
from backupguard.outputs import last_json
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.restic_calls import Call, ResticProgram, open_program
from backupguard.repositories.restic_errors import failure, ignored_snapshots, messages
from backupguard.repositories.restic_fetch import fetch
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.repositories.restic_snapshots import points_of
from backupguard.repositories.restic_state import ResticState
from backupguard.repositories.restic_verify import ResticVerifier


class ResticRepository:
    """One opened restic repository."""

    capabilities = frozenset({Capability.VERIFY, Capability.FETCH})

    def __init__(self, program: ResticProgram) -> None:
        self._program = program
        self._state = ResticState(program)
        self._opened = False  # whether restic has opened the repository with its key

    def inspect(self) -> RepositoryState:
        """Return the state; after `points` this opens the repository a second time only if needed.

        Raises Unreachable, AccessRefused, BackupDefect (its configuration is damaged).
        """
        state = self._state.state(opened=self._opened)
        self._opened = True
        return state

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every point of these jobs, from one call of restic.

        Raises BackupDefect when a snapshot's own record is damaged: the listing is then incomplete,
        though restic itself ends with status 0.
        """
        self._state.reach()
        try:
            snapshots = self._snapshots()
        except Changing:
            snapshots = self._snapshots()  # forgotten between listing and reading: once is usual
        self._opened = True
        yield from points_of(self._program.identifier, snapshots, jobs, self._program.context.now())

    def _snapshots(self) -> Sequence[Any]:
        program = self._program
        sink = program.context.work / f"snapshots-{program.identifier}.json"
        sink.unlink(missing_ok=True)
        try:
            done = program.run(
                Call(
                    verb="snapshots",
                    sink=sink,
                    timeout_s=int(program.settings.refresh_timeout.total_seconds()),
                )
            )
            output = sink.read_bytes() if sink.exists() else b""
        finally:
            with suppress(OSError):
                sink.unlink(missing_ok=True)
        if done.returncode != 0:
            raise failure(done, program.version, program.identifier)
        left_out = ignored_snapshots(messages(done))
        if any("no such file" in text or "does not exist" in text for text in left_out):
            raise Changing("repository_changed", repository=program.identifier)
        if left_out:
            raise BackupDefect("corrupt", repository=program.identifier, objects="snapshots")
        if output.strip().endswith(b"null"):  # an empty repository, in some versions
            return ()
        snapshots = last_json(output, program="restic")
        if not isinstance(snapshots, list):
            raise Misunderstood("output_unparsable", program="restic")
        return snapshots

    def runs(self, since: datetime) -> Iterator[JobRun]:  # noqa: ARG002 - the protocol's
        """Yield nothing: restic keeps no record of its runs (capability `runs` is absent)."""
        return iter(())

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Yield the structure and the least recently read buckets of packs (`restic_verify`)."""
        self._state.reach()
        yield from ResticVerifier(self._program, self._state).verify(plan)

    def units(self, plan: VerifyPlan) -> Sequence[str]:  # noqa: ARG002 - the same for every plan
        """Return the names of the units that `verify` yields in the course of its turns."""
        return ResticVerifier(self._program, self._state).units()

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Restore the selection of a snapshot into the empty directory `into` (`restic_fetch`)."""
        self._state.reach()
        return fetch(self._program, self._state, request, into)

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:  # noqa: ARG002
        """Yield nothing: restic itself cannot tell (capability `protection` is absent)."""
        return iter(())


def _open(identifier: str, settings: Any, context: Context) -> Repository:
    return ResticRepository(open_program(identifier, settings, context))


#: The entry point `restic`.
RESTIC = ReadingType("restic", ResticSettings, _open)
