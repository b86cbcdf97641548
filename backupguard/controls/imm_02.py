"""IMM-02: has somebody with the backup writer's rights been shown to get at the copies, or not?"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, Policy, Scope, Severity, Status, Verdict, View, to_us

CONCLUDED = "immutability.tried/concluded"
PROVED = "immutability.tried/proved"

#: Attackers nobody plays: each is not tested until a person says how it is kept away.
UNTESTED = ("storage_admin", "hypervisor_admin", "physical", "clock")
#: Nothing was ever set up with which anything could be tried.
_NOT_SET_UP = frozenset({"writer_missing", "secret_missing", "user_missing"})
#: Credentials with which nothing can be proved.
_WRONG = frozenset({"administrator", "read_only", "authentication"})


class ImmutabilityTried:
    """Judges what the attempts against canaries came to; the last conclusive ones, while they hold.

    What was refuted stays so until everything is refused again; what was proved holds for the period
    of the probe, and what could not be tried since then neither helps nor hides it.
    """

    id: ClassVar[str] = "IMM-02"
    scope: ClassVar[Scope] = Scope.REPOSITORY
    reads: ClassVar[frozenset[str]] = frozenset({"immutability.tried"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one repository."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        newest = facts.not_in_future(view.latest.get("immutability.tried"), now)
        concluded = facts.not_in_future(view.latest.get(CONCLUDED), now)
        if concluded is None:
            return _never(newest)
        others = {name: _other(view, name) for name in UNTESTED}
        tried_at = facts.seen_at(concluded)
        if facts.data(concluded).get("verdict") == Verdict.FAILED:
            return _refuted(view, concluded, newest, now, others)
        unsure = newest is not None and facts.data(newest).get("verdict") != Verdict.PASSED
        code = facts.code(facts.data(newest))
        until = tried_at + facts.allowed_s(policy) * facts.SECOND
        if to_us(now) > until:
            reason = "reason.IMM-02.stale" if unsure else "reason.IMM-02.old"
            values: dict[str, int | str] = {
                "tried_at": tried_at,
                **({"code": code} if unsure else {}),
            }
            lost = facts.lost(policy, now, until, reason, concluded, newest, **values)
            if not unsure or lost.status is not Status.NOT_MEASURABLE:
                return lost
        if unsure:
            return facts.warning(
                "reason.IMM-02.unsure", concluded, newest, tried_at=tried_at, code=code
            )
        count = len(facts.data(concluded).get("refused") or ())
        return facts.compliant(
            "reason.IMM-02.proved", concluded, tried_at=tried_at, count=count, **others
        )


def _refuted(
    view: View, concluded: Fact, newest: Fact | None, now: datetime, others: dict[str, str]
) -> Judgement:
    """Return what worked; a protection that once held and holds no more is said to be lost."""
    worked = facts.data(concluded).get("worked") or ["unknown"]
    values: dict[str, int | str] = {
        "what": f"@attempt.{worked[0]}",
        "count": len(worked),
        "tried_at": facts.seen_at(concluded),
        **others,
    }
    proved = facts.not_in_future(view.latest.get(PROVED), now)
    if proved is not None and facts.seen_at(proved) <= facts.seen_at(concluded):
        reason, values["proved_at"] = "reason.IMM-02.lost_protection", facts.seen_at(proved)
    else:
        reason, proved = "reason.IMM-02.refuted", None
    return facts.non_compliant(Severity.CRITICAL, reason, concluded, newest, proved, **values)


def _never(newest: Fact | None) -> Judgement:
    """Return why nothing has ever been concluded: work to do."""
    if newest is None:
        return facts.never_set_up("reason.IMM-02.never")
    code = facts.data(newest).get("code")
    if code == "nothing_to_try":
        return facts.never_set_up("reason.IMM-02.nothing_to_try", newest)
    if code in _NOT_SET_UP:
        return facts.never_set_up(
            "reason.IMM-02.not_set_up", newest, code=facts.code(facts.data(newest))
        )
    if code in _WRONG:
        return facts.never_set_up(
            "reason.IMM-02.wrong_credentials", newest, code=facts.code(facts.data(newest))
        )
    return facts.never_set_up(
        "reason.IMM-02.inconclusive", newest, code=facts.code(facts.data(newest))
    )


def _other(view: View, attacker: str) -> str:
    """Return whether somebody attested how an attacker that is never played is kept away."""
    attestations = view.known.get("attestations")
    stands = attestations.get(f"attacker/{attacker}") if isinstance(attestations, dict) else None
    attested = isinstance(stands, dict) and stands.get("expired") is not True
    return "@untested.attested" if attested else "@untested.no"
