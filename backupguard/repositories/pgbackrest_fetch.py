"""Brings a backup of a cluster to disk, with the log it needs: restorable later without any network.

Below `into` a directory `cluster` holds `data` (the data directory with its recovery settings), `log`'s
segments and histories in `wal` (with `at` also `covered-until`, the time up to which the archive says
that it holds all), and `tablespaces`. Recovery reads `../wal`, so the whole can be moved.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from backupguard.contracts import Fetched, FetchRequest
from backupguard.errors import BackupDefect, Changing, MissingMeans, Misunderstood
from backupguard.repositories.fetched import measure
from backupguard.repositories.pgbackrest_calls import Call, PgBackRestProgram
from backupguard.repositories.pgbackrest_errors import failure
from backupguard.repositories.pgbackrest_info import Backup, history_text, stanza_of
from backupguard.repositories.pgbackrest_points import Seen, see, stanza_name
from backupguard.repositories.wal import Archive, Segment, parse_segment
from backupguard.repositories.wal_points import Covered

ARTIFACT = PurePosixPath("cluster")
_RESTORE_COMMAND = 'restore_command=cp ../wal/%f "%p"'


def fetch(program: PgBackRestProgram, request: FetchRequest, into: Path) -> Fetched:
    """Restore a backup set and the log from it on: to its end, or to the first that is past `at`.

    Raises BackupDefect (wal_gap, missing_object, corrupt, no_point), Changing when the set has gone,
    MissingMeans (no_disk).
    """
    name = stanza_name(request.selector)
    seen = see(program, name)
    label = request.point.native_id
    backup = next((one for one in seen.stanza.backups if one.label == label), None)
    if backup is None:
        raise Changing("repository_changed", repository=program.identifier)
    if label in seen.gone:
        raise BackupDefect("missing_object", repository=program.identifier, objects=label)
    needed = _segments(program, seen, backup, request.at)
    archive = seen.archives[backup.database]
    _room(into, (backup.size or 0) + len(needed) * archive.size)
    place = into / ARTIFACT
    for directory in (place, place / "data", place / "wal"):
        directory.mkdir(mode=0o700)
    try:
        _restore(program, name, label, place, request.at, needed)
        for done, segment in enumerate(needed):
            program.context.progress(done, len(needed), "segments")
            _segment(program, name, segment.name(archive.size), place)
    except BackupDefect:
        # A set that has expired meanwhile accuses nobody.
        if label not in {one.label for one in stanza_of(program, name).backups}:
            raise Changing("repository_changed", repository=program.identifier) from None
        raise
    if needed and needed[-1].timeline != needed[0].timeline:
        timeline = needed[-1].timeline
        text = history_text(program, seen.stanza, backup.database, timeline)
        (place / "wal" / f"{timeline:08X}.history").write_bytes(text)
    reach = seen.covered[label].reach.until if label in seen.covered else None
    if request.at is not None and reach is not None:
        # whoever replays it to its end may find no transaction after `at`, for none was made
        said = datetime.fromtimestamp(reach, UTC).isoformat()
        (place / "wal" / "covered-until").write_text(said, encoding="ascii")
    _make_links_relative(place)
    files, size = measure(place, program.context.cancel.raise_if_set)
    return Fetched(
        artifact=ARTIFACT,
        bytes=size,
        files=files,
        tools={"pgbackrest": program.version_text},
    )


def _segments(
    program: PgBackRestProgram, seen: Seen, backup: Backup, at: datetime | None
) -> tuple[Segment, ...]:
    """Return the log that is needed; raises BackupDefect where it does not lead so far."""
    covered = seen.covered.get(backup.label)
    if covered is None or backup.start is None or backup.stop is None:  # made of a stopped server
        return ()
    archive = seen.archives[backup.database]
    return needed_segments(
        program.identifier,
        archive,
        covered,
        (parse_segment(backup.start, archive.size), parse_segment(backup.stop, archive.size)),
        backup.stopped_at,
        at,
        program.settings.archive_settle,
    )


def needed_segments(
    repository: str,
    archive: Archive,
    covered: Covered,
    ends: tuple[Segment, Segment],
    consistent_at: datetime,
    at: datetime | None,
    lag: timedelta,
) -> tuple[Segment, ...]:
    """Return the log that brings a backup to `at`, to its own end without.

    Archiving is taken to lag behind by `lag` at most.

    Raises BackupDefect: wal_gap where segments are missing on the way, no_point where the time lies
    before the backup's end or after all there is.
    """
    if not covered.restorable:
        raise BackupDefect("wal_gap", repository=repository)
    if at is None:
        return archive.segments(*ends, 0)
    if at < consistent_at:
        raise BackupDefect("no_point", repository=repository)
    if covered.reach.until is None or at.timestamp() > covered.reach.until:
        raise BackupDefect("wal_gap" if covered.reach.gap else "no_point", repository=repository)
    # What was done until `at` may lie in a segment closed later, and archived later still.
    return archive.segments(*ends, math.ceil((at + lag).timestamp()))


def _room(into: Path, needed: int) -> None:
    numbers = os.statvfs(into)
    available = numbers.f_bavail * numbers.f_frsize
    if needed > available:
        raise MissingMeans("no_disk", needed=needed, available=available)


def _restore(
    program: PgBackRestProgram,
    stanza: str,
    label: str,
    place: Path,
    at: datetime | None,
    needed: tuple[Segment, ...],
) -> None:
    crossing = bool(needed) and needed[0].timeline != needed[-1].timeline
    target = (
        (("--type", "immediate"),)
        if at is None
        else (
            ("--type", "time"),
            ("--target", f"{at:%Y-%m-%d %H:%M:%S.%f}+00"),
            ("--target-timeline", str(needed[-1].timeline) if crossing else "current"),
        )
    )
    done = program.run(
        Call(
            verb="restore",
            options=(
                *(("--stanza", stanza), ("--set", label), ("--pg1-path", str(place / "data"))),
                ("--tablespace-map-all", str(place / "tablespaces")),
                *target,
                *(("--target-action", "promote"), ("--archive-mode", "off")),
                ("--recovery-option", _RESTORE_COMMAND),
            ),
            write=(place,),
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    if done.returncode != 0:
        raise failure(done, program.identifier)


def _segment(program: PgBackRestProgram, stanza: str, name: str, place: Path) -> None:
    target = place / "wal" / name
    done = program.run(
        Call(
            verb="archive-get",
            arguments=(name, str(target)),
            options=(("--stanza", stanza), ("--pg1-path", str(place / "data"))),
            write=(place,),
            timeout_s=program.refresh_timeout_s,
        )
    )
    if done.returncode == 1 and not target.exists():  # status 1 says "not found", without a word
        raise BackupDefect("missing_object", repository=program.identifier, objects=name)
    if done.returncode != 0:
        raise failure(done, program.identifier)
    if not target.is_file():
        raise Misunderstood("output_unparsable", program="pgbackrest")


def _make_links_relative(place: Path) -> None:
    """Let `pg_tblspc` point to the tablespaces beside the data directory, wherever both are put."""
    links = place / "data" / "pg_tblspc"
    for link in links.iterdir() if links.is_dir() else ():
        if not link.is_symlink():
            continue
        target = Path(os.readlink(link))  # noqa: PTH115 - as it stands, unresolved
        if target.is_relative_to(place):
            link.unlink()
            link.symlink_to(Path("../..") / target.relative_to(place))
