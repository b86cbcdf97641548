"""Restore tests that BackupGuard did not do: which of them stand, each by its own origin.

Nothing here is ever mixed with what was observed. Of two records of the same databases from the same
place the one of the later test stands, whichever was handed in first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backupguard.controls.facts import DECLARED
from backupguard.model import Fact, Origin, Subject, Verdict

_CONCLUSIVE = frozenset({Verdict.PASSED, Verdict.FAILED})
#: origin, repository, format and what it is about.
_Key = tuple[str, str, str, str]


class DeclaredTests:
    """The newest conclusive test told of each origin, repository and set of databases."""

    def __init__(self) -> None:
        self._newest: dict[Subject, dict[_Key, Fact]] = {}

    def learn(self, fact: Fact) -> None:
        """Take one `restore-test.result` that was not observed into account."""
        data = fact.observation.data
        found: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        if found.get("verdict") not in _CONCLUSIVE:
            return
        told: Mapping[str, Any] = found.get("declared") or {}
        names = sorted(str(check.get("name")) for check in found.get("checks") or ())
        key = (
            fact.observation.origin.value,
            str(found.get("repository") or "-"),
            str(told.get("format")),
            "\n".join(names),
        )
        known = self._newest.setdefault(fact.observation.subject, {})
        before = known.get(key)
        if before is None or before.observation.observed_at <= fact.observation.observed_at:
            known[key] = fact

    def of(self, subject: Subject) -> Mapping[str, Fact]:
        """Return what stands of a subject, as views hold it: `restore-test.declared/SEQ`."""
        return {f"{DECLARED}{fact.seq}": fact for fact in self._newest.get(subject, {}).values()}


def is_declared(fact: Fact) -> bool:
    """Tell whether a test is known only from somebody's word or another tool's record."""
    return fact.observation.origin is not Origin.OBSERVED
