"""Points of a long listing, kept on the disk while they are gone through."""

from __future__ import annotations

import pickle  # only what this process has just written itself, in a file without a name
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import IO, Any

from backupguard.model import RecoveryPoint

#: Up to this many points stay in memory.
IN_MEMORY = 20_000
_TOGETHER = 1000


class _Spooled(Collection[RecoveryPoint]):
    """Points in a file without a name; each pass reads it again. Not for several threads at once."""

    def __init__(self, points: Iterable[RecoveryPoint], directory: str) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - outlives this
        weakref.finalize(self, self._file.close)
        self._count = 0
        rest = iter(points)
        while batch := list(islice(rest, _TOGETHER)):
            pickle.dump(batch, self._file, pickle.HIGHEST_PROTOCOL)
            self._count += len(batch)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[RecoveryPoint]:
        self._file.seek(0)
        for _ in range(-(-self._count // _TOGETHER)):
            yield from pickle.load(self._file)  # noqa: S301 - see the import

    def __contains__(self, point: Any) -> bool:
        return any(one == point for one in self)


def spooled(points: Iterable[RecoveryPoint], directory: str) -> Collection[RecoveryPoint]:
    """Return the points, gone through to their end: in memory, or in a file in `directory`."""
    rest = iter(points)
    first = tuple(islice(rest, IN_MEMORY))
    after = next(rest, None)
    if after is None:
        return first
    return _Spooled(chain(first, (after,), rest), directory)
