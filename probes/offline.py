"""Which offline media are here, and is what is on them good?

A medium is looked for at each run; what is on it is opened and listed while it is attached, and read
in a sample when it came, and whenever a newer point is on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from backupguard.contracts import Context, JobRuns, ProbeSettings, Repositories, Size
from backupguard.errors import (
    BackupDefect,
    BackupGuardError,
    Cancelled,
    Interrupted,
    Unreachable,
)
from backupguard.model import (
    Fact,
    Listing,
    Observation,
    PointState,
    Scope,
    Subject,
    Verdict,
    application_subject,
    medium_subject,
    repository_subject,
    to_us,
)
from probes.integrity import INTEGRITY, IntegritySettings
from probes.looking import look as look_into
from probes.offline_blocks import blocks
from probes.offline_found import Look, MediumPlan, Plan
from probes.offline_places import find
from probes.offline_unknown import unknown

_RESTORABLE = frozenset({PointState.COMPLETE, PointState.WARNING})
#: What could not be verified is tried again after this long, while the medium stays.
_AGAIN = timedelta(hours=1)

Seen = Observation | Listing | JobRuns


class OfflineSettings(ProbeSettings):
    """How much of the copy on a medium is read when it comes; `scan` looks at unknown disks, too."""

    data_percent: Annotated[int, Field(ge=0, le=100)] = 5
    max_bytes: Size | None = 20 * 10**9
    scan: bool = True


class Offline:
    """Probe `offline`: a `medium.seen` per medium, a `medium.copy` per repository on one."""

    name = "offline"
    scope = Scope.SITE
    settings: type[ProbeSettings] = OfflineSettings

    def observe(
        self,
        subject: Subject,
        repositories: Repositories,
        context: Context,
        settings: Any,
    ) -> Iterator[Seen]:
        """Yield how each medium of the plan is now, with what is on it, then unknown disks.

        `settings` is a `Plan`. Facts that say what they said before are yielded as well; whoever
        records them leaves those out. Raises Cancelled.
        """
        plan: Plan = settings
        for number, medium in enumerate(plan.media):
            context.cancel.raise_if_set()
            found = _look(medium, repositories, context, plan)
            seen = _seen(medium, found, context)
            yield seen
            if found.attached and found.mismatch is None:
                for repository in medium.repositories:
                    yield from _copy(medium, repository, seen, repositories, context, plan)
            context.progress(number + 1, len(plan.media), "media")
        if plan.scan:
            yield Observation(
                kind="media.unknown",
                subject=subject,
                observed_at=context.now(),
                key=f"media.unknown/{context.work.name}",
                data={"media": list(unknown(blocks(plan.roots), plan.media))},
            )


def _look(medium: MediumPlan, repositories: Repositories, context: Context, plan: Plan) -> Look:
    if medium.kind == "vault":
        return _look_at_vault(medium, repositories)
    try:
        return find(medium, context, plan.helper, plan.roots)
    except (Cancelled, Interrupted):
        raise
    except BackupGuardError as error:
        return Look(code=error.code)


def _look_at_vault(medium: MediumPlan, repositories: Repositories) -> Look:
    """Return whether any repository of a vault answers, if only to refuse."""
    if not medium.repositories:
        return Look(code="not_declared")
    for identifier in medium.repositories:
        try:
            with repositories.open(identifier) as repository:
                repository.inspect()
        except (Cancelled, Interrupted):
            raise
        except Unreachable:
            continue
        except BackupGuardError:
            pass
        return Look(attached=True, device=repositories.host_of(identifier), identity="answers")
    return Look()


def _seen(medium: MediumPlan, found: Look, context: Context) -> Observation:
    subject, now = medium_subject(medium.id), context.now()
    before = _data(context.known.latest("medium.seen", subject))
    since = before.get("attached_since_at")
    # What was read of it may be older than this: it came and went again with nothing new on it.
    last = max(
        (at for at in (before.get("attached_last_at"), since) if at is not None), default=None
    )
    if found.attached:
        since = last = since if since is not None else to_us(now)
    elif found.code is None:
        since = None
    return Observation(
        kind="medium.seen",
        subject=subject,
        observed_at=now,
        key=f"medium.seen/{medium.id}/{context.work.name}",
        data={
            "medium": medium.id,
            "attached_since_at": since,
            "attached_last_at": last,
            **found.data(),
        },
    )


def _data(fact: Fact | None) -> Mapping[str, Any]:
    found = fact.observation.data if fact is not None else None
    return found if isinstance(found, Mapping) else {}


# --------------------------------------------------------------------------------------- what is on it


def _copy(
    medium: MediumPlan,
    repository: str,
    seen: Observation,
    repositories: Repositories,
    context: Context,
    plan: Plan,
) -> Iterator[Seen]:
    """Yield what one repository on an attached medium holds, and whether it can be read."""
    since = seen.data["attached_since_at"]
    last = context.known.latest("medium.copy", repository_subject(repository))
    told = _data(last)
    current = last is not None and to_us(last.observation.observed_at) >= since
    state: tuple[Verdict, str | None, int] | None = None
    if current and last is not None and _untouched(medium, last):
        yield _told(medium, repository, since, told, None, repositories, context)
        return
    if medium.kind in ("tape", "vtl"):
        state = (Verdict.COULD_NOT_VERIFY, "only_listed", 0)
    else:
        for item in look_into(repository, repositories, context):
            yield item
            if isinstance(item, Observation) and item.kind == "repository.inspected":
                state = _trouble(item.data)
    newest = max(_newest(repository, repositories, context).values(), default=None, key=_or_never)
    again = (
        not current
        or told.get("newest_at") != newest
        or (told.get("verdict") != Verdict.PASSED and _is_older(last, context))
    )
    if state is None and again:
        sample = IntegritySettings(data_percent=plan.sample_percent, max_bytes=plan.sample_bytes)
        place = repository_subject(repository)
        for item in INTEGRITY.observe(place, repositories, context, sample):
            yield item
            if isinstance(item, Observation):
                state = _verified(item.data)
    yield _told(medium, repository, since, told, state, repositories, context)


def _or_never(moment: int | None) -> int:
    return -1 if moment is None else moment


def _untouched(medium: MediumPlan, last: Fact) -> bool:
    """Tell whether an image file has not been written to since it was looked into."""
    if medium.image is None or _data(last).get("verdict") == Verdict.COULD_NOT_VERIFY:
        return False
    try:
        changed = medium.image.stat().st_mtime
    except OSError:
        return False
    return changed < last.observation.observed_at.timestamp()


def _is_older(last: Fact | None, context: Context) -> bool:
    return last is None or context.now() - last.observation.observed_at >= _AGAIN


def _trouble(inspected: Mapping[str, Any]) -> tuple[Verdict, str | None, int] | None:
    """Return what kept a repository from being looked into, None for nothing."""
    code = inspected["code"]
    if code is None:
        return None
    defect = code in BackupDefect.codes
    return (Verdict.FAILED if defect else Verdict.COULD_NOT_VERIFY), code, 0


def _verified(data: Mapping[str, Any]) -> tuple[Verdict, str | None, int]:
    """Return what a sample came to; one that was never read, where nothing can be, proves nothing."""
    read = sum(unit["bytes"] for unit in data["units"])
    verdict = Verdict(data["verdict"])
    if verdict is Verdict.SKIPPED:
        return Verdict.COULD_NOT_VERIFY, "not_verifiable", read
    if verdict is Verdict.PASSED and read == 0:
        return Verdict.COULD_NOT_VERIFY, "not_sampled", read
    return verdict, data["code"], read


def _newest(repository: str, repositories: Repositories, context: Context) -> dict[str, int | None]:
    """Return the newest restorable point of each application in a repository."""
    found: dict[str, int | None] = {}
    for selector in repositories.jobs(repository):
        times = [
            to_us(point.at)
            for point in context.known.points(selector.job, repository)
            if point.state in _RESTORABLE and point.at <= context.now() + timedelta(minutes=10)
        ]
        best = max(times, default=None)
        known = found.get(selector.application, best)
        # of several jobs of one application, the one that is the furthest behind
        both = None if best is None or known is None else min(best, known)
        found[selector.application] = both
    return found


def _told(
    medium: MediumPlan,
    repository: str,
    since: int,
    told: Mapping[str, Any],
    state: tuple[Verdict, str | None, int] | None,
    repositories: Repositories,
    context: Context,
) -> Observation:
    """Return the `medium.copy` of what is known now; without a new reading, the last one stands."""
    if state is None:
        state = (
            Verdict(told.get("verdict", Verdict.COULD_NOT_VERIFY)),
            told.get("code"),
            told.get("bytes_read", 0),
        )
    verdict, code, read = state
    applications = _newest(repository, repositories, context)
    test, restored = _restore_test(repository, applications, since, context)
    if restored == Verdict.PASSED and code in ("only_listed", "not_verifiable", "not_sampled"):
        verdict, code = Verdict.PASSED, None  # it was restored from the medium: read, and more
    elif restored == Verdict.FAILED and verdict is Verdict.PASSED:
        verdict, code = Verdict.FAILED, "check_failed"
    times = [at for at in applications.values() if at is not None]
    oldest = to_us(context.now()) - medium.fresh_s * 1_000_000
    fresh = bool(times) and len(times) == len(applications) and min(times) >= oldest
    return Observation(
        kind="medium.copy",
        subject=repository_subject(repository),
        observed_at=context.now(),
        key=f"medium.copy/{repository}/{context.work.name}",
        data={
            "medium": medium.id,
            "repository": repository,
            "newest_at": max(times, default=None),
            "applications": applications,
            "verdict": verdict.value,
            "code": code,
            "bytes_read": read,
            "may_leave": verdict is Verdict.PASSED and fresh,
            "restore_test": test,
        },
    )


def _restore_test(
    repository: str, applications: Mapping[str, Any], since: int, context: Context
) -> tuple[int | None, str | None]:
    """Return the newest restore test from a repository since its medium came, and its verdict."""
    found = [
        fact
        for name in applications
        if (fact := context.known.latest("restore-test.result", application_subject(name)))
        and _data(fact).get("repository") == repository
        and to_us(fact.observation.observed_at) >= since
    ]
    newest = max(found, key=lambda fact: fact.seq, default=None)
    if newest is None:
        return None, None
    return newest.seq, _data(newest).get("verdict")


OFFLINE = Offline()
