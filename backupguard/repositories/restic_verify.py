"""Reads a restic repository and says which parts of it are as they were written."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from backupguard.contracts import VerifiedUnit, VerifyPlan
from backupguard.errors import BackupDefect, BackupGuardError, Changing, Misunderstood
from backupguard.model import Verdict
from backupguard.outputs import last_json
from backupguard.repositories.restic_calls import Call, ResticProgram
from backupguard.repositories.restic_errors import defect, failure, messages
from backupguard.repositories.restic_state import ResticState, unchanged

STRUCTURE = "structure"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Damage:
    code: str
    objects: tuple[str, ...]


def bucket_name(number: int, total: int) -> str:
    """Return the name of a bucket of packs, the same in every run: `data/017of032`."""
    return f"data/{number:03}of{total:03}"


class ResticVerifier:
    """Runs `restic check`, structure first, then buckets of packs by turns.

    restic puts a pack into bucket n of t by the first byte of its id, so a bucket keeps its packs
    from run to run. Every bucket's check repeats that of the structure; the first one serves both.
    """

    def __init__(self, program: ResticProgram, state: ResticState) -> None:
        self._program = program
        self._state = state
        self._total = program.settings.data_buckets

    def units(self) -> tuple[str, ...]:
        """Return the names of all units."""
        return (STRUCTURE, *(bucket_name(n + 1, self._total) for n in range(self._total)))

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Yield the units of `plan`, the least recently verified buckets first.

        Raises what lies between us and the repository; damage is a unit with verdict `failed`.
        """
        buckets = self._due(plan)
        structure_said = not plan.structure
        for done, (number, size) in enumerate(buckets):
            self._program.context.progress(done, len(buckets), "buckets")
            damage = self._check(number)
            if damage is None or structure_said:
                if not structure_said:
                    yield self._unit(STRUCTURE, 0, None)
            else:
                # Something is damaged: is it the structure, or only what lies in this bucket?
                yield self._unit(STRUCTURE, 0, self._check(None))
            structure_said = True
            yield self._unit(bucket_name(number, self._total), size, damage)
        if not structure_said:
            yield self._unit(STRUCTURE, 0, self._check(None))

    def _unit(self, unit: str, size: int, damage: _Damage | None) -> VerifiedUnit:
        return VerifiedUnit(
            unit=unit,
            verdict=Verdict.FAILED if damage else Verdict.PASSED,
            bytes=size,
            code=damage.code if damage else None,
            objects=damage.objects if damage else (),
            units_total=1 + self._total,
        )

    def _due(self, plan: VerifyPlan) -> list[tuple[int, int]]:
        """Return the buckets to read now, with their bytes, within the plan's budget."""
        wanted = math.ceil(self._total * min(max(plan.data_percent, 0), 100) / 100)
        if not wanted:
            return []
        coverage = self._program.context.known.coverage(self._program.identifier)

        def verified(number: int) -> datetime:
            unit = coverage.get(bucket_name(number, self._total))
            return unit.verified_at if unit else _NEVER

        order = sorted(range(1, self._total + 1), key=lambda number: (verified(number), number))
        sizes = self._sizes()
        chosen, budget = [], plan.max_bytes
        for number in order[:wanted]:
            size = sizes[number - 1]
            if budget is not None:
                if size > budget:
                    break
                budget -= size
            chosen.append((number, size))
        return chosen

    def _sizes(self) -> list[int]:
        """Return the bytes of each bucket: exact for local repositories, else an even share."""
        path = self._program.settings.path
        if path is None:
            done = self._program.run(
                Call(
                    verb="stats",
                    options=(("--mode", "raw-data"),),
                    timeout_s=int(self._program.settings.verify_timeout.total_seconds()),
                )
            )
            if done.returncode != 0:
                raise failure(done, self._program.version, self._program.identifier)
            total = last_json(done.stdout, program="restic").get("total_size", 0)
            return [int(total) // self._total] * self._total
        sizes = [0] * self._total
        for directory, _, names in os.walk(path / "data"):
            for name in names:
                try:
                    sizes[int(name[:2], 16) % self._total] += os.lstat(
                        f"{directory}/{name}"
                    ).st_size
                except (OSError, ValueError):  # gone meanwhile, or no pack
                    continue
        return sizes

    def _check(self, bucket: int | None) -> _Damage | None:
        """Return what is damaged, None when nothing is; looks twice before it says so.

        Raises Changing when the repository was rewritten between the two looks.
        """
        first = self._look(bucket)
        if first is None:
            return None
        indexes = self._state.names("index") or frozenset()
        self._program.context.cancel.raise_if_set()
        second = self._look(bucket)
        if second is None:
            return None  # a misread of ours, or a prune that has ended: what stands now is right
        if not unchanged(indexes, self._state.names("index") or frozenset()):
            raise Changing("repository_changed", repository=self._program.identifier)
        return second

    def _look(self, bucket: int | None) -> _Damage | None:
        program = self._program
        options = () if bucket is None else (("--read-data-subset", f"{bucket}/{self._total}"),)
        done = program.run(
            Call(
                verb="check",
                options=options,
                timeout_s=int(program.settings.verify_timeout.total_seconds()),
            )
        )
        texts = messages(done)
        if done.returncode == 0:
            if b"no errors were found" in done.stdout or _no_errors(done.stdout):
                return None
            raise Misunderstood("output_unparsable", repository=program.identifier)
        error: BackupGuardError = failure(done, program.version, program.identifier)
        found = defect(texts)
        if not isinstance(error, BackupDefect) or found is None:
            raise error
        return _Damage(code=found.code, objects=found.objects)


def _no_errors(output: bytes) -> bool:
    """Tell whether the JSON summary of 0.18 and later says that there were no errors."""
    try:
        summary = last_json(output, program="restic")
    except Misunderstood:
        return False
    return isinstance(summary, dict) and summary.get("num_errors") == 0
