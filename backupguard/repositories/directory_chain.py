"""Finds what an incremental backup in a directory builds on, to be fetched with it."""

from __future__ import annotations

from collections.abc import Mapping

from backupguard.repositories.directory_physical import bases_of
from backupguard.repositories.directory_points import DirectoryPoints
from backupguard.repositories.directory_scan import Entry, Scanner

#: So many levels below the root a base is looked for where the job's own entries hold none.
_LEVELS = 3


def bases(
    name: str, entries: Mapping[str, Entry], listing: DirectoryPoints, scanner: Scanner
) -> list[Entry] | None:
    """Return what the entry `name` builds on, the nearest first; nothing for a full backup.

    A base may be another job's, or lie elsewhere in the repository. None where one is missing.
    """
    physical = listing.physical(entries[name])
    if physical is None or physical.from_lsn is None:
        return []
    for everywhere in (False, True):
        known = {**entries, **_others(entries, scanner)} if everywhere else dict(entries)
        told = {key: one for key, entry in known.items() if (one := listing.physical(entry))}
        found, whole = bases_of(name, told)
        if whole:
            return [known[base] for base in found]
    return None


def _others(entries: Mapping[str, Entry], scanner: Scanner) -> dict[str, Entry]:
    """Return the directories of the repository that are no entries of the job."""
    own = {entry.relative for entry in entries.values()}
    return {
        f"/{entry.relative}": entry
        for levels in range(1, _LEVELS + 1)
        for entry in scanner.entries("/".join("*" * levels))
        if entry.is_directory and entry.relative not in own
    }
