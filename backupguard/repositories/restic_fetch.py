"""Brings a selection of a snapshot to disk, and tells a damaged repository from a changing one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from backupguard.contracts import Fetched, FetchRequest
from backupguard.errors import (
    BackupDefect,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.fetched import empty, measure
from backupguard.repositories.restic_calls import Call, ResticProgram
from backupguard.repositories.restic_errors import (
    CutShort,
    defect,
    failure,
    host_trouble,
    messages,
    unexplained,
)
from backupguard.repositories.restic_settings import Backend
from backupguard.repositories.restic_state import ResticState, unchanged
from backupguard.repositories.selecting import Held, Located, located, selected
from backupguard.repositories.sharing import Tree

_GLOB = frozenset("\\*?[")
_RESTORED = re.compile(rb'"message_type":"status".*"bytes_restored":(\d+)')


def literal(path: str) -> str:
    """Given a path, return the restic pattern that matches it and nothing else.

    Example: `/srv/[a]*.sql` gives `/srv/\\[a]\\*.sql`.
    """
    return "".join(f"\\{character}" if character in _GLOB else character for character in path)


def _listing(
    program: ResticProgram, snapshot: str, held: Sequence[Held], tree: Tree | None
) -> None:
    """Fill `held` and `tree` from `restic ls`; raises what restic's failure stands for."""

    seen = False

    def sink(line: bytes) -> None:
        nonlocal seen
        if not line.startswith(b"{"):
            return
        try:
            node = json.loads(line)
        except ValueError:
            return
        if "snapshot" in {node.get("struct_type"), node.get("message_type")}:
            seen = True
        elif node.get("struct_type") == "node" or node.get("message_type") == "node":
            for one in (*held, *([tree] if tree else ())):
                one.take(
                    node.get("path", ""),
                    is_file=node.get("type") == "file",
                    size=int(node.get("size") or 0),
                )

    wanted = tuple(dict.fromkeys(path for one in held for path in one.candidates))
    done = program.run(
        Call(
            verb="ls",
            arguments=(snapshot, *wanted) if wanted != ("/",) else (snapshot,),
            options=(("--recursive", "true"),),
            sink=sink,
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    # 0.14 ends with status 0 when the snapshot is not there, or cannot be read.
    if done.returncode != 0 or not seen:
        raise failure(done, program.version, program.identifier)


def locate(
    program: ResticProgram, snapshot: str, paths: Sequence[str], tree: Tree | None = None
) -> Located:
    """Return where `paths` lie in a snapshot, as `restic ls` says (never as the snapshot claims).

    Raises BackupDefect (selection_absent) when one of them is not there, and what restic raises.
    """
    held = selected(paths)
    _listing(program, snapshot, held, tree)
    return located(held, program.identifier, snapshot)


def fetch(program: ResticProgram, state: ResticState, request: FetchRequest, into: Path) -> Fetched:
    """Restore the selection of a point into `into`, twice at most.

    A first failure that accuses the backup is looked at again from a fresh index; only a second one,
    with the snapshot and all indexes still standing, is a BackupDefect. Otherwise Changing.
    """
    snapshot = request.point.native_id
    try:
        return _attempt(program, request, into)
    except (BackupDefect, Changing) as first:
        if first.code == "selection_absent":
            raise
        program.context.cancel.raise_if_set()
        indexes = state.names("index") or frozenset()
        if snapshot not in (state.names("snapshots") or ()):
            raise Changing("repository_changed", repository=program.identifier) from first
    empty(into)
    try:
        return _attempt(program, request, into)
    except (BackupDefect, Changing) as second:
        if second.code == "selection_absent":
            raise
        standing = snapshot in (state.names("snapshots") or ())
        if (
            isinstance(second, BackupDefect)
            and standing
            and unchanged(indexes, state.names("index") or frozenset())
        ):
            if isinstance(second, CutShort):
                need_damage(program, second)
            raise
        raise Changing("repository_changed", repository=program.identifier) from second


def need_damage(program: ResticProgram, cut: CutShort) -> None:
    """Raise Unreachable (timeout) unless what ended too early is shorter in the repository itself.

    A proxy that cuts transfers looks the same from here. `restic check` compares the size of every
    pack with the index and reads no data, so that nothing on the way can cut it short.
    """
    if program.settings.backend is Backend.LOCAL:
        return
    done = program.run(
        Call(verb="check", timeout_s=int(program.settings.fetch_timeout.total_seconds()))
    )
    found = defect(messages(done)) if done.returncode != 0 else None
    if found is None or found.cut:
        raise Unreachable("timeout", repository=program.identifier) from cut


def _attempt(program: ResticProgram, request: FetchRequest, into: Path) -> Fetched:
    part = request.part
    tree = Tree(part) if part is not None else None
    found = locate(program, request.point.native_id, request.selector.paths, tree)
    chosen = None
    if tree is not None and part is not None and found.bytes > part.max_bytes:
        chosen = tree.choose(found.paths)
    whole = found.whole and chosen is None
    wanted = chosen or found
    free = os.statvfs(into)
    if wanted.bytes > free.f_bavail * free.f_frsize:
        raise MissingMeans("no_disk", needed=wanted.bytes, available=free.f_bavail * free.f_frsize)
    options = [("--target", str(into))]
    options += [("--include", literal(path)) for path in wanted.paths if not whole]
    if program.version >= (0, 18):
        options.append(("--exclude-xattr", "*"))
    if (
        request.exact
    ):  # every piece of every file is read again and compared with the snapshot's tree
        options.append(("--verify", "true"))
    progress = program.context.progress
    progress(0, wanted.bytes, "bytes")

    def sink(line: bytes) -> None:
        # 0.17 and later tell how far they are; errors come on the other channel.
        match = _RESTORED.search(line)
        if match is not None:
            progress(int(match[1]), wanted.bytes, "bytes")

    done = program.run(
        Call(
            verb="restore",
            arguments=(request.point.native_id,),
            options=tuple(options),
            write=(into,),
            sink=sink,
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    if done.returncode != 0:
        texts = messages(done)
        if done.returncode != 1 or host_trouble(texts) is not None or unexplained(texts):
            raise failure(done, program.version, program.identifier)
    files, size = measure(into, program.context.cancel.raise_if_set)
    if (files, size) != (wanted.files, wanted.bytes):
        # restic said nothing, or spoke of attributes only, and yet something is missing.
        raise Misunderstood(
            "unclassified_stderr" if done.returncode else "output_unparsable",
            repository=program.identifier,
        )
    return Fetched(
        artifact=found.artifact,
        bytes=size,
        files=files,
        tools={"restic": program.version_text},
        part=chosen.part if chosen is not None else None,
    )
