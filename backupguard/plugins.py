"""Finds repositories, probes and restore-test engines by their entry points.

Three groups, one per family of plug-ins; the shipped ones come through the same door as a
hospital's own. A plug-in is imported only when it is asked for by name, and a name that two
distributions give is an error: which of the two would run must never depend on chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from backupguard.contracts import Capability, Engine, Probe, RepositoryType
from backupguard.errors import MissingMeans
from backupguard.model import Origin

REPOSITORIES = "backupguard.repositories"
PROBES = "backupguard.probes"
RESTORE_TESTS = "backupguard.restore_tests"


@cache
def _found(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name; scanned once, for it reads the whole disk path."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def names(group: str) -> tuple[str, ...]:
    """Return the names in a group, sorted. Imports no plug-in."""
    return tuple(_found(group))


@cache
def load(group: str, name: str) -> Any:
    """Return the object an entry point names, importing its module.

    Raises MissingMeans: `plugin_missing` (lists what exists), `plugin_twice` (names both),
    `plugin_broken` (its import failed; the error is the `__cause__`).
    """
    entries = _found(group).get(name, ())
    if not entries:
        exists = ", ".join(names(group)) or "—"
        raise MissingMeans("plugin_missing", group=group, name=name, exists=exists)
    if len(entries) > 1:
        both = ", ".join(entry.value for entry in entries)
        raise MissingMeans("plugin_twice", group=group, name=name, found=both)
    try:
        return entries[0].load()
    except Exception as error:
        raise MissingMeans(
            "plugin_broken", group=group, name=name, cause=f"{type(error).__name__}: {error}"
        ) from error


def repository_type(name: str) -> RepositoryType:
    """Return the repository type of that name; raises MissingMeans as `load` does."""
    return cast(RepositoryType, load(REPOSITORIES, name))


def capabilities(name: str) -> frozenset[Capability]:
    """Return what repositories of a type can do; raises MissingMeans as `load` does.

    A type that says nothing of it is asked when it is opened, so it counts as able to do all.
    """
    return getattr(repository_type(name), "capabilities", frozenset(Capability))


def unproven(name: str) -> bool:
    """Tell whether a repository type was never seen against a live server.

    A type that says nothing of it, or that cannot be loaded, is not.
    """
    try:
        return bool(getattr(repository_type(name), "unproven", False))
    except MissingMeans:
        return False


def origin(name: str) -> Origin:
    """Return whose word the points of a type's repositories are; raises MissingMeans."""
    return getattr(repository_type(name), "origin", Origin.OBSERVED)


def probe(name: str) -> Probe:
    """Return the probe of that name; raises MissingMeans as `load` does."""
    return cast(Probe, load(PROBES, name))


def engine(name: str) -> Engine:
    """Return the restore-test engine of that name; raises MissingMeans as `load` does."""
    return cast(Engine, load(RESTORE_TESTS, name))


def engines() -> Mapping[str, Engine]:
    """Return every engine by name: recognition asks them all."""
    return {name: engine(name) for name in names(RESTORE_TESTS)}
