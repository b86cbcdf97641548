"""What views say of offline media, and which copies are proved away.

The names are listed in `backupguard.controls.facts`; what a state proves is
`backupguard.controls.offline`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from backupguard.assess.history import payload
from backupguard.assess.picture import MediumPicture
from backupguard.contracts import Store
from backupguard.controls import offline
from backupguard.model import (
    Fact,
    Json,
    RunState,
    Subject,
    application_subject,
    medium_subject,
    repository_subject,
    to_us,
)
from backupguard.settings import Settings

#: All latest facts, by subject and kind.
Latest = Mapping[Subject, Mapping[str, Fact]]


def _fact(latest: Latest, subject: Subject, kind: str) -> Fact | None:
    return latest.get(subject, {}).get(kind)


def _data(fact: Fact | None) -> Mapping[str, Any]:
    return payload(fact) if fact is not None else {}


def _at(fact: Fact | None) -> int | None:
    return to_us(fact.observation.observed_at) if fact is not None else None


def looked_at(store: Store) -> datetime | None:
    """Return when the media were last looked for. A look that finds nothing new leaves no fact."""
    runs = store.runs(states=(RunState.FINISHED,), task="offline", limit=1)
    times = (time for run in runs for time in (run.started_at, run.request.due_at))
    return max((time for time in times if time is not None), default=None)


def on_medium(settings: Settings, medium: str) -> list[str]:
    """Return the repositories that a medium carries."""
    return [name for name, place in settings.repositories.items() if place.medium == medium]


def entry(
    settings: Settings,
    medium: str,
    latest: Latest,
    looked: datetime | None,
    application: str | None = None,
) -> dict[str, Json]:
    """Return one medium as views show it; its newest points are those of an application, or of all.

    `looked` is when the media were last looked for: what was seen before still stood then.
    """
    declared = settings.media[medium]
    subject = medium_subject(medium)
    seen, moved = (_fact(latest, subject, f"medium.{name}") for name in ("seen", "moved"))
    found = _data(seen)
    copies = [
        copy
        for name in on_medium(settings, medium)
        if (copy := _copy(latest, medium, name, application)) is not None
    ]
    seen_at = _at(seen)
    if seen_at is not None and looked is not None:
        seen_at = max(seen_at, to_us(looked))
    here = [copy["seen_at"] for copy in copies]
    if found.get("attached_last_at") is not None:
        here.append(found["attached_last_at"])
    if found.get("attached"):
        here.append(seen_at)
    return {
        "medium": medium,
        "kind": declared.kind,
        "may_stay_s": int(declared.may_stay.total_seconds()),
        "every_s": int(declared.every.total_seconds()) if declared.every is not None else None,
        "seen_at": seen_at,
        "here_at": max(here, default=None),  # the last time that it was seen here
        **{
            name: found.get(name)
            for name in ("attached", "attached_since_at", "mismatch", "code", "slot", "device")
        },
        "copies": copies,
        "moved": _moved(moved),
    }


def _copy(
    latest: Latest, medium: str, repository: str, application: str | None
) -> dict[str, Json] | None:
    fact = _fact(latest, repository_subject(repository), "medium.copy")
    found = _data(fact)
    if found.get("medium") != medium or "applications" not in found:
        return None
    newest = found["newest_at"]
    if application is not None:
        newest = found["applications"].get(application)
    return {
        "repository": repository,
        "seen_at": _at(fact),
        "newest_at": newest,
        "applications": dict(found["applications"]),
        **{name: found[name] for name in ("verdict", "code", "may_leave", "restore_test")},
    }


def _moved(fact: Fact | None) -> dict[str, Json] | None:
    found = _data(fact)
    if fact is None or "direction" not in found:
        return None
    kept = ("direction", "at", "holder", "place", "seal")
    return {**{name: found[name] for name in kept}, "author": fact.author, "seq": fact.seq}


def of_application(
    settings: Settings, application: str, latest: Latest, looked: datetime | None
) -> dict[str, Json]:
    """Return what an application's view holds of media."""
    held = {
        settings.repositories[job.repository].medium
        for job in settings.applications[application].backups.values()
    }
    media = [name for name in settings.media if name in held]
    return {"media": [entry(settings, name, latest, looked, application) for name in media]}


def facts_of(settings: Settings, application: str, latest: Latest) -> dict[str, Fact]:
    """Return the newest facts about an application's media, as "KIND/ID": what a finding rests on."""
    found: dict[str, Fact] = {}
    for job in settings.applications[application].backups.values():
        medium = settings.repositories[job.repository].medium
        if medium is None:
            continue
        subject, place = medium_subject(medium), repository_subject(job.repository)
        wanted = {
            f"medium.seen/{medium}": _fact(latest, subject, "medium.seen"),
            f"medium.moved/{medium}": _fact(latest, subject, "medium.moved"),
            f"medium.copy/{job.repository}": _fact(latest, place, "medium.copy"),
        }
        found |= {name: fact for name, fact in wanted.items() if fact is not None}
    return found


def offline_at(media: list[dict[str, Json]], repository: str, now: datetime) -> int | None:
    """Return the newest point of a repository on a medium that is proved away, None for none."""
    found = [at for one in media if (at := offline.proved(one, repository, now)) is not None]
    return max(found, default=None)


def pictures(
    settings: Settings, latest: Latest, looked: datetime | None, now: datetime
) -> Iterator[MediumPicture]:
    """Yield every medium of the register, with what is proved of it."""
    for name in settings.media:
        found = entry(settings, name, latest, looked)
        places = on_medium(settings, name)
        applications = sorted(
            application
            for application, owner in settings.applications.items()
            if any(job.repository in places for job in owner.backups.values())
        )
        unseen = found["seen_at"] is None or found["code"] is not None
        yield MediumPicture(
            medium=name,
            kind=found["kind"],
            where=offline.where(found, now).value,
            connected=None if unseen else bool(found["attached"]),
            offline_at={
                application: max(
                    (
                        at
                        for place in places
                        if (
                            at := offline.proved(
                                entry(settings, name, latest, looked, application), place, now
                            )
                        )
                        is not None
                    ),
                    default=None,
                )
                for application in applications
            },
        )


def touched(settings: Settings, subject: Subject) -> frozenset[Subject]:
    """Return the applications whose view depends on a fact about a medium."""
    family, _, name = subject.partition("/")
    if family != "medium":
        return frozenset()
    return frozenset(
        application_subject(application)
        for application, owner in settings.applications.items()
        for job in owner.backups.values()
        if settings.repositories[job.repository].medium == name
    )
