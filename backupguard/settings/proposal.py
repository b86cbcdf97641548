"""Proposes configuration for what discovery found and the configuration does not know yet.

What is proposed passes `config check`, alone where there is no configuration and as a file of
`conf.d/` where there is one. It is a beginning: what only people know (criticality, promises) says so.
"""

from __future__ import annotations

import json
import re
import socket
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from backupguard import plugins
from backupguard.databases import DatabasePattern
from backupguard.errors import MissingMeans
from backupguard.settings.model import Settings, Site
from backupguard.settings.schedule import parse_cron

Data = Mapping[str, Any]

#: Which type of repository a tool's copies are in.
_TYPE_OF = {"borgmatic": "borg", "pgbackrest": "pgbackrest", "barman": "barman"}
#: Keys under which types of repositories take an address; the first that a type accepts is used.
_ADDRESS_KEYS = ("url", "path", "repository")
_NAMED = ("pgbackrest", "barman")  # their jobs are told apart by name
_NEEDS_PASSWORD = ("restic", "borg")


def defaults() -> Settings:
    """Return the settings of a host without a configuration."""
    return Settings(site=Site(name=socket.gethostname()))


def address(database: Data) -> str:
    """Return a database of `discovery.seen` as `covers` names it."""
    server = str(database["server"])
    port = (
        int(server)
        if server.isdigit() and database["engine"] in {"postgresql", "mariadb"}
        else None
    )
    return str(
        DatabasePattern(
            engine=database["engine"], host=database["host"], port=port, name=database["name"]
        )
    )


def identifier(text: str, taken: Collection[str]) -> str:
    """Return a valid id made of a text, different from those that are taken."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].strip("-") or "x"
    number, found = 1, stem
    while found in taken:
        number += 1
        found = f"{stem}-{number}"
    return found


def proposal(
    seen: Data, settings: Settings | None, *, site: Mapping[str, str] | None = None
) -> str:
    """Return TOML for what `discovery.seen` shows and the settings lack.

    `settings` None: there is no configuration, and what is returned is a whole one, with the keys of
    `site`, or with the host's name where nobody said how the site is called.
    """
    draft = _Draft(
        repositories=set(settings.repositories) if settings else set(),
        applications=set(settings.applications) if settings else set(),
    )
    for line in _heading(seen, settings):
        draft.line(f"# {line}")
    if settings is None:
        draft.line("")
        draft.line("[site]")
        for key, value in (site or {"name": str(seen["host"])}).items():
            draft.line(f"{key} = {_quoted(value)}")
    jobs = {
        f"{job['tool']}/{job['name']}": job
        for job in seen["jobs"]
        if not job["configured_as"] and job["enabled"]
    }
    places = {name: list(_places(name, job, draft)) for name, job in jobs.items()}
    done: set[str] = set()
    for database in seen["databases"]:
        if database["ignored"] or database["covered_by"]:
            continue
        savers = [name for name in database.get("found_jobs") or () if name in jobs]
        done.update(savers)
        _application(draft, database, [(jobs[name], places[name]) for name in savers])
    for name, job in jobs.items():
        if name not in done and places[name]:
            _application(draft, None, [(job, places[name])])
    return "\n".join(draft.lines) + "\n"


@dataclass(slots=True, kw_only=True)
class _Draft:
    repositories: set[str]
    applications: set[str]
    lines: list[str] = field(default_factory=list)
    made: dict[tuple[str, str], str] = field(default_factory=dict)  # type, address → id

    def line(self, text: str) -> None:
        """Add a line; nothing in it may end it early."""
        self.lines.append(re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "\ufffd", text))


def _heading(seen: Data, settings: Settings | None) -> Iterator[str]:
    yield f"Proposed by `backupguard discover --toml` on {seen['host']}."
    if settings is None:
        yield "Put it into /etc/backupguard/backupguard.toml, complete it, and check it:"
    else:
        yield "Put it into a file of conf.d/ beside the configuration, complete it, and check it:"
    yield "  backupguard config check"
    for one in seen["lacking"]:
        yield f"Not looked at: {one['what']}: needs {one['need']}"


def _places(name: str, job: Data, draft: _Draft) -> Iterator[str]:
    """Yield the ids of the repositories that a job writes to, proposing the new ones."""
    addresses = list(job.get("repositories") or ())
    kind = _TYPE_OF.get(job["tool"]) or _kind_of(name, addresses)
    if kind is None:
        return
    for where in addresses if kind not in _NAMED else ["".join(addresses[:1])]:
        made = draft.made.get((kind, where))
        if made is None:
            made = _repository(kind, where, job, draft)
        if made is not None:
            draft.made[kind, where] = made
            yield made


def _kind_of(name: str, addresses: Sequence[str]) -> str | None:
    """Return the type of what a cron line or timer calls, as its name ends: "backup:3 restic"."""
    tool = name.rpartition(" ")[2]
    return tool if tool in {"restic", "borg"} and addresses else None


def _repository(kind: str, where: str, job: Data, draft: _Draft) -> str | None:
    """Propose a repository; a type that is not there, or wants more than is known, is a comment."""
    draft.line("")
    draft.line(f"# from {job.get('source') or job['name']}")
    for place in job.get("secrets") or ():
        draft.line(f"# a secret stands in {place}: put it into a credential or a file of mode 0600")
    tail = re.sub(r".*://[^/]*/?", "", where).rstrip("/").rpartition("/")[2]
    made = identifier(
        f"{kind}-{tail or job['name']}" if kind not in _NAMED else kind, draft.repositories
    )
    table = _accepted(kind, where, made)
    if table is None:
        draft.line(f"# {kind} at {where or job['name']}: declare it by hand, see the documentation")
        return None
    draft.repositories.add(made)
    draft.line(f"[repositories.{made}]")
    for key, value in table.items():
        draft.line(f"{key} = {_quoted(value)}")
    return made


def _accepted(kind: str, where: str, made: str) -> dict[str, str] | None:
    """Return the table that the type's own settings accept, or None."""
    if kind not in plugins.names(plugins.REPOSITORIES):
        return None
    try:
        model = plugins.repository_type(kind).settings
    except MissingMeans:
        return None
    secret = {"credentials": {"reader": {"credential": made}}}
    for key in (*_ADDRESS_KEYS, None):
        table = {"type": kind} | ({key: where} if key is not None and where else {})
        if key is None and kind not in _NAMED:
            continue
        for more in (secret, {}) if kind in _NEEDS_PASSWORD else ({}, secret):
            try:
                model.model_validate({**table, **more})
            except ValidationError:
                continue
            return table | ({"credentials.reader.credential": made} if more else {})
    return None


def _application(
    draft: _Draft, database: Data | None, savers: Sequence[tuple[Data, Sequence[str]]]
) -> None:
    name = str(database["name"]) if database else str(savers[0][0]["name"])
    short = (
        name.rstrip("/").rpartition("/")[2] if database and database["engine"] == "sqlite" else name
    )
    made = identifier(short, draft.applications)
    draft.applications.add(made)
    draft.line("")
    if database is not None:
        draft.line(f"# {address(database)}")
        if not savers:
            draft.line("# no backup job saves it")
    draft.line(f"[applications.{made}]")
    draft.line(f"name = {_quoted(short)}")
    draft.line('criticality = "C3"  # C1 vital, C2 important, C3 standard: decide')
    taken: set[str] = set()
    for job, places in savers:
        if not places:
            draft.line(f"# saved by {job['tool']}/{job['name']} ({job.get('source', '')})")
        for place in places:
            _backup(draft, made, database, job, place, taken)


def _backup(
    draft: _Draft, application: str, database: Data | None, job: Data, place: str, taken: set[str]
) -> None:
    made = identifier(str(job["tool"] if job["tool"] != "cron" else "backup"), taken)
    taken.add(made)
    draft.line("")
    draft.line(f"# from {job.get('source') or job['name']}")
    draft.line(f"[applications.{application}.backups.{made}]")
    draft.line(f"repository = {_quoted(place)}")
    if job["tool"] in _NAMED:
        draft.line(f"select.name = {_quoted(job['name'])}")
    if database is not None:
        draft.line(f"covers = [{_quoted(address(database))}]")
    schedule = str(job.get("schedule") or "")
    if _is_cron(schedule):
        draft.line(f"schedule = {_quoted(schedule)}")
    else:
        draft.line('every = "24h"  # assumed')


def _is_cron(text: str) -> bool:
    try:
        parse_cron(text)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> str:
    """Return a text as TOML: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
