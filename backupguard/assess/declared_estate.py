"""What a hospital declared of its applications and repositories, as far as reports count with it.

It is recorded with every load of the settings that changes it, so that the report of a past month is
made from what was declared then: an application removed since, a target relaxed since or a threshold
of a newer catalogue changes no number of it. Durations are integer milliseconds, periods seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from backupguard.assess.forecast import DURABLE_PERCENT, Step
from backupguard.controls.catalogue import Catalogue
from backupguard.model import Criticality, Policy

if TYPE_CHECKING:
    from backupguard.settings import Application, Settings

#: The control whose periods say when a restore test is due.
CONTROL = "RST-01"
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backup job. Jobs of equal `data` are copies of the same data."""

    repository: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """An application as it is declared."""

    name: str
    criticality: Criticality
    rpo_ms: int | None = None
    rto_ms: int | None = None
    declared_by: str | None = None
    declared_on: date | None = None
    bia_reference: str | None = None
    failure_domain: str | None = None
    depends_on: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    jobs: Mapping[str, Job] = field(default_factory=dict)

    @property
    def repositories(self) -> tuple[str, ...]:
        """Return the repositories that keep copies of it, each once."""
        return tuple(sorted({job.repository for job in self.jobs.values()}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository as it is declared. `host` is whom reading loads."""

    type: str
    host: str = "localhost"
    copy_kind: str = "backup"
    medium_kind: str = "disk"
    failure_domain: str | None = None
    off_site: bool = False
    declared_by: str | None = None
    declared_on: date | None = None
    fetchable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """Everything that was declared at a moment."""

    applications: Mapping[str, Owner]
    repositories: Mapping[str, Place]
    periods: Mapping[Criticality, Mapping[str, int]] = field(default_factory=dict)
    parallel: int = 1
    durable_percent: int = DURABLE_PERCENT
    commissioning_until: date | None = None

    def fetchable(self, application: str) -> tuple[str, ...]:
        """Return the repositories that copies of an application can be restored from."""
        own = self.applications[application].repositories
        return tuple(name for name in own if self.repositories[name].fetchable)


@dataclass(frozen=True, kw_only=True)
class AsRecorded(Catalogue):
    """A catalogue that demands of restore tests what was demanded when a load was recorded."""

    recorded: Mapping[Criticality, Mapping[str, int]]

    def policy(self, control: str, criticality: Criticality) -> Policy:
        """Return what a control demands of a subject of that criticality."""
        policy = super().policy(control, criticality)
        then = self.recorded.get(criticality)
        return policy if control != CONTROL or not then else replace(policy, thresholds=then)


def catalogue_then(catalogue: Catalogue, estate: Estate) -> Catalogue:
    """Return the catalogue with the periods that were recorded with an estate."""
    if not estate.periods:
        return catalogue
    return AsRecorded(
        domain=catalogue.domain,
        name=catalogue.name,
        entries=catalogue.entries,
        sha256=catalogue.sha256,
        maps=catalogue.maps,
        recorded=estate.periods,
    )


def declared_estate(settings: Settings, catalogue: Catalogue | None = None) -> Estate:
    """Return what is declared now; without a catalogue only what a forecast needs of it."""
    return Estate(
        applications={name: _owner(one) for name, one in settings.applications.items()},
        repositories=_places(settings, _fetchable(settings) if catalogue else None),
        periods={} if catalogue is None else _periods(catalogue),
        parallel=settings.plan.parallel,
        durable_percent=settings.plan.durable_writes,
        commissioning_until=settings.site.commissioning_until,
    )


def _periods(catalogue: Catalogue) -> dict[Criticality, dict[str, int]]:
    return {
        criticality: {
            name: int(value)
            for name, value in catalogue.policy(CONTROL, criticality).thresholds.items()
            if not isinstance(value, str)
        }
        for criticality in Criticality
    }


def _fetchable(settings: Settings) -> frozenset[str]:
    return frozenset(name for one in settings.applications for name in settings.fetchable(one))


def _places(settings: Settings, fetchable: Collection[str] | None) -> dict[str, Place]:
    return {
        name: Place(
            type=one.type,
            host=one.talks_to,
            copy_kind=one.copy_kind,
            medium_kind=one.medium_kind,
            failure_domain=one.failure_domain,
            off_site=one.off_site,
            declared_by=one.declared_by,
            declared_on=one.declared_on,
            fetchable=fetchable is None or name in fetchable,
        )
        for name, one in settings.repositories.items()
    }


def _owner(application: Application) -> Owner:
    return Owner(
        name=application.name,
        criticality=application.criticality,
        rpo_ms=None if application.rpo is None else application.rpo // _MS,
        rto_ms=None if application.rto is None else application.rto // _MS,
        declared_by=application.declared_by,
        declared_on=application.declared_on,
        bia_reference=application.bia_reference,
        failure_domain=application.failure_domain,
        depends_on=tuple(application.depends_on),
        steps=tuple(
            Step(name=step.name, duration_ms=step.duration // _MS, source=step.source)
            for step in application.recovery.steps
        ),
        jobs={
            name: Job(repository=job.repository, data=_digest(job.select.model_dump_json()))
            for name, job in application.backups.items()
        },
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_data(estate: Estate) -> dict[str, Any]:
    """Return an estate as it is recorded."""
    return {
        "applications": {
            name: {
                "name": one.name,
                "criticality": one.criticality.value,
                "rpo_ms": one.rpo_ms,
                "rto_ms": one.rto_ms,
                "declared_by": one.declared_by,
                "declared_on": _day(one.declared_on),
                "bia_reference": one.bia_reference,
                "failure_domain": one.failure_domain,
                "depends_on": list(one.depends_on),
                "steps": [
                    {"name": step.name, "duration_ms": step.duration_ms, "source": step.source}
                    for step in one.steps
                ],
                "jobs": {
                    job: {"repository": its.repository, "data": its.data}
                    for job, its in one.jobs.items()
                },
            }
            for name, one in estate.applications.items()
        },
        "repositories": {
            name: {
                "type": one.type,
                "host": one.host,
                "copy_kind": one.copy_kind,
                "medium_kind": one.medium_kind,
                "failure_domain": one.failure_domain,
                "off_site": one.off_site,
                "declared_by": one.declared_by,
                "declared_on": _day(one.declared_on),
                "fetchable": one.fetchable,
            }
            for name, one in estate.repositories.items()
        },
        "periods": {one.value: dict(values) for one, values in estate.periods.items()},
        "parallel": estate.parallel,
        "durable_percent": estate.durable_percent,
        "commissioning_until": _day(estate.commissioning_until),
    }


def of_data(data: Mapping[str, Any]) -> Estate:
    """Return an estate from what was recorded; the reverse of `as_data`."""
    return Estate(
        applications={
            name: Owner(
                **{
                    **one,
                    "criticality": Criticality(one["criticality"]),
                    "declared_on": _date(one["declared_on"]),
                    "depends_on": tuple(one["depends_on"]),
                    "steps": tuple(Step(**step) for step in one["steps"]),
                    "jobs": {job: Job(**its) for job, its in one["jobs"].items()},
                }
            )
            for name, one in data["applications"].items()
        },
        repositories={
            name: Place(**{**one, "declared_on": _date(one["declared_on"])})
            for name, one in data["repositories"].items()
        },
        periods={Criticality(name): values for name, values in data["periods"].items()},
        parallel=data["parallel"],
        durable_percent=data["durable_percent"],
        commissioning_until=_date(data["commissioning_until"]),
    )


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
