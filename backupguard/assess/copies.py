"""What views say of copies: one entry per repository and covered data, out of settings and facts.

The names are listed in `backupguard.controls.facts`; what counts is `backupguard.controls.copies`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from backupguard.assess.history import History, payload
from backupguard.model import Fact, Json, Subject, Verdict, View, repository_subject, to_us
from backupguard.settings import Settings

#: A copy counts while its newest point is younger than so many of its intervals.
INTERVALS = 2
_WITHOUT_INTERVAL_S = 7 * 86_400


def copies_of(
    application: str,
    jobs: Sequence[View],
    settings: Settings,
    history: History,
    unconfirmed: Collection[str],
) -> list[dict[str, Json]]:
    """Return the copies of an application whose jobs' views these are."""
    together: dict[tuple[str, tuple[str, ...]], list[View]] = {}
    backups = settings.applications[application].backups
    for job in jobs:
        covers = tuple(sorted(backups[str(job.settings["job"])].covers))
        together.setdefault((str(job.settings["repository"]), covers), []).append(job)
    return [
        {
            **_declared(settings, name),
            **_found(name, history),
            **_points(views),
            "covers": list(covers),
            "broken": _broken(application, name, history),
            "unproven": name in unconfirmed,
        }
        for (name, covers), views in together.items()
    ]


def _declared(settings: Settings, name: str) -> dict[str, Json]:
    repository = settings.repositories[name]
    return {
        "repository": name,
        "type": repository.type,
        "kind": repository.copy_kind,
        "medium": repository.medium_kind,
        "domain": repository.failure_domain,
        "declared_at": _start_of(repository.declared_on) if repository.declared_by else None,
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
    verified = history.verified.get(repository_subject(name))
    return "integrity" if verified is not None and verified.failed is not None else None


def listed(latest: Mapping[Subject, Mapping[str, Fact]], kinds: Collection[str]) -> dict[str, Fact]:
    """Return the newest fact of these kinds about every subject, as "KIND/SUBJECT"."""
    return {
        f"{kind}/{subject}": found[kind]
        for subject, found in latest.items()
        for kind in kinds
        if kind in found
    }
