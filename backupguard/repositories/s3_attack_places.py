"""Where canaries lie in a bucket, and whether its policy treats them as it treats the backups."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backupguard.contracts import JobSelector
from backupguard.repositories.attempting import CANARY
from backupguard.repositories.s3_objects import patterns_of

#: Directories of a restic repository without which its snapshots are lost. restic passes over names
#: that are no ids in each of them (tried with 0.14, 0.18 and 0.19: check, list, backup, prune,
#: forget). `locks` is left out: clients must be able to delete those.
_RESTIC = ("data/", "snapshots/", "index/", "keys/")
#: So many places are tried in one run.
MOST_SPOTS = 16
_NAME = re.compile(rf"{CANARY}-[0-9a-f]{{16}}-[a-z]+\Z")
_WILD = re.compile(r"[*?]")
#: Of a policy's conditions, those that could tell a canary from a backup: tags are only on one.
_BY_OBJECT = ("existingobjecttag", "requestobjecttag", "resourcetag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place for canaries, what their keys begin with, and what the keys of backups there do."""

    base: str
    data: tuple[str, ...]

    def key(self, token: str, kind: str) -> str:
        """Return the key of a canary."""
        return f"{self.base}{CANARY}-{token}-{kind}"


def spots_of_dumps(prefix: str, jobs: Iterable[JobSelector]) -> tuple[Spot, ...]:
    """Return a place beside the points of each job, where several share one a single place.

    It is the directory of the pattern's literal part, and never above `prefix`.
    """
    found: dict[str, list[str]] = {}
    for job in jobs:
        for pattern in patterns_of(job, prefix):
            directory = pattern.literal[: pattern.literal.rfind("/") + 1]
            base = directory if directory.startswith(prefix) else prefix
            found.setdefault(base, []).append(pattern.literal)
    spots = found or {prefix: [prefix]}
    return tuple(
        Spot(base=base, data=tuple(dict.fromkeys(data))) for base, data in sorted(spots.items())
    )


def spots_of_restic(prefix: str) -> tuple[Spot, ...]:
    """Return a place in each directory that snapshots need."""
    return tuple(Spot(base=prefix + name, data=(prefix + name,)) for name in _RESTIC)


def is_canary(key: str, prefix: str = "") -> bool:
    """Tell whether a key below `prefix` is that of a canary of ours."""
    return key.startswith(prefix) and _NAME.match(key, key.rfind(CANARY)) is not None


def treats_alike(policy: str, bucket: str, spots: Sequence[Spot]) -> bool | None:
    """Tell whether each statement of a bucket's policy is about canaries and backups, or neither.

    It is compared strictly: what is not plainly the same counts as different. Statements that only
    let somebody read are passed over. None for what is no policy.
    """
    try:
        statements = _list(json.loads(policy)["Statement"])
        return all(_is_alike(one, bucket, spots) for one in statements if not _only_reads(one))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else (value,)


def _only_reads(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement is about reading alone; one of what is not named may be anything."""
    actions = [str(action).lower() for action in _list(statement.get("Action", "*"))]
    return "NotAction" not in statement and all(
        action.startswith(("s3:get", "s3:list")) for action in actions
    )


def _is_alike(statement: Mapping[str, Any], bucket: str, spots: Sequence[Spot]) -> bool:
    tests = statement.get("Condition") or {}
    names = [str(name).lower() for test in tests.values() for name in test]
    if any(word in name for name in names for word in _BY_OBJECT):
        return False
    resources = statement.get("Resource", statement.get("NotResource", "*"))
    return all(
        _covers_both_or_neither(pattern, spot)
        for pattern in _key_patterns(_list(resources), bucket)
        for spot in spots
    )


def _key_patterns(resources: Sequence[Any], bucket: str) -> Iterator[str]:
    """Yield what resources say of keys: "*" where nobody can tell, nothing where it is the bucket."""
    for resource in map(str, resources):
        name = resource.rpartition(":::")[2]
        place, slash, key = name.partition("/")
        if name == "*" or (slash and place == bucket):
            yield key or "*"
        elif _WILD.search(place):  # its wildcard may reach into the key
            yield "*" if place.endswith("*") and not slash else f"{key or '*'}?"


def _covers_both_or_neither(pattern: str, spot: Spot) -> bool:
    wild = _WILD.search(pattern)
    literal = pattern if wild is None else pattern[: wild.start()]
    plain = wild is not None and pattern == f"{literal}*"
    keys = (f"{spot.base}{CANARY}-", *spot.data)
    covers = plain and all(key.startswith(literal) for key in keys)
    apart = not any(key.startswith(literal) or literal.startswith(key) for key in keys)
    return covers or apart
