"""Barman's backups, from the files of its catalogue; nothing is called and nothing is written.

See `wal_points` for how far the log leads from each backup; gaps are reckoned from the segments that
are there. A fetch copies a backup and its log (`barman_fetch`); only a restore verifies anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backupguard.contracts import (
    Capability,
    Context,
    Fetched,
    FetchRequest,
    JobSelector,
    LockSeen,
    Repository,
    RepositoryState,
)
from backupguard.errors import (
    Changing,
    ConfigurationError,
    ConfigurationProblem,
    Misunderstood,
)
from backupguard.model import Json, Message, PointKind, PointState, RecoveryPoint
from backupguard.repositories.barman_catalogue import (
    SERVER,
    BackupInfo,
    archive,
    backups,
    servers,
)
from backupguard.repositories.barman_fetch import Standing, fetch
from backupguard.repositories.barman_settings import BarmanSettings
from backupguard.repositories.devices import device_of_path
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.lockfiles import lock_of
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.wal import Archive, parse_segment
from backupguard.repositories.wal_points import Covered, Physical, cover

#: Barman's `BackupInfo` statuses.
_STATES: Mapping[str, PointState] = {
    "DONE": PointState.COMPLETE,
    "WAITING_FOR_WALS": PointState.WARNING,  # running, as long as that is true
    "FAILED": PointState.FAILED,
    "EMPTY": PointState.RUNNING,
    "STARTED": PointState.RUNNING,
    "SYNCING": PointState.RUNNING,
    "RETRIEVING": PointState.RUNNING,
}
_USABLE = frozenset({PointState.COMPLETE, PointState.WARNING})
_CAPABILITIES = frozenset({Capability.FETCH, Capability.PITR})
_FUTURE_TOLERANCE = timedelta(minutes=5)


def server_name(selector: JobSelector) -> str:
    """Return the server that a job names; raises ConfigurationError when it names none."""
    if selector.name is None or not SERVER.match(selector.name):
        raise ConfigurationError(
            [
                ConfigurationProblem(
                    file="",
                    line=None,
                    column=None,
                    key="select.name",
                    message=Message(
                        id="repositories.select-name",
                        values={"job": selector.job, "example": "dpi-primary"},
                    ),
                )
            ]
        )
    return selector.name


class BarmanRepository(ListingOnly):
    """Barman's home directory."""

    capabilities = _CAPABILITIES

    def __init__(self, identifier: str, settings: BarmanSettings, context: Context) -> None:
        super().__init__(identifier, context)
        self._settings = settings

    def inspect(self) -> RepositoryState:
        """Return room, device and held locks; raises Unreachable, AccessRefused."""
        names = servers(self._settings.path, self._identifier)
        room = os.statvfs(self._settings.path)
        return RepositoryState(
            tool="barman",
            tool_version="catalogue",  # Barman itself is not asked, and does not write which it is
            locks=self._locks(names),
            free_bytes=room.f_bavail * room.f_frsize,
            device=device_of_path(self._settings.path),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield every backup of the servers that these jobs name, failed and running ones too.

        Raises Unreachable (not_found) for a server that has no catalogue here.
        """
        servers(self._settings.path, self._identifier)
        named: dict[str, list[JobSelector]] = {}
        for selector in jobs:
            named.setdefault(server_name(selector), []).append(selector)
        for name, selectors in named.items():
            self._context.cancel.raise_if_set()
            found = backups(self._settings.path / name, self._identifier)
            covered = self._covered(name, found)
            needs = {info.identifier: _needs(info, found) for info in found}
            present = {info.identifier for info in found if info.present}
            for selector in selectors:
                for info in found:
                    whole = {info.identifier, *needs[info.identifier]} <= present
                    point = self._point(selector, info, covered.get(info.identifier), whole=whole)
                    yield replace(point, needs=needs[info.identifier])

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Copy a backup and its log into the empty directory `into` (`barman_fetch`)."""
        self._context.cancel.raise_if_set()
        name = server_name(request.selector)
        server = self._settings.path / name
        found = backups(server, self._identifier)
        info = next((one for one in found if one.identifier == request.point.native_id), None)
        if info is None:
            raise Changing("repository_changed", repository=self._identifier)
        held = archive(server, info.segment_size, self._identifier)
        same = [one for one in found if one.segment_size == info.segment_size]
        standing = Standing(
            server=server,
            info=info,
            archive=held,
            covered=self._covered_by(held, same).get(info.identifier),
        )
        return fetch(self._context, self._identifier, self._settings, standing, request, into)

    # ---- details

    def _covered(self, name: str, found: Sequence[BackupInfo]) -> Mapping[str, Covered]:
        """Return how far each backup with known ends leads, cluster by cluster."""
        covered: dict[str, Covered] = {}
        for size in sorted({info.segment_size for info in found}):
            held = archive(self._settings.path / name, size, self._identifier)
            same = [info for info in found if info.segment_size == size]
            covered |= self._covered_by(held, same)
        return covered

    def _covered_by(self, held: Archive, found: Sequence[BackupInfo]) -> Mapping[str, Covered]:
        physical = [self._physical(info) for info in found]
        return cover(
            [one for one in physical if one is not None],
            held,
            now=self._context.now(),
            settle=self._settings.archive_settle,
            expires=False,
        )

    def _physical(self, info: BackupInfo) -> Physical | None:
        if (
            _STATES.get(info.status) not in _USABLE
            or info.ended_at is None
            or info.begin_segment is None
            or info.end_segment is None
        ):
            return None
        try:
            return Physical(
                native_id=info.identifier,
                at=info.ended_at,
                start=parse_segment(info.begin_segment, info.segment_size),
                stop=parse_segment(info.end_segment, info.segment_size),
                usable=info.present,
            )
        except ValueError as error:
            raise Misunderstood("output_unparsable", repository=self._identifier) from error

    def _point(
        self, selector: JobSelector, info: BackupInfo, covered: Covered | None, *, whole: bool
    ) -> RecoveryPoint:
        at = info.ended_at or info.began_at or _named(info.identifier)
        state = _STATES.get(info.status, PointState.WARNING)
        extra: dict[str, Json] = {
            name: value
            for name, value in (
                ("mode", info.mode),
                ("system", info.system),
                ("server", selector.name),
            )
            if value is not None
        }
        if info.version is not None and info.version.isdigit():
            extra["postgresql"] = str(int(info.version) // 10000)
        if state in _USABLE:
            if covered is not None and covered.gap is not None:
                extra["wal_gap"] = covered.gap
            # Barman waits for the log by a status of its own; done, all of it has to be there.
            if info.status in _STATES and (covered is None or not covered.restorable):
                waits = state is PointState.WARNING
                state = PointState.RUNNING if waits else PointState.FAILED
            if not whole:
                state = PointState.FAILED
                extra["missing_object"] = True
        if info.status not in _STATES:
            extra["status"] = info.status[:40]
        if at > self._context.now() + _FUTURE_TOLERANCE:
            extra["future"] = True
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=info.identifier,
            at=at,
            covers_until=covered.until if covered is not None else at,
            kind=PointKind.INCREMENTAL if info.parent is not None else PointKind.FULL,
            state=state,
            started_at=info.began_at,
            ended_at=info.ended_at,
            bytes=info.size,
            bytes_added=info.deduplicated,
            extra=extra or None,
        )

    def _locks(self, names: Sequence[str]) -> tuple[LockSeen, ...]:
        """Return the locks that somebody holds; Barman leaves the files lying when it is done.

        That of `receive-wal` is none of them: it is held for as long as log is streamed, always.
        """
        directory = self._settings.lock_path or self._settings.path
        seen = (
            lock_of(directory / f".{name}-{kind}.lock")
            for name in names
            for kind in ("backup", "archive-wal", "cron", "sync-backup")
        )
        return tuple(lock for lock in seen if lock is not None and lock.alive is not False)


def _needs(info: BackupInfo, found: Sequence[BackupInfo]) -> tuple[str, ...]:
    """Return the backups an incremental one is built upon, the nearest first."""
    parents = {one.identifier: one.parent for one in found}
    chain: list[str] = []
    parent = info.parent
    while parent is not None and parent not in chain:
        chain.append(parent)
        parent = parents.get(parent)
    return tuple(chain)


def _named(identifier: str) -> datetime:
    """Return the time in a backup's name, which Barman writes in its host's zone."""
    return datetime.strptime(identifier, "%Y%m%dT%H%M%S").astimezone()


def _open(identifier: str, settings: Any, context: Context) -> Repository:
    return BarmanRepository(identifier, settings, context)


#: The entry point `barman`.
BARMAN = ReadingType("barman", BarmanSettings, _open, capabilities=_CAPABILITIES)
