"""Which weakenings stand: of policies and protections that were seen, and of our own configuration.

One stands until what was weakened is at least as strong as before; that somebody has acknowledged it
is the control's affair. What could not be read is remembered with the time since when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backupguard.model import Fact, Json, to_us
from backupguard.settings.differences import weakens
from probes.drift_rules import MERGED, place_of, undone

KINDS = ("policy.seen", "policy.changed", "configuration.loaded", "configuration.rejected")

#: What a weakened setting of our own amounts to; the first row that fits decides.
_SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("retention_shortened", ("applications", "*", "retention")),
    ("job_removed", ("applications", "*", "backups")),
    ("asks_less", ("applications", "*", "")),
    ("job_removed", ("applications",)),
    ("claim_removed", ("repositories", "*", "claimed-protection")),
    ("probed_less", ("repositories", "*", "credentials")),
    ("asks_less", ("repositories", "*", "")),
    ("repository_removed", ("repositories",)),
    ("medium_removed", ("media",)),
    ("isolation_loosened", ("isolation",)),
    ("people_changed", ("people",)),
    ("probed_less", ("probes",)),
    ("probed_less", ("daemon", "cadences")),
)
#: Parts of a backup job that may be weakened without its going.
_OF_A_JOB = {"schedule": "schedule_rarer", "every": "schedule_rarer", "covers": "source_removed"}


@dataclass(slots=True)
class Weakenings:
    """What stands of all weakenings; facts come in order and once each."""

    _standing: list[dict[str, Json]] = field(default_factory=list)
    _unread: dict[str, int] = field(default_factory=dict)
    _read_once: set[str] = field(default_factory=set)
    _seen_at: int | None = None
    #: The load that was refused last and that no good one followed: `seq`, `at`, `file`, `line`, `key`.
    rejected: dict[str, Json] | None = None

    def learn(self, fact: Fact) -> None:
        """Take one fact of `KINDS` into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        if not isinstance(data, Mapping):
            return
        if fact.observation.kind == "policy.seen":
            self._seen(data, to_us(fact.observation.observed_at))
        elif fact.observation.kind == "policy.changed":
            for change in data["changes"]:
                if change["weakening"]:
                    self._add(fact, "policy", change["weakening"], change)
        elif fact.observation.kind == "configuration.rejected":
            self.rejected = {
                "seq": fact.seq,
                "at": to_us(fact.observation.observed_at),
                "file": data["first_file"],
                "line": data["first_line"],
                "key": data["first_key"],
            }
        else:
            self.rejected = None
            self._loaded(fact, data)

    def standing(self) -> list[dict[str, Json]]:
        """Return what stands, oldest first: `seq`, `at`, `of`, `what`, `path`, `before`, `after`."""
        return [dict(one) for one in self._standing]

    def policies(self) -> dict[str, Json]:
        """Return how the last look at policies went.

        `seen_at` None: there was none. `unread` maps what could not be read, and was once, to since
        when; `never_read` is what never could.
        """
        return {
            "seen_at": self._seen_at,
            "unread": {name: at for name, at in self._unread.items() if self._known(name)},
            "never_read": [name for name in self._unread if not self._known(name)],
        }

    def _known(self, name: str) -> bool:
        """Tell whether what cannot be read now was read once."""
        source = name.partition("|")[0]
        wanted = f"{source}|" if source in MERGED else name
        return any(place.startswith(wanted) for place in self._read_once)

    def _add(self, fact: Fact, of: str, what: str, change: Mapping[str, Any]) -> None:
        self._standing.append(
            {
                **{key: change[key] for key in change if key not in {"weakening", "weakened"}},
                "seq": fact.seq,
                "at": to_us(fact.observation.observed_at),
                "of": of,
                "what": what,
            }
        )

    def _seen(self, data: Mapping[str, Any], at: int) -> None:
        self._seen_at = at
        self._unread = {name: self._unread.get(name, at) for name in data["unread"]}
        self._read_once |= {place_of(item) for item in data["items"]}
        self._standing = [
            one for one in self._standing if one["of"] != "policy" or not undone(one, data["items"])
        ]

    def _loaded(self, fact: Fact, data: Mapping[str, Any]) -> None:
        told = {one["path"]: one for one in data["differences"]}
        self._standing = [
            one
            for one in self._standing
            if one["of"] != "configuration" or not _restored(one, told.get(one["path"]))
        ]
        for one in told.values():
            if one["weakened"]:
                self._add(fact, "configuration", code_of(one["path"], one["change"]), one)


def code_of(path: str, change: str) -> str:
    """Return what a weakened setting amounts to, as a code of `weakening.CODE`."""
    parts = path.split(".")
    found = next(
        (
            code
            for code, pattern in _SETTINGS
            if len(parts) >= len(pattern)
            and all(want in {"*", "", got} for want, got in zip(pattern, parts, strict=False))
        ),
        "asks_less",
    )
    if found == "job_removed" and change != "removed":
        return next((_OF_A_JOB[part] for part in parts if part in _OF_A_JOB), "asks_less")
    return found


def _restored(one: Mapping[str, Any], later: Mapping[str, Any] | None) -> bool:
    """Tell whether a later change of the same setting took a weakening back."""
    if later is None or later["weakened"]:
        return False
    before, after = one.get("before"), later.get("after")
    if before == after and one.get("before_sha256") == later.get("after_sha256"):
        return True
    if before is None or after is None or "before_sha256" in one or "after_sha256" in later:
        return False
    old, new = _value(before), _value(after)
    tables = isinstance(old, dict) or isinstance(new, dict)
    return not tables and not weakens(tuple(one["path"].split(".")), old, new)


def _value(text: str) -> Any:
    """Return what a recorded value was: texts are recorded as they are, anything else as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
