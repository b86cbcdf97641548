"""restic repositories, through the restic program itself (0.14 to 0.19); only reads.

Backends: a local directory, `rest:`, `sftp:` and `s3:`. See `restic_calls` for the only calls that
can be made, `restic_errors` for what its failures mean.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from backupguard.contracts import (
    Attacker,
    Capability,
    Changes,
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
from backupguard.errors import BackupDefect, Changing, Misunderstood
from backupguard.model import RecoveryPoint
from backupguard.outputs import last_json
from backupguard.repositories import files_attack, restic_rest_attack, s3_attack
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.restic_calls import Call, ResticProgram, open_program
from backupguard.repositories.restic_errors import failure, ignored_snapshots, messages
from backupguard.repositories.restic_fetch import fetch
from backupguard.repositories.restic_settings import Backend, ResticSettings
from backupguard.repositories.restic_snapshots import points_of
from backupguard.repositories.restic_state import ResticState
from backupguard.repositories.restic_verify import ResticVerifier
from backupguard.repositories.s3_places import place_of_restic


def _snapshots(output: bytes) -> Sequence[Any]:
    if output.strip().endswith(b"null"):  # an empty repository, in some versions
        return ()
    snapshots = last_json(output, program="restic")
    if not isinstance(snapshots, list):
        raise Misunderstood("output_unparsable", program="restic")
    return snapshots


def _read_mark(mark: str | None) -> tuple[str, dict[str, int]] | None:
    """Return the digest and the counts in a mark of ours, None for any other text."""
    try:
        digest, standing = json.loads(mark or "")
        return str(digest), {str(job): int(count) for job, count in standing.items()}
    except (AttributeError, TypeError, ValueError):
        return None


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
        yield from self._points(self._listed(), jobs)

    def changes(self, jobs: Sequence[JobSelector], mark: str | None) -> Changes:
        """Return nothing when restic lists the very same as at `mark`, and everything otherwise.

        restic cannot tell what is new. Most of the time nothing is, and then nothing need be read out
        of its listing. Raises what `points` raises.
        """
        output = self._listed()
        digest = hashlib.sha256(output).hexdigest()
        known = _read_mark(mark)
        if mark is not None and known is not None and known[0] == digest:
            return Changes(points=(), standing=known[1], mark=mark)
        points = tuple(self._points(output, jobs))
        standing = Counter({selector.job: 0 for selector in jobs})
        standing.update(point.job for point in points)
        # A point of the future changes by itself: it must be looked at again.
        waits = any(point.extra for point in points)
        return Changes(
            points=points,
            standing=standing,
            mark=json.dumps(["" if waits else digest, standing], sort_keys=True),
            complete=True,
        )

    def _points(self, output: bytes, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        program = self._program
        return points_of(program.identifier, _snapshots(output), jobs, program.context.now())

    def _listed(self) -> bytes:
        """Return what restic lists; a snapshot forgotten between listing and reading is usual once."""
        self._state.reach()
        try:
            output = self._list()
        except Changing:
            output = self._list()
        self._opened = True
        return output

    def _list(self) -> bytes:
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
        return output

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
        """Yield nothing: only a bucket has locks to look at (`restic_locks`)."""
        return iter(())

    def protection_state(self) -> ProtectionState:
        """Return how the newest packs of a local repository are flagged; others tell nothing."""
        path = self._program.settings.path
        if path is None:
            return ProtectionState(mechanism="none")
        return files_attack.protection_state(self._program.identifier, path)


def _open(identifier: str, settings: Any, context: Context) -> Repository:
    program = open_program(identifier, settings, context)
    place = place_of_restic(settings)
    if place is None or place.credentials is None:
        return ResticRepository(program)
    from backupguard.repositories.restic_locks import ResticInBucket  # it builds on this module

    return ResticInBucket(program, place)


def _attack(
    identifier: str, settings: ResticSettings, context: Context
) -> AbstractContextManager[Attacker] | None:
    if settings.backend is Backend.REST:
        return restic_rest_attack.attack(identifier, settings, context)
    if settings.backend is Backend.S3:
        return s3_attack.attack_restic(identifier, settings, context)
    if settings.path is not None:
        return files_attack.attack(identifier, settings.path, settings.backup_user, context)
    return None


#: The entry point `restic`.
RESTIC = ReadingType("restic", ResticSettings, _open, attacker=_attack)
