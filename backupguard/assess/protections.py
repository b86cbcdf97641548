"""What was last read of each repository's protection, beside the newest look that read nothing."""

from __future__ import annotations

from collections.abc import Mapping

from backupguard.controls.imm_01 import READ
from backupguard.model import Fact, Subject, Verdict

KINDS = ("protection.seen",)


class Protections:
    """Picks the last one that could be read out of every `protection.seen`; facts come in order."""

    def __init__(self) -> None:
        self._read: dict[Subject, Fact] = {}

    def learn(self, fact: Fact) -> None:
        """Take one into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        if isinstance(data, Mapping) and data.get("verdict") == Verdict.PASSED:
            self._read[fact.observation.subject] = fact

    def of(self, subject: Subject) -> dict[str, Fact]:
        """Return what a view holds of one repository beside its newest fact."""
        return {READ: self._read[subject]} if subject in self._read else {}
