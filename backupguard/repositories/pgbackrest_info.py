"""What a stanza holds: its backups as `info` says, and the log of its archive as `repo-ls` lists it."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Misunderstood,
    Unreachable,
)
from backupguard.outputs import last_json
from backupguard.repositories.pgbackrest_calls import LABEL, Call, PgBackRestProgram
from backupguard.repositories.pgbackrest_errors import failure, host_trouble, understood
from backupguard.repositories.wal import (
    Archive,
    Segment,
    Switch,
    parse_history,
    parse_segment,
    segment_size,
    timeline_of_history,
)

_OK, _NO_PATH, _NO_BACKUPS, _NO_DATA, _OTHER = 0, 1, 2, 3, 99
#: How a file begins that pgBackRest encrypted (openssl's mark).
_ENCRYPTED = "Salted__"
_SEGMENT = re.compile(
    rb'"(?:[0-9A-F]{16}/)?([0-9A-F]{24})-[0-9a-f]{40}(?:\.[a-z0-9]{1,8})?":\{([^{}]*)\}'
)
_HISTORY = re.compile(rb'"([0-9A-F]{8}\.history)":\{')
_CONTROLS = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_TIME = re.compile(rb'"time":(\d{1,12})')
_SIZE = re.compile(rb'"size":(\d{1,15})')


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup set as `info` tells it. `start` and `stop` are names of segments, None offline."""

    label: str
    kind: str  # full, diff, incr
    started_at: datetime
    stopped_at: datetime
    database: int
    start: str | None
    stop: str | None
    positions: tuple[str, str] | None
    needs: tuple[str, ...]
    size: int | None
    stored: int | None
    error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """A stanza: backups (oldest first), archives by database id, PostgreSQL versions by the same."""

    name: str
    backups: tuple[Backup, ...]
    archives: Mapping[int, str]
    versions: Mapping[int, str]
    systems: Mapping[int, int]


def reach(program: PgBackRestProgram) -> None:
    """Raise unless a repository on this host can be looked at; nothing for one elsewhere."""
    root = program.root
    if root is None:
        return
    try:
        with os.scandir(root):
            return
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unreachable("not_found", repository=program.identifier) from error
    except PermissionError as error:
        raise AccessRefused("permission", repository=program.identifier) from error
    except OSError as error:
        raise Unreachable("refused", repository=program.identifier) from error


def stanzas(program: PgBackRestProgram, name: str | None = None) -> list[Any]:
    """Return what `info` says of one stanza or of all, once none of them is in trouble.

    Raises Unreachable (not_found) for a stanza that is not there, AccessRefused, BackupDefect.
    """
    reach(program)
    options = (("--output", "json"), *((("--stanza", name),) if name is not None else ()))
    done = program.run(Call(verb="info", options=options, timeout_s=program.refresh_timeout_s))
    if done.returncode != 0:
        raise failure(done, program.identifier, key_proved=False)
    # Where a file could not be read, its first line is quoted, whatever bytes these are.
    text = _CONTROLS.sub(b" ", done.stdout.decode("utf-8", "replace").encode())
    found = last_json(text, program="pgbackrest")
    if not isinstance(found, list):
        raise Misunderstood("output_unparsable", program="pgbackrest")
    for stanza in found:
        _check_status(program, stanza)
    return found


def _check_status(program: PgBackRestProgram, stanza: Any) -> None:
    try:
        name = str(stanza["name"])
        statuses = [repo["status"] for repo in stanza["repo"]] or [stanza["status"]]
        code, text = int(statuses[0]["code"]), str(statuses[0]["message"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Misunderstood("output_unparsable", program="pgbackrest") from error
    if code in {_OK, _NO_BACKUPS}:
        return
    if code in {_NO_PATH, _NO_DATA}:
        # Backups without the file that lists them were left behind; nothing at all was never here.
        if code == _NO_DATA and labels(program, name):
            raise BackupDefect("missing_object", repository=program.identifier, objects="info")
        raise Unreachable("not_found", repository=program.identifier)
    if code == _OTHER:
        raise _of_status(program, name, text)
    raise Misunderstood("output_unparsable", program="pgbackrest")


def _of_status(program: PgBackRestProgram, name: str, text: str) -> BackupGuardError:
    """Return the error behind status 99: what cannot be read was damaged, or is another's key's."""
    identifier = program.identifier
    if host_trouble(text) is None and "Error]" in text:
        if not program.encrypted and _ENCRYPTED in text:
            return AccessRefused("wrong_key", repository=identifier)
        if program.encrypted and "FileMissingError" not in text and not _key_opens(program, name):
            return AccessRefused("wrong_key", repository=identifier)
    error = understood(text, identifier, key_proved=True)
    return error or Misunderstood("unclassified_stderr", repository=identifier, status=_OTHER)


def _key_opens(program: PgBackRestProgram, name: str) -> bool:
    """Tell whether the key opens the stanza's other file of information."""
    done = program.run(
        Call(
            verb="repo-get",
            arguments=(f"archive/{name}/archive.info",),
            timeout_s=program.refresh_timeout_s,
        )
    )
    return done.returncode == 0 and b"[backrest]" in done.stdout


def stanza_of(program: PgBackRestProgram, name: str) -> Stanza:
    """Return one stanza; raises what `stanzas` raises and Misunderstood for a shape not known."""
    found = stanzas(program, name)
    try:
        (said,) = found
        databases = {int(one["id"]): one for one in said["db"]}
        return Stanza(
            name=name,
            backups=tuple(_backup(one) for one in said["backup"]),
            archives={int(one["database"]["id"]): str(one["id"]) for one in said["archive"]},
            versions={number: str(one["version"]) for number, one in databases.items()},
            systems={number: int(one["system-id"]) for number, one in databases.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Misunderstood("output_unparsable", program="pgbackrest") from error


def _backup(said: Any) -> Backup:
    label = str(said["label"])
    if not LABEL.match(label):
        raise ValueError(label)
    log, positions, info = said["archive"], said.get("lsn"), said["info"]
    needs = said.get("reference") or ([said["prior"]] if said.get("prior") else [])
    return Backup(
        label=label,
        kind=str(said["type"]),
        started_at=datetime.fromtimestamp(int(said["timestamp"]["start"]), UTC),
        stopped_at=datetime.fromtimestamp(int(said["timestamp"]["stop"]), UTC),
        database=int(said["database"]["id"]),
        start=log["start"],
        stop=log["stop"],
        positions=(positions["start"], positions["stop"]) if positions else None,
        needs=tuple(str(one) for one in needs),
        size=info.get("size"),
        stored=(info.get("repository") or {}).get("delta"),
        error=bool(said.get("error")),
    )


def labels(program: PgBackRestProgram, stanza: str) -> frozenset[str]:
    """Return the labels of backups whose directory is there."""
    done = program.run(
        Call(
            verb="repo-ls",
            arguments=(f"backup/{stanza}",),
            options=(("--output", "json"),),
            timeout_s=program.refresh_timeout_s,
        )
    )
    if done.returncode != 0:
        raise failure(done, program.identifier)
    found = last_json(done.stdout, program="pgbackrest")
    return frozenset(name for name in found if LABEL.match(name))


def archive_of(program: PgBackRestProgram, stanza: Stanza, database: int) -> Archive:
    """Return the log that a database of a stanza has in the archive; empty where it has none.

    Raises Misunderstood when the listing is cut, or when segments and positions contradict.
    """
    backups = [one for one in stanza.backups if one.database == database and one.positions]
    pairs = [
        (name, position)
        for one in backups
        for name, position in zip((one.start, one.stop), one.positions or (), strict=True)
        if name is not None
    ]
    try:
        size = segment_size(pairs)
    except ValueError as error:
        raise Misunderstood("output_unparsable", program="pgbackrest") from error
    archive_id = stanza.archives.get(database)
    if archive_id is None:
        return Archive((), {}, size)
    place = f"archive/{stanza.name}/{archive_id}"
    sink = program.context.work / f"archive-{program.identifier}-{stanza.name}-{database}.json"
    sink.unlink(missing_ok=True)
    try:
        done = program.run(
            Call(
                verb="repo-ls",
                arguments=(place,),
                options=(("--output", "json"), ("--recurse", "y")),
                sink=sink,
                timeout_s=program.refresh_timeout_s,
            )
        )
        if done.returncode != 0:
            raise failure(done, program.identifier)
        with sink.open("rb") as file, _mapped(file.fileno()) as listing:
            histories = {match[1].decode("ascii") for match in _HISTORY.finditer(listing)}
            return Archive(
                _segments(listing, size),
                {
                    number: _history(program, f"{place}/{name}")
                    for name in sorted(histories)
                    if (number := timeline_of_history(name)) is not None
                },
                size,
            )
    finally:
        with suppress(OSError):
            sink.unlink(missing_ok=True)


def _mapped(descriptor: int) -> mmap.mmap:
    """Return a listing as memory that is read where it is needed; a cut one is not understood."""
    length = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 64, max(0, length - 64))
    if not b"".join(tail.split()).endswith(b"}}"):
        raise Misunderstood("output_unparsable", program="pgbackrest")
    return mmap.mmap(descriptor, length, access=mmap.ACCESS_READ)


def _segments(listing: mmap.mmap, size: int) -> Iterator[tuple[Segment, int]]:
    for match in _SEGMENT.finditer(listing):
        at, stored = _TIME.search(match[2]), _SIZE.search(match[2])
        if at is None or stored is None:
            raise Misunderstood("output_unparsable", program="pgbackrest")
        if int(stored[1]) == 0:
            continue  # no segment is empty: whatever this is, nothing can be replayed from it
        try:
            yield parse_segment(match[1].decode("ascii"), size), int(at[1])
        except ValueError as error:
            raise Misunderstood("output_unparsable", program="pgbackrest") from error


def _history(program: PgBackRestProgram, path: str) -> tuple[Switch, ...]:
    done = program.run(
        Call(verb="repo-get", arguments=(path,), timeout_s=program.refresh_timeout_s)
    )
    if done.returncode != 0:
        raise failure(done, program.identifier)
    try:
        return parse_history(done.stdout.decode("utf-8", "replace"))
    except ValueError as error:
        raise BackupDefect("corrupt", repository=program.identifier, objects="history") from error


def history_text(program: PgBackRestProgram, stanza: Stanza, database: int, timeline: int) -> bytes:
    """Return the history file of a timeline as it stands in the archive."""
    path = f"archive/{stanza.name}/{stanza.archives[database]}/{timeline:08X}.history"
    done = program.run(
        Call(verb="repo-get", arguments=(path,), timeout_s=program.refresh_timeout_s)
    )
    if done.returncode != 0:
        raise failure(done, program.identifier)
    return done.stdout
