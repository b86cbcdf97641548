"""Gathers what metrics and pages show beside the findings. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.assess import clean_points
from backupguard.assess.forecast import Forecast
from backupguard.assess.history import History, TestKey, payload
from backupguard.assess.picture import (
    ApplicationPicture,
    JobPicture,
    ProbePicture,
    TestPicture,
)
from backupguard.assess.views import interval_s
from backupguard.contracts import Store
from backupguard.controls import Catalogue
from backupguard.controls.pdm_01 import by_selection, worst_exposure_us
from backupguard.errors import MEDIUM_AWAY
from backupguard.model import (
    SITE,
    Fact,
    Origin,
    RunState,
    Subject,
    Verdict,
    View,
    application_subject,
    job_subject,
    repository_subject,
    to_us,
)
from backupguard.settings import Settings

_ENDED = (RunState.FINISHED, RunState.INTERRUPTED, RunState.CANCELLED)
_SAW = frozenset({Verdict.PASSED, Verdict.FAILED})
#: Why a restore test could not conclude, where the cure is to install something on this host.
_TO_INSTALL = frozenset(
    {"program_missing", "version_unsupported", "extension_missing", "sandbox_unavailable"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything the pictures are made of."""

    store: Store
    settings: Settings
    catalogue: Catalogue
    history: History
    latest: Mapping[Subject, Mapping[str, Fact]]
    views: Mapping[Subject, View]
    now: datetime
    forecast: Forecast


def names(settings: Settings) -> dict[Subject, str]:
    """Return what people call each subject."""
    found: dict[Subject, str] = {SITE: settings.site.name}
    for name, application in settings.applications.items():
        found[application_subject(name)] = application.name
        for job in application.backups:
            found[job_subject(name, job)] = f"{application.name}, {job}"
    for name in settings.repositories:
        found[repository_subject(name)] = name
    return found


def applications(gathered: Gathered) -> Iterator[ApplicationPicture]:
    """Yield every configured application, its worst exposure of the last month, its forecast."""
    returns = {one.application: one for one in gathered.forecast.returns}
    for name, owner in gathered.settings.applications.items():
        jobs = [gathered.views[job_subject(name, job)] for job in owner.backups]
        exposures = [worst_exposure_us(group) for group in by_selection(jobs)]
        worst = max((one for one in exposures if one is not None), default=None)
        clean_at, bad_at = _of_points(gathered, name)
        yield ApplicationPicture(
            application=name,
            name=owner.name,
            criticality=owner.criticality,
            rpo_s=int(owner.rpo.total_seconds()) if owner.rpo else None,
            rto_s=int(owner.rto.total_seconds()) if owner.rto else None,
            worst_exposure_ms=worst // 1000 if worst is not None else None,
            forecast_ms=returns[name].end_ms if returns[name].measured else None,
            clean_point_at=clean_at,
            first_bad_point_at=bad_at,
        )


def _of_points(gathered: Gathered, name: str) -> tuple[int | None, int | None]:
    """Return the times of an application's newest clean point and of its first bad one."""
    tested = gathered.history.tested.get(application_subject(name))
    if tested is None:
        return None, None
    return clean_points.ends(gathered.store, gathered.settings, name, tested)


def jobs(gathered: Gathered) -> Iterator[JobPicture]:
    """Yield every configured job with its newest restorable point."""
    for name, owner in gathered.settings.applications.items():
        usual = gathered.catalogue.period("JOB-01", owner.criticality, "interval") or 0
        for job, backup in owner.backups.items():
            view = gathered.views[job_subject(name, job)]
            yield JobPicture(
                application=name,
                job=job,
                repository=backup.repository,
                interval_s=view.settings["interval_s"] or usual,
                restorable_at=view.known["restorable_at"],
                points=view.known["points"],
                newest_bytes=view.known["newest_bytes"],
                oldest_at=_oldest(view),
                failures=view.known["failures"],
            )


def _oldest(view: View) -> int | None:
    times = [to_us(summary.oldest) for summary in view.summaries if summary.oldest is not None]
    return min(times, default=None)


def tests(gathered: Gathered) -> Iterator[TestPicture]:
    """Yield the restore tests of every configured application, one picture per copy at least."""
    for name, owner in gathered.settings.applications.items():
        schedule = gathered.settings.restore_test_schedule(name)
        due_s = interval_s(schedule, gathered.settings, gathered.now) or 0
        repositories = {backup.repository for backup in owner.backups.values()}
        keys = [key for key in gathered.history.newest_test if key[0] == name]
        keys = [key for key in keys if key[2] in repositories or key[2] == "-"]
        for key in keys:
            yield _test(gathered.history, key, due_s)
        chosen = owner.restore_test.engine if owner.restore_test else None
        usual = chosen or next((key[1] for key in keys if key[1] != "unknown"), "unknown")
        for repository in sorted(repositories - {key[2] for key in keys}):
            yield TestPicture(
                application=name,
                engine=usual,
                repository=repository,
                origin=Origin.OBSERVED.value,
                interval_s=due_s,
            )


def _test(history: History, key: TestKey, due_s: int) -> TestPicture:
    newest = history.newest_test[key]
    success = history.newest_success.get(key)
    failure = history.newest_failure.get(key)
    found = payload(newest)
    measured = payload(success) if success is not None else {}
    return TestPicture(
        application=key[0],
        engine=key[1],
        repository=key[2],
        origin=key[3],
        interval_s=due_s,
        last_run_at=to_us(newest.observation.observed_at),
        last_success_at=to_us(success.observation.observed_at) if success is not None else None,
        last_failure_at=to_us(failure.observation.observed_at) if failure is not None else None,
        level=found.get("level") or 0,
        percent=(found.get("partial") or {}).get("percent", 100),
        duration_ms=found.get("duration_ms"),
        phases=_phases(found),
        data_loss_ms=measured.get("data_loss_ms"),
        freshness_ms=_freshness_ms(measured),
        canary_at=measured.get("canary_at"),
        outcomes=dict(history.outcomes.get(key, {})),
        program_missing=found.get("code") in _TO_INSTALL,
    )


def _freshness_ms(found: Mapping[str, Any]) -> int | None:
    newest, point_at = found.get("freshness_heuristic_at"), found.get("point_at")
    if newest is None or point_at is None:
        return None
    return int(max(0, point_at - newest) // 1000)


def _phases(found: Mapping[str, Any]) -> dict[str, int]:
    return {phase["phase"]: phase["duration_ms"] for phase in found.get("phases") or ()}


def probes(gathered: Gathered) -> Iterator[ProbePicture]:
    """Yield every probe on everything that it looks at, whether or not it ever ran."""
    yield from _of_repositories(gathered)
    yield from _of_the_site(gathered)


def _of_repositories(gathered: Gathered) -> Iterator[ProbePicture]:
    """Yield inventory, integrity and immutability of every configured repository."""
    cadences = gathered.settings.daemon.cadences
    runs = gathered.store.runs(states=_ENDED, task="inventory", limit=20)
    sightings = gathered.store.sightings()
    for name in gathered.settings.repositories:
        subject = repository_subject(name)
        latest = gathered.latest.get(subject, {})
        asked = (run.request.options.get("repositories") for run in runs)
        inventory = next(
            (run for run, only in zip(runs, asked, strict=True) if not only or name in only), None
        )
        criticality = gathered.settings.criticality_of(name)
        seen = [
            to_us(latest[kind].observation.observed_at)
            for kind in ("repository.inspected", "inventory.listed", "inventory.confirmed")
            if kind in latest
        ]
        sighting = sightings.get(name)
        if sighting is not None and sighting.asked_at is not None:
            seen.append(to_us(sighting.asked_at))
        duration_ms = None
        if inventory is not None and inventory.ended_at and inventory.started_at and seen:
            seen.append(to_us(inventory.ended_at))
            duration_ms = (to_us(inventory.ended_at) - to_us(inventory.started_at)) // 1000
        inspected = latest.get("repository.inspected")
        yield ProbePicture(
            probe="inventory",
            subject=subject,
            interval_s=int(cadences.inventory.of(criticality).total_seconds()),
            success=inspected is not None and _saw_all(payload(inspected)),
            last_run_at=max(seen, default=None),
            duration_ms=duration_ms,
        )
        yield _closed(
            "integrity",
            subject,
            latest.get("integrity.closed") or latest.get("repository.verified"),
            cadences.integrity.of(criticality),
        )
        yield _closed(
            "immutability",
            subject,
            latest.get("immutability.closed"),
            _every(gathered.settings, "immutability", cadences.immutability),
        )


def _closed(probe: str, subject: Subject, closed: Fact | None, every: timedelta) -> ProbePicture:
    """Return what the closing fact of a probe's last run says."""
    found = payload(closed) if closed is not None else {}
    started, ended = found.get("started_at"), found.get("ended_at")
    return ProbePicture(
        probe=probe,
        subject=subject,
        interval_s=int(every.total_seconds()),
        success=found.get("verdict") in _SAW or found.get("code") == MEDIUM_AWAY,
        last_run_at=to_us(closed.observation.observed_at) if closed is not None else None,
        duration_ms=(ended - started) // 1000 if started and ended else None,
    )


def _of_the_site(gathered: Gathered) -> Iterator[ProbePicture]:
    """Yield the probes of the site by their last runs: one that finds nothing new leaves no fact."""
    settings, cadences = gathered.settings, gathered.settings.daemon.cadences
    wanted = {"isolation": cadences.isolation, "drift": cadences.drift}
    if settings.media:
        wanted["offline"] = cadences.offline
    if settings.imports_tests:
        wanted["imports"] = cadences.imports
    for probe, every in wanted.items():
        runs = gathered.store.runs(states=_ENDED, task=probe, subject=SITE, limit=1)
        last = runs[0] if runs else None
        began = last.started_at if last is not None else None
        ended = last.ended_at if last is not None else None
        yield ProbePicture(
            probe=probe,
            subject=SITE,
            interval_s=int(_every(settings, probe, every).total_seconds()),
            success=last is not None and last.verdict in _SAW,
            last_run_at=to_us(ended) if ended else None,
            duration_ms=(to_us(ended) - to_us(began)) // 1000 if ended and began else None,
        )


def _every(settings: Settings, probe: str, usual: timedelta) -> timedelta:
    asked = settings.probes.get(probe)
    return asked.every if asked is not None and asked.every is not None else usual


def _saw_all(inspected: Mapping[str, Any]) -> bool:
    """Tell whether a repository answered and nothing in it kept its listing from being whole."""
    if inspected.get("code") == MEDIUM_AWAY:
        return True  # there is nothing to see, and nothing is wrong with that
    return bool(inspected.get("reachable")) and inspected.get("code") is None


def self_test(history: History) -> dict[str, Any]:
    """Return when damage was last done on purpose, and whether it was noticed."""
    newest = history.self_test
    return {
        "self_tested_at": to_us(newest.observation.observed_at) if newest is not None else None,
        "self_test_noticed": payload(newest).get("noticed") if newest is not None else None,
    }


def paused(history: History, now: datetime) -> tuple[bool, int | None]:
    """Return whether the daemon is paused, and until when (None: no end was given)."""
    if history.pause is None:
        return False, None
    until = payload(history.pause).get("until_at")
    if until is not None and until <= to_us(now):
        return False, None
    return True, until


def commissioning_until(settings: Settings) -> int | None:
    """Return when the commissioning period ends: the end of its last day at the site."""
    day = settings.site.commissioning_until
    if day is None:
        return None
    end = datetime.combine(day, time.max, tzinfo=ZoneInfo(settings.site.timezone))
    return to_us(end.astimezone(UTC))
