"""From what lies in a directory to recovery points: finished or not, of when, needing what."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

from backupguard.contracts import Context, JobSelector
from backupguard.model import Json, PointKind, PointState, RecoveryPoint
from backupguard.repositories.directory_physical import Physical, bases_of, recognise
from backupguard.repositories.directory_scan import Entry
from backupguard.repositories.directory_settings import DirectorySettings
from backupguard.repositories.directory_writers import open_for_writing

_FUTURE_TOLERANCE = timedelta(minutes=5)
#: A backup that says it is not finished and was not touched for so long was broken off.
_BROKEN_OFF = timedelta(hours=1)


class DirectoryPoints:
    """Says of each entry what point it is. Make one per listing: it looks at processes once."""

    def __init__(self, identifier: str, settings: DirectorySettings, context: Context) -> None:
        self._identifier = identifier
        self._settings = settings
        self.now = context.now()
        self._zone = ZoneInfo(settings.timezone) if settings.timezone else None
        self._root = PurePosixPath(settings.path.resolve())
        self._written: frozenset[str] | None = None

    def physical(self, entry: Entry) -> Physical | None:
        """Return what a directory says of itself, where a tool for whole servers made it."""
        if not entry.is_directory:
            return None
        return recognise(self._settings.path / entry.relative, entry.seen, self._zone)

    def state(self, entry: Entry, physical: Physical | None) -> PointState:
        """Return RUNNING while an entry is being written, FAILED when it is empty or broken off.

        WARNING is a base backup without the manifest that would tell whether it was finished.
        """
        age = self.now - entry.changed_at
        if abs(age) < self._settings.settle or self._is_written(entry):
            return PointState.RUNNING
        if physical is not None and physical.finished is False:
            return PointState.RUNNING if age < _BROKEN_OFF else PointState.FAILED
        if entry.bytes == 0:
            return PointState.FAILED
        if physical is not None and physical.finished is None:
            return PointState.WARNING
        return PointState.COMPLETE

    def _is_written(self, entry: Entry) -> bool:
        if self._written is None:
            paths = open_for_writing(self._settings.path)
            above = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
            self._written = frozenset({*paths, *above})
        return os.fspath(self._root / entry.relative) in self._written

    def points(
        self, selector: JobSelector, entries: Mapping[str, Entry], contents: Mapping[str, str]
    ) -> Iterator[RecoveryPoint]:
        """Yield a point per entry; `contents` are the content ids known, by native id."""
        told = {name: self.physical(entry) for name, entry in entries.items()}
        known = {name: one for name, one in told.items() if one is not None}
        for name, entry in entries.items():
            yield self._point(selector, name, entry, known, contents.get(name))

    def _point(
        self,
        selector: JobSelector,
        name: str,
        entry: Entry,
        known: Mapping[str, Physical],
        content_id: str | None,
    ) -> RecoveryPoint:
        physical = known.get(name)
        state = self.state(entry, physical)
        at = (physical.at if physical else None) or entry.at
        named, changed = entry.named.at, entry.changed_at
        started = named if named and not entry.named.day_only and named <= changed else None
        ended = changed if state is PointState.COMPLETE else None
        kind = PointKind.FULL
        needs: tuple[str, ...] = ()
        extra: dict[str, Json] = {}
        if at > self.now + _FUTURE_TOLERANCE:
            extra["future"] = True
        if physical is not None:
            kind, extra["tool"] = physical.kind, physical.tool
            started, ended = physical.started_at or started, physical.ended_at or ended
        if physical is not None and physical.from_lsn is not None:
            bases, whole = bases_of(name, known)
            needs = tuple(bases) or (f"lsn:{physical.from_lsn}",)
            if not whole and state is PointState.COMPLETE:
                state, extra["base"] = PointState.WARNING, "missing"
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=name,
            at=at,
            covers_until=at,
            kind=kind,
            needs=needs,
            state=state,
            started_at=started,
            ended_at=ended if state is not PointState.RUNNING else None,
            bytes=entry.bytes,
            files=len(entry.seen),
            content_id=content_id,
            source_host=physical.source_host if physical else None,
            extra=extra or None,
        )
