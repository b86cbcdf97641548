"""Builds the pictures that controls look at. Their names are listed in `backupguard.controls.facts`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from backupguard.assess import clean_points, job_known, media, reach
from backupguard.assess.backups import Backups
from backupguard.assess.copies import copies_of, listed
from backupguard.assess.estate import site_forecast
from backupguard.assess.forecast import Forecast, Return
from backupguard.assess.history import History, payload
from backupguard.assess.picture import EvidenceState
from backupguard.assess.unproven import unconfirmed
from backupguard.contracts import Capability, Store
from backupguard.controls.rst_04 import REBUILD
from backupguard.errors import MEDIUM_AWAY
from backupguard.model import (
    SITE,
    Criticality,
    Fact,
    Json,
    PointState,
    RunState,
    Scope,
    Subject,
    Verdict,
    View,
    application_subject,
    from_us,
    job_subject,
    repository_subject,
    to_us,
)
from backupguard.plugins import capabilities
from backupguard.settings import Application, BackupJob, Settings
from backupguard.settings.schedule import longest_gap

#: How many of a job's newest runs tell how long it may take.
GRACE_RUNS = 30
_GRACE_BEYOND_LONGEST_S = 30 * 60
_LONGEST_WAIT_S = 86_400
_RESTORABLE = frozenset({PointState.COMPLETE, PointState.WARNING})


def subjects(settings: Settings) -> tuple[Subject, ...]:
    """Return every configured subject: the site, applications, jobs, repositories."""
    found: list[Subject] = [SITE]
    for name, application in settings.applications.items():
        found.append(application_subject(name))
        found += [job_subject(name, job) for job in application.backups]
    found += [repository_subject(name) for name in settings.repositories]
    return tuple(found)


def touched(settings: Settings, changed: Collection[Subject]) -> frozenset[Subject]:
    """Return the subjects whose view depends on facts about `changed`, themselves included."""
    found = {SITE}
    for name, application in settings.applications.items():
        own = application_subject(name)
        for job, backup in application.backups.items():
            if repository_subject(backup.repository) in changed or own in changed:
                found |= {own, job_subject(name, job)}
            if own in changed:  # a restore test says something of the repository it came from
                found.add(repository_subject(backup.repository))
    for subject in changed:
        found |= media.touched(settings, subject)
    # An inventory speaks about every repository in a fact of the site's.
    everything = subjects(settings)
    if SITE in changed or any(reach.concerns(subject) for subject in changed):
        return frozenset(everything)
    return frozenset(found | (set(changed) & set(everything)))


@lru_cache(maxsize=1024)
def _gap_s(schedule: str | timedelta, year: int, timezone: str) -> int:
    around = datetime(year, 1, 1, tzinfo=UTC)
    return int(longest_gap(schedule, around, timezone).total_seconds())


def interval_s(schedule: str | timedelta | None, settings: Settings, now: datetime) -> int | None:
    """Return the longest time between two slots of a schedule, in seconds; None without one."""
    return None if schedule is None else _gap_s(schedule, now.year, settings.site.timezone)


class Views:
    """The views of one assessment, built one subject at a time from what was read once."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        history: History,
        now: datetime,
        evidence: EvidenceState | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._history = history
        self._now = now
        self._timezone = settings.site.timezone
        self._evidence = evidence or EvidenceState()
        self.latest: Mapping[Subject, Mapping[str, Fact]] = store.latest()
        self._summaries = {(s.job, s.repository): s for s in store.summaries()}
        self.forecast: Forecast = site_forecast(settings, history, self._summaries.values())
        self._returns = {one.application: one for one in self.forecast.returns}
        newest = history.clock.newest()
        self._newest_record_at = to_us(newest) if newest is not None else None
        self._inventory = self._last_complete_inventory()
        self._sightings = store.sightings()
        self.media_looked_at = media.looked_at(store)
        self._unconfirmed = unconfirmed(settings, self.latest)
        self._jobs: dict[Subject, View] = {}

    def of(self, subject: Subject) -> View:
        """Return the view of a configured subject. Raises KeyError for any other."""
        family, _, name = subject.partition("/")
        if family == "application":
            return self._application(subject, name)
        if family == "job":
            if subject not in self._jobs:
                self._jobs[subject] = self._job(subject, *name.split(".", 1))
            return self._jobs[subject]
        if family == "repository":
            return self._repository(subject, name)
        if subject == SITE:
            return self._site()
        raise KeyError(subject)

    def criticality(self, subject: Subject) -> Criticality:
        """Return how vital a subject is: its application's, or the most vital one it serves."""
        family, _, name = subject.partition("/")
        if family == "application":
            return self._settings.applications[name].criticality
        if family == "job":
            return self._settings.applications[name.split(".", 1)[0]].criticality
        if family == "repository":
            return self._settings.criticality_of(name)
        found = (owner.criticality for owner in self._settings.applications.values())
        return min(found, default=Criticality.C3)

    # ------------------------------------------------------------------------------ one by one

    def _known(self, subject: Subject, /, **values: Json) -> dict[str, Json]:
        return {
            "newest_record_at": self._newest_record_at,
            "attestations": self._history.attestations.of(subject, self._now),
            **values,
        }

    def _application(self, subject: Subject, name: str) -> View:
        owner = self._settings.applications[name]
        latest = dict(self.latest.get(subject, {}))
        if subject in self._history.passed:
            latest["restore-test.passed"] = self._history.passed[subject]
        for repository, fact in self._history.concluded.get(subject, {}).items():
            latest[f"restore-test.concluded/{repository}"] = fact
        for age, fact in self._history.aged.get(subject, {}).items():
            latest[f"restore-test.age/{age}"] = fact
        latest |= self._history.declared.of(subject)
        for repository, fact in self._history.failed_points(subject).items():
            latest[f"restore-test.failed-point/{repository}"] = fact
        search = self._search(subject, name)
        latest |= self._reached(search)
        steps = sum((step.duration for step in owner.recovery.steps), timedelta(0))
        back = self._returns[name]
        if back.basis is not None and back.basis.fact is not None:
            latest["restore-test.forecast"] = back.basis.fact
        first_seen = self._history.first_seen(subject)
        jobs = tuple(self.of(job_subject(name, job)) for job in owner.backups)
        offline = media.of_application(self._settings, name, self.latest, self.media_looked_at)
        latest |= media.facts_of(self._settings, name, self.latest)
        return View(
            scope=Scope.APPLICATION,
            subject=subject,
            settings={
                "criticality": owner.criticality.value,
                "failure_domain": owner.failure_domain,
                "rpo_s": _seconds(owner.rpo),
                "rto_s": _seconds(owner.rto),
                "declared_by": owner.declared_by,
                "declared_at": job_known.midnight_of(owner.declared_on, self._timezone),
                "retention": _retention(owner),
                "steps_s": int(steps.total_seconds()),
                "repositories": sorted({job.repository for job in owner.backups.values()}),
                "fetchable": sorted(self._settings.fetchable(name)),
            },
            latest=latest,
            summaries=tuple(summary for job in jobs for summary in job.summaries),
            children=jobs,
            first_seen=first_seen,
            known=self._known(
                subject,
                copies=[
                    {**copy, "offline_at": _offline_at(copy, offline["media"], self._now)}
                    for copy in copies_of(
                        name,
                        jobs,
                        self._settings,
                        self._history,
                        self._unconfirmed,
                        self.latest,
                        offline["media"],
                        self._now,
                    )
                ],
                **offline,
                forecast=_forecast(back),
                reached=_reached(search),
                repositories_since=self._repositories_since(owner),
                reach=self._history.looks.of_media(name, self._settings),
                today=job_known.day_of(self._now, self._timezone),
                first_day=(
                    job_known.day_of(first_seen, self._timezone) if first_seen is not None else None
                ),
            ),
        )

    def _search(self, subject: Subject, name: str) -> clean_points.Search | None:
        """Return where an application's search for its last clean point is."""
        tested = self._history.tested.get(subject)
        if tested is None:
            return None
        aside = tested.set_aside(0)
        return clean_points.of_application(
            self._store, self._settings, name, tested, self._now, aside=aside
        )

    def _reached(self, search: clean_points.Search | None) -> dict[str, Fact]:
        """Return the tests of the first bad point and of the last clean one."""
        if search is None:
            return {}
        found = {
            "restore-test.first-bad": self._store.fact(search.bad.seq),
            "restore-test.last-clean": self._store.fact(search.clean.seq) if search.clean else None,
        }
        return {kind: fact for kind, fact in found.items() if fact is not None}

    def _repositories_since(self, owner: Application) -> dict[str, Json]:
        """Return when each repository of an application was first judged; None: never yet."""
        found: dict[str, Json] = {}
        for name in {job.repository for job in owner.backups.values()}:
            first = self._history.first_seen(repository_subject(name))
            found[name] = to_us(first) if first is not None else None
        return found

    def _job(self, subject: Subject, application: str, name: str) -> View:
        owner = self._settings.applications[application]
        backup = owner.backups[name]
        job = f"{application}.{name}"
        repository = repository_subject(backup.repository)
        seen = self.latest.get(repository, {})
        summary = self._summaries.get((job, backup.repository))
        lost = self._history.lost.get((job, backup.repository), ())
        schedule, zone, now = backup.schedule or backup.every, self._timezone, self._now
        interval = interval_s(schedule, self._settings, now)
        kept = self._kept(job, backup)
        recent, backups, remembered = kept.recent, kept.outcomes, kept.remembered
        inspected = seen.get("repository.inspected")
        grace_s = self._grace_s(owner, backup, backups, interval)
        first_seen = self._history.first_seen(subject)
        ever = job_known.unthinned(remembered, first_seen, interval)
        seen_at = self._seen_at(repository, seen)
        watched = from_us(seen_at) - timedelta(seconds=grace_s) if seen_at is not None else None
        known = job_known.of_points(recent, summary, now)
        since = known["restorable_at"]
        return View(
            scope=Scope.JOB,
            subject=subject,
            settings={
                "criticality": owner.criticality.value,
                "application": application,
                "job": name,
                "repository": backup.repository,
                "selection": _selection(backup),
                "interval_s": interval,
                "grace_s": grace_s,
            },
            latest=_known_as("repository.inspected", inspected) | self._accepted(application),
            summaries=(summary,) if summary is not None else (),
            first_seen=first_seen,
            known=self._known(
                subject,
                unproven=backup.repository in self._unconfirmed,
                seen_at=seen_at,
                **_reachable(inspected),
                **known,
                **job_known.of_runs(backups, now),
                **job_known.of_calendar(
                    schedule,
                    ever,
                    from_us(since) if since is not None else first_seen,
                    now,
                    watched,
                    zone,
                ),
                **job_known.of_losses(lost, summary, now),
                exposure=job_known.of_exposure(kept.exposures[: len(ever)], now),
                asked_days=job_known.asked_days(
                    schedule, now, max(job_known.ASKED_DAYS, owner.retention.daily or 0), zone
                ),
                samples=job_known.samples(kept.samples, now),
                peers=[
                    job_known.samples(self._kept(f"{application}.{other}", one).samples, now)
                    for other, one in owner.backups.items()
                    if other != name and _saves_the_same(one, backup)
                ],
                points_encrypted=job_known.of_encryption(recent),
            ),
        )

    def _kept(self, job: str, backup: BackupJob) -> Backups:
        """Return what is known of the newest backups of a job, read once."""
        interval = interval_s(backup.schedule or backup.every, self._settings, self._now)
        return self._history.backups.of(
            job,
            backup.repository,
            self._timezone,
            lost=bool(self._history.lost.get((job, backup.repository))),
            most=job_known.how_many(interval),
        )

    def _accepted(self, application: str) -> dict[str, Fact]:
        """Return who accepted the shape of an application's data, unless it was withdrawn since."""
        found = self.latest.get(application_subject(application), {})
        accepted, reset = found.get("baseline.accepted"), found.get("baseline.reset")
        withdrawn = accepted is None or (reset is not None and reset.seq > accepted.seq)
        return {} if withdrawn else _known_as("baseline.accepted", accepted)

    def _repository(self, subject: Subject, name: str) -> View:
        latest = dict(self.latest.get(subject, {}))
        verified = self._history.verified.get(subject)
        if verified is not None and verified.complete is not None:
            latest["repository.verified/complete"] = verified.complete
        if verified is not None and verified.failed is not None:
            latest["repository.verified/failed"] = verified.failed
        if subject in self._history.encryption:
            latest["repository.inspected/encryption"] = self._history.encryption[subject]
        for end, fact in self._history.escrow.get(subject, {}).items():
            latest[f"restore-test.escrow/{end}"] = fact
        place = self._settings.repositories[name]
        latest |= self._history.looks.of_repository(name, self._settings)
        latest |= self._history.tried.of(subject)
        latest |= self._history.protections.of(subject)
        return View(
            scope=Scope.REPOSITORY,
            subject=subject,
            settings={
                **reach.settings_of(name, self._settings),
                "criticality": self._settings.criticality_of(name).value,
                "claims": list(place.claimed_protection),
                "verifiable": Capability.VERIFY
                in capabilities(self._settings.repositories[name].type),
                "leaves_site": place.off_site
                or place.medium is not None
                or place.medium_kind in {"tape", "object", "removable"},
                "key_testable": place.reader_is_key and place.credentials.reader is not None,
            },
            latest=latest,
            first_seen=self._history.first_seen(subject),
            known=self._known(
                subject,
                unproven=name in self._unconfirmed,
                points_encrypted=self._points_encrypted(name),
            ),
        )

    def _points_encrypted(self, repository: str) -> dict[str, int]:
        counted: Counter[str] = Counter()
        for name, owner in self._settings.applications.items():
            for job, backup in owner.backups.items():
                if backup.repository == repository:
                    counted.update(self.of(job_subject(name, job)).known["points_encrypted"])
        return dict(counted)

    def _site(self) -> View:
        awaited = self._history.acknowledgements.awaited(self._settings.site.timezone)
        return View(
            scope=Scope.SITE,
            subject=SITE,
            settings={
                "criticality": self.criticality(SITE).value,
                "applications": {
                    name: {
                        "criticality": owner.criticality.value,
                        "jobs": [f"{name}.{job}" for job in owner.backups],
                        "depends_on": list(owner.depends_on),
                    }
                    for name, owner in self._settings.applications.items()
                },
                "self_tests": any(
                    self._settings.fetchable(name) for name in self._settings.applications
                ),
                "servers": len(self._settings.discovery.servers),
                "repositories": {
                    name: place.type for name, place in self._settings.repositories.items()
                },
                "without": dict(self._settings.site.without),
                "anchors": list(self._settings.evidence.anchors),
                "plan_every_s": (
                    int(self._settings.plan.every.total_seconds())
                    if self._settings.plan.directory is not None
                    else None
                ),
            },
            latest={
                **self.latest.get(SITE, {}),
                **_known_as("self-test.concluded", self._history.self_test),
                **({"plan.issued/kept": self._history.plan} if self._history.plan else {}),
                **_known_as("report.issued/awaited", awaited[0] if awaited else None),
                **{f"evidence.anchored/{n}": one for n, one in self._history.anchored.items()},
                **listed(self.latest, ("discovery.seen", "reference.loaded")),
                **listed(self.latest, ("repository.inspected", "immutability.tried")),
                **self._rebuilds(),
            },
            first_seen=self._history.first_seen(SITE),
            known=self._known(
                SITE,
                services=self._services(),
                evidence_valid=self._evidence.valid,
                evidence_wrong_seq=self._evidence.wrong_seq,
                reported=self._history.reported,
                awaited=len(awaited),
                weakenings=self._history.weakenings.standing(),
                rejected=self._history.weakenings.rejected,
                policies=self._history.weakenings.policies(),
            ),
        )

    def _rebuilds(self) -> dict[str, Fact]:
        """Return the restore tests of every base service, as "restore-test.rebuild/APPLICATION/SEQ"."""
        found: dict[str, Fact] = {}
        for name, owner in self._settings.applications.items():
            if not owner.provides:
                continue
            subject = application_subject(name)
            tests = [
                *self._history.concluded.get(subject, {}).values(),
                *self._history.declared.of(subject).values(),
            ]
            if subject in self._history.passed:
                tests.append(self._history.passed[subject])
            found |= {f"{REBUILD}{name}/{test.seq}": test for test in tests}
        return found

    def _services(self) -> dict[str, Json]:
        """Return, per base service, the applications that are it, with their copies."""
        found: dict[str, Json] = {}
        for name, owner in self._settings.applications.items():
            for service in owner.provides:
                view = self.of(application_subject(name))
                found.setdefault(service, []).append(
                    {
                        "application": name,
                        "production": owner.failure_domain,
                        "grace_s": max(
                            (job.settings.get("grace_s") or 0 for job in view.children), default=0
                        ),
                        "copies": view.known["copies"],
                    }
                )
        return found

    # --------------------------------------------------------------------------------- details

    def _last_complete_inventory(self) -> tuple[datetime, int] | None:
        """Return when the last inventory of everything that ended well began and ended.

        One that finds nothing new leaves no fact, only its row among the runs.
        """
        runs = self._store.runs(states=(RunState.FINISHED,), task="inventory", limit=20)
        ended = [
            (run.started_at, to_us(run.ended_at))
            for run in runs
            if run.verdict is Verdict.PASSED
            and run.started_at
            and run.ended_at
            and run.request.subject == SITE
            and not run.request.options.get("repositories")  # asked of some says nothing of others
        ]
        return max(ended, default=None)

    def _seen_at(self, repository: Subject, seen: Mapping[str, Fact]) -> int | None:
        """Return when a repository was last listed to its end."""
        times = [
            to_us(seen[kind].observation.observed_at)
            for kind in ("inventory.listed", "inventory.confirmed")
            if kind in seen
        ]
        inspected = seen.get("repository.inspected")
        if inspected is not None and _reachable(inspected) == {"reachable": True, "code": None}:
            times.append(to_us(inspected.observation.observed_at))  # it is asked after its points
        sighting = self._sightings.get(repository.removeprefix(repository_subject("")))
        if sighting is not None and sighting.listed_at is not None:
            times.append(to_us(sighting.listed_at))
        away = inspected is not None and payload(inspected).get("code") == MEDIUM_AWAY
        if self._inventory is not None and not away:
            # A repository that was added after that inventory has not been looked at by it.
            began, ended = self._inventory
            known_since = self._history.first_seen(repository)
            if known_since is not None and known_since <= began:
                times.append(ended)
        return max(times, default=None)

    def _grace_s(
        self,
        owner: Application,
        backup: BackupJob,
        backups: Sequence[job_known.Outcome],
        interval: int | None,
    ) -> int:
        """Return how late a point may be seen: the job's grace, and until the next inventory.

        A backup that hung for nine days, or whose host's clock jumped meanwhile, must not keep the
        next thirty missed ones silent: no run is waited for beyond the one after it.
        """
        look = int(self._settings.daemon.cadences.inventory.of(owner.criticality).total_seconds())
        if backup.grace is not None:
            return int(backup.grace.total_seconds()) + look
        longest = job_known.longest_s(backups[:GRACE_RUNS])
        longest = min(longest, interval if interval is not None else _LONGEST_WAIT_S)
        return longest + _GRACE_BEYOND_LONGEST_S + look


def build_views(
    store: Store,
    settings: Settings,
    history: History,
    now: datetime,
    evidence: EvidenceState | None = None,
) -> dict[Subject, View]:
    """Return the view of every configured subject."""
    views = Views(store, settings, history, now, evidence)
    return {subject: views.of(subject) for subject in subjects(settings)}


def _known_as(name: str, fact: Fact | None) -> dict[str, Fact]:
    return {} if fact is None else {name: fact}


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _reached(search: clean_points.Search | None) -> dict[str, Json] | None:
    if search is None:
        return None
    clean = search.clean
    return {
        "check": search.bad.check,
        "code": search.bad.code,
        "bad_at": search.bad.at,
        "bad_point": search.bad.point,
        "bad_repository": search.bad.repository,
        "clean_at": clean.at if clean is not None else None,
        "clean_point": clean.point if clean is not None else None,
        "clean_repository": clean.repository if clean is not None else None,
        "between": search.between,
        "unverified": search.unverified,
    }


def _forecast(back: Return) -> dict[str, Json]:
    """Return what the recovery forecast says of an application."""
    basis = back.basis
    return {
        "end_ms": back.end_ms,
        "missing": list(back.missing),
        "waits_for": list(back.waits_for),
        "behind": back.behind,
        "repository": basis.repository if basis is not None else None,
        "failed": basis is not None and basis.failed_seq is not None,
    }


def _offline_at(copy: Mapping[str, Json], media_of: Json, now: datetime) -> int | None:
    """Return the newest point of a copy on a medium that is proved away; None for none."""
    at = media.offline_at(media_of, str(copy["repository"]), now)
    newest = copy["newest_at"]
    return None if at is None or newest is None else min(at, int(newest))


def _retention(owner: Application) -> dict[str, Json]:
    """Return what an application demands of its own; None where the catalogue decides."""
    return {name: getattr(owner.retention, name) for name in ("daily", "monthly", "yearly")}


def _selection(backup: BackupJob) -> str:
    """Return what tells whether two jobs copy the same data."""
    return json.dumps(backup.select.model_dump(mode="json"), sort_keys=True)


def _saves_the_same(one: BackupJob, other: BackupJob) -> bool:
    """Tell whether two jobs are known to copy the same data: that neither selects any says nothing."""
    return bool(one.select.model_dump(exclude_defaults=True)) and (
        _selection(one) == _selection(other)
    )


def _reachable(inspected: Fact | None) -> dict[str, Json]:
    if inspected is None:
        return {"reachable": None, "code": None}
    found = payload(inspected)
    return {"reachable": found.get("reachable"), "code": found.get("code")}
