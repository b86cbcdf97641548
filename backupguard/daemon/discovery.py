"""The task `discovery`: what the settings say to the probe, and which of its facts are news."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupguard import plugins
from backupguard.contracts import RepositorySettings
from backupguard.databases import parse_database_pattern
from backupguard.model import SITE, Json, Observation, Verdict
from backupguard.runs import ConfiguredRepositories, RunContext, TaskContext, utc_now
from probes.discovery_found import (
    Application,
    ConfiguredJob,
    Ignored,
    Plan,
    ReferencePlan,
    Server,
)

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.settings.discovery import Reference

_PORTS = {"postgresql": 5432, "mariadb": 3306}
#: Keys under which types of repositories say where they lie.
_ADDRESSES = ("url", "path", "repository", "location", "endpoint", "bucket")
#: What changes without anything having changed.
_RESTLESS = frozenset({"bytes", "last_run_at", "need"})
#: The code of a run's end, by what was lacking.
_CODES = {
    "program_missing": "program_missing",
    "secret": "secret_missing",
    "unreachable": "refused",
    "tls": "tls",
    "timeout": "timeout",
    "not_found": "not_found",
    "not_declared": "not_found",
    "unparsable": "output_unparsable",
    "half_written": "output_unparsable",
}


def discovery(task: TaskContext) -> tuple[Verdict, str | None]:
    """Look at what runs and what is backed up; record it where it differs, and once a day."""
    probe = plugins.probe("discovery")
    plan = plan_of(task.settings)
    lacking: list[str] = []
    for item in probe.observe(SITE, task.repositories(), task.context, plan):
        assert isinstance(item, Observation)
        if item.kind == "discovery.seen":
            lacking = [one["code"] for one in item.data["lacking"]]
        if _is_news(item, task.context):
            task.record(item)
    if lacking:
        return Verdict.COULD_NOT_VERIFY, _CODES.get(lacking[0], "permission")
    return Verdict.PASSED, None


def _is_news(seen: Observation, context: RunContext) -> bool:
    before = context.known.latest(seen.kind, seen.subject)
    if before is None or before.observation.observed_at.date() != seen.observed_at.date():
        return True
    return bool(_settled(before.observation.data) != _settled(seen.data))


def _settled(value: Json) -> Json:
    """Return a payload without what changes at every look: sizes, times of last runs."""
    if isinstance(value, Mapping):
        return {key: _settled(inner) for key, inner in value.items() if key not in _RESTLESS}
    return [_settled(inner) for inner in value] if isinstance(value, list) else value


def look_unconfigured(settings: Settings) -> Mapping[str, Any]:
    """Look at a host that has no configuration yet; return what `discovery.seen` would hold.

    `settings` are the defaults. Nothing is recorded and nothing stays on the disk.
    """
    from backupguard.http import BoundedHttp
    from backupguard.processes import Cancellation, Jail

    cancel = Cancellation()
    with tempfile.TemporaryDirectory(prefix="backupguard-") as name:
        work = Path(name)
        context = RunContext(
            tools=Jail(work, cancel),
            http=BoundedHttp(cancel=cancel),
            cancel=cancel,
            known=_NOTHING_KNOWN,
            work=work,
            cache=work / "cache",
            clock=utc_now,
            report=lambda _done, _total, _unit: None,
        )
        nowhere = ConfiguredRepositories(settings=settings, context=context)
        seen = plugins.probe("discovery").observe(SITE, nowhere, context, plan_of(settings))
        data: Mapping[str, Any] = next(item.data for item in seen if isinstance(item, Observation))
    return data


class _NothingKnown:
    """`contracts.Known` without a store: discovery asks it nothing."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


_NOTHING_KNOWN: Any = _NothingKnown()


def plan_of(settings: Settings) -> Plan:
    """Return what the settings say to discovery."""
    look = settings.discovery
    return Plan(
        jobs=tuple(_jobs(settings)),
        servers=tuple(
            Server(
                id=name,
                engine=engine,
                host=server.host,
                port=server.port or _PORTS[engine],
                user=server.user,
                database=server.database,
                tls=server.tls,
                ca=server.ca,
                reader=server.credentials.reader,
            )
            for name, server in look.servers.items()
            for engine in ["mariadb" if server.engine == "mysql" else server.engine]
        ),
        ignored=tuple(
            Ignored(pattern=parse_database_pattern(one.pattern), until=one.until)
            for one in look.ignore
        ),
        roles={str(engine): role for engine, role in look.roles.items()},
        sqlite=look.sqlite,
        own=settings.state_directory.absolute(),
        applications=tuple(
            Application(
                id=name,
                names=(
                    *(name, owner.name, *owner.aliases),
                    *(job.select.host for job in owner.backups.values() if job.select.host),
                ),
            )
            for name, owner in settings.applications.items()
        ),
        reference=_reference(settings.reference) if settings.reference is not None else None,
    )


def _jobs(settings: Settings) -> Iterator[ConfiguredJob]:
    for application, owner in settings.applications.items():
        for name, job in owner.backups.items():
            place = settings.repositories[job.repository]
            yield ConfiguredJob(
                id=f"{application}.{name}",
                repository=job.repository,
                type=place.type,
                addresses=tuple(_addresses(place)),
                name=job.select.name,
                host=job.select.host,
                paths=job.select.paths,
                covers=tuple(parse_database_pattern(text) for text in job.covers),
            )


def _addresses(place: RepositorySettings) -> Iterator[str]:
    for key in _ADDRESSES:
        value = getattr(place, key, None)
        if isinstance(value, str | Path) and str(value):
            yield str(value)


def _reference(reference: Reference) -> ReferencePlan:
    columns = reference.columns
    return ReferencePlan(
        file=reference.file,
        name=columns.name,
        id=columns.id,
        host=columns.host,
        kind=columns.kind,
        date=columns.date,
        kinds=reference.kinds,
        delimiter=reference.delimiter,
        encoding=reference.encoding,
        dated=reference.dated,
        date_format=reference.date_format,
        max_age=reference.max_age,
    )
