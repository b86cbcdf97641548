"""Brings a backup of a cluster to disk, with the log it needs: restorable later without any network.

See `cluster_fetched` for what it looks like there. `data` holds the data directory with its recovery
settings, which read `../wal`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backupguard.contracts import Fetched, FetchRequest
from backupguard.errors import BackupDefect, Changing, Misunderstood
from backupguard.repositories.cluster_fetched import (
    ARTIFACT,
    needed_segments,
    require_room,
    tell_covered,
)
from backupguard.repositories.fetched import measure
from backupguard.repositories.pgbackrest_calls import (
    Call,
    PgBackRestProgram,
    not_brought,
    processors,
)
from backupguard.repositories.pgbackrest_errors import failure
from backupguard.repositories.pgbackrest_info import Backup, history_text, stanza_of
from backupguard.repositories.pgbackrest_points import Seen, see, stanza_name
from backupguard.repositories.wal import Segment, parse_segment

#: Segments asked for by one call: between two of them progress is told.
_AT_ONCE = 64
_RESTORE_COMMAND = 'restore_command=cp ../wal/%f "%p"'


def fetch(
    program: PgBackRestProgram, request: FetchRequest, into: Path, seen: Seen | None = None
) -> Fetched:
    """Restore a backup set and the log from it on: to its end, or to the first that is past `at`.

    `seen` is what was just seen of the stanza; without, it is looked at.
    Raises BackupDefect (wal_gap, missing_object, corrupt, no_point), Changing when the set has gone,
    MissingMeans (no_disk).
    """
    name = stanza_name(request.selector)
    seen = seen or see(program, name)
    label = request.point.native_id
    backup = next((one for one in seen.stanza.backups if one.label == label), None)
    if backup is None:
        raise Changing("repository_changed", repository=program.identifier)
    if label in seen.gone:
        raise BackupDefect("missing_object", repository=program.identifier, objects=label)
    needed = _segments(program, seen, backup, request.at)
    archive = seen.archives[backup.database]
    require_room(into, (backup.size or 0) + len(needed) * archive.size)
    place = into / ARTIFACT
    for directory in (place, place / "data", place / "wal"):
        directory.mkdir(mode=0o700)
    try:
        _restore(program, name, label, place, request.at, needed)
        for done in range(0, len(needed), _AT_ONCE):
            program.context.progress(done, len(needed), "segments")
            names = [segment.name(archive.size) for segment in needed[done : done + _AT_ONCE]]
            _log(program, name, names, place)
    except BackupDefect:
        # A set that has expired meanwhile accuses nobody.
        if label not in {one.label for one in stanza_of(program, name).backups}:
            raise Changing("repository_changed", repository=program.identifier) from None
        raise
    if needed and needed[-1].timeline != needed[0].timeline:
        timeline = needed[-1].timeline
        text = history_text(program, seen.stanza, backup.database, timeline)
        (place / "wal" / f"{timeline:08X}.history").write_bytes(text)
    tell_covered(place, request.at, seen.covered.get(label))
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
                ("--process-max", str(processors())),
            ),
            write=(place,),
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    if done.returncode != 0:
        raise failure(done, program.identifier)


def _log(program: PgBackRestProgram, stanza: str, names: Sequence[str], place: Path) -> None:
    """Bring segments into `wal`; raises BackupDefect (missing_object, corrupt) and as `failure`."""
    done = program.run(
        Call(
            verb="archive-get",
            arguments=(str(place / "wal"), " ".join(names)),
            options=(("--stanza", stanza), ("--pg1-path", str(place / "data"))),
            write=(place,),
            timeout_s=int(program.settings.fetch_timeout.total_seconds()),
        )
    )
    if (lacking := not_brought(done)) is not None:
        name, status = lacking
        if (
            status == 1 and not (place / "wal" / name).exists()
        ):  # it says "not found" without a word
            raise BackupDefect("missing_object", repository=program.identifier, objects=name)
        raise failure(replace(done, returncode=status), program.identifier)
    if done.returncode != 0:
        raise failure(done, program.identifier)
    if not all((place / "wal" / name).is_file() for name in names):
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
