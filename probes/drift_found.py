"""What drift is told to look at, and what its readers found: plain shapes they hand around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.discovery_found import Found, Places, clean
from probes.drift_rules import MERGED, READ, Value, path

#: Of one place; more elements than anybody writes by hand.
ELEMENTS_LIMIT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the settings and the records say to drift.

    `before` is what the last `policy.seen` holds, None when there is none. `protections` maps a
    repository to the payload of its newest `protection.seen`, `encrypted` to what its tool said last.
    `settle_s` is how long it waits before it believes a change: a file may be half written.
    """

    places: Places = field(default_factory=Places)
    before: Mapping[str, Value] | None = None
    from_seq: int | None = None
    protections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    encrypted: Mapping[str, bool | None] = field(default_factory=dict)
    settle_s: float = 2.0


@dataclass(slots=True, kw_only=True)
class Policies:
    """What has been read so far; every reader adds to it.

    `unread` names what could not be read, `absent` what is not there at the moment (a server that
    does not run), both as `drift_rules.standing` takes them: what they said last stands.
    """

    items: dict[str, Value] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    unread_if_known: set[str] = field(default_factory=set)  # nothing to read, where nothing was

    def read(self, source: str, place: str) -> Place:
        """Note that a place was read; return it to add what it says."""
        found = Place(policies=self, source=source, place=clean(place))
        found.put(READ, True)
        return found

    def lack(self, source: str, place: str = "") -> None:
        """Note that a place, or without one a source, could not be read."""
        self.unread.add(f"{source}|{clean(place)}")

    def lacks(self, source: str, found: Found) -> None:
        """Note what a reader of discovery's could not read: files, and what lies in directories."""
        for one in found.lacking:
            self.lack(source, one.what if one.what.startswith("/") else "")
            if source in MERGED:
                self.absent.add(f"{source}|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place that says something: a file, a section, a repository."""

    policies: Policies
    source: str
    place: str

    def put(self, key: str, value: Value) -> None:
        """Add what it says."""
        item = clean(value) if isinstance(value, str) else value
        self.policies.items[path(self.source, self.place, key)] = item

    def element(self, key: str, name: str) -> None:
        """Add one of many."""
        self.policies.items[path(self.source, self.place, key, clean(name))] = True
