"""Folds every load of the configuration: what was declared last, what changed, what went, by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backupguard.assess.declared_estate import Estate, of_data
from backupguard.model import Fact
from backupguard.reports.model import ChangeRow
from backupguard.reports.outlook import VersionRow
from backupguard.reports.tested import payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """An application that was declared and is not any more, since when."""

    name: str
    at: datetime


class Loads:
    """What the loads say up to the end of a month."""

    def __init__(self) -> None:
        self.estate: Estate | None = None
        self.last: dict[str, Any] = {}
        self.changes: list[ChangeRow] = []
        self.versions: list[VersionRow] = []
        self.gone: dict[str, Gone] = {}
        self.program: str | None = None

    def learn(self, fact: Fact) -> None:
        """Take one `configuration.loaded` or `policy.changed` into account; facts come in order."""
        data = payload(fact)
        if not data:
            return
        if fact.observation.kind == "policy.changed":
            self.changes += [_policy(fact, change) for change in data["changes"]]
            return
        self.changes += [_change(fact, one) for one in data["differences"]]
        if self.last:
            self._compare(fact, self.last, dict(data))
        self.last = {name: value for name, value in data.items() if name in _KEPT}
        if "estate" in data:
            self._declared(fact, of_data(data["estate"]))

    def _declared(self, fact: Fact, estate: Estate) -> None:
        before = self.estate.applications if self.estate is not None else {}
        for name, owner in before.items():
            if name not in estate.applications:
                self.gone[name] = Gone(name=owner.name, at=fact.recorded_at)
        for name in estate.applications:
            self.gone.pop(name, None)
        self.estate = estate

    def _compare(self, fact: Fact, before: dict[str, Any], after: dict[str, Any]) -> None:
        pairs = [
            ("program", before["program_version"], after["program_version"]),
            ("catalogue", before["catalogue_sha256"], after["catalogue_sha256"]),
        ]
        old, new = before.get("maps", {}), after.get("maps", {})
        pairs += [(file, old.get(file), new.get(file)) for file in sorted({*old, *new})]
        for what, was, now in pairs:
            if was != now:
                self.versions.append(
                    VersionRow(
                        at=fact.recorded_at, author=fact.author, what=what, before=was, after=now
                    )
                )


_KEPT = frozenset({"sha256", "catalogue_sha256", "maps", "program_version"})


def _change(fact: Fact, difference: dict[str, Any]) -> ChangeRow:
    return ChangeRow(
        seq=fact.seq,
        at=fact.recorded_at,
        author=fact.author,
        path=difference["path"],
        change=difference["change"],
        before=difference.get("before"),
        after=difference.get("after"),
        weakened=difference["weakened"],
    )


def _policy(fact: Fact, change: dict[str, Any]) -> ChangeRow:
    """Return a change of a policy that was observed: who made it is not known."""
    before, after = change.get("before"), change.get("after")
    kind = "removed" if after is None else "added" if before is None else "changed"
    return ChangeRow(
        seq=fact.seq,
        at=fact.observation.observed_at,
        author=None,
        path=change["path"],
        change=kind,
        before=None if before is None else str(before),
        after=None if after is None else str(after),
        weakened=change["weakening"] is not None,
    )
