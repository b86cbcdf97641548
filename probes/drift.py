"""Were policies or protections weakened since they were last seen?

What tools of this host are set up to do, who may administer it, and what repositories say of their
own protection is compared with the last look. What cannot be read weakens nothing: what it said last
stands, and that it could not be read is said.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from backupguard.contracts import Context, ProbeSettings, Repositories
from backupguard.errors import Cancelled
from backupguard.model import Observation, Scope, Subject
from probes import (
    discovery_host,
    drift_accounts,
    drift_borgmatic,
    drift_jobs,
    drift_protection,
    drift_tools,
)
from probes.discovery_host import Host
from probes.drift_found import Plan, Policies
from probes.drift_rules import Value, compare, place_of, standing

log = structlog.get_logger(__name__)


class DriftSettings(ProbeSettings):
    """Settings of the probe `drift`."""


class Drift:
    """Probe `drift`: a `policy.changed` where anything differs, and a `policy.seen`."""

    name = "drift"
    scope = Scope.SITE
    settings: type[ProbeSettings] = DriftSettings

    def observe(
        self,
        subject: Subject,
        repositories: Repositories,  # noqa: ARG002 - it looks at policies, not at copies
        context: Context,
        settings: Any,
    ) -> Iterator[Observation]:
        """Yield what changed, then what stands. `settings` is a `Plan`, or says nothing.

        Raises Cancelled; everything else that goes wrong is named in `unread`.
        """
        plan = settings if isinstance(settings, Plan) else Plan()
        yield from look(subject, plan, discovery_host.look, context)


def look(
    subject: Subject, plan: Plan, host: Callable[[], Host], context: Context
) -> Iterator[Observation]:
    """Yield the observations about this host under a plan."""
    policies = read(plan, host(), context)
    before = plan.before
    after = _standing(plan, policies)
    if before is not None and compare(before, after):
        # A file that is being written looks like one that lost its end: it is read again.
        context.cancel.wait(plan.settle_s)
        context.cancel.raise_if_set()
        again = read(plan, host(), context)
        policies = _settled(policies, again)
        after = _standing(plan, policies)
    now = context.now()
    if before is not None and (changes := compare(before, after)):
        yield Observation(
            kind="policy.changed",
            subject=subject,
            observed_at=now,
            data={"changes": changes, "from_seq": plan.from_seq},
            key=f"policy.changed/{context.work.name}",
        )
    yield Observation(
        kind="policy.seen",
        subject=subject,
        observed_at=now,
        data={"items": after, "unread": sorted(policies.unread)},
        key=f"policy.seen/{context.work.name}",
    )


def _standing(plan: Plan, policies: Policies) -> dict[str, Value]:
    return standing(plan.before or {}, policies.items, policies.unread | policies.absent)


def _settled(first: Policies, again: Policies) -> Policies:
    """Return the second reading without the places that changed between the two: they are unread."""
    paths = {*first.items, *again.items}
    restless = {place_of(item) for item in paths if first.items.get(item) != again.items.get(item)}
    return Policies(
        items={i: value for i, value in again.items.items() if place_of(i) not in restless},
        unread={*again.unread, *(place.removesuffix("|") for place in restless)},
        absent=again.absent,
    )


def read(plan: Plan, host: Host, context: Context) -> Policies:
    """Return what all sources say now."""
    policies, etc = Policies(), plan.places.etc
    sources: dict[str, Callable[[], None]] = {
        "borgmatic": lambda: drift_borgmatic.look(etc, policies),
        "pgbackrest": lambda: drift_tools.pgbackrest(etc, policies),
        "barman": lambda: drift_tools.barman(etc, policies),
        "bareos": lambda: drift_tools.bareos(etc, policies),
        "cron": lambda: drift_jobs.cron(plan.places, policies),
        "systemd": lambda: drift_jobs.systemd(plan.places, policies, context),
        "rest-server": lambda: drift_jobs.rest_server(host, policies),
        "accounts": lambda: drift_accounts.look(etc, policies),
        "protection": lambda: drift_protection.look(plan.protections, policies),
        "repository": lambda: drift_protection.encryption(plan.encrypted, policies),
    }
    for number, (name, source) in enumerate(sources.items()):
        context.cancel.raise_if_set()
        context.progress(number, len(sources), "sources")
        _guarded(name, source, policies)
    context.progress(len(sources), len(sources), "sources")
    policies.unread |= {
        name
        for name in policies.unread_if_known
        if any(item.startswith(name) for item in plan.before or ())
    }
    return policies


def _guarded(name: str, source: Callable[[], None], policies: Policies) -> None:
    """Read one source; a mistake in it must neither hide the others nor pass for a weakening."""
    try:
        source()
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - told as unread
        # Its text may quote a configuration file, and with it a secret: only the places are logged.
        places = [
            f"{one.filename}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)
        ]
        log.error("drift.bug", part=name, error=type(error).__name__, places=places)
        policies.lack(name)


DRIFT = Drift()
