"""Barman's catalogue as it lies on disk (Barman 2.x and 3.x): `base/ID/backup.info` and `wals/`.

Since 3.13.2 what it wrote of a backup lies in `meta/ID-backup.info`, and goes before the other (release
notes of 3.13.2). It is written as lines `name=value`. What lies in `wals/` counts, and not
`wals/xlog.db`, Barman's list of it: a segment in the list that is not there cannot be replayed.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from zlib import error as zlib_error

from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Changing,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.wal import (
    SEGMENT_SIZE,
    Archive,
    Segment,
    Switch,
    parse_history,
    parse_segment,
    timeline_of_history,
)

SERVER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\Z")
#: Barman names a backup by when it began; a copy at the same second gets a suffix.
BACKUP = re.compile(r"\d{8}T\d{6}\Z")
_LOG_DIRECTORY = re.compile(r"[0-9A-F]{16}\Z")
_SEGMENT = re.compile(r"[0-9A-F]{24}\Z")
_LINE = re.compile(r"([a-z_]+)=(.*)\Z", re.DOTALL)
_LARGEST_INFO = 4 << 20
_LARGEST_HISTORY = 1 << 20
_NOTHING = "None"
_META = "-backup.info"
_COMPRESSIONS: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
)


_SPACE = re.compile(r"', (\d{1,10}), '")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupInfo:
    """What Barman wrote of one backup; times are aware, names and numbers None where it knew none."""

    identifier: str
    status: str
    began_at: datetime | None
    ended_at: datetime | None
    begin_segment: str | None
    end_segment: str | None
    segment_size: int
    size: int | None
    deduplicated: int | None
    mode: str | None
    system: str | None
    version: str | None
    parent: str | None
    present: bool  # its data directory is there
    spaces: tuple[str, ...] = ()  # its tablespaces, by the number that PostgreSQL gave them


def trouble(error: OSError, repository: str) -> BackupGuardError:
    """Return what an error of the file system stands for; nothing of it accuses a backup."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return Unreachable("not_found", repository=repository)
    if error.errno in {errno.EACCES, errno.EPERM, errno.ELOOP}:
        return AccessRefused("permission", repository=repository)
    return Unreachable("refused", repository=repository)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a regular file's content, at most `limit` bytes; follows no link; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(limit)


def parse_info(text: str) -> Mapping[str, str]:
    """Given the text of a `backup.info`, return its values by name, without those that are None.

    Raise ValueError when a line is none or there is no status: a half-written file.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None:
            raise ValueError("a line of backup.info is none")
        if match[2] != _NOTHING:
            values[match[1]] = match[2]
    if "status" not in values or not text.endswith("\n"):
        raise ValueError("backup.info is cut")
    return values


def _moment(text: str | None) -> datetime | None:
    """Return a time as Barman writes it; one without a zone was written in this host's."""
    return datetime.fromisoformat(text).astimezone(UTC) if text is not None else None


def servers(home: Path, repository: str) -> tuple[str, ...]:
    """Return the names of the servers that have a catalogue below `home`."""
    try:
        names = sorted(entry.name for entry in os.scandir(home) if entry.is_dir())
    except OSError as error:
        raise trouble(error, repository) from error
    return tuple(name for name in names if SERVER.match(name) and (home / name / "base").is_dir())


def backups(server: Path, repository: str) -> tuple[BackupInfo, ...]:
    """Return what Barman wrote of each backup of a server, the oldest first.

    Raises Unreachable (not_found) for a server that is not there, Misunderstood for a `backup.info`
    that cannot be read, twice.
    """
    meta = server / "meta"
    try:
        names = {entry.name for entry in os.scandir(server / "base")}
        if meta.is_dir():
            names |= {entry.name.removesuffix(_META) for entry in os.scandir(meta)}
    except OSError as error:
        raise trouble(error, repository) from error
    found = []
    for name in sorted(filter(BACKUP.match, names)):
        try:
            info = _backup(server, name, repository)
        except Misunderstood:
            info = _backup(server, name, repository)  # it is rewritten while a backup runs
        if info is not None:
            found.append(info)
    return tuple(found)


def _info(server: Path, name: str) -> bytes | None:
    """Return what Barman wrote of a backup, None where that is nowhere; raises OSError."""
    for place in (server / "meta" / f"{name}{_META}", server / "base" / name / "backup.info"):
        try:
            return read_bounded(place, _LARGEST_INFO)
        except FileNotFoundError:
            continue
    return None


def _backup(server: Path, name: str, repository: str) -> BackupInfo | None:
    directory = server / "base" / name
    try:
        # It may just have been moved from the one place to the other.
        written = _info(server, name) or _info(server, name)
    except OSError as error:
        raise trouble(error, repository) from error
    if written is None:
        return None  # deleted meanwhile, or only begun
    text = written.decode("utf-8", "replace")
    try:
        values = parse_info(text)
        began, ended = _moment(values.get("begin_time")), _moment(values.get("end_time"))
        return BackupInfo(
            identifier=name,
            status=values["status"],
            began_at=began,
            ended_at=ended,
            begin_segment=values.get("begin_wal"),
            end_segment=values.get("end_wal"),
            segment_size=int(values.get("xlog_segment_size", SEGMENT_SIZE)),
            size=int(values["size"]) if "size" in values else None,
            deduplicated=_number(values.get("deduplicated_size")),
            mode=values.get("mode"),
            system=values.get("systemid"),
            version=values.get("version"),
            parent=values.get("parent_backup_id"),
            # A snapshot lies with the cloud's provider.
            present=values.get("mode") == "snapshot" or (directory / "data").is_dir(),
            # [('name', 16387, '/where/it/lay'), …]: a name has no quote that is not doubled
            spaces=tuple(_SPACE.findall(values.get("tablespaces", ""))),
        )
    except ValueError as error:
        raise Misunderstood("output_unparsable", repository=repository) from error


def _number(text: str | None) -> int | None:
    return int(text) if text is not None else None


def archive(server: Path, size: int, repository: str) -> Archive:
    """Return the log that Barman has archived of a server, with the histories of its timelines."""
    wals = server / "wals"
    histories: dict[int, tuple[Switch, ...]] = {}
    try:
        entries = sorted(os.scandir(wals), key=lambda entry: entry.name)
    except FileNotFoundError:
        entries = []
    except OSError as error:
        raise trouble(error, repository) from error
    for entry in entries:
        timeline = timeline_of_history(entry.name)
        if timeline is not None and entry.is_file(follow_symlinks=False):
            histories[timeline] = _history(Path(entry.path), repository)
    directories = [
        Path(entry.path)
        for entry in entries
        if _LOG_DIRECTORY.match(entry.name) and entry.is_dir(follow_symlinks=False)
    ]
    return Archive(_segments(directories, size, repository), histories, size)


def _segments(directories: list[Path], size: int, repository: str) -> Iterator[tuple[Segment, int]]:
    for directory in directories:
        try:
            for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
                if not _SEGMENT.match(entry.name):
                    continue  # a label of a backup, a part of a segment
                status = entry.stat(follow_symlinks=False)
                if status.st_size and entry.is_file(follow_symlinks=False):
                    yield parse_segment(entry.name, size), int(status.st_mtime)
        except FileNotFoundError as error:
            raise Changing("repository_changed", repository=repository) from error
        except OSError as error:
            raise trouble(error, repository) from error
        except ValueError as error:
            raise Misunderstood("output_unparsable", repository=repository) from error


def _history(path: Path, repository: str) -> tuple[Switch, ...]:
    try:
        return parse_history(history_text(path).decode("utf-8", "replace"))
    except OSError as error:
        raise trouble(error, repository) from error
    except (ValueError, EOFError, lzma.LZMAError, zlib_error) as error:
        raise BackupDefect("corrupt", repository=repository, objects=path.name) from error


def history_text(path: Path) -> bytes:
    """Return a history file's text; Barman compresses it as it does segments.

    A few lines, so never more than a megabyte is taken of it. Raises OSError, ValueError and what
    the decompressor raises.
    """
    content = read_bounded(path, _LARGEST_HISTORY)
    for magic, opened in _COMPRESSIONS:
        if content.startswith(magic):
            with opened(io.BytesIO(content)) as file:
                return bytes(file.read(_LARGEST_HISTORY))
    return content
