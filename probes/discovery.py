"""What runs on this host and on the declared servers, and which of it no backup job covers.

Databases are looked for by what runs, jobs by what tools are set up to do; neither asks the other, so
that what one does not know of shows. What may not be looked at is said, and never taken for nothing.
"""

from __future__ import annotations

import os
import pwd
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from backupguard.contracts import Context, ProbeSettings, Repositories, Secret
from backupguard.errors import BackupGuardError, Cancelled
from backupguard.model import Listing, Observation, Scope, Subject
from probes import (
    discovery_borgmatic,
    discovery_coverage,
    discovery_cron,
    discovery_host,
    discovery_mariadb,
    discovery_openldap,
    discovery_postgresql,
    discovery_reference,
    discovery_sqlite,
    discovery_systemd,
    discovery_tools,
)
from probes.discovery_found import Found, Plan, Server
from probes.discovery_host import Host

log = structlog.get_logger(__name__)


class Discovery:
    """Probe `discovery`: one `discovery.seen`, and a `reference.loaded` where there is a reference."""

    name = "discovery"
    scope = Scope.SITE
    settings: type[ProbeSettings] = ProbeSettings

    def observe(
        self,
        subject: Subject,
        repositories: Repositories,  # noqa: ARG002 - it looks at hosts, not at copies
        context: Context,
        settings: Any,
    ) -> Iterator[Observation | Listing]:
        """Yield what runs and what is backed up here. `settings` is a `Plan`, or says nothing.

        Raises Cancelled; everything else that goes wrong is a `lacking` entry.
        """
        plan = settings if isinstance(settings, Plan) else Plan()
        yield from look(subject, plan, discovery_host.look(), context)


def look(subject: Subject, plan: Plan, host: Host, context: Context) -> Iterator[Observation]:
    """Yield the observations about `host` under a plan."""
    found = Found(host=host.name)
    if not host.sees_all:
        # Sockets show all the same; a server without one would be missed.
        found.lack("processes", "processes", "ProtectProc=default", "databases")
    steps = _steps(plan, host, found, context)
    for number, (name, step) in enumerate(steps):
        context.cancel.raise_if_set()
        context.progress(number, len(steps), "sources")
        _guarded(name, step, found)
    reference = None
    if plan.reference is not None:
        reference = discovery_reference.load(
            plan.reference, plan.applications, context.now(), found
        )
    data = discovery_coverage.judged(found, plan, context.now().date())
    context.progress(len(steps), len(steps), "sources")
    for kind, payload in (("discovery.seen", data), ("reference.loaded", reference)):
        if payload is not None:
            yield Observation(
                kind=kind,
                subject=subject,
                observed_at=context.now(),
                data=payload,
                key=f"{kind}/{context.work.name}",
            )


def _guarded(name: str, step: Callable[[], None], found: Found) -> None:
    """Take one step; a mistake in it must neither hide the others nor pass for nothing found."""
    try:
        step()
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - told as a lack
        # Its text may quote a configuration file, and with it a secret: only the places are logged.
        places = [
            f"{one.filename}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)
        ]
        log.error("discovery.bug", part=name, error=type(error).__name__, places=places)
        hides = "databases" if name in _ENGINES else "jobs"
        found.lack(name, "bug", name, hides)


_ENGINES = ("postgresql", "mariadb", "openldap", "sqlite", "servers")


def _steps(
    plan: Plan, host: Host, found: Found, context: Context
) -> list[tuple[str, Callable[[], None]]]:
    etc = plan.places.etc
    own = [
        pattern.name
        for job in plan.jobs
        for pattern in job.covers
        if pattern.engine == "sqlite" and pattern.is_on(host.name, host.name)
    ]
    steps: list[tuple[str, Callable[[], None]]] = [
        (
            "postgresql",
            lambda: discovery_postgresql.local(host, _role(plan, "postgresql"), found, context),
        ),
        ("mariadb", lambda: discovery_mariadb.local(host, _role(plan, "mariadb"), found, context)),
        ("openldap", lambda: discovery_openldap.local(host, etc, found, context)),
        ("sqlite", lambda: discovery_sqlite.look(plan.sqlite, host, plan.own, found, own)),
        ("borgmatic", lambda: discovery_borgmatic.look(etc, found)),
        ("systemd", lambda: discovery_systemd.look(plan.places.systemd, found, context)),
        ("cron", lambda: discovery_cron.look(etc, plan.places.crontabs, found)),
        ("pgbackrest", lambda: discovery_tools.pgbackrest(etc, found)),
        ("barman", lambda: discovery_tools.barman(etc, found)),
        ("bareos", lambda: discovery_tools.bareos(etc, found)),
    ]
    steps += [("servers", _declared(server, found, context)) for server in plan.servers]
    return steps


def _role(plan: Plan, engine: str) -> str:
    """Return the role for local servers: the configured one, else the user that we are."""
    configured = plan.roles.get(engine)
    if configured:
        return configured
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "backupguard"


def _declared(server: Server, found: Found, context: Context) -> Callable[[], None]:
    """Return the step that reads a declared server's catalogue with its reader's secret."""

    def step() -> None:
        engine = discovery_postgresql if server.engine == "postgresql" else discovery_mariadb
        password: Secret | None = None
        if server.reader is not None:
            try:
                password = context.secret(server.reader)
            except BackupGuardError:
                what = f"{engine.ENGINE}/{server.host.lower()}/{server.port}"
                name = f"discovery.servers.{server.id}.credentials.reader"
                found.lack(what, "secret", name, "databases")
                return
        engine.declared(server, password, found, context)

    return step


DISCOVERY = Discovery()
