"""Looks at a directory of dumps: which files match, how large and how old they are. Follows no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from backupguard.errors import (
    AccessRefused,
    ConfigurationError,
    ConfigurationProblem,
    Unreachable,
)
from backupguard.model import Message
from backupguard.repositories.directory_names import Named, expression, percent, read_name

_DEEPEST = 32
#: A file that was last written so soon after the second 02:30 of an autumn night is of that one.
_SAME_NIGHT = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or directory that matches: its path below the root, and what was seen of it.

    `seen` maps each regular file in it, relative to `relative`, to size and time of change; two equal
    ones mean that nothing moved in between.
    """

    relative: str
    named: Named
    is_directory: bool
    seen: Mapping[str, tuple[int, int]]

    @property
    def bytes(self) -> int:
        """Bytes of all its files."""
        return sum(size for size, _ in self.seen.values())

    @property
    def changed_at(self) -> datetime:
        """When its newest file was changed."""
        newest = max((changed for _, changed in self.seen.values()), default=0)
        return datetime.fromtimestamp(newest / 1_000_000_000, UTC)

    @property
    def at(self) -> datetime:
        """The time the name tells, or that of the file.

        A name that tells only the day is made precise by the file, when that is of the same day; so is
        one of the hour that comes twice in autumn.
        """
        named = self.named
        if named.at is None:
            return self.changed_at.replace(microsecond=0)
        if named.day_only and timedelta() <= self.changed_at - named.at < timedelta(hours=25):
            return self.changed_at.replace(microsecond=0)
        if named.again is not None and timedelta() <= self.changed_at - named.again < _SAME_NIGHT:
            return named.again
        return named.at

    @property
    def native_id(self) -> str:
        """The point's name: that of the file, or what stays of it when it is rotated.

        `dpi.dump` becomes `dpi.dump.1.gz` tomorrow and is the same point still; so a name without a
        date is told apart by the second of its file's time, which rotation and gzip keep.
        """
        if self.named.at is not None:
            return percent(self.relative)
        directory, slash, _ = self.relative.rpartition("/")
        return f"{percent(directory + slash + self.named.stem)}@{self.changed_at:%Y%m%dT%H%M%SZ}"


class Scanner:
    """Finds the entries of one directory, anew at each call."""

    def __init__(self, root: Path, zone: ZoneInfo | None, identifier: str) -> None:
        self._root = root
        self._zone = zone
        self._identifier = identifier

    def entries(self, pattern: str) -> Iterator[Entry]:
        """Yield what matches `pattern`, a path below the root, in order of names.

        Raises Unreachable (not_found), AccessRefused (permission), ConfigurationError for a pattern
        that cannot be read.
        """
        components = pattern.strip("/").split("/")
        try:
            for component in components:
                expression(component)
        except ValueError as error:
            message = Message(id="repositories.pattern", values={"pattern": pattern})
            problem = ConfigurationProblem(
                file="", line=None, column=None, key="select.pattern", message=message
            )
            raise ConfigurationError([problem]) from error
        try:
            yield from self._matching("", components, {})
        except FileNotFoundError as error:
            raise Unreachable("not_found", repository=self._identifier) from error
        except PermissionError as error:
            raise AccessRefused("permission", repository=self._identifier) from error
        except OSError as error:
            raise Unreachable("refused", repository=self._identifier) from error

    def _matching(
        self, directory: str, components: list[str], told: Mapping[str, str | None]
    ) -> Iterator[Entry]:
        last = len(components) == 1
        with os.scandir(self._root / directory) as listing:
            found = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        for entry in found:
            read = read_name(components[0], entry.name, self._zone, told)
            if read is None or entry.is_symlink():
                continue
            relative = f"{directory}/{entry.name}" if directory else entry.name
            if not last:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._matching(relative, components[1:], read[1])
                continue
            seen = self.look(relative)
            if seen is not None:
                yield Entry(
                    relative=relative,
                    named=read[0],
                    is_directory=entry.is_dir(follow_symlinks=False),
                    seen=seen,
                )

    def look(self, relative: str) -> Mapping[str, tuple[int, int]] | None:
        """Return size and time of change of an entry's files; None when it is gone or special."""
        path = self._root / relative
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        if stat.S_ISREG(status.st_mode):
            return {"": (status.st_size, status.st_mtime_ns)}
        if not stat.S_ISDIR(status.st_mode):
            return None
        seen: dict[str, tuple[int, int]] = {}
        self._look_into(path, "", seen, _DEEPEST)
        return seen

    def _look_into(
        self, path: Path, prefix: str, seen: dict[str, tuple[int, int]], depth: int
    ) -> None:
        with os.scandir(path) as listing:
            for entry in listing:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    seen[prefix + entry.name] = (status.st_size, status.st_mtime_ns)
                elif stat.S_ISDIR(status.st_mode) and depth:
                    self._look_into(Path(entry.path), f"{prefix}{entry.name}/", seen, depth - 1)
