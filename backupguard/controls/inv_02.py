"""INV-02: do the base services and the backup infrastructure itself have recent copies elsewhere?

Each of the closed list of services is provided by a declared application, or declared as not existing
here with a reason. Its newest point must be recent enough, and stored elsewhere than where it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.controls.copies import Copy, Why, why_not
from backupguard.model import Judgement, Policy, Scope, Severity, View, to_us

#: The services, and the name of the threshold of each one's age.
SERVICES: Mapping[str, str] = {
    "directory": "directory-age",
    "backup-catalogue": "catalogue-age",
    "dns": "other-age",
    "pki": "other-age",
    "vault": "other-age",
    "hypervisor": "other-age",
    "network": "other-age",
}
#: Without these nothing else comes back.
_FIRST = frozenset({"directory", "backup-catalogue"})
_UNFIT = frozenset({Why.BROKEN, Why.UNPROVEN, Why.SNAPSHOT})


class CoreServices:
    """Judges the age and place of each base service's newest copy."""

    id: ClassVar[str] = "INV-02"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected", "repository.confirmed"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        provided = view.known.get("services")
        provided = provided if isinstance(provided, Mapping) else {}
        without = set(view.settings.get("without") or ())
        missing = [name for name in SERVICES if name not in provided and name not in without]
        if len(missing) == len(SERVICES):
            return facts.never_set_up("reason.INV-02.nothing_declared")
        found = [
            _service(service, one, policy, now)
            for service, providers in provided.items()
            if service in SERVICES
            for one in providers
        ]
        if missing:
            found.append(
                facts.never_set_up("reason.INV-02.undeclared", services=", ".join(missing))
            )
        if not found or all(one.status == "compliant" for one in found):
            return facts.compliant(
                "reason.INV-02.saved", count=len(provided), absent=len(without - set(provided))
            )
        return facts.worst_of(found)


def _service(service: str, provider: Mapping[str, Any], policy: Policy, now: datetime) -> Judgement:
    """Judge one base service of one application."""
    urgent = Severity.CRITICAL if service in _FIRST else Severity.HIGH
    said: dict[str, int | str] = {
        "service": f"@service.{service}",
        "application": str(provider.get("application")),
    }
    copies = [copy for copy in provider.get("copies") or () if isinstance(copy, Mapping)]
    if not copies:
        return facts.non_compliant(urgent, "reason.INV-02.no_job", **said)
    production = provider.get("production")
    whys = {id(copy): why_not(copy, production, now) for copy in copies}
    fit = [copy for copy in copies if whys[id(copy)] not in _UNFIT]
    if not fit:
        unproven = [copy for copy in copies if whys[id(copy)] is Why.UNPROVEN]
        if unproven:
            return facts.unproven(str(unproven[0].get("repository")))
        return facts.non_compliant(urgent, "reason.INV-02.no_sound_copy", **said)
    age_s = facts.seconds(policy, SERVICES[service]) + (facts.number(provider.get("grace_s")) or 0)
    elsewhere = [copy for copy in fit if _elsewhere(copy, production)]
    known_elsewhere = bool(elsewhere)
    if not known_elsewhere:
        if all(copy.get("domain") is not None and production is not None for copy in fit):
            return facts.non_compliant(urgent, "reason.INV-02.same_place", **said)
        elsewhere = [copy for copy in fit if copy.get("domain") is None or production is None]
    aged = _aged(elsewhere, urgent, policy, now, age_s, said)
    if aged is not None:
        return aged
    if not known_elsewhere:
        return facts.never_set_up("reason.INV-02.place_undeclared", **said)
    return facts.compliant("reason.INV-02.saved", count=1, absent=0)


def _elsewhere(copy: Copy, production: object) -> bool:
    domain = copy.get("domain")
    return production is not None and domain is not None and domain != production


def _aged(
    copies: list[Copy],
    urgent: Severity,
    policy: Policy,
    now: datetime,
    age_s: int,
    said: Mapping[str, int | str],
) -> Judgement | None:
    """Judge the age of the newest of these copies; None while it is recent enough."""
    times = [at for copy in copies if (at := facts.number(copy.get("newest_at"))) is not None]
    unseen = [copy for copy in copies if facts.number(copy.get("seen_at")) is None]
    if not times:
        if unseen:
            return facts.never_set_up(
                "reason.never_seen",
                repository=str(unseen[0].get("repository")),
                code=facts.code(unseen[0]),
            )
        return facts.non_compliant(urgent, "reason.INV-02.no_point", **said)
    lapse = max(times) + age_s * facts.SECOND
    if to_us(now) <= lapse:
        return None
    newest: dict[str, int | str] = {**said, "newest_at": max(times)}
    blind = [copy for copy in copies if (facts.number(copy.get("seen_at")) or 0) <= lapse]
    if blind:
        repository = str(blind[0].get("repository"))
        own = replace(policy, severity=urgent)
        return facts.lost(own, now, lapse, "reason.INV-02.unseen", **newest, repository=repository)
    return facts.non_compliant(urgent, "reason.INV-02.old", **newest)
