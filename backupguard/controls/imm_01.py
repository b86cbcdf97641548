"""IMM-01: are the newest copies locked by settings that nobody with rights over them can undo?

What is read is no proof that a lock holds: that is IMM-02's, which tries. What is found here is named:
one object without a lock among ten thousand makes a point one that can be destroyed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.controls.copies import OFFLINE_CLAIMS
from backupguard.controls.imm_02 import CONCLUDED
from backupguard.model import (
    Fact,
    Judgement,
    Message,
    NotMeasurableCause,
    Policy,
    Scope,
    Status,
    Verdict,
    View,
    to_us,
)

#: The newest `protection.seen` that could be read, as views hold it.
READ = "protection.seen/read"
LOCK = "s3-object-lock"
#: How much earlier than asked a lock may end: a backup takes its time from begin to end.
_TOLERANCE = 3600 * facts.SECOND
#: What must be read before anything may be called good.
_DECIDES = frozenset({"lock-configuration", "versioning"})

#: What is said first where several things are wrong: what hurts most, and causes before what they do.
_ORDER = (
    "hidden", "missing", "bypass_allowed", "governance", "legal_hold", "governance_default",
    "no_default_retention", "unlocked", "ended", "retention_short", "ends_early",
    "versioning_suspended", "lifecycle_early", "weak", "bypass_useless",
)  # fmt: skip

Point = Mapping[str, Any]


class ImmutabilityConfigured:
    """Judges what was last read of a protection: bad news stays until the next reading, good news ages.

    A repository that claims nothing and has nothing is `not_applicable`: no immutable copy.
    """

    id: ClassVar[str] = "IMM-01"
    scope: ClassVar[Scope] = Scope.REPOSITORY
    reads: ClassVar[frozenset[str]] = frozenset({"protection.seen", "immutability.tried"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one repository."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        newest = facts.not_in_future(view.latest.get("protection.seen"), now)
        read = facts.not_in_future(view.latest.get(READ), now)
        if read is None:
            return _never(view, newest)
        found = _judged(view, read, policy, now)
        settled = found.status in {Status.NON_COMPLIANT, Status.NOT_APPLICABLE}
        if settled or found.cause is NotMeasurableCause.NEVER_SET_UP:
            return found
        read_at = facts.seen_at(read)
        if found.status is Status.COMPLIANT and newest is not None and not _is_read(newest):
            code = facts.code(facts.data(newest))
            found = facts.warning("reason.IMM-01.unsure", read, newest, read_at=read_at, code=code)
        until = read_at + facts.allowed_s(policy) * facts.SECOND
        if to_us(now) <= until:
            return found
        old = facts.lost(policy, now, until, "reason.IMM-01.old", read, newest, read_at=read_at)
        return facts.worst_of([old, found])


def _is_read(seen: Fact) -> bool:
    return facts.data(seen).get("verdict") == Verdict.PASSED


def _claims(view: View) -> bool:
    """Tell whether somebody claims that nobody can destroy these copies; offline is another matter."""
    return bool({str(one) for one in view.settings.get("claims") or ()} - OFFLINE_CLAIMS)


def _not_claimed(*seen: Fact | None) -> Judgement:
    return Judgement(
        status=Status.NOT_APPLICABLE,
        reason=Message(id="reason.IMM-01.not_claimed"),
        facts=facts.seqs(*seen),
    )


def _never(view: View, newest: Fact | None) -> Judgement:
    """Return why nothing was ever read."""
    if newest is None:
        return facts.never_set_up("reason.IMM-01.never") if _claims(view) else _not_claimed()
    code = facts.code(facts.data(newest))
    return facts.never_set_up("reason.IMM-01.unread", newest, code=code)


def _judged(view: View, read: Fact, policy: Policy, now: datetime) -> Judgement:
    seen = facts.data(read)
    weak = _weaknesses(seen)
    if seen.get("mechanism") == LOCK:
        return _lock(read, seen, weak, policy, now)
    if "no_lock" in weak:
        if not _claims(view):
            return _not_claimed(read)
        return facts.worst_of(
            [
                facts.non_compliant(policy.severity, f"reason.IMM-01.{code}", read)
                for code in ("no_lock", "versioning_suspended")
                if code in weak
            ]
        )
    if weak:
        what = f"@weakness.{next(iter(weak))}"
        return facts.non_compliant(policy.severity, "reason.IMM-01.weak", read, what=what)
    return _tried(view, read, seen, policy, now)


def _weaknesses(seen: Mapping[str, Any]) -> dict[str, Mapping[str, int | str]]:
    return {str(one["code"]): one.get("values") or {} for one in seen.get("weaknesses") or ()}


def _tried(
    view: View, read: Fact, seen: Mapping[str, Any], policy: Policy, now: datetime
) -> Judgement:
    """Return what a protection without dates comes to: only what was tried says whether it holds."""
    if seen.get("mechanism") == "vendor":
        return facts.warning("reason.IMM-01.vendor", read)
    concluded = facts.not_in_future(view.latest.get(CONCLUDED), now)
    verdict = facts.data(concluded).get("verdict")
    if concluded is not None and verdict == Verdict.FAILED:
        return facts.non_compliant(policy.severity, "reason.IMM-01.refuted", read, concluded)
    if seen.get("mechanism") == "none" and not _claims(view):
        return _not_claimed(read)
    if concluded is None:
        return facts.never_set_up("reason.IMM-01.untried", read)
    tried_at = facts.seen_at(concluded)
    until = tried_at + facts.allowed_s(policy) * facts.SECOND
    if to_us(now) > until:
        return facts.lost(policy, now, until, "reason.IMM-01.untried", read, concluded)
    return facts.compliant("reason.IMM-01.tried", read, concluded, tried_at=tried_at)


# ------------------------------------------------------------------------------------------- locks


def _lock(
    read: Fact,
    seen: Mapping[str, Any],
    weak: Mapping[str, Mapping[str, int | str]],
    policy: Policy,
    now: datetime,
) -> Judgement:
    points = [one for one in seen.get("points") or () if isinstance(one, Mapping)]
    newest = _newest(points)
    required = facts.seconds(policy, "locked-for") * facts.SECOND
    bad = [
        *_hidden(read, points, newest, policy),
        *_of_points(read, newest, weak, required, policy, now),
        *_of_settings(read, seen, weak, newest, required, policy),
    ]
    bad.sort(key=lambda one: _ORDER.index(one.reason.id.rpartition(".")[2]))
    worst = facts.worst_of(bad) if bad else None
    if worst is not None and worst.status is Status.NON_COMPLIANT:
        return worst
    lacking = sorted(_DECIDES & set(seen.get("unread") or ()))
    if lacking:
        return facts.never_set_up("reason.IMM-01.no_right", read, what=f"@unread.{lacking[0]}")
    unreadable = [one for one in newest if one.get("code")]
    if unreadable:
        code = f"@code.{unreadable[0]['code']}"
        return facts.never_set_up("reason.IMM-01.unread", read, code=code)
    if worst is not None:
        return worst
    ends = [at for one in newest if (at := facts.number(one.get("locked_until_at"))) is not None]
    if not ends:
        return facts.never_set_up("reason.IMM-01.no_points", read)
    return facts.compliant(
        "reason.IMM-01.locked", read, until_at=min(ends), objects=_most(newest, "objects")
    )


def _newest(points: Sequence[Point]) -> list[Point]:
    """Return the newest point of each job that shows."""
    found: dict[object, Point] = {}
    for one in points:
        if one.get("at") is not None and not one.get("hidden"):
            kept = found.get(one.get("job"))
            if kept is None or one["at"] > kept["at"]:
                found[one.get("job")] = one
    return list(found.values())


def _hidden(
    read: Fact, points: Sequence[Point], newest: Sequence[Point], policy: Policy
) -> Iterator[Judgement]:
    """Name points below delete markers that are newer than all that show: no retention does that."""
    shown = {one.get("job"): one["at"] for one in newest}
    hidden = [
        one
        for one in points
        if one.get("hidden") and (one.get("at") is None or one["at"] > shown.get(one.get("job"), 0))
    ]
    if hidden:
        yield facts.non_compliant(
            policy.severity,
            "reason.IMM-01.hidden",
            read,
            count=len(hidden),
        )


def _of_points(
    read: Fact,
    newest: Sequence[Point],
    weak: Collection[str],
    required: int,
    policy: Policy,
    now: datetime,
) -> Iterator[Judgement]:
    """Name what is wrong with the locks of the newest points, one judgement each."""
    for one in newest:
        reason, values = _wrong(one, weak, required, now)
        if reason is not None:
            yield facts.non_compliant(policy.severity, f"reason.IMM-01.{reason}", read, **values)


def _wrong(
    one: Point, weak: Collection[str], required: int, now: datetime
) -> tuple[str | None, dict[str, int | str]]:
    at, until = one["at"], facts.number(one.get("locked_until_at"))
    counts: dict[str, int | str] = {"objects": one["objects"], "unlocked": one["unlocked"]}
    if one.get("code") == "missing_object":
        return "missing", {"point_at": at}
    if one.get("code"):
        return None, {}
    if until is None:
        if one.get("mode") in {"governance", "legal-hold"}:
            return str(one["mode"]).replace("-", "_"), {"point_at": at}
        bare = "no_default_retention" in weak and one["unlocked"] == one["objects"]
        return "no_default_retention" if bare else "unlocked", {"point_at": at, **counts}
    if until <= to_us(now):
        return "ended", {"point_at": at, "until_at": until}
    if until - at < required - _TOLERANCE:
        values: dict[str, int | str] = {"required_ms": required // 1000}
        return "ends_early", {"point_at": at, "until_at": until, **values}
    return None, {}


def _of_settings(
    read: Fact,
    seen: Mapping[str, Any],
    weak: Mapping[str, Mapping[str, int | str]],
    newest: Sequence[Point],
    required: int,
    policy: Policy,
) -> Iterator[Judgement]:
    """Name what the bucket's settings let happen to points, those to come included."""

    def wrong(code: str, **values: int | str) -> Judgement:
        return facts.non_compliant(policy.severity, f"reason.IMM-01.{code}", read, **values)

    retention_ms = facts.number(seen.get("retention_ms"))
    if retention_ms is not None and retention_ms < required // 1000:
        yield wrong("retention_short", retention_ms=retention_ms, required_ms=required // 1000)
    if "versioning_suspended" in weak:
        yield wrong("versioning_suspended")
    locked = [one for one in newest if one.get("mode") == "compliance"]
    if "governance" in weak and len(locked) < max(1, len(newest)):
        yield wrong("governance_default")
    if "no_default_retention" in weak and not newest:
        yield wrong("no_default_retention", objects=0, unlocked=0)
    days = facts.number((seen.get("settings") or {}).get("lifecycle-days"))
    if "lifecycle_early" in weak or (days is not None and days * facts.DAY < required):
        rule = str((seen.get("settings") or {}).get("lifecycle-rule") or "?")
        yield wrong("lifecycle_early", days=days or 0, rule=rule)
    if "bypass_allowed" in weak:
        holders = str(weak["bypass_allowed"].get("holders") or "?")
        if "governance" in weak or len(locked) < len(newest):
            yield wrong("bypass_allowed", holders=holders)
        else:
            yield facts.warning("reason.IMM-01.bypass_useless", read, holders=holders)
    for code in weak.keys() - _KNOWN:
        yield wrong("weak", what=f"@weakness.{code}")


_KNOWN = frozenset(
    {
        "no_lock", "no_default_retention", "governance", "versioning_suspended",
        "lifecycle_early", "bypass_allowed",
    }
)  # fmt: skip


def _most(points: Sequence[Point], name: str) -> int:
    return max((facts.number(one.get(name)) or 0 for one in points), default=0)
