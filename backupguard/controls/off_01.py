"""OFF-01: is a recent copy on a medium that is proved away, where no network reaches it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import copies as counting
from backupguard.controls import facts, offline
from backupguard.controls.offline import Medium, Where
from backupguard.model import Fact, Judgement, Policy, Scope, Severity, Verdict, View, to_us


class OfflineCopy:
    """Judges the newest copy that is proved away, then what is wrong with any of the media."""

    id: ClassVar[str] = "OFF-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset(
        {"medium.seen", "medium.copy", "medium.moved", "isolation.seen"}
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        media = _entries(view, "media")
        if not media:
            return facts.never_set_up("reason.OFF-01.no_medium")
        newest = self._newest(view, media, now)
        fresh = newest is not None and not _is_stale(newest, policy, now)
        # With another copy proved away, what is wrong with one medium is work, and no emergency.
        severity = Severity.WARNING if fresh else policy.severity
        found = [
            *_answers(view, media, severity),
            *(wrong for one in media if (wrong := _wrong(view, one, severity, now))),
        ]
        if newest is not None:
            found.append(self._away(view, media, newest, policy, now))
        else:
            found += [_not_away(view, one, policy, now) for one in media]
        found += (late for one in media if (late := _not_brought(view, one, policy, now)))
        return facts.worst_of([*found, *_vantage(view, media, policy, now)])

    def _newest(self, view: View, media: list[Medium], now: datetime) -> int | None:
        """Return the newest proved point of the part that is the furthest behind; None for none."""
        copies = counting.copies_of(view)
        proved = {
            str(copy["repository"]): at
            for one in media
            for copy in one.get("copies") or ()
            if (at := offline.proved(one, str(copy["repository"]), now)) is not None
        }
        if not copies:
            return max(proved.values(), default=None)
        newest: list[int] = []
        for part in counting.parts(copies).values():
            times = [
                min(at, own)
                for copy in part
                if (at := proved.get(str(copy.get("repository")))) is not None
                and (own := facts.number(copy.get("newest_at"))) is not None
            ]
            if not times:
                return None
            newest.append(max(times))
        return min(newest, default=None)

    def _away(
        self, view: View, media: list[Medium], newest: int, policy: Policy, now: datetime
    ) -> Judgement:
        away = [one for one in media if offline.where(one, now) is Where.AWAY]
        best = max(away, key=lambda one: _newest_on(one) or 0)
        looked = facts.number(best.get("seen_at")) or 0
        if _is_stale(newest, policy, now):
            return _stale(view, best, newest, policy, now)
        if to_us(now) - looked > offline.LOOKED_LATELY:
            return facts.lost(
                policy, now, looked + offline.LOOKED_LATELY, "reason.OFF-01.unlooked",
                *_facts(view, best), medium=_name(best), seen_at=looked,
            )  # fmt: skip
        moved = best.get("moved") or {}
        return facts.compliant(
            "reason.OFF-01.away",
            *_facts(view, best),
            medium=_name(best),
            newest_at=newest,
            place=str(moved.get("place")),
            out_at=offline.out_at(best) or 0,
        )


def _entries(view: View, name: str) -> list[Medium]:
    return [one for one in view.known.get(name) or () if isinstance(one, dict)]


def _name(medium: Medium) -> str:
    return str(medium.get("medium"))


def _facts(view: View, medium: Medium) -> list[Fact | None]:
    places = [str(copy["repository"]) for copy in medium.get("copies") or ()]
    names = [f"medium.seen/{_name(medium)}", f"medium.moved/{_name(medium)}"]
    return [view.latest.get(name) for name in (*names, *(f"medium.copy/{one}" for one in places))]


def _newest_on(medium: Medium) -> int | None:
    times = [facts.number(copy.get("newest_at")) for copy in medium.get("copies") or ()]
    return max((at for at in times if at is not None), default=None)


def _is_stale(newest: int, policy: Policy, now: datetime) -> bool:
    return to_us(now) - newest > facts.seconds(policy, "age") * facts.SECOND


def _stale(view: View, medium: Medium, newest: int, policy: Policy, now: datetime) -> Judgement:
    """Say that a copy is too old: one that the next rotation replaces is only a warning.

    Where disks alternate, the copy that is away is as old as the rotation until the next one leaves: a
    medium may be late by the grace, and stay as long as it may. What was old already when it left has
    no such excuse.
    """
    age_s = facts.seconds(policy, "age")
    grace_s = facts.seconds(policy, "rotation-grace") + (
        facts.number(medium.get("may_stay_s")) or 0
    )
    old_s = (to_us(now) - newest) // facts.SECOND
    values: dict[str, int | str] = {
        "medium": _name(medium),
        "newest_at": newest,
        "age_ms": age_s * 1000,
    }
    known = _facts(view, medium)
    here = facts.number(medium.get("here_at")) or 0
    was_fresh = here - newest <= age_s * facts.SECOND
    if was_fresh and old_s <= age_s + grace_s:
        return facts.warning("reason.OFF-01.stale", *known, **values)
    severity = Severity.CRITICAL if old_s > 2 * age_s else Severity.HIGH
    return facts.non_compliant(severity, "reason.OFF-01.stale", *known, **values)


def _reach(view: View, medium: Medium) -> Mapping[str, Any]:
    """Return what was seen of the places that a medium lies behind, from production and from here."""
    found = view.known.get("reach")
    reach = found.get(_name(medium)) if isinstance(found, Mapping) else None
    return reach if isinstance(reach, Mapping) else {}


def _answers(view: View, media: list[Medium], severity: Severity) -> Iterator[Judgement]:
    """Yield what answered although it is said to be offline."""
    for medium in media:
        one = _reach(view, medium).get("answers")
        if isinstance(one, Mapping):
            yield facts.non_compliant(
                severity,
                "reason.OFF-01.answers",
                *_facts(view, medium),
                target=str(one.get("target")),
                port=facts.number(one.get("port")) or 0,
                vantage=str(one.get("vantage")),
            )


def _wrong(view: View, medium: Medium, severity: Severity, now: datetime) -> Judgement | None:
    """Return what is wrong with a medium, whatever is proved of the others."""
    said: dict[str, Any] = {"medium": _name(medium)}
    known = _facts(view, medium)
    match offline.where(medium, now):
        case Where.SWAPPED:
            said["identity"] = str(medium.get("mismatch"))
            return facts.non_compliant(severity, "reason.OFF-01.swapped", *known, **said)
        case Where.CONTRADICTED:
            said["out_at"] = offline.out_at(medium) or 0
            return facts.non_compliant(severity, "reason.OFF-01.still_attached", *known, **said)
        case Where.LEFT_ATTACHED:
            said["since_at"] = facts.number(medium.get("attached_since_at")) or 0
            said["may_stay_ms"] = (facts.number(medium.get("may_stay_s")) or 0) * 1000
            return facts.non_compliant(severity, "reason.OFF-01.left_attached", *known, **said)
    for copy in medium.get("copies") or ():
        if copy.get("verdict") == Verdict.FAILED:
            code, place = facts.code(copy), str(copy.get("repository"))
            return facts.non_compliant(
                severity, "reason.OFF-01.corrupt", *known, repository=place, code=code, **said
            )
    return None


def _not_brought(view: View, medium: Medium, policy: Policy, now: datetime) -> Judgement | None:
    """Return a finding for a medium that should have come back long ago, by its rotation."""
    every = facts.number(medium.get("every_s"))
    here = facts.number(medium.get("here_at"))
    if every is None or here is None:
        return None
    allowed = (every + facts.seconds(policy, "rotation-grace")) * facts.SECOND
    if to_us(now) - here <= allowed:
        return None
    return facts.non_compliant(
        Severity.WARNING,
        "reason.OFF-01.not_brought",
        *_facts(view, medium),
        medium=_name(medium),
        here_at=here,
        every_ms=every * 1000,
    )


def _not_away(view: View, medium: Medium, policy: Policy, now: datetime) -> Judgement:
    """Return why a medium is no proof of an offline copy; none of the others is either."""
    known, said = _facts(view, medium), {"medium": _name(medium)}
    state = offline.where(medium, now)
    newest = _newest_on(medium)
    if state is Where.VTL:
        return facts.non_compliant(policy.severity, "reason.OFF-01.vtl", *known, **said)
    if state is Where.UNLOOKED:
        since = facts.number(medium.get("seen_at")) or 0
        code = facts.code(medium)
        return facts.lost(policy, now, since, "reason.OFF-01.no_look", *known, code=code, **said)
    if newest is None:
        return _never(view, medium, policy, now)
    if _is_stale(newest, policy, now):
        return _stale(view, medium, newest, policy, now)
    if state is Where.UNDECLARED:
        here = facts.number(medium.get("here_at")) or 0
        late = to_us(now) - here > facts.seconds(policy, "declare-within") * facts.SECOND
        severity = policy.severity if late else Severity.WARNING
        judge = facts.non_compliant if late else _warning
        return judge(severity, "reason.OFF-01.undeclared", *known, here_at=here, **said)
    if state is Where.AWAY:
        wanted = [c for c in medium.get("copies") or () if c.get("verdict") != Verdict.PASSED]
        code = facts.code(wanted[0] if wanted else {})
        return facts.warning("reason.OFF-01.unread", *known, code=code, **said)
    since = facts.number(medium.get("attached_since_at")) or 0
    return facts.warning("reason.OFF-01.attached", *known, since_at=since, **said)


def _warning(_: Severity, reason: str, *known: Fact | None, **values: int | str) -> Judgement:
    return facts.warning(reason, *known, **values)


def _never(view: View, medium: Medium, policy: Policy, now: datetime) -> Judgement:
    """Return what it means that nothing was ever seen on a medium."""
    known = _facts(view, medium)
    if facts.past_deadline(view, now, facts.seconds(policy, "age")):
        return facts.non_compliant(
            policy.severity, "reason.OFF-01.never_seen", *known, medium=_name(medium)
        )
    return facts.never_set_up("reason.OFF-01.not_yet", *known, medium=_name(medium))


def _vantage(view: View, media: list[Medium], policy: Policy, now: datetime) -> Iterator[Judgement]:
    """Yield that nobody looks from production, where nobody does: this host alone proves little.

    One medium that is away and is out of production's reach is enough.
    """
    away = [one for one in media if offline.where(one, now) is Where.AWAY] or media
    known = [(until, one) for one in away if (until := _fresh_until(view, one)) is not None]
    if not known:
        named = any(facts.number(_reach(view, one).get("targets")) for one in away)
        reason = "no_vantage" if named else "no_target"
        yield facts.never_set_up(f"reason.OFF-01.{reason}", medium=_name(away[0]))
        return
    until, medium = max(known, key=lambda pair: pair[0])
    if to_us(now) > until:
        reason = "reason.OFF-01.vantage_silent"
        yield facts.lost(policy, now, until, reason, medium=_name(medium), until_at=until)


def _fresh_until(view: View, medium: Medium) -> int | None:
    return facts.number(_reach(view, medium).get("fresh_until"))
