"""A disk that is full and a memory that is short are ours, whatever engine meets them.

Each sound backup is restored within less than it needs: it passes or cannot be verified, with a code
that says what was short, and is never accused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.model import RestoreTestResult, Verdict
from backupguard.sandbox import SandboxLimits
from tests.integration.restore_tests.harness import Trials
from tests.integration.survival.engines import BY_NAME, NAMES, Backups
from tests.sabotage.corpus.sources import AT

_MIB = 1 << 20
#: What may be said of a disk or a memory that did not suffice.
SHORT = frozenset({"no_disk", "scratch_limit", "no_memory"})


def restored(
    backups: Backups, directory: Path, engine: str, limits: SandboxLimits
) -> RestoreTestResult:
    """Restore an engine's sound backup within limits."""
    subject = BY_NAME[engine]
    trials = Trials(directory, engines={engine: subject.plugin}, limits=limits)
    artifact = backups.artifact(engine)
    return trials.restore(artifact, settings=subject.read(backups.place(engine)), point_at=AT)


def ours(result: RestoreTestResult) -> None:
    """See that a result accuses nobody, and says what was short."""
    assert result.verdict is not Verdict.FAILED, result
    if result.verdict is Verdict.COULD_NOT_VERIFY:
        # mariadb-backup crashes without a word where it gets no memory
        crashed = result.engine == "mariadb-physical" and result.code == "unknown_exit"
        assert crashed or result.code in SHORT, (result.code, result.phases)


@pytest.mark.parametrize("engine", NAMES)
def test_a_full_scratch_accuses_no_backup(backups: Backups, tmp_path: Path, engine: str) -> None:
    # an empty MariaDB alone takes more than what the others do
    room = 96 if engine.startswith("mariadb") else 6
    limits = SandboxLimits(disk_bytes=room * _MIB, reserve_percent=1)
    ours(restored(backups, tmp_path, engine, limits))


@pytest.mark.parametrize("engine", NAMES)
def test_a_short_memory_accuses_no_backup(backups: Backups, tmp_path: Path, engine: str) -> None:
    limits = SandboxLimits(memory_bytes=48 * _MIB, reserve_percent=1)
    ours(restored(backups, tmp_path, engine, limits))
