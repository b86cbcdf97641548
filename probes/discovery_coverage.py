"""Which jobs save which databases: pure, over what was found and what the configuration says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from backupguard.databases import DatabasePattern, is_here
from probes.discovery_files import without_password
from probes.discovery_found import NEEDS, Catalogue, ConfiguredJob, Database, Found, FoundJob, Plan

#: Databases every server has, that hold nobody's data.
_NOT_COUNTED = {
    "postgresql": {"template0", "template1", "postgres"},
    "mariadb": {"mysql", "information_schema", "performance_schema", "sys"},
}
_TYPES = {"pgbackrest": "pgbackrest", "barman": "barman", "bareos": "bareos"}
#: How many databases and jobs one fact holds; more are noted as a lack.
LIMIT = 5000


def judged(found: Found, plan: Plan, today: date) -> dict[str, Any]:
    """Return what was found as the payload of `discovery.seen`.

    Patterns that lead to a server nobody looked at become a lack: their databases may or may not be
    there.
    """
    for kind, several in (("databases", found.databases), ("jobs", found.jobs)):
        if len(several) > LIMIT:
            found.lack(kind, "too_many", f"{len(several)} {kind}", kind)
            del several[LIMIT:]
    links = {id(job): [one.id for one in plan.jobs if _is(job, one)] for job in found.jobs}
    missing = list(_missing(found, plan))
    databases = [
        _database(database, found, plan, links, today)
        for database in sorted(found.databases, key=_order)
    ]
    return {
        "host": found.host,
        "databases": databases,
        "jobs": [
            _job(job, links[id(job)], found)
            for job in sorted(found.jobs, key=lambda job: (job.tool, job.name, job.source))
        ],
        "lacking": [
            {
                "what": lack.what,
                "code": lack.code,
                "need": NEEDS[lack.code].format(about=lack.about),
                "about": lack.about,
                "hides": lack.hides,
            }
            for lack in sorted(found.lacking, key=lambda lack: (lack.hides, lack.what, lack.code))
        ],
        "covers_nothing": sorted({one.job for one in missing if one.configured}),
        "missing": [
            {"job": one.job, "pattern": one.pattern, "configured": one.configured}
            for one in missing
        ],
        "catalogues": sorted(str(one) for one in found.catalogues),
    }


def _order(database: Database) -> tuple[str, str, str, str]:
    return (database.host, database.engine, database.server, database.name)


def _database(
    database: Database,
    found: Found,
    plan: Plan,
    links: Mapping[int, list[str]],
    today: date,
) -> dict[str, Any]:
    savers = [job for job in found.jobs if job.enabled and _saves(job, database, found)]
    covered = {
        job.id
        for job in plan.jobs
        if any(_matches(pattern, database, found) for pattern in job.covers)
        or _holds_file(job, database, found)
    }
    covered.update(name for job in savers for name in links[id(job)])
    return {
        "engine": database.engine,
        "host": database.host,
        "server": database.server,
        "name": database.name,
        "bytes": database.bytes,
        "covered_by": sorted(covered),
        "ignored": any(
            _matches(one.pattern, database, found) and (one.until is None or today <= one.until)
            for one in plan.ignored
        ),
        "found_jobs": sorted({f"{job.tool}/{job.name}" for job in savers if not links[id(job)]}),
    }


def _job(job: FoundJob, links: list[str], found: Found) -> dict[str, Any]:
    claimed = [
        DatabasePattern(engine=one.engine, host=one.host, port=one.port, name=one.name)
        for one in job.claims
        if one.name == "*" or any(_matches(one, other, found) for other in found.databases)
    ]
    whole = [
        DatabasePattern(engine=one.engine, host=one.host, port=one.port, name="*")
        for one in found.catalogues
        if any(_is_cluster(cluster, one) for cluster in job.clusters)
    ]
    return {
        "tool": job.tool,
        "name": job.name,
        "enabled": job.enabled,
        "last_run_at": job.last_run_at,
        "configured_as": sorted(links),
        "never_ran": job.never_ran,
        "source": job.source,
        "schedule": job.schedule,
        "repositories": list(job.repositories),
        "covers": list(dict.fromkeys(map(str, (*job.covers, *claimed, *whole)))),
        "paths": list(job.paths),
        "secrets": list(dict.fromkeys(job.secrets)),
    }


# ----------------------------------------------------------------------------------- who saves what


def _matches(pattern: DatabasePattern, database: Database, found: Found) -> bool:
    return pattern.matches(database.engine, database.host, database.port, database.name, found.host)


def _saves(job: FoundJob, database: Database, found: Found) -> bool:
    if any(_matches(pattern, database, found) for pattern in (*job.covers, *job.claims)):
        return True
    if database.engine == "sqlite":
        return _below(database.name, job.paths)
    where = Catalogue(
        engine=database.engine,
        host=database.host,
        port=database.port,
        directory=database.directory,
    )
    return any(_is_cluster(one, where) for one in job.clusters)


def _is_cluster(saved: Catalogue, catalogue: Catalogue) -> bool:
    """Tell whether a saved cluster is one that was read: by data directory, unknown ones by port."""
    if (saved.engine, saved.host) != (catalogue.engine, catalogue.host):
        return False
    if catalogue.directory is None:
        return saved.port == catalogue.port
    return saved.directory == catalogue.directory.rstrip("/")


def _holds_file(job: ConfiguredJob, database: Database, found: Found) -> bool:
    """Tell whether a configured job of this host saves the directory a SQLite file lies in."""
    return (
        database.engine == "sqlite"
        and job.host is not None
        and is_here(job.host, found.host)
        and _below(database.name, job.paths)
    )


def _below(path: str, directories: Iterable[str]) -> bool:
    return any(
        PurePosixPath(path).is_relative_to(one) for one in directories if one.startswith("/")
    )


def _is(job: FoundJob, configured: ConfiguredJob) -> bool:
    """Tell whether a job that was found is this job of the configuration.

    By name where the tool names its jobs; else by the repository it writes to, unless both say which
    paths they save and these have nothing in common.
    """
    if job.tool in _TYPES and configured.type == _TYPES[job.tool]:
        return configured.name == job.name
    ours = {_normal(address) for address in configured.addresses}
    if not ours & {_normal(address) for address in job.repositories}:
        return False
    if job.paths and configured.paths:
        return any(
            _below(one, job.paths) or _below(other, [one])
            for one in configured.paths
            for other in job.paths
        )
    return True


def _normal(address: str) -> str:
    """Return an address so that two spellings of one place are equal."""
    plain = without_password(address)[0]
    plain = re.sub(r"^(rest|sftp|s3):(?=\w+://)", "", plain)
    scp = re.fullmatch(r"(?:[^@/:]+@)?([^/:@]{2,}):(?!//)(.*)", plain)
    if scp and scp[1] not in {"rest", "sftp", "s3", "rclone", "azure", "b2", "gs", "swift"}:
        plain = f"ssh://{scp[1]}/{scp[2].lstrip('/')}"
    plain = re.sub(r"^(\w+://)[^@/]*@", r"\1", plain)
    return plain.replace("/./", "/").rstrip("/") or "/"


# ------------------------------------------------------------------------------ what is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class _Missing:
    job: str
    pattern: str
    configured: bool


def _missing(found: Found, plan: Plan) -> Iterator[_Missing]:
    """Yield the databases that jobs say they save and that are not there; note what is not known."""
    for configured in plan.jobs:
        for pattern in configured.covers:
            if _is_absent(pattern, found, note=True):
                yield _Missing(job=configured.id, pattern=str(pattern), configured=True)
    for job in found.jobs:
        for pattern in job.covers if job.enabled else ():
            if _is_absent(pattern, found, note=False):
                yield _Missing(job=f"{job.tool}/{job.name}", pattern=str(pattern), configured=False)


def _is_absent(pattern: DatabasePattern, found: Found, *, note: bool) -> bool:
    """Tell whether nothing matches, and that is known: the place was looked at to its end."""
    if any(_matches(pattern, database, found) for database in found.databases):
        return False
    if any(fnmatchcase(name, pattern.name) for name in _NOT_COUNTED.get(pattern.engine, ())):
        return False
    here = is_here(pattern.host, found.host)
    host = found.host if here else pattern.host
    hidden = any(
        lack.hides == "databases"
        and (lack.what == pattern.engine or lack.what.startswith(f"{pattern.engine}/"))
        and (pattern.engine == "sqlite" or lack.what.split("/")[1:2] in ([], [host]))
        for lack in found.lacking
    )
    if hidden:
        return False
    looked = here or any(
        catalogue.engine == pattern.engine
        and pattern.is_on(catalogue.host, found.host)
        and (pattern.port is None or pattern.port == catalogue.port)
        for catalogue in found.catalogues
    )
    if not looked and note:
        port = f":{pattern.port}" if pattern.port else ""
        place = f"{pattern.engine}://{pattern.host}{port}"
        found.lack(f"{pattern.engine}/{pattern.host}", "not_declared", place, "databases")
    return looked
