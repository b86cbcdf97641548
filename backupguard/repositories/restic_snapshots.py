"""From `restic snapshots --json` to recovery points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from backupguard.contracts import JobSelector
from backupguard.errors import Misunderstood
from backupguard.model import PointKind, PointState, RecoveryPoint

#: Clocks of two hosts differ a little; a point is dated in the future only beyond this.
FUTURE_TOLERANCE = timedelta(minutes=5)


def parse_time(text: str) -> datetime:
    """Given a time as restic writes it (RFC 3339, nanoseconds), return it aware and in UTC.

    Raise ValueError when it is none.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a time zone: {text!r}")
    return moment.astimezone(UTC)


def holds(snapshot: Mapping[str, Any], selector: JobSelector) -> bool:
    """Tell whether a snapshot is one of this job's: host, tags, and paths that contain its own.

    A snapshot's path contains a declared one when it is equal or a parent directory of it.
    """
    if selector.host is not None and snapshot.get("hostname") != selector.host:
        return False
    if not set(selector.tags) <= set(snapshot.get("tags") or ()):
        return False
    held = snapshot.get("paths") or ()
    return all(any(_lies_in(wanted, path) for path in held) for wanted in selector.paths)


@lru_cache(maxsize=4096)
def _lies_in(wanted: str, path: str) -> bool:
    """Tell whether one path is the other or below it; thousands of snapshots name the same few."""
    return PurePosixPath(wanted).is_relative_to(PurePosixPath(path))


def points_of(
    repository: str, snapshots: Sequence[Any], jobs: Sequence[JobSelector], now: datetime
) -> Iterator[RecoveryPoint]:
    """Yield a recovery point for each job that a snapshot belongs to.

    Raise Misunderstood (output_unparsable) when a snapshot lacks what every version writes.
    """
    for snapshot in snapshots:
        for selector in jobs:
            try:
                if holds(snapshot, selector):
                    yield _point(repository, snapshot, selector, now)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise Misunderstood("output_unparsable", repository=repository) from error


def _point(
    repository: str, snapshot: Mapping[str, Any], selector: JobSelector, now: datetime
) -> RecoveryPoint:
    summary = snapshot.get("summary") or {}  # written by 0.17 and later
    at = parse_time(snapshot["time"])
    started, ended = summary.get("backup_start"), summary.get("backup_end")
    added = summary.get("data_added_packed", summary.get("data_added"))
    return RecoveryPoint(
        repository=repository,
        job=selector.job,
        native_id=str(snapshot["id"]),
        at=at,
        covers_until=at,
        kind=PointKind.SNAPSHOT,
        # restic writes a snapshot last, so one that stands was finished; that files were left out
        # because they could not be read (status 3) is not recorded in it.
        state=PointState.COMPLETE,
        started_at=parse_time(started) if started else None,
        ended_at=parse_time(ended) if ended else None,
        bytes=summary.get("total_bytes_processed"),
        bytes_added=added,
        files=summary.get("total_files_processed"),
        content_id=str(snapshot["tree"]),
        source_host=snapshot.get("hostname"),
        encrypted=True,
        extra={"future": True} if at > now + FUTURE_TOLERANCE else None,
    )
