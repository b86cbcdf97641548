"""Brings a selection of an archive to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import Fetched, FetchRequest
from backupguard.errors import Changing, MissingMeans, Misunderstood
from backupguard.repositories.borg_archives import Archive
from backupguard.repositories.borg_calls import BorgProgram, Call
from backupguard.repositories.borg_errors import extract_failure, failure
from backupguard.repositories.borg_state import BorgState
from backupguard.repositories.fetched import empty, measure
from backupguard.repositories.selecting import Located, located, selected
from backupguard.repositories.sharing import Tree

_QUIET = (("--numeric-ids", None), ("--noacls", None), ("--noxattrs", None), ("--noflags", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Where the selection lies, and whether names in it share a file, which borg lists as empty."""

    place: Located
    linked: bool


def locate(
    program: BorgProgram, archive: Archive, paths: Sequence[str], tree: Tree | None = None
) -> _Found:
    """Return where `paths` lie in an archive, as `borg list` says.

    Raises BackupDefect (selection_absent) when one of them is not there, and what borg raises.
    """
    held = selected(paths)
    linked = False

    def sink(line: bytes) -> None:
        nonlocal linked
        try:
            node = json.loads(line)
            path, kind, mode = "/" + str(node["path"]), node["type"], str(node["mode"])
            size = int(node["size"] or 0)
        except (ValueError, KeyError, TypeError) as error:
            raise Misunderstood("output_unparsable", program="borg") from error
        linked = linked or mode.startswith("h")
        for one in (*held, *([tree] if tree else ())):
            one.take(path, is_file=kind == "-", size=size)

    wanted = tuple(dict.fromkeys(path[1:] for one in held for path in one.candidates))
    done = program.run(
        Call(
            verb="list",
            archive=archive.name,
            paths=wanted if wanted != ("",) else (),
            options=(("--json-lines", None),),
            sink=sink,
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    if done.returncode != 0:
        raise failure(done, program.version, program.identifier)
    return _Found(place=located(held, program.identifier, archive.id), linked=linked)


def fetch(program: BorgProgram, state: BorgState, request: FetchRequest, into: Path) -> Fetched:
    """Extract the selection of a point into `into`; a failure is looked at twice (`surely`).

    Raises BackupDefect, Changing (the archive has gone meanwhile), MissingMeans (no_disk) and what
    lies between us and the repository.
    """
    wanted = request.point.native_id
    archive = next((one for one in state.listed().archives if one.id == wanted), None)
    if archive is None:
        raise Changing("repository_changed", repository=program.identifier)
    return state.surely(
        lambda: _attempt(program, archive, request, into),
        wanted,
        lambda: empty(into),
    )


def _attempt(program: BorgProgram, archive: Archive, request: FetchRequest, into: Path) -> Fetched:
    part = request.part
    tree = Tree(part) if part is not None else None
    found = locate(program, archive, request.selector.paths, tree)
    place = found.place
    chosen = None
    if tree is not None and part is not None and place.bytes > part.max_bytes:
        chosen = tree.choose(place.paths)
    whole = place.whole and chosen is None
    wanted = chosen or place
    room = os.statvfs(into)
    if wanted.bytes > room.f_bavail * room.f_frsize:
        raise MissingMeans("no_disk", needed=wanted.bytes, available=room.f_bavail * room.f_frsize)
    program.context.progress(0, wanted.bytes, "bytes")
    done = program.run(
        Call(
            verb="extract",
            archive=archive.name,
            paths=() if whole else tuple(path[1:] for path in wanted.paths),
            options=_QUIET,
            into=into,
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    if done.returncode != 0:
        error = extract_failure(done, program.version, program.identifier)
        if error is not None:
            raise error
    files, size = measure(into, program.context.cancel.raise_if_set)
    complete = size >= wanted.bytes if found.linked else size == wanted.bytes
    if files != wanted.files or not complete:
        # borg said nothing, or spoke of attributes only, and yet something is missing
        raise Misunderstood("output_unparsable", repository=program.identifier)
    return Fetched(
        artifact=place.artifact,
        bytes=size,
        files=files,
        tools={"borg": program.version_text},
        part=chosen.part if chosen is not None else None,
    )
