"""From what a stanza holds to recovery points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backupguard.contracts import JobSelector
from backupguard.errors import ConfigurationError, ConfigurationProblem, Misunderstood
from backupguard.model import Json, Message, PointKind, PointState, RecoveryPoint
from backupguard.repositories.pgbackrest_calls import STANZA, PgBackRestProgram
from backupguard.repositories.pgbackrest_info import Backup, Stanza, archive_of, labels, stanza_of
from backupguard.repositories.wal import Archive, parse_segment
from backupguard.repositories.wal_points import Covered, Physical, cover

_KINDS = {
    "full": PointKind.FULL,
    "diff": PointKind.DIFFERENTIAL,
    "incr": PointKind.INCREMENTAL,
}
_FUTURE_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A stanza with its archives by database id, how far each backup leads, and what is gone."""

    stanza: Stanza
    archives: Mapping[int, Archive]
    covered: Mapping[str, Covered]
    gone: frozenset[str]  # labels whose own directory, or that of one they need, is not there


def stanza_name(selector: JobSelector) -> str:
    """Return the stanza that a job names; raises ConfigurationError when it names none."""
    if selector.name is None or not STANZA.match(selector.name):
        raise ConfigurationError(
            [
                ConfigurationProblem(
                    file="",
                    line=None,
                    column=None,
                    key="select.name",
                    message=Message(
                        id="repositories.select-name",
                        values={"job": selector.job, "example": "main"},
                    ),
                )
            ]
        )
    return selector.name


def see(program: PgBackRestProgram, name: str) -> Seen:
    """Look at a stanza: its backups, whether they are there, and its log. Raises as `stanza_of`."""
    stanza, gone = _standing(program, name)
    if gone:  # expired between the two questions? Then `info` no longer names it either.
        stanza, gone = _standing(program, name)
    archives = {
        database: archive_of(program, stanza, database)
        for database in sorted({one.database for one in stanza.backups})
    }
    settings = program.settings
    covered: dict[str, Covered] = {}
    for database, archive in archives.items():
        covered |= cover(
            [
                _physical(one, archive.size, usable=one.label not in gone)
                for one in stanza.backups
                if one.database == database and one.start is not None
            ],
            archive,
            now=program.context.now(),
            settle=settings.archive_settle,
            expires=settings.archive_expires,
        )
    return Seen(stanza=stanza, archives=archives, covered=covered, gone=gone)


def _standing(program: PgBackRestProgram, name: str) -> tuple[Stanza, frozenset[str]]:
    """Return a stanza, and the labels of backups that are not there, or need one that is not."""
    stanza = stanza_of(program, name)
    present = labels(program, name) if stanza.backups else frozenset[str]()
    return stanza, frozenset(
        one.label for one in stanza.backups if not {one.label, *one.needs} <= present
    )


def _physical(backup: Backup, size: int, *, usable: bool) -> Physical:
    try:
        return Physical(
            native_id=backup.label,
            at=backup.stopped_at,
            start=parse_segment(backup.start or "", size),
            stop=parse_segment(backup.stop or "", size),
            usable=usable,
        )
    except ValueError as error:
        raise Misunderstood("output_unparsable", program="pgbackrest") from error


def points_of(
    program: PgBackRestProgram, seen: Seen, jobs: Sequence[JobSelector]
) -> Iterator[RecoveryPoint]:
    """Yield a recovery point per backup of the stanza and job."""
    for selector in jobs:
        for backup in seen.stanza.backups:
            yield _point(program, seen, backup, selector)


def _point(
    program: PgBackRestProgram, seen: Seen, backup: Backup, selector: JobSelector
) -> RecoveryPoint:
    covered = seen.covered.get(backup.label)
    state = PointState.WARNING if backup.error else PointState.COMPLETE
    extra: dict[str, Json] = {}
    if backup.error:
        extra["page_checksum_errors"] = True
    if covered is not None and covered.gap is not None:
        extra["wal_gap"] = covered.gap
    if covered is not None and not covered.restorable:
        state = PointState.FAILED
    if backup.label in seen.gone:
        state = PointState.FAILED
        extra["missing_object"] = True
    if backup.stopped_at > program.context.now() + _FUTURE_TOLERANCE:
        extra["future"] = True
    version = seen.stanza.versions.get(backup.database)
    if version is not None:
        extra["postgresql"] = version
    return RecoveryPoint(
        repository=program.identifier,
        job=selector.job,
        native_id=backup.label,
        at=backup.stopped_at,
        covers_until=covered.until if covered is not None else backup.stopped_at,
        kind=_KINDS.get(backup.kind, PointKind.FULL),
        needs=backup.needs,
        state=state,
        started_at=backup.started_at,
        ended_at=backup.stopped_at,
        bytes=backup.size,
        bytes_added=backup.stored,
        encrypted=program.encrypted,
        extra=extra or None,
    )
