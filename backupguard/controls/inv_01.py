"""INV-01: is everything that exists backed up? Only held against a list that we did not write.

What is uncovered counts at once, whoever named it. That nothing is uncovered can only be said beside
an independent reference, recent enough, after a look at the databases that run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    Policy,
    Scope,
    Severity,
    Verdict,
    View,
    to_us,
)

DISCOVERY, REFERENCE = "discovery.seen/", "reference.loaded/"
#: How many of a list are named; the sentence gives the count of all.
NAMED = 5


class Coverage:
    """Judges applications without jobs, databases without jobs, and the reference itself."""

    id: ClassVar[str] = "INV-01"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset(
        {"discovery.seen", "discovery.closed", "reference.loaded"}
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        seen = _facts(view, DISCOVERY, now)
        lists = _facts(view, REFERENCE, now)
        # Losing sight is no hole: it never wakes anybody.
        calm = replace(policy, severity=_at_most(policy.severity, Severity.HIGH))
        found = [
            *_applications(view, policy, seen),
            *_databases(policy, seen),
            *_unmatched(lists),
            *_references(view, calm, now, lists, seen),
            *_looks(view, calm, now, seen),
            *_doubts(seen, lists),
        ]
        if found:
            return facts.worst_of(found)
        entries = sum(facts.number(facts.data(one).get("entries")) or 0 for one in lists)
        return facts.compliant(
            "reason.INV-01.covered",
            *seen,
            *lists,
            applications=len(_configured(view)),
            databases=sum(1 for _ in _each(seen, "databases")),
            entries=entries,
        )


def _facts(view: View, prefix: str, now: datetime) -> list[Fact]:
    return [
        fact
        for kind, fact in sorted(view.latest.items())
        if kind.startswith(prefix) and facts.not_in_future(fact, now)
    ]


def _each(seen: Iterable[Fact], key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the tables of a list that several facts have."""
    for fact in seen:
        for one in facts.data(fact).get(key) or ():
            if isinstance(one, Mapping):
                yield one


def _texts(seen: Iterable[Fact], key: str) -> list[str]:
    return [str(one) for fact in seen for one in facts.data(fact).get(key) or ()]


def named(names: Sequence[str]) -> str:
    """Return the first few of a list of names as one value."""
    rest = ", …" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest


def _configured(view: View) -> Mapping[str, Mapping[str, Any]]:
    found = view.settings.get("applications")
    return found if isinstance(found, Mapping) else {}


def _at_most(severity: Severity, most: Severity) -> Severity:
    order = (Severity.INFO, Severity.WARNING, Severity.HIGH, Severity.CRITICAL)
    return min(severity, most, key=order.index)


def _disabled(seen: list[Fact]) -> frozenset[str]:
    """Return the configured jobs that their tool has switched off, wherever it runs them."""
    on: set[str] = set()
    off: set[str] = set()
    for job in _each(seen, "jobs"):
        (on if job.get("enabled") else off).update(map(str, job.get("configured_as") or ()))
    return frozenset(off - on)


def _applications(view: View, policy: Policy, seen: list[Fact]) -> Iterator[Judgement]:
    """Yield what applications without any enabled job mean, the most vital first."""
    disabled = _disabled(seen)
    bare: dict[str, list[str]] = {}
    for name, about in sorted(_configured(view).items()):
        if not set(about.get("jobs") or ()) - disabled:
            bare.setdefault(str(about.get("criticality")), []).append(name)
    for criticality, most in ((Criticality.C1, Severity.CRITICAL), (Criticality.C2, Severity.HIGH)):
        names = bare.get(criticality.value)
        if names:
            yield facts.non_compliant(
                _at_most(policy.severity, most), "reason.INV-01.no_job", *seen,
                count=len(names), names=named(names), criticality=criticality.value,
            )  # fmt: skip
    names = bare.get(Criticality.C3.value)
    if names:
        yield facts.warning(
            "reason.INV-01.no_job", *seen,
            count=len(names), names=named(names), criticality=Criticality.C3.value,
        )  # fmt: skip


def _databases(policy: Policy, seen: list[Fact]) -> Iterator[Judgement]:
    names = sorted(
        {
            f"{one.get('name')} ({one.get('engine')}, {one.get('host')})"
            for one in _each(seen, "databases")
            if not one.get("covered_by") and not one.get("ignored")
        }
    )
    if names:
        yield facts.non_compliant(
            _at_most(policy.severity, Severity.HIGH), "reason.INV-01.uncovered", *seen,
            count=len(names), names=named(names),
        )  # fmt: skip


def _unmatched(lists: list[Fact]) -> Iterator[Judgement]:
    names = _texts(lists, "unmatched")
    total = sum(facts.number(facts.data(one).get("unmatched_total")) or 0 for one in lists)
    if names or total:
        yield facts.non_compliant(
            Severity.WARNING, "reason.INV-01.unmatched", *lists,
            count=max(total, len(names)), names=named(names) or "…",
        )  # fmt: skip


def _references(
    view: View, policy: Policy, now: datetime, lists: list[Fact], seen: list[Fact]
) -> Iterator[Judgement]:
    """Yield what is wrong with the references: none at all, or one too old to say what exists."""
    by_catalogue = bool(view.settings.get("servers")) and bool(_texts(seen, "catalogues"))
    if not lists and not by_catalogue:
        yield facts.never_set_up("reason.INV-01.no_reference", *seen)
    for fact in lists:
        data = facts.data(fact)
        dated = min(facts.number(data.get("dated_at")) or 0, facts.seen_at(fact))
        own_ms = facts.number(data.get("max_age_ms"))
        age = own_ms * 1000 if own_ms else facts.seconds(policy, "reference-age") * facts.SECOND
        if to_us(now) > dated + age:
            yield facts.lost(
                policy, now, dated + age, "reason.INV-01.old_reference", fact, dated_at=dated
            )


def _looks(view: View, policy: Policy, now: datetime, seen: list[Fact]) -> Iterator[Judgement]:
    """Yield what is wrong with our own look at what runs: none, an old one, one without a right."""
    if not seen:
        yield facts.never_set_up("reason.INV-01.no_discovery")
        return
    closed = facts.not_in_future(view.latest.get("discovery.closed"), now)
    times = [facts.seen_at(fact) for fact in seen]
    if closed is not None and facts.data(closed).get("verdict") == Verdict.PASSED:
        times.append(facts.seen_at(closed))
    until = max(times) + facts.seconds(policy, "discovery-age") * facts.SECOND
    if to_us(now) > until:
        yield facts.lost(
            policy, now, until, "reason.INV-01.old_discovery", *seen, discovered_at=max(times)
        )
    lacking = list(_each(seen, "lacking"))
    if lacking:
        yield facts.never_set_up(
            "reason.INV-01.lacking", *seen, count=len(lacking),
            what=str(lacking[0].get("what")), about=str(lacking[0].get("about") or "—"),
            need=f"@reason.INV-01.need.{_need(lacking[0])}",
        )  # fmt: skip


def _need(lack: Mapping[str, Any]) -> str:
    """Return which sentence says what is missing: a right, a declaration, or a look at the cause."""
    code = lack.get("code")
    if code in {"permission", "role", "rights", "secret"}:
        return "right"
    return "declaration" if code in {"hidden", "not_declared"} else "cause"


def _doubts(seen: list[Fact], lists: list[Fact]) -> Iterator[Judgement]:
    """Yield what asks for a look without being a hole."""
    for reason, names in (
        ("covers_nothing", _texts(seen, "covers_nothing")),
        ("disabled", sorted(_disabled(seen))),
        (
            "never_ran",
            sorted(
                f"{job.get('tool')}/{job.get('name')}"
                for job in _each(seen, "jobs")
                if job.get("never_ran") and job.get("enabled")
            ),
        ),
        ("absent", _texts(lists, "absent")),
    ):
        if names:
            yield facts.warning(
                f"reason.INV-01.{reason}", *seen, *lists, count=len(names), names=named(names)
            )
