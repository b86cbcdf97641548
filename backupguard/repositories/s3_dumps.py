"""Until when dumps in a bucket survive: each is one version of one object, with a lock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from backupguard.contracts import Protection
from backupguard.errors import AccessRefused
from backupguard.model import RecoveryPoint
from backupguard.repositories.s3_ledger import COMPLIANCE, MODES, Locked
from backupguard.repositories.s3_locks import MECHANISM, S3Locks
from backupguard.repositories.s3_objects import key_and_version


def protection_of_versions(
    locks: S3Locks, points: Iterable[RecoveryPoint], now: datetime
) -> Iterator[Protection]:
    """Yield how each point is protected; one request each, and none where nothing can be locked."""
    wanted = tuple(points)
    if locks.state().mechanism != MECHANISM:
        for point in wanted:
            yield _none(point)
        return
    named = [(number, key_and_version(point.native_id)) for number, point in enumerate(wanted)]
    asked = [(number, *found) for number, found in named if found is not None]
    found: dict[int, Locked] = {}
    code = None
    try:
        with locks.wire() as wire:
            found = {one.number: one for one in locks.locks(wire, asked)}
    except AccessRefused as error:
        code = error.code
    for number, point in enumerate(wanted):
        yield _of(point, found.get(number), code, now)


def _none(point: RecoveryPoint) -> Protection:
    return Protection(
        native_id=point.native_id,
        job=point.job,
        mechanism="none",
        locked_until=None,
        hidden=_hidden(point),
    )


def _hidden(point: RecoveryPoint) -> bool:
    return bool(isinstance(point.extra, dict) and point.extra.get("hidden"))


def _of(point: RecoveryPoint, lock: Locked | None, code: str | None, now: datetime) -> Protection:
    if code is None and (lock is None or lock.missing):
        code = "missing_object"
    if code is not None or lock is None:
        return Protection(
            native_id=point.native_id,
            job=point.job,
            mechanism=MECHANISM,
            locked_until=None,
            objects=1,
            hidden=_hidden(point),
            code=code,
        )
    until = datetime.fromtimestamp(lock.until, UTC) if lock.until is not None else None
    mode = MODES[lock.mode] if until is None or until > now else None
    holds = lock.mode == COMPLIANCE and mode is not None
    return Protection(
        native_id=point.native_id,
        job=point.job,
        mechanism=MECHANISM,
        locked_until=until if holds else None,
        mode=mode,
        objects=1,
        unlocked=0 if holds else 1,
        hidden=_hidden(point),
    )
