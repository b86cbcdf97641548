"""ISO-01: can production reach a store that must not answer, and does the backup host stand apart?

What answers is a finding from wherever it was seen. That nothing answers is believed of a vantage point
in production alone, with its witness, and for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts, reach
from backupguard.model import (
    Fact,
    Judgement,
    Policy,
    Scope,
    Severity,
    View,
    to_us,
)

_SEEN = "isolation.seen"
_NAMED = 3
SELF = "self"


class Isolation:
    """Judges what answered, then what is proved closed and for how long, then the host's own ties."""

    id: ClassVar[str] = "ISO-01"
    scope: ClassVar[Scope] = Scope.REPOSITORY
    reads: ClassVar[frozenset[str]] = frozenset({_SEEN, "host.joined"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one repository."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        join = _join(view, policy, now)
        if not _table(view, "targets"):
            measured = _unmeasured(view, policy, now, "no_target")
        elif not _table(view, "vantages"):
            measured = _unmeasured(view, policy, now, "no_vantage")
        else:
            measured = None
        found = list(_answering(view, policy, now))
        if measured is not None and not found:
            found.append(measured)
        else:
            found += _proofs(view, policy, now)
        if not found and not join:
            return _closed(view, now)
        joined = any(one.severity is Severity.CRITICAL for one in join)
        worst = facts.worst_of([*found, *join])
        return replace(worst, severity=Severity.CRITICAL) if joined else worst


def _table(view: View, name: str) -> Mapping[str, Any]:
    found = view.settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _wanted(view: View, target: str) -> set[tuple[str, int]]:
    return {(name, port) for name, port in _table(view, "targets")[target]["asked"]}


def _look(view: View, now: datetime, vantage: str, target: str | None = None) -> Fact | None:
    """Return the newest look of a vantage point, or the newest that settles a target."""
    kind = f"{_SEEN}/{vantage}" if target is None else f"{_SEEN}/{vantage}/{target}"
    return facts.not_in_future(view.latest.get(kind), now)


def _zone(view: View, vantage: str) -> str:
    known = _table(view, "vantages").get(vantage)
    return str(known["zone"]) if known is not None else "@isolation.here"


# --------------------------------------------------------------------------------- what answered


def _answering(view: View, policy: Policy, now: datetime) -> Iterator[Judgement]:
    """Yield what answered and must not, from wherever; then what is merely switched on."""
    on: list[Judgement] = []
    for target, about in _table(view, "targets").items():
        wanted = _wanted(view, target)
        for vantage in (SELF, *_table(view, "vantages")):
            settled = _look(view, now, vantage, target)
            if settled is None:
                continue
            rows = list(reach.rows_of(facts.data(settled), target))
            rows = [row for row in rows if (row["name"], row["port"]) in wanted]
            open_rows = [row for row in rows if row["outcome"] == "open"]
            values: dict[str, int | str] = {
                "target": target,
                "zone": _zone(view, vantage),
                "seen_at": facts.seen_at(settled),
            }
            if open_rows:
                yield facts.non_compliant(
                    policy.severity,
                    "reason.ISO-01.open",
                    settled,
                    **values,
                    count=len(_places(open_rows)),
                    places=", ".join(_places(open_rows)[:_NAMED]),
                )
            refused = [row for row in rows if row["outcome"] == "refused"]
            if about["offline"] and refused and not open_rows:
                values["name"] = str(refused[0]["name"])
                on.append(facts.warning("reason.ISO-01.switched_on", settled, **values))
    yield from on


def _places(rows: list[reach.Row]) -> list[str]:
    """Return what answered by its configured names: addresses stay in the facts."""
    return list(dict.fromkeys(f"{row['name']}:{row['port']}" for row in rows))


# --------------------------------------------------------------------------- what is proved closed


def _proofs(view: View, policy: Policy, now: datetime) -> Iterator[Judgement]:
    """Yield, per target and vantage point, what is less than a fresh proof.

    One that was never heard of spoils nothing where another proves the target.
    """
    for target in _table(view, "targets"):
        proved = False
        never: list[Judgement] = []
        for vantage, about in _table(view, "vantages").items():
            settled = _look(view, now, vantage, target)
            if settled is not None and not _wanted(view, target) <= reach.asked(
                facts.data(settled), target
            ):
                yield _outdated(view, policy, now, target, vantage, settled)
                continue
            newest = _look(view, now, vantage)
            if settled is None and newest is None:
                values = {"vantage": vantage, "zone": str(about["zone"])}
                never.append(facts.never_set_up("reason.ISO-01.never_reported", **values))
                continue
            until = _until(settled or newest, int(about["max_age_s"]))
            if settled is not None and to_us(now) <= until:
                proved = True
                continue
            yield from _unsettled(view, policy, now, target, vantage, settled, newest)
        if not proved and never:
            yield _unmeasured(view, policy, now, None, never[0])


def _until(look: Fact | None, max_age_s: int) -> int:
    return (facts.seen_at(look) if look is not None else 0) + max_age_s * facts.SECOND


def _unsettled(
    view: View,
    policy: Policy,
    now: datetime,
    target: str,
    vantage: str,
    settled: Fact | None,
    newest: Fact | None,
) -> Iterator[Judgement]:
    """Yield why a vantage point does not prove a target: a name, a witness, or its silence."""
    max_age_s = int(_table(view, "vantages")[vantage]["max_age_s"])
    values = {"target": target, "zone": _zone(view, vantage), "vantage": vantage}
    wanted = _wanted(view, target)
    lacking = [
        (row, why)
        for row, why in reach.unproved(facts.data(newest), target)
        if (row["name"], row["port"]) in wanted
    ]
    if newest is not None and lacking:
        row, why = lacking[0]
        yield facts.warning(
            f"reason.ISO-01.{why}",
            newest,
            **values,
            name=str(row["name"]),
            family=str(row["family"] or "—"),
        )
    since = _until(settled or newest, max_age_s)
    last = newest or settled
    if last is not None and to_us(now) > since:
        silent = to_us(now) > _until(newest, max_age_s)
        reason = "silent" if silent else "stale"
        seen_at = facts.seen_at(last if silent else settled or last)
        yield _lost(policy, now, since, reason, settled, newest, **values, seen_at=seen_at)
    elif not lacking:
        # Nothing but looks inside the windows, or a look from before the target was there.
        yield facts.never_set_up("reason.ISO-01.not_yet", newest, **values)


def _lost(
    policy: Policy, now: datetime, since: int, reason: str, *seen: Fact | None, **values: int | str
) -> Judgement:
    """Return what a loss of sight means: nobody is woken for it."""
    calm = Severity.HIGH if policy.severity is Severity.CRITICAL else policy.severity
    policy = replace(policy, severity=calm)
    return facts.lost(policy, now, since, f"reason.ISO-01.{reason}", *seen, **values)


def _outdated(
    view: View, policy: Policy, now: datetime, target: str, vantage: str, settled: Fact
) -> Judgement:
    """Return what a look at yesterday's names and ports amounts to: nothing, and soon less."""
    since = _until(settled, int(_table(view, "vantages")[vantage]["max_age_s"]))
    values = {"target": target, "zone": _zone(view, vantage), "vantage": vantage}
    if to_us(now) > since:
        seen_at = facts.seen_at(settled)
        return _lost(policy, now, since, "silent", settled, **values, seen_at=seen_at)
    return facts.never_set_up("reason.ISO-01.changed", settled, **values)


def _unmeasured(
    view: View,
    policy: Policy,
    now: datetime,
    reason: str | None,
    otherwise: Judgement | None = None,
) -> Judgement:
    """Return what stands where nothing can be measured: a person's word, which proves nothing."""
    attestations = view.known.get("attestations")
    said = attestations.get("isolation") if isinstance(attestations, Mapping) else None
    if isinstance(said, Mapping):
        limit = int(said["made_at"]) + facts.seconds(policy, "attestation") * facts.SECOND
        until = min(int(said["expires_at"]), limit)
        held = to_us(now) <= until
        judgement = facts.warning(
            "reason.ISO-01.attested" if held else "reason.ISO-01.attestation_over",
            person=str(said.get("person") or said.get("author") or "—"),
            until_at=until,
        )
        return replace(judgement, facts=(int(said["seq"]),))
    if otherwise is not None:
        return otherwise
    return facts.never_set_up(f"reason.ISO-01.{reason}")


# --------------------------------------------------------------------------------------- the host


def _join(view: View, policy: Policy, now: datetime) -> list[Judgement]:
    """Return what is wrong with the host's own ties; nothing where it stands apart."""
    seen = facts.not_in_future(view.latest.get("host.joined"), now)
    if seen is None:
        return [facts.never_set_up("reason.ISO-01.host_unseen")]
    found = facts.data(seen)
    accepted = set(view.settings.get("backup_domains") or ())
    foreign = [domain for domain in found.get("domains") or () if domain not in accepted]
    if found.get("joined") and (foreign or not found.get("domains")):
        return [
            facts.non_compliant(
                Severity.CRITICAL,
                "reason.ISO-01.joined",
                seen,
                host=str(found["host"]),
                domains=", ".join(foreign) or "—",
                means=", ".join(found.get("seen_by") or ()),
            )
        ]
    judgements = []
    if found.get("unread"):
        files = ", ".join(found["unread"][:_NAMED])
        judgements.append(
            facts.warning("reason.ISO-01.join_unread", seen, host=str(found["host"]), files=files)
        )
    until = facts.seen_at(seen) + facts.seconds(policy, "join-age") * facts.SECOND
    if to_us(now) > until:
        values: dict[str, int | str] = {"host": str(found["host"]), "seen_at": facts.seen_at(seen)}
        judgements.append(_lost(policy, now, until, "join_old", seen, **values))
    return judgements


def _closed(view: View, now: datetime) -> Judgement:
    """Return `compliant`: how many ports, of which zones, and since when the oldest proof is."""
    targets, vantages = _table(view, "targets"), _table(view, "vantages")
    looks: dict[tuple[str, str], Fact] = {}
    for target in targets:
        for vantage in vantages:
            settled = _look(view, now, vantage, target)
            if settled is not None:
                looks[vantage, target] = settled
    zones = sorted({str(vantages[vantage]["zone"]) for vantage, _ in looks})
    return facts.compliant(
        "reason.ISO-01.closed",
        *looks.values(),
        view.latest.get("host.joined"),
        count=sum(len(_wanted(view, target)) for target in targets),
        zones=", ".join(zones),
        seen_at=min(facts.seen_at(fact) for fact in looks.values()),
    )
