"""Reads a borg repository and says which of its archives can be restored.

The structure: borg lists the archives (the list is decrypted and its signature checked), and in a
local repository every segment that the index names is there and long enough (`borg_index`). The data
is proved archive by archive, the least recently proved first, by `extract --dry-run`: every chunk is
read, decrypted and compared with its id. Nothing weaker is claimed, and a chunk that many archives
share is read with each of them. borg's `check` is not used: it rewrites the repository's
configuration, or its nonce, even when it repairs nothing (borg 1.2 to 1.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from backupguard.contracts import VerifiedUnit, VerifyPlan
from backupguard.errors import BackupDefect, Changing
from backupguard.model import Verdict
from backupguard.repositories.borg_archives import Archive, Inside, list_archives
from backupguard.repositories.borg_calls import BorgProgram, Call
from backupguard.repositories.borg_errors import extract_failure
from backupguard.repositories.borg_index import check_index, index_name
from backupguard.repositories.borg_state import BorgState

STRUCTURE = "structure"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def unit_name(archive: str) -> str:
    """Return the name of the unit of an archive, given its id: `archive/ID`."""
    return f"archive/{archive}"


class BorgVerifier:
    """Verifies the structure, then archives by turns."""

    def __init__(self, program: BorgProgram, state: BorgState) -> None:
        self._program = program
        self._state = state
        self._timeout_s = int(program.settings.verify_timeout.total_seconds())

    def verify(
        self, plan: VerifyPlan, archives: Sequence[Archive], insides: Mapping[str, Inside]
    ) -> Iterator[VerifiedUnit]:
        """Yield the units of `plan`; an archive that goes meanwhile is left out.

        Raises what lies between us and the repository; damage is a unit with verdict `failed`.
        """
        total = 1 + len(archives)
        if plan.structure:
            yield self._unit(STRUCTURE, 0, total, self._found(self._check, None))
        due = self._due(plan, archives, insides)
        for done, archive in enumerate(due):
            self._program.context.progress(done, len(due), "archives")
            try:
                damage = self._found(partial(self._read, archive), archive.id)
            except Changing:
                if archive.id in {one.id for one in self._state.listed().archives}:
                    raise
                continue
            yield self._unit(unit_name(archive.id), insides[archive.id].bytes, total, damage)

    def _unit(self, unit: str, size: int, total: int, damage: BackupDefect | None) -> VerifiedUnit:
        names = str(damage.message.values.get("objects", "")).split() if damage else []
        return VerifiedUnit(
            unit=unit,
            verdict=Verdict.FAILED if damage else Verdict.PASSED,
            bytes=size,
            code=damage.code if damage else None,
            objects=tuple(names),
            units_total=total,
        )

    def _due(
        self, plan: VerifyPlan, archives: Sequence[Archive], insides: Mapping[str, Inside]
    ) -> Sequence[Archive]:
        """Return the archives to read now within the plan's budget, which is of their bytes."""
        coverage = self._program.context.known.coverage(self._program.identifier)

        def turn(archive: Archive) -> tuple[datetime, float, str]:
            unit = coverage.get(unit_name(archive.id))
            return unit.verified_at if unit else _NEVER, -archive.at.timestamp(), archive.id

        percent = min(max(plan.data_percent, 0), 100)
        wanted = math.ceil(sum(insides[one.id].bytes for one in archives) * percent / 100)
        chosen, read = [], 0
        for archive in sorted(archives, key=turn):
            size = insides[archive.id].bytes
            if read >= wanted or (plan.max_bytes is not None and read + size > plan.max_bytes):
                break
            chosen.append(archive)
            read += size
        return chosen

    def _found(self, look: Callable[[], None], archive: str | None) -> BackupDefect | None:
        """Return the damage that two looks saw, None when the first or the second saw none."""
        try:
            self._state.surely(look, archive)
        except BackupDefect as error:
            return error
        return None

    def _check(self) -> None:
        """Raise what is wrong with the structure.

        While borg rewrites segments, the index lags behind: then the listing after it fails, or the
        index has another name, and nothing is believed.
        """
        program = self._program
        path = program.settings.path
        damage = None
        if path is not None:
            name, damage = check_index(path, program.identifier)
        list_archives(program)
        if damage is not None and path is not None:
            if index_name(path) != name:
                raise Changing("repository_changed", repository=program.identifier)
            raise damage

    def _read(self, archive: Archive) -> None:
        program = self._program
        done = program.run(
            Call(
                verb="extract",
                archive=archive.name,
                options=(("--dry-run", None),),
                timeout_s=self._timeout_s,
            )
        )
        if done.returncode != 0:
            error = extract_failure(done, program.version, program.identifier)
            if error is not None:
                raise error
