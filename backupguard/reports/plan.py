"""The recovery plan as data: the forecast, and for each application the production runbook.

Only what is recorded and configured; where keys lie is a reference, never a secret. It is made to be
kept elsewhere and used when BackupGuard is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backupguard.assess.clean_points import Search, of_application
from backupguard.assess.estate import site_forecast
from backupguard.assess.forecast import Forecast, Return
from backupguard.assess.history import History, payload
from backupguard.model import PointState, RecoveryPoint, application_subject, from_us
from backupguard.reports import production

if TYPE_CHECKING:
    from backupguard.contracts import SecretReference, Store
    from backupguard.settings import Application, Settings

#: How many of a job's newest points are looked at for one that can be restored.
_NEWEST = 20
_USABLE = frozenset({PointState.COMPLETE, PointState.WARNING})
#: What the keys of a repository are for, in the order in which they are needed.
KEYS = ("reader", "backend", "escrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """Where a key lies: `reference` is the path of a file or the name of a systemd credential."""

    use: str  # "reader", "backend", "escrow"
    kind: str  # "file", "credential"
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCopy:
    """The newest point of one job, and how it is brought back; nothing where no template fits.

    `tested_at` is when this tool brought this application back from this repository.
    """

    job: str
    repository: str
    type: str
    point: str
    point_at: datetime
    bytes: int | None
    before: tuple[str, ...]
    fetch: tuple[str, ...]
    load: tuple[str, ...]
    tested_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCopy:
    """Another copy to turn to when the first one fails."""

    repository: str
    job: str
    point: str
    point_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReturn:
    """One application of the plan."""

    name: str
    back: Return
    engine: str | None
    copies: tuple[PlannedCopy, ...]
    others: tuple[OtherCopy, ...]
    keys: tuple[KeyPlace, ...]
    tools: Mapping[str, str]  # programs of the test, with their versions
    search: Search | None = (
        None  # newer points are bad: the copies above are no newer than the clean
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """The plan of a site at a moment."""

    site: str
    timezone: str
    made_at: datetime
    forecast: Forecast
    applications: tuple[PlannedReturn, ...]

    @property
    def late(self) -> tuple[PlannedReturn, ...]:
        """Return the applications that miss their declared RTO."""
        return tuple(one for one in self.applications if one.back.late)


def recovery_plan(store: Store, settings: Settings, now: datetime) -> RecoveryPlan:
    """Return the plan as the records show it now. Raises StoreError."""
    history = History(store)
    history.update()
    found = site_forecast(settings, history, store.summaries())
    return RecoveryPlan(
        site=settings.site.name,
        timezone=settings.site.timezone,
        made_at=now,
        forecast=found,
        applications=tuple(_planned(store, settings, one, now, history) for one in found.returns),
    )


def _planned(
    store: Store, settings: Settings, back: Return, now: datetime, history: History
) -> PlannedReturn:
    owner = settings.applications[back.application]
    search = _search(store, settings, back.application, now, history)
    clean = search.clean if search is not None else None
    until = now if clean is None else min(now, from_us(clean.at))
    points = _points(
        store, back.application, owner, until, limit=_NEWEST if clean is None else None
    )
    basis = back.basis
    chosen = basis.repository if basis is not None else _fullest(points)
    if clean is not None:
        chosen = clean.repository
    test = payload(basis.fact) if basis is not None and basis.fact is not None else {}
    tools = {str(name): str(version) for name, version in (test.get("tools") or {}).items()}
    asked = owner.restore_test.engine if owner.restore_test is not None else None
    engine = basis.engine if basis is not None else asked
    return PlannedReturn(
        name=owner.name,
        back=back,
        engine=engine,
        copies=tuple(
            _copy(settings, back, job, point, engine, tools)
            for (job, repository), point in points.items()
            if repository == chosen
        ),
        others=tuple(
            OtherCopy(repository=repository, job=job, point=point.native_id, point_at=point.at)
            for (job, repository), point in points.items()
            if repository != chosen
        ),
        keys=_keys(settings, chosen) if chosen is not None else (),
        tools=tools,
        search=search,
    )


def _search(
    store: Store, settings: Settings, application: str, now: datetime, history: History
) -> Search | None:
    """Return between which points damage came in, None where the newest one is not bad."""
    tested = history.tested.get(application_subject(application))
    if tested is None:
        return None
    return of_application(store, settings, application, tested, now, aside=tested.set_aside(0))


def _points(
    store: Store,
    application: str,
    owner: Application,
    now: datetime,
    limit: int | None = None,
) -> dict[tuple[str, str], RecoveryPoint]:
    """Return the newest restorable point of each job until a time, by job and repository."""
    found: dict[tuple[str, str], RecoveryPoint] = {}
    for job, backup in owner.backups.items():
        newest = store.points(f"{application}.{job}", backup.repository, limit=limit)
        usable = [point for point in newest if point.state in _USABLE and point.at <= now]
        if usable:
            found[job, backup.repository] = usable[0]
    return found


def _fullest(points: Mapping[tuple[str, str], RecoveryPoint]) -> str | None:
    """Return the repository with the newest point; None without any."""
    newest = max(points.items(), key=lambda item: (item[1].at, item[0]), default=None)
    return newest[0][1] if newest is not None else None


def _copy(
    settings: Settings,
    back: Return,
    job: str,
    point: RecoveryPoint,
    engine: str | None,
    tools: Mapping[str, str],
) -> PlannedCopy:
    backup = settings.applications[back.application].backups[job]
    copy = production.Copy(
        repository=backup.repository,
        settings=settings.repositories[backup.repository],
        point=point,
        paths=backup.select.paths,
        name=backup.select.name,
        database=_database(back.application, backup.covers),
        version=_version(point, tools),
    )
    fetched = production.fetch(copy)
    loaded = production.load(engine or "", fetched, copy) if fetched is not None else None
    basis = back.basis
    tested = basis is not None and basis.repository == backup.repository
    return PlannedCopy(
        job=job,
        repository=backup.repository,
        type=copy.settings.type,
        point=point.native_id,
        point_at=point.at,
        bytes=point.bytes,
        before=production.before(fetched, copy) if fetched is not None else (),
        fetch=fetched.commands if fetched is not None else (),
        load=loaded or (),
        tested_at=from_us(basis.tested_at) if tested and basis is not None else None,
    )


def _database(application: str, covers: tuple[str, ...]) -> str:
    """Return the database that a job says it saves; the application's id where it names none."""
    names = [pattern.rpartition("/")[2] for pattern in covers]
    plain = [name for name in names if name and not set("*?[") & set(name)]
    return plain[0] if plain else application


def _version(point: RecoveryPoint, tools: Mapping[str, str]) -> str:
    told = (point.extra or {}).get("postgresql") if isinstance(point.extra, Mapping) else None
    major = str(told or tools.get("postgresql") or "").partition(".")[0]
    return major if major.isdigit() else "VERSION"


def _keys(settings: Settings, repository: str) -> tuple[KeyPlace, ...]:
    credentials = settings.repositories[repository].credentials
    found = []
    for use in KEYS:
        reference: SecretReference | None = getattr(credentials, use)
        if reference is not None:
            kind = "file" if reference.file is not None else "credential"
            place = str(reference.file or reference.credential)
            found.append(KeyPlace(use=use, kind=kind, reference=place))
    return tuple(found)


def as_json(plan: RecoveryPlan) -> dict[str, Any]:
    """Return the plan as JSON values: durations in milliseconds, times in ISO 8601."""
    return {
        "site": plan.site,
        "made_at": plan.made_at.isoformat(),
        "parallel": plan.forecast.parallel,
        "durable_percent": plan.forecast.durable_percent,
        "critical_path": list(plan.forecast.critical_path),
        "late": [one.back.application for one in plan.late],
        "applications": [_as_json(one) for one in plan.applications],
    }


def _as_json(one: PlannedReturn) -> dict[str, Any]:
    back, basis = one.back, one.back.basis
    return {
        "id": back.application,
        "name": one.name,
        "criticality": back.criticality.value,
        "rto_ms": back.rto_ms,
        "measured": back.measured,
        "missing": list(back.missing),
        "waits_for": list(back.waits_for),
        "behind": back.behind,
        "late": back.late,
        "start_ms": back.start_ms,
        "end_ms": back.end_ms,
        "parts_ms": {
            "steps": back.steps_ms,
            "queue": back.queue_ms,
            "fetch": back.fetch_ms,
            "load": back.load_ms,
            "durable": back.durable_ms,
            "open": back.open_ms,
        },
        "steps": [
            {"name": step.name, "duration_ms": step.duration_ms, "source": step.source}
            for step in back.steps
        ],
        "basis": None
        if basis is None
        else {
            "record": basis.seq,
            "tested_at": from_us(basis.tested_at).isoformat(),
            "repository": basis.repository,
            "engine": basis.engine,
            "level": basis.level,
            "immutable": basis.immutable,
            "failed_since": basis.failed_seq,
        },
        "copies": [
            {
                "job": copy.job,
                "repository": copy.repository,
                "type": copy.type,
                "point": copy.point,
                "point_at": copy.point_at.isoformat(),
                "bytes": copy.bytes,
                "tested_at": copy.tested_at.isoformat() if copy.tested_at else None,
                "commands": [*copy.before, *copy.fetch, *copy.load],
            }
            for copy in one.copies
        ],
        "other_copies": [
            {
                "job": other.job,
                "repository": other.repository,
                "point": other.point,
                "point_at": other.point_at.isoformat(),
            }
            for other in one.others
        ],
        "last_clean_point": _clean_as_json(one.search),
        "keys": [
            {"use": key.use, "kind": key.kind, "reference": key.reference} for key in one.keys
        ],
        "tools": dict(one.tools),
    }


def _clean_as_json(search: Search | None) -> dict[str, Any] | None:
    if search is None:
        return None
    clean = search.clean
    return {
        "clean": {
            "repository": clean.repository,
            "point": clean.point,
            "point_at": from_us(clean.at).isoformat(),
        }
        if clean is not None
        else None,
        "first_bad": {
            "repository": search.bad.repository,
            "point": search.bad.point,
            "point_at": from_us(search.bad.at).isoformat(),
        },
        "between": search.between,
        "unverified": search.unverified,
    }
