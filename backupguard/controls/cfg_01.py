"""CFG-01: was a policy or a protection weakened, and has somebody answered for it?

A weakening stands until it is undone or a person acknowledges it by a statement on the topic
"change" that names the number of the record. It is not for this control to say whether it was right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import Judgement, Policy, Scope, Severity, View, to_us

#: What an attacker does before encrypting: no locks, less history. What is said first comes first.
CRITICAL = (
    *("lock_removed", "append_only_dropped", "versioning_suspended", "lock_weakened"),
    *("retention_shortened", "protection_weakened"),
)
#: Jobs or copies that go at once are a mass deletion from so many on.
MANY = 3
_GOING = frozenset({"job_removed", "job_disabled", "repository_removed", "source_removed"})
_LONGEST = 120

Weakening = Mapping[str, Any]


class ConfigurationDrift:
    """Judges what weakened since it was seen first, by itself or in our own configuration."""

    id: ClassVar[str] = "CFG-01"
    scope: ClassVar[Scope] = Scope.SITE
    reads: ClassVar[frozenset[str]] = frozenset(
        {
            "policy.seen",
            "policy.changed",
            "configuration.loaded",
            "configuration.rejected",
            "media.unknown",
        }
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the site."""
        behind = facts.clock_behind(view, now)
        found = [
            *_weakened(view),
            *_rejected(view),
            *_unknown_media(view, now),
            *_unread(view, policy, now),
        ]
        if behind is not None:
            found.append(behind)
        seen_at = facts.number(_policies(view).get("seen_at")) or 0
        return facts.worst_of(
            [
                *found,
                facts.compliant(
                    "reason.CFG-01.kept", view.latest.get("policy.seen"), policies_at=seen_at
                ),
            ]
        )


def weakenings(view: View) -> tuple[Weakening, ...]:
    """Return the weakenings in the site's view, whether or not somebody acknowledged them."""
    found = view.known.get("weakenings")
    return tuple(one for one in found or () if isinstance(one, Mapping))


def acknowledged(view: View, one: Weakening) -> Mapping[str, Any] | None:
    """Return the statement that answers for a weakening and holds, None without one."""
    made = (view.known.get("attestations") or {}).get(f"change/{one.get('seq')}")
    return made if isinstance(made, Mapping) and not made.get("expired") else None


def severity(one: Weakening, together: int) -> Severity:
    """Return how soon somebody must act, where as many went at once as `together` says."""
    what = one.get("what")
    if what in CRITICAL or (what in _GOING and together >= MANY):
        return Severity.CRITICAL
    return Severity.WARNING


def _weakened(view: View) -> Iterator[Judgement]:
    every = weakenings(view)
    going: dict[Any, int] = {}
    for one in every:
        if one.get("what") in _GOING:
            going[one.get("seq")] = going.get(one.get("seq"), 0) + 1
    opened = [one for one in every if acknowledged(view, one) is None]
    if opened:
        ranked = [(severity(one, going.get(one.get("seq"), 0)), one) for one in opened]
        critical = [one for rank, one in ranked if rank is Severity.CRITICAL]
        judgement = facts.non_compliant(
            Severity.CRITICAL if critical else Severity.WARNING,
            "reason.CFG-01.weakened",
            **_said(_first(critical or opened), opened),
        )
        yield _named(judgement, opened)
    declared = [
        one
        for one in every
        if (made := acknowledged(view, one)) is not None and not made.get("authenticated")
    ]
    if declared:
        yield _named(
            facts.warning("reason.CFG-01.unsigned", **_said(declared[-1], declared)), declared
        )


def _first(every: list[Weakening]) -> Weakening:
    """Return what is said of several: the worst, and of equals the newest."""
    worst = min(_rank(one) for one in every)
    return next(one for one in reversed(every) if _rank(one) == worst)


def _rank(one: Weakening) -> int:
    what = one.get("what")
    return CRITICAL.index(str(what)) if what in CRITICAL else len(CRITICAL)


def _named(judgement: Judgement, about: list[Weakening]) -> Judgement:
    """Return a judgement that rests on the records of these weakenings."""
    seqs = sorted({seq for one in about if (seq := facts.number(one.get("seq"))) is not None})
    return Judgement(
        status=judgement.status,
        severity=judgement.severity,
        reason=judgement.reason,
        facts=tuple(seqs),
    )


def _said(one: Weakening, every: list[Weakening]) -> dict[str, int | str]:
    return {
        "count": len(every),
        "what": f"@weakening.{one.get('what')}",
        "where": str(one.get("path", "")).replace("|", " ")[:_LONGEST],
        "before": _value(one.get("before")),
        "after": _value(one.get("after")),
        "weakened_at": facts.number(one.get("at")) or 0,
        "seq": facts.number(one.get("seq")) or 0,
    }


def _value(value: object) -> str:
    if value is None:
        return "—"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text[:_LONGEST].removeprefix("@")


def _rejected(view: View) -> Iterator[Judgement]:
    """Tell of files that say something else than what holds: the last reload was refused."""
    found = view.known.get("rejected")
    if not isinstance(found, Mapping):
        return
    line = facts.number(found.get("line"))
    judgement = facts.warning(
        "reason.CFG-01.rejected",
        file=str(found.get("file", ""))[-_LONGEST:].removeprefix("@"),
        line=str(line) if line is not None else "—",
        where=str(found.get("key", ""))[:_LONGEST].removeprefix("@"),
        rejected_at=facts.number(found.get("at")) or 0,
    )
    yield _named(judgement, [found])


def _unknown_media(view: View, now: datetime) -> Iterator[Judgement]:
    seen = facts.not_in_future(view.latest.get("media.unknown"), now)
    media = facts.data(seen).get("media") or []
    if media:
        first = media[0]
        yield facts.non_compliant(
            Severity.HIGH,
            "reason.CFG-01.unknown_medium",
            seen,
            count=len(media),
            device=str(first.get("device") or "—"),
            tool=str(first.get("tool") or "—"),
        )


def _policies(view: View) -> Mapping[str, Any]:
    found = view.known.get("policies")
    return found if isinstance(found, Mapping) else {}


def _unread(view: View, policy: Policy, now: datetime) -> Iterator[Judgement]:
    found, seen = _policies(view), view.latest.get("policy.seen")
    seen_at = facts.number(found.get("seen_at"))
    if seen_at is None or seen_at > to_us(now) + facts.CLOCK_TOLERANCE:
        yield facts.never_set_up("reason.CFG-01.never_seen")
        return
    until = seen_at + facts.seconds(policy, "age") * facts.SECOND
    if to_us(now) > until:
        yield facts.lost(policy, now, until, "reason.CFG-01.old", seen, policies_at=seen_at)
    unread = found.get("unread") or {}
    if unread:
        name, since = min(unread.items(), key=lambda item: (item[1], item[0]))
        yield facts.lost(
            policy, now, since, "reason.CFG-01.unread", seen,
            count=len(unread), where=_place(name), since_at=since,
        )  # fmt: skip
    never = found.get("never_read") or []
    if never:
        yield facts.never_set_up(
            "reason.CFG-01.never_read", seen, count=len(never), where=_place(never[0])
        )


def _place(name: str) -> str:
    return name.replace("|", " ").strip()[:_LONGEST]
