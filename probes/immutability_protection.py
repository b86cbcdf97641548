"""How a repository says it is protected: its settings, and the locks of its newest points."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backupguard.contracts import (
    Capability,
    Context,
    CountsRequests,
    Protection,
    ProtectionState,
    Repositories,
    Repository,
    StatesProtection,
)
from backupguard.errors import verdict_of
from backupguard.model import Observation, RecoveryPoint, Subject, Verdict, to_us

#: What a request costs at AWS, in tenths of a millionth of a dollar: S3 Standard in Ireland
#: (eu-west-1), list prices of 2024 (https://aws.amazon.com/s3/pricing/): 0.005 $ per 1,000 PUT, POST,
#: COPY and LIST, 0.0004 $ per 1,000 GET and all others, DELETE nothing. A dollar counts as a euro: an
#: estimate, rather too high. Nobody else's prices are known; servers of one's own cost nothing.
_LISTING, _OTHER = 50, 4
_DEAR = ("List", "Put", "Copy", "Post", "Create", "Upload", "Complete")


class _Seen:
    """What was read until it ended or broke off."""

    def __init__(self) -> None:
        self.state: ProtectionState | None = None
        self.points: list[Protection] = []
        self.requests: Mapping[str, int] = {}
        self.paid = False
        self.error: Exception | None = None


def protection_seen(
    subject: Subject, repositories: Repositories, context: Context, newest: int
) -> tuple[Observation, Exception | None]:
    """Return `protection.seen` of one repository, and what broke its reading off, if anything did.

    `newest` points of each job are asked for.
    """
    identifier = subject.partition("/")[2]
    wanted = _newest(identifier, repositories, context, newest)
    seen = _Seen()
    try:
        with repositories.open(identifier) as repository:
            _read(repository, wanted, seen)
    except Exception as error:  # noqa: BLE001 - the other part of the probe must not be lost
        seen.error = error
    times = {(point.job, point.native_id): point.at for point in wanted}
    return _observation(subject, context, seen, times), seen.error


def _newest(
    identifier: str, repositories: Repositories, context: Context, count: int
) -> list[RecoveryPoint]:
    return [
        point
        for selector in repositories.jobs(identifier)
        for point in context.known.points(selector.job, identifier)[:count]
    ]


def _read(repository: Repository, wanted: list[RecoveryPoint], seen: _Seen) -> None:
    """Read settings and locks; one that cannot be read does not hide the other."""
    seen.paid = isinstance(repository, CountsRequests)
    try:
        if isinstance(repository, StatesProtection):
            try:
                seen.state = repository.protection_state()
            except Exception as error:  # noqa: BLE001
                seen.error = error
        # Asked of no points too: all that there were may lie below delete markers.
        if Capability.PROTECTION in repository.capabilities:
            for one in repository.protection(wanted):
                seen.points.append(one)
    finally:
        if isinstance(repository, CountsRequests):
            seen.requests = dict(repository.requests())


def cost_micro_eur(requests: Mapping[str, int]) -> int:
    """Given counts of requests by operation, return what they cost at most, in millionths of a euro."""
    tenths = sum(
        count * (_LISTING if operation.startswith(_DEAR) else _OTHER)
        for operation, count in requests.items()
        if not operation.startswith("Delete")
    )
    return -(-tenths // 10)


def _observation(
    subject: Subject,
    context: Context,
    seen: _Seen,
    times: Mapping[tuple[str, str], datetime],
) -> Observation:
    verdict, code = Verdict.PASSED, None
    if seen.error is not None:
        verdict, code = verdict_of(seen.error)
    state = seen.state or ProtectionState(
        mechanism=seen.points[0].mechanism if seen.points else "none"
    )
    ends = [one.locked_until for one in seen.points if one.locked_until is not None]
    all_locked = bool(seen.points) and len(ends) == len(seen.points) and seen.error is None
    points = [_point(one, times) for one in seen.points]
    points.sort(key=lambda point: point["at"] or 0, reverse=True)
    identifier = subject.partition("/")[2]
    return Observation(
        kind="protection.seen",
        subject=subject,
        observed_at=context.now(),
        key=f"protection/{identifier}/{context.work.name}",
        data={
            **stated(state),
            "points": points,
            "locked_until_at": to_us(min(ends)) if all_locked else None,
            "requests": dict(seen.requests),
            "cost_micro_eur": cost_micro_eur(seen.requests) if seen.paid else None,
            "verdict": str(verdict),
            "code": code,
        },
    )


def stated(state: ProtectionState) -> dict[str, Any]:
    """Return what a repository says of its own protection, as `protection.seen` holds it."""
    return {
        "mechanism": state.mechanism,
        "mode": state.mode,
        "retention_ms": state.retention_s * 1000 if state.retention_s is not None else None,
        "weaknesses": [{"code": one.code, "values": dict(one.values)} for one in state.weaknesses],
        "bypass_holders": list(state.bypass_holders),
        "unread": list(state.unread),
        "settings": dict(state.settings),
    }


def _point(one: Protection, times: Mapping[tuple[str, str], datetime]) -> dict[str, Any]:
    at = times.get((one.job or "", one.native_id)) or next(
        (when for (_, native_id), when in times.items() if native_id == one.native_id), None
    )
    return {
        "job": one.job,
        "native_id": one.native_id,
        "at": to_us(at) if at is not None else None,
        "locked_until_at": to_us(one.locked_until) if one.locked_until is not None else None,
        "mode": one.mode,
        "objects": one.objects,
        "unlocked": one.unlocked,
        "exact": one.exact,
        "hidden": one.hidden,
        "code": one.code,
    }
