"""Repositories and offline media as a report shows them: read, verified, protected, proved away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from backupguard.assess.declared_estate import Estate
from backupguard.controls.imm_02 import UNTESTED
from backupguard.model import Fact, Origin, Verdict, from_us, medium_subject, repository_subject
from backupguard.reports.history import History
from backupguard.reports.model import RepositoryRow
from backupguard.reports.outlook import AttackerRow, OfflineRow, ProtectionRow
from backupguard.reports.statement_rows import AttestationRow
from backupguard.reports.tested import payload

_MS = timedelta(milliseconds=1)
_KINDS = frozenset(
    {"repository.inspected", "repository.verified", "inventory.listed", "inventory.confirmed"}
)


def repository_rows(estate: Estate, history: History) -> tuple[RepositoryRow, ...]:
    """Return every repository that is declared or was ever looked at."""
    prefix = repository_subject("")
    recorded = {
        subject.removeprefix(prefix)
        for subject, kinds in history.latest.items()
        if subject.startswith(prefix) and kinds.keys() & _KINDS
    }
    return tuple(
        _repository(name, estate, history) for name in sorted(recorded | set(estate.repositories))
    )


def _repository(name: str, estate: Estate, history: History) -> RepositoryRow:
    facts = history.latest.get(repository_subject(name), {})
    declared = estate.repositories.get(name)
    inspected = facts.get("repository.inspected")
    verified = facts.get("repository.verified")
    state = payload(inspected) if inspected else {}
    check = payload(verified) if verified else {}
    complete = check.get("complete_at")
    listing = _listing(facts)
    return RepositoryRow(
        repository=name,
        type=declared.type if declared else state.get("type"),
        configured=declared is not None,
        reachable=state.get("reachable"),
        code=state.get("code"),
        seen_at=inspected.observation.observed_at if inspected else None,
        tool=" ".join(filter(None, (state.get("tool"), state.get("tool_version")))) or None,
        points=_points(listing),
        origin=_origin(listing),
        warnings=tuple(state.get("warnings", ())),
        medium_kind=declared.medium_kind if declared else None,
        failure_domain=declared.failure_domain if declared else None,
        device=state.get("device"),
        encrypted=state.get("encrypted"),
        verified_at=verified.observation.observed_at if check and verified else None,
        verified_verdict=Verdict(check["verdict"]) if check else None,
        verified_code=check.get("code"),
        verified_complete_at=None if complete is None else from_us(complete),
        detection_ms=_detection_ms(
            [complete, *_read_in_part(name, estate, history)], history.as_of
        ),
    )


def _detection_ms(complete: Sequence[int | None], as_of: datetime) -> int | None:
    """Return how long damage can have stood unseen; None while some of the data was never read."""
    since = [moment for moment in complete if moment is not None]
    if len(since) < len(complete):
        return None
    return (as_of - from_us(min(since))) // _MS


def _read_in_part(name: str, estate: Estate, history: History) -> Iterator[int | None]:
    """Yield since when all was restored of each application that is tested in parts from here.

    What was damaged before it was backed up is sound to whatever verifies the repository itself.
    """
    for application in estate.applications:
        newest = history.tested.newest_observed(application, name)
        part = payload(newest).get("partial") if newest is not None else None
        if part is not None:
            yield part["covered_since"]


def _listing(facts: Mapping[str, Fact]) -> Fact | None:
    """Return the newest record that says how many points stand."""
    told = [facts[kind] for kind in ("inventory.listed", "inventory.confirmed") if kind in facts]
    return max(told, key=lambda fact: fact.seq, default=None)


def _points(listing: Fact | None) -> int | None:
    data: Mapping[str, Any] = payload(listing) if listing is not None else {}
    found: int | None = data.get("standing", data.get("count"))
    return found


def _origin(listing: Fact | None) -> Origin | None:
    return listing.observation.origin if listing is not None else None


def protection_rows(
    estate: Estate, history: History, attestations: Iterable[AttestationRow]
) -> tuple[ProtectionRow, ...]:
    """Return what protects each declared repository, and against whom nothing was tried."""
    said = {
        (one.subject, one.name): one
        for one in attestations
        if one.topic == "attacker" and one.state == "in_force"
    }
    return tuple(_protection(name, history, said) for name in sorted(estate.repositories))


def _protection(
    name: str, history: History, said: Mapping[tuple[str, str | None], AttestationRow]
) -> ProtectionRow:
    subject = repository_subject(name)
    latest = history.latest.get(subject, {})
    seen, newest = latest.get("protection.seen"), latest.get("immutability.tried")
    concluded = history.tried.get(subject)
    look = payload(seen) if seen is not None else {}
    tried = payload(concluded) if concluded is not None else {}
    unsure = newest if newest is not None and newest is not concluded else None
    others = []
    for attacker in UNTESTED:
        one = said.get((subject, attacker))
        others.append(
            AttackerRow(
                attacker=attacker,
                attested_by=(one.person or one.author) if one is not None else None,
                attested_until=one.expires_at if one is not None else None,
                signed=one is not None and one.key is not None,
            )
        )
    until = look.get("locked_until_at")
    return ProtectionRow(
        repository=name,
        mechanism=look.get("mechanism"),
        mode=look.get("mode"),
        seen_at=seen.observation.observed_at if seen is not None else None,
        locked_until=None if until is None else from_us(until),
        weaknesses=len(look.get("weaknesses", ())),
        verdict=Verdict(tried["verdict"]) if tried else None,
        tried_at=concluded.observation.observed_at if concluded is not None else None,
        refused=len(tried.get("refused", ())),
        worked=tuple(tried.get("worked", ())),
        unsure_at=unsure.observation.observed_at if unsure is not None else None,
        unsure_code=payload(unsure).get("code") if unsure is not None else None,
        record=concluded.seq if concluded is not None else None,
        others=tuple(others),
    )


def offline_rows(history: History) -> tuple[OfflineRow, ...]:
    """Return every offline medium that was looked for, or that somebody said anything of."""
    prefix = medium_subject("")
    copies: dict[str, list[Fact]] = {}
    for kinds in history.latest.values():
        copy = kinds.get("medium.copy")
        if copy is not None and payload(copy):
            copies.setdefault(payload(copy)["medium"], []).append(copy)
    media = {s.removeprefix(prefix) for s in history.latest if s.startswith(prefix)} | set(copies)
    rows = []
    for name in sorted(media):
        on_it: list[Fact | None] = [*sorted(copies.get(name, []), key=lambda one: one.seq)]
        known = history.latest.get(medium_subject(name), {})
        rows += [_medium(name, known, copy) for copy in on_it or [None]]
    return tuple(rows)


def _medium(name: str, latest: Mapping[str, Fact], copy: Fact | None) -> OfflineRow:
    seen, moved = latest.get("medium.seen"), latest.get("medium.moved")
    on_it = payload(copy) if copy is not None else {}
    where = payload(moved) if moved is not None else {}
    newest = on_it.get("newest_at")
    return OfflineRow(
        medium=name,
        repository=(
            copy.observation.subject.removeprefix(repository_subject("")) if copy else None
        ),
        verified_at=copy.observation.observed_at if copy is not None else None,
        newest_at=None if newest is None else from_us(newest),
        verdict=Verdict(on_it["verdict"]) if on_it else None,
        code=on_it.get("code"),
        attached=payload(seen).get("attached") if seen is not None else None,
        looked_at=seen.observation.observed_at if seen is not None else None,
        direction=where.get("direction"),
        moved_at=from_us(where["at"]) if where else None,
        holder=where.get("holder"),
        place=where.get("place"),
        author=moved.author if moved is not None else None,
    )
