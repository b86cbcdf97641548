"""Which shares of an over-size tree a restore test brings this time: those read longest ago.

A share is a directory with all below it, or the few files that lie in one directory themselves. A
directory is split into its own until each share is a quarter of what a test may bring, or less; one
with many files of its own is not split. Shares are told apart by keyed hashes: no name leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from backupguard.contracts import Part, PartFetched

#: So many files of a directory can be named one by one to the tool that restores.
_MOST_NAMES = 100
#: So many paths are named to it altogether.
_MOST_PATHS = 300
_PARTS_OF_A_TEST = 4


@dataclass(slots=True)
class _Directory:
    files: int = 0
    bytes: int = 0
    names: list[str] | None = field(default_factory=list)  # its own files; None: too many
    below: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One share: its paths, what they amount to, and its name for ever."""

    identity: str
    paths: tuple[str, ...]
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What to restore: paths, the files and bytes they amount to, and what that is of all."""

    paths: tuple[str, ...]
    files: int
    bytes: int
    part: PartFetched


class Tree:
    """What a tool's listing says of the tree below the selection."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._directories: dict[str, _Directory] = {}
        self._always: dict[str, int] = {}  # file → bytes

    def take(self, path: str, *, is_file: bool, size: int) -> None:
        """Count one entry of the listing."""
        if not is_file:
            return
        above, _, name = path.rpartition("/")
        own = self._directory(above or "/")
        own.files += 1
        own.bytes += size
        if own.names is not None:
            own.names.append(name)
            if len(own.names) > _MOST_NAMES:
                own.names = None
        if any(f"/{wanted}/" in f"{path}/" for wanted in self._part.always):
            self._always[path] = size

    def _directory(self, path: str) -> _Directory:
        found = self._directories.get(path)
        if found is None:
            found = self._directories[path] = _Directory()
            if path != "/":
                above = path.rpartition("/")[0] or "/"
                self._directory(above).below.add(path)
        return found

    def choose(self, roots: Sequence[str]) -> Chosen:
        """Return what this test brings of the trees at `roots`."""
        part = self._part
        shares = [share for root in roots for share in self._shares(root, root)]
        picked: list[Share] = []
        paths, size = 0, 0
        for share in sorted(shares, key=lambda s: (part.read_at.get(s.identity, 0), s.identity)):
            fits = size + share.bytes <= part.max_bytes and paths + len(share.paths) <= _MOST_PATHS
            if fits or not picked:
                picked.append(share)
                paths += len(share.paths)
                size += share.bytes
        named = tuple(path for share in picked for path in share.paths)
        more = self._more(roots, frozenset(named))
        places = {self._place(path, roots) for path in more}
        return Chosen(
            paths=(*named, *sorted(places)),
            files=sum(share.files for share in picked) + len(more),
            bytes=size + sum(more.values()),
            part=PartFetched(
                bytes=size + sum(more.values()),
                total_bytes=sum(share.bytes for share in shares),
                chosen=tuple(share.identity for share in picked),
                shares=tuple(share.identity for share in shares),
            ),
        )

    def _shares(self, path: str, root: str) -> Iterator[Share]:
        directory = self._directories.get(path)
        if directory is None:
            return
        files, size = self._total(path)
        large = size * _PARTS_OF_A_TEST > self._part.max_bytes
        if (
            not large
            or directory.names is None
            or (not directory.below and len(directory.names) < 2)
        ):
            if files:
                yield self._share((path,), path, root, files, size)
            return
        if directory.names:
            own = tuple(f"{path.rstrip('/')}/{name}" for name in directory.names)
            yield self._share(own, f"{path}/.", root, directory.files, directory.bytes)
        for below in sorted(directory.below):
            yield from self._shares(below, root)

    def _share(self, paths: tuple[str, ...], name: str, root: str, files: int, size: int) -> Share:
        place = name.removeprefix(root).encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(place, key=self._part.key, digest_size=8)
        return Share(identity=digest.hexdigest(), paths=paths, files=files, bytes=size)

    def _total(self, path: str) -> tuple[int, int]:
        files = size = 0
        waiting = [path]
        while waiting:
            directory = self._directories[waiting.pop()]
            files += directory.files
            size += directory.bytes
            waiting.extend(directory.below)
        return files, size

    def _more(self, roots: Sequence[str], named: frozenset[str]) -> dict[str, int]:
        """Return the files that each test brings and that are in none of the shares chosen."""
        return {
            path: size
            for path, size in self._always.items()
            if self._place(path, roots)
            and not any(str(one) in named for one in (path, *PurePosixPath(path).parents))
        }

    def _place(self, path: str, roots: Sequence[str]) -> str:
        """Return which of the paths that each test brings holds a file; "" for none."""
        for root in roots:
            for wanted in self._part.always:
                place = f"{root.rstrip('/')}/{wanted}"
                if path == place or path.startswith(f"{place}/"):
                    return place
        return ""
