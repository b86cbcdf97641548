"""What views say of copies: one entry per repository and covered data, out of settings and facts.

The names are listed in `backupguard.controls.facts`; what counts is `backupguard.controls.copies`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from backupguard.assess.history import History, payload
from backupguard.controls import offline
from backupguard.model import Fact, Json, Subject, Verdict, View, repository_subject, to_us
from backupguard.settings import Settings

#: A copy counts while its newest point is younger than so many of its intervals.
INTERVALS = 2
_WITHOUT_INTERVAL_S = 7 * 86_400
#: However rarely it is tried, what was proved does not hold for longer.
_PROOF_HOLDS = timedelta(days=31)
#: A medium that is declared offline, and is not.
_HERE = frozenset({offline.Where.LEFT_ATTACHED, offline.Where.CONTRADICTED})


def copies_of(
    application: str,
    jobs: Sequence[View],
    settings: Settings,
    history: History,
    unconfirmed: Collection[str],
    latest: Mapping[Subject, Mapping[str, Fact]],
    media: Sequence[Mapping[str, Json]],
    now: datetime,
) -> list[dict[str, Json]]:
    """Return the copies of an application whose jobs' views these are; `media` as views show them."""
    together: dict[tuple[str, tuple[str, ...]], list[View]] = {}
    backups = settings.applications[application].backups
    for job in jobs:
        covers = tuple(sorted(backups[str(job.settings["job"])].covers))
        together.setdefault((str(job.settings["repository"]), covers), []).append(job)
    return [
        {
            **_declared(settings, name, history, now),
            **_found(name, history),
            **_points(views),
            "covers": list(covers),
            "broken": _broken(application, name, history),
            "unproven": name in unconfirmed,
            "online": _online(name, media, settings, history, now),
            "immutable": _immutable(name, settings, history, latest, now),
        }
        for (name, covers), views in together.items()
    ]


def _declared(settings: Settings, name: str, history: History, now: datetime) -> dict[str, Json]:
    repository = settings.repositories[name]
    written = _start_of(repository.declared_on) if repository.declared_by else None
    stated = history.attestations.of(repository_subject(name), now).get("failure-domain")
    made = None
    if stated is not None and not stated["expired"]:
        # It was stated of the domain of that day: another one is nobody's statement yet.
        same = stated["values"].get("domain", repository.failure_domain)
        made = stated["made_at"] if same == repository.failure_domain else None
    return {
        "repository": name,
        "type": repository.type,
        "kind": repository.copy_kind,
        "medium": repository.medium_kind,
        "medium_id": repository.medium,
        "domain": repository.failure_domain,
        "declared_at": max((at for at in (written, made) if at is not None), default=None),
        "off_site": repository.off_site,
        "claims": list(repository.claimed_protection),
    }


def _start_of(day: date | None) -> int | None:
    return None if day is None else to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _found(name: str, history: History) -> dict[str, Json]:
    """Return where a repository was found when it could last be seen."""
    seen = history.places.get(repository_subject(name))
    found: Mapping[str, Any] = payload(seen) if seen is not None else {}
    device = found.get("device")
    return {
        "device": device.split() if isinstance(device, str) else [],
        "repository_id": found.get("repository_id"),
    }


def _points(jobs: Sequence[View]) -> dict[str, Json]:
    """Return what a repository holds of an application, over all its jobs there."""
    best = max(jobs, key=lambda job: job.known.get("restorable_at") or 0)
    interval = best.settings.get("interval_s") or _WITHOUT_INTERVAL_S
    return {
        "jobs": [str(job.settings["job"]) for job in jobs],
        "points": sum(job.known.get("points") or 0 for job in jobs),
        "newest_at": best.known.get("restorable_at"),
        "seen_at": best.known.get("seen_at"),
        "allowed_s": INTERVALS * interval + (best.settings.get("grace_s") or 0),
        "code": best.known.get("code"),
    }


def _broken(application: str, name: str, history: History) -> str | None:
    """Return what was found wrong with a copy and not found right since."""
    tests = history.concluded.get(f"application/{application}", {})
    test = tests.get(name)
    if test is not None and payload(test).get("verdict") == Verdict.FAILED:
        return "restore"
    for told in history.declared.of(f"application/{application}").values():
        found = payload(told)
        if found.get("repository") == name and found.get("verdict") == Verdict.FAILED:
            restored = (
                test is not None and test.observation.observed_at > told.observation.observed_at
            )
            if not restored:
                return "restore"
    verified = history.verified.get(repository_subject(name))
    return "integrity" if verified is not None and verified.failed is not None else None


def _online(
    name: str,
    media: Sequence[Mapping[str, Json]],
    settings: Settings,
    history: History,
    now: datetime,
) -> str | None:
    """Return how something reaches a copy that should be out of reach: "attached", "answers"."""
    medium = settings.repositories[name].medium
    found = next((one for one in media if one["medium"] == medium), None)
    if found is not None and offline.where(found, now) in _HERE:
        return "attached"
    return "answers" if history.looks.answers(name, settings) else None


def _immutable(
    name: str,
    settings: Settings,
    history: History,
    latest: Mapping[Subject, Mapping[str, Fact]],
    now: datetime,
) -> str | None:
    """Return what came of tampering with a copy's canaries; None where nothing was ever tried.

    Where locks end by themselves, the newest points must be locked as well.
    """
    subject = repository_subject(name)
    found = latest.get(subject, {})
    if "immutability.tried" not in found:
        return None
    holds = min(2 * settings.daemon.cadences.immutability, _PROOF_HOLDS)
    verdict = ("refuted", "inconclusive", "proved")[history.tried.verdict(subject, now, holds)]
    seen = found.get("protection.seen")
    protection = payload(seen) if seen is not None else {}
    locks = protection.get("points") and protection.get("mechanism") == "s3-object-lock"
    until = protection.get("locked_until_at")
    if verdict == "proved" and locks and (until is None or until <= to_us(now)):
        return "inconclusive"
    return verdict


def listed(latest: Mapping[Subject, Mapping[str, Fact]], kinds: Collection[str]) -> dict[str, Fact]:
    """Return the newest fact of these kinds about every subject, as "KIND/SUBJECT"."""
    return {
        f"{kind}/{subject}": found[kind]
        for subject, found in latest.items()
        for kind in kinds
        if kind in found
    }
