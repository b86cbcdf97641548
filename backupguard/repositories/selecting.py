"""Where a job's paths lie in a tool's copy of a file tree, as the tool's own listing says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from backupguard.errors import BackupDefect


def candidates(path: str) -> tuple[str, ...]:
    """Return where a path may lie in a copy's tree, longest first, each with a leading "/".

    A backup of a relative path records only the relative one in the tree: `/var/backups/dpi` may be
    `/backups/dpi` or `/dpi` there.
    """
    parts = PurePosixPath("/", path).parts[1:]
    return tuple("/" + "/".join(parts[start:]) for start in range(len(parts))) or ("/",)


@dataclass(slots=True)
class Held:
    """What a listing says of one selected path."""

    candidates: tuple[str, ...]
    files: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)

    def take(self, path: str, *, is_file: bool, size: int) -> None:
        """Count one entry of the listing, when it lies at or below the path."""
        for candidate in self.candidates:
            if path == candidate:
                self.found.add(candidate)
            elif not path.startswith(candidate.rstrip("/") + "/"):
                continue
            if is_file:
                self.files[candidate] = self.files.get(candidate, 0) + 1
                self.bytes[candidate] = self.bytes.get(candidate, 0) + size

    def best(self) -> str | None:
        """Return the longest candidate that the copy holds."""
        return next((path for path in self.candidates if path in self.found), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where the selection lies inside the copy, and how much it is."""

    paths: tuple[str, ...]
    files: int
    bytes: int

    @property
    def whole(self) -> bool:
        """Whether everything is selected."""
        return self.paths == ("/",)

    @property
    def artifact(self) -> PurePosixPath:
        """The path, relative to where it is restored, that holds everything selected."""
        return PurePosixPath(*PurePosixPath(os.path.commonpath(self.paths)).parts[1:])


def selected(paths: Sequence[str]) -> list[Held]:
    """Return what a listing is to be counted into: one per path, or one for everything."""
    return [Held(candidates=candidates(path)) for path in paths] or [Held(candidates=("/",))]


def located(held: Sequence[Held], repository: str, point: str) -> Located:
    """Given a listing that was counted, return where the selection lies.

    Raises BackupDefect (selection_absent) when a selected path is not there.
    """
    for one in held:
        if one.candidates == ("/",):
            one.found.add("/")
    best = [one.best() for one in held]
    if None in best:
        raise BackupDefect("selection_absent", repository=repository, point=point[:10])
    chosen = [path for path in best if path is not None]
    # A path inside another one is counted with it.
    outer = {
        path: one
        for path, one in zip(chosen, held, strict=True)
        if not any(PurePosixPath(path).is_relative_to(other) for other in chosen if other != path)
    }
    return Located(
        paths=tuple(outer),
        files=sum(one.files.get(path, 0) for path, one in outer.items()),
        bytes=sum(one.bytes.get(path, 0) for path, one in outer.items()),
    )
