"""How the tests let an attacker work, and look at what it leaves."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupguard.contracts import AttackOutcome, Attempt, Bearing, CanaryPlace, Context, JobSelector
from backupguard.testing import listing

TOKEN = "0123456789abcdef"


@dataclass(frozen=True)
class Attack:
    """All that an attacker yielded, and its bearing."""

    attempts: Sequence[Attempt]
    bearing: Bearing

    @property
    def outcomes(self) -> Mapping[str, tuple[str, str | None]]:
        return {one.name: (str(one.outcome), one.code) for one in self.attempts}

    def named(self, outcome: AttackOutcome) -> set[str]:
        return {one.name for one in self.attempts if one.destructive and one.outcome is outcome}

    @property
    def worked(self) -> set[str]:
        return self.named(AttackOutcome.WORKED)

    @property
    def refused(self) -> set[str]:
        return self.named(AttackOutcome.REFUSED)

    @property
    def untried(self) -> set[str]:
        return self.named(AttackOutcome.UNTRIED)

    @property
    def proved(self) -> bool:
        """Tell whether every destructive attempt was refused and nothing stands in the way."""
        bearing = self.bearing
        return (
            bool(self.refused)
            and not self.worked | self.untried
            and (bearing.reaches_data, bearing.credentials, bearing.code) == (True, "writer", None)
        )


def attack(
    kind: Any,
    settings: Any,
    context: Context,
    token: str = TOKEN,
    remembered: Sequence[str] = (),
    jobs: Sequence[JobSelector] = (),
) -> Attack:
    """Attack one repository to the end; each intent comes before its outcome."""
    opened = kind.attack("nas", settings, context)
    assert opened is not None
    results = []
    with opened as attacker:
        place = CanaryPlace(token=token, remembered=tuple(remembered), jobs=tuple(jobs))
        attempts = attacker.attempts(place)
        for intent in attempts:
            assert intent.outcome is None
            result = next(attempts)
            assert (result.name, result.target) == (intent.name, intent.target)
            assert result.outcome is not None
            results.append(result)
        bearing = attacker.bearing()
    return Attack(results, bearing)


def apart_from_canaries(root: Path) -> Mapping[bytes, tuple[int, ...]]:
    """Return a full listing without canaries; of directories, which hold them, only the mode."""
    return {
        name: status[:1] if stat.S_ISDIR(status[0]) else status
        for name, status in listing(root).items()
        if b"backupguard-canary" not in name
    }
