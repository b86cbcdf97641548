"""ACC-01: who can do what to the backups, and how strongly that is guarded.

What a person alone can know (strong authentication on consoles, how many administrators) is attested,
and an unsigned statement is never enough for compliance. The rest is observed: accounts with more
rights than they need, secrets that nobody changed for a year.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, Policy, Scope, View, to_us

#: The daily look at secrets may be missed this long before it is a loss of sight.
_LOOK_S = 3 * 86_400
_ADMINISTRATOR = "administrator_credential"


class PrivilegedAccess:
    """Judges the accounts and secrets of everything that keeps backups."""

    id: ClassVar[str] = "ACC-01"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset(
        {"repository.inspected", "immutability.tried", "secrets.seen", "attestation.made"}
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        consoles = _consoles(view)
        if not consoles:
            return facts.never_set_up("reason.ACC-01.no_repository")
        parts = [
            *_administrators(view, policy),
            *_secrets(view, policy, now),
            *_attested(view, policy, now, consoles),
        ]
        if parts:
            return facts.worst_of(parts)
        admins = facts.attested(view, "admins") or {}
        return facts.compliant(
            "reason.ACC-01.kept",
            view.latest.get("secrets.seen"),
            consoles=len(consoles),
            admins=facts.number(_values(admins).get("count")) or _counted(view),
        )


def _repositories(view: View) -> Mapping[str, str]:
    """Return the type of every configured repository, by id."""
    found: Mapping[str, str] = view.settings.get("repositories") or {}
    return found


def _consoles(view: View) -> dict[str, list[str]]:
    """Return per type of repository in use, whose console somebody administers, its repositories."""
    found: dict[str, list[str]] = {}
    for name, kind in sorted(_repositories(view).items()):
        found.setdefault(kind, []).append(name)
    return found


# ----------------------------------------------------------------------------------------- observed


def _administrators(view: View, policy: Policy) -> Iterator[Judgement]:
    """Yield what is wrong with the rights of the accounts that are used."""
    for name in sorted(_repositories(view)):
        inspected = view.latest.get(f"repository.inspected/repository/{name}")
        if _ADMINISTRATOR in (facts.data(inspected).get("warnings") or ()):
            yield _too_much(policy, "reader", name, inspected)
        tried = view.latest.get(f"immutability.tried/repository/{name}")
        if facts.data(tried).get("credentials") == "administrator":
            yield _too_much(policy, "writer", name, tried)


def _too_much(policy: Policy, use: str, repository: str, fact: Fact | None) -> Judgement:
    return facts.non_compliant(
        policy.severity, f"reason.ACC-01.administrator_{use}", fact, repository=repository
    )


def _secrets(view: View, policy: Policy, now: datetime) -> Iterator[Judgement]:
    """Yield what is wrong with the secrets of technical accounts."""
    look = facts.not_in_future(view.latest.get("secrets.seen"), now)
    if look is None:
        yield facts.never_set_up("reason.ACC-01.unseen")
        return
    yield from _look_lost(look, policy, now)
    found = facts.data(look)
    names = _repositories(view)
    unknown: list[str] = []
    for secret in found.get("secrets") or ():
        if secret["repository"] not in names:
            continue
        written_at = facts.number(secret.get("written_at"))
        if written_at is None or written_at > facts.seen_at(look) + facts.CLOCK_TOLERANCE:
            unknown.append(secret["repository"])
        elif to_us(now) - written_at > facts.seconds(policy, "secret-age") * facts.SECOND:
            yield facts.non_compliant(
                policy.severity, "reason.ACC-01.old_secret", look,
                repository=secret["repository"], use=secret["use"], written_at=written_at,
            )  # fmt: skip
    for name in found.get("shared") or ():
        if name in names:
            yield facts.warning("reason.ACC-01.shared_secret", look, repository=name)
    if unknown:
        yield from _statement(view, policy, now, "secrets", None, "rotation", repository=unknown[0])


def _look_lost(look: Fact, policy: Policy, now: datetime) -> Iterator[Judgement]:
    until = facts.seen_at(look) + _LOOK_S * facts.SECOND
    if to_us(now) > until:
        yield facts.lost(
            policy, now, until, "reason.ACC-01.look_lost", look, seen_at=facts.seen_at(look)
        )


# ----------------------------------------------------------------------------------------- attested


def _attested(
    view: View, policy: Policy, now: datetime, consoles: Mapping[str, list[str]]
) -> Iterator[Judgement]:
    """Yield what is missing or wrong in what people stated."""
    for kind, repositories in consoles.items():
        own = [name for name in repositories if facts.attested(view, "mfa", name)]
        if len(own) == len(repositories) and not facts.attested(view, "mfa", kind):
            for name in own:
                yield from _mfa(view, policy, now, name)
        else:
            yield from _mfa(view, policy, now, kind)
    counted = sorted(
        key.partition("/")[2]
        for key in view.known.get("attestations") or {}
        if key.startswith("admins/")
    )
    for name in counted or [None]:
        yield from _statement(view, policy, now, "admins", name, "admins")


def _mfa(view: View, policy: Policy, now: datetime, name: str) -> Iterator[Judgement]:
    """Yield what is wrong with strong authentication on one console."""
    stated = facts.attested(view, "mfa", name)
    demanded = facts.count(policy, "mfa", 100)
    percent = facts.number(_values(stated or {}).get("percent"))
    if stated is not None and percent is not None and percent < demanded:
        yield _resting_on(
            stated,
            facts.non_compliant(
                policy.severity, "reason.ACC-01.mfa_partial", console=name, percent=percent
            ),
        )
    yield from _statement(view, policy, now, "mfa", name, "mfa", console=name)


def _statement(
    view: View,
    policy: Policy,
    now: datetime,
    topic: str,
    name: str | None,
    reason: str,
    **values: int | str,
) -> Iterator[Judgement]:
    """Yield what a statement lacks: it was never made, its day has passed, nobody signed it."""
    stated = facts.attested(view, topic, name)
    if stated is None:
        yield facts.never_set_up(f"reason.ACC-01.{reason}_unstated", **values)
        return
    expires_at = int(stated["expires_at"])
    if to_us(now) >= expires_at:
        judgement = facts.lost(
            policy, now, expires_at, f"reason.ACC-01.{reason}_expired",
            expired_at=expires_at, **values,
        )  # fmt: skip
        yield _resting_on(stated, judgement)
    if not stated["authenticated"]:
        who = str(stated.get("person") or stated.get("author") or "—")
        yield _resting_on(
            stated, facts.warning(f"reason.ACC-01.{reason}_unsigned", by=who, **values)
        )


def _resting_on(stated: Mapping[str, Any], judgement: Judgement) -> Judgement:
    return replace(judgement, facts=(int(stated["seq"]),))


def _values(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = stated.get("values") or {}
    return found


def _counted(view: View) -> int:
    """Return the administrators of all consoles that were counted one by one."""
    standing = view.known.get("attestations") or {}
    counts = (
        _values(one).get("count") for key, one in standing.items() if key.startswith("admins/")
    )
    return sum(count for count in map(facts.number, counts) if count is not None)
