"""Brings one of Barman's backups to disk from the files of its catalogue, with the log it needs.

See `cluster_fetched` for what it looks like there. Barman keeps `base/ID/data`, and `base/ID/OID` for
each tablespace; where pg_basebackup compresses, their tars in `base/ID/data`. Barman is not called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import Command, Context, Fetched, FetchRequest
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.barman_catalogue import BackupInfo, backups, history_text, trouble
from backupguard.repositories.barman_log import bring, compressions
from backupguard.repositories.barman_settings import BarmanSettings
from backupguard.repositories.cluster_fetched import (
    ARTIFACT,
    LOG,
    TABLESPACES,
    needed_segments,
    require_room,
    tell_covered,
)
from backupguard.repositories.fetched import measure
from backupguard.repositories.wal import Archive, Segment, parse_segment
from backupguard.repositories.wal_points import Covered

#: Statuses of a backup that can be fetched, and of one that is still being made.
_WHOLE = frozenset({"DONE", "WAITING_FOR_WALS"})
_UNDER_WAY = frozenset({"EMPTY", "STARTED", "SYNCING", "RETRIEVING"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands of a server: its backup, the log of it, and how far that leads."""

    server: Path
    info: BackupInfo
    archive: Archive
    covered: Covered | None


def fetch(
    context: Context,
    repository: str,
    settings: BarmanSettings,
    standing: Standing,
    request: FetchRequest,
    into: Path,
) -> Fetched:
    """Copy a backup and the log from it on: to its end, or to the first segment that is past `at`.

    Raises BackupDefect (wal_gap, missing_object, truncated, corrupt, no_point), Changing when it has
    gone or is being made, MissingMeans (no_disk, not_fetchable).
    """
    info, size = standing.info, standing.archive.size
    _require_whole(repository, standing)
    needed = _needed(repository, settings, standing, request)
    require_room(into, (info.deduplicated or info.size or 0) + len(needed) * size)
    place = into / ARTIFACT
    place.mkdir(mode=0o700)
    try:
        _base(context, repository, settings, standing, place)
        (place / LOG).mkdir(mode=0o700)
        _log(context, repository, standing, needed, place)
    except (BackupDefect, Unreachable):
        # One that Barman deleted meanwhile accuses nobody.
        if info not in backups(standing.server, repository):
            raise Changing("repository_changed", repository=repository) from None
        raise
    if info not in backups(standing.server, repository):
        raise Changing("repository_changed", repository=repository)
    tell_covered(place, request.at, standing.covered)
    files, total = measure(place, context.cancel.raise_if_set)
    return Fetched(artifact=ARTIFACT, bytes=total, files=files)


def _require_whole(repository: str, standing: Standing) -> None:
    info = standing.info
    base = standing.server / "base" / info.identifier
    if info.status in _UNDER_WAY:
        raise Changing("repository_changed", repository=repository)
    if info.status not in _WHOLE:
        raise BackupDefect("truncated", repository=repository)
    if info.mode == "snapshot" or info.parent is not None:
        raise MissingMeans("not_fetchable", repository=repository)
    if not info.present:
        raise BackupDefect("missing_object", repository=repository, objects="data")
    try:
        names = [path.name for path in (base / "data").iterdir()]
    except OSError as error:
        raise trouble(error, repository) from error
    if any(name.endswith((".gpg", ".enc")) for name in names):
        raise MissingMeans("not_fetchable", repository=repository)


def _needed(
    repository: str, settings: BarmanSettings, standing: Standing, request: FetchRequest
) -> tuple[Segment, ...]:
    info, size = standing.info, standing.archive.size
    if (
        standing.covered is None
        or info.begin_segment is None
        or info.end_segment is None
        or info.ended_at is None
    ):
        raise Misunderstood("output_unparsable", repository=repository)
    return needed_segments(
        repository,
        standing.archive,
        standing.covered,
        (parse_segment(info.begin_segment, size), parse_segment(info.end_segment, size)),
        info.ended_at,
        request.at,
        settings.archive_settle,
    )


def _base(
    context: Context, repository: str, settings: BarmanSettings, standing: Standing, place: Path
) -> None:
    """Copy data directory and tablespaces, or their tars, and join them by links of our own."""
    base = standing.server / "base" / standing.info.identifier
    inside = sorted((base / "data").iterdir())
    if any(path.name.startswith("base.tar") for path in inside):
        _copy(context, repository, settings, inside, place)
        return
    _copy(context, repository, settings, [base / "data"], place)
    spaces = sorted(
        path for path in base.iterdir() if path.name.isdecimal() and not path.is_symlink()
    )
    if set(standing.info.spaces) - {path.name for path in spaces}:
        raise BackupDefect("missing_object", repository=repository, objects="tablespace")
    if not spaces:
        return
    (place / TABLESPACES).mkdir(mode=0o700)
    _copy(context, repository, settings, spaces, place / TABLESPACES)
    links = place / "data" / "pg_tblspc"
    for path in spaces:
        # Barman leaves them out where it copies by rsync, and makes them when it recovers.
        link = links / path.name
        if link.is_symlink():
            link.unlink()
        if links.is_dir() and not link.exists():
            link.symlink_to(Path("../..") / TABLESPACES / path.name)


def _copy(
    context: Context,
    repository: str,
    settings: BarmanSettings,
    sources: Sequence[Path],
    target: Path,
) -> None:
    done = context.tools.run(
        Command(
            argv=(
                *("cp", "--recursive", "--no-dereference", "--reflink=auto", "--no-preserve=mode"),
                *("--target-directory", str(target), "--", *map(str, sources)),
            ),
            read=(settings.path,),
            write=(target,),
            timeout_s=int(settings.fetch_timeout.total_seconds()),
        )
    )
    if done.returncode != 0:
        raise _failure(done.stderr, repository)


def _failure(said: bytes, repository: str) -> BackupGuardError:
    if b"No space left" in said or b"Disk quota" in said:
        return MissingMeans("no_disk", repository=repository)
    if b"Permission denied" in said:
        return AccessRefused("permission", repository=repository)
    if b"No such file" in said:
        return Changing("repository_changed", repository=repository)
    if b"Input/output error" in said or b"Stale file handle" in said:
        return Unreachable("refused", repository=repository)
    return Misunderstood("unclassified_stderr", repository=repository)


def _log(
    context: Context,
    repository: str,
    standing: Standing,
    needed: Sequence[Segment],
    place: Path,
) -> None:
    size, wals = standing.archive.size, standing.server / "wals"
    kinds = compressions(standing.server, repository)
    for done, segment in enumerate(needed):
        context.progress(done, len(needed), "segments")
        name = segment.name(size)
        kind = kinds.get(name, "None")
        bring(context, repository, wals / name[:16] / name, place / LOG / name, size, kind)
    if needed and needed[-1].timeline != needed[0].timeline:
        name = f"{needed[-1].timeline:08X}.history"
        try:
            (place / LOG / name).write_bytes(history_text(wals / name))
        except OSError as error:
            raise trouble(error, repository) from error
