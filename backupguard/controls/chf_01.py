"""CHF-01: is what leaves the site encrypted, and does the key that lies in escrow open it?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.errors import MEDIUM_AWAY
from backupguard.model import Judgement, Message, Policy, Scope, Status, View, to_us

_OPENED, _REFUSED = "restore-test.escrow/opened", "restore-test.escrow/refused"
_ENCRYPTION = "repository.inspected/encryption"
#: What a tool says of a copy that it does not open for us because it is not encrypted.
_REFUSED_AS_CLEAR = frozenset({"repositories.borg-unencrypted"})


def said_encrypted(inspected: Mapping[str, Any]) -> bool | None:
    """Return whether a copy is encrypted by what its tool said; None where it did not say."""
    said = inspected.get("encrypted")
    if said is None and (inspected.get("said") or {}).get("id") in _REFUSED_AS_CLEAR:
        return False
    return said if isinstance(said, bool) else None


class EncryptionAndEscrow:
    """Judges encryption by the tool's own word, then the escrowed key by a restore test with it.

    ANSSI R31 asks for encryption where the physical security of a site does not suffice: a copy that
    leaves it must be encrypted, one that stays need not be. R30 asks for the keys to be kept
    elsewhere: that is attested by a person, and proved by nothing but a restore test with that key.
    """

    id: ClassVar[str] = "CHF-01"
    scope: ClassVar[Scope] = Scope.REPOSITORY
    reads: ClassVar[frozenset[str]] = frozenset(
        {"repository.inspected", "restore-test.result", "attestation.made", "attestation.withdrawn"}
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one repository."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        if view.known.get("unproven"):
            return facts.unproven(view.subject.partition("/")[2])
        found = _encrypted(view, now)
        leaves = view.settings.get("leaves_site", True)
        if found is True:
            unseen = self._still_seen(view, policy, now) if leaves else None
            key = self._key(view, policy, now)
            return key if unseen is None else facts.worst_of([key, unseen])
        if not leaves:
            reason = "on_site_unknown" if found is None else "on_site_clear"
            return Judgement(
                status=Status.NOT_APPLICABLE,
                reason=Message(id=f"reason.CHF-01.{reason}"),
                facts=facts.seqs(view.latest.get(_ENCRYPTION)),
            )
        return self._clear(view, policy, now) if found is False else self._unknown(view, now)

    def _clear(self, view: View, policy: Policy, now: datetime) -> Judgement:
        said = facts.not_in_future(view.latest.get(_ENCRYPTION), now)
        if said_encrypted(facts.data(said)) is False:
            return facts.non_compliant(policy.severity, "reason.CHF-01.clear", said)
        return facts.non_compliant(
            policy.severity, "reason.CHF-01.clear_points", said, count=_points(view)["clear"]
        )

    def _unknown(self, view: View, now: datetime) -> Judgement:
        inspected = facts.not_in_future(view.latest.get("repository.inspected"), now)
        if facts.data(inspected).get("reachable"):
            return facts.never_set_up("reason.CHF-01.unknown", inspected)
        return facts.never_set_up(
            "reason.CHF-01.never_seen", inspected, code=facts.code(facts.data(inspected))
        )

    def _still_seen(self, view: View, policy: Policy, now: datetime) -> Judgement | None:
        """Return what it means that the tool says nothing any more of what it said once."""
        newest = facts.not_in_future(view.latest.get("repository.inspected"), now)
        said = facts.not_in_future(view.latest.get(_ENCRYPTION), now)
        told = facts.data(newest)
        if said is None or newest is None or said_encrypted(told) is not None:
            return None
        if told.get("code") == MEDIUM_AWAY:  # nobody can look, and nothing is wrong with that
            return None
        return facts.lost(
            policy, now, facts.seen_at(said), "reason.CHF-01.unseen", said, newest,
            seen_at=facts.seen_at(said), code=facts.code(told),
        )  # fmt: skip

    def _key(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge the escrow of the key of a copy that is encrypted."""
        opened = facts.not_in_future(view.latest.get(_OPENED), now)
        refused = facts.not_in_future(view.latest.get(_REFUSED), now)
        if refused is not None and (
            opened is None or facts.seen_at(opened) <= facts.seen_at(refused)
        ):
            return facts.non_compliant(
                policy.severity,
                "reason.CHF-01.wrong_key",
                refused,
                tested_at=facts.seen_at(refused),
            )
        late = facts.past_deadline(view, now, facts.seconds(policy, "first-proof"))
        made = _attested(view, now)
        if made is None:
            if late:
                return facts.non_compliant(policy.severity, "reason.CHF-01.no_escrow", opened)
            if not view.settings.get("key_testable", True):  # a statement would be worth no more
                return facts.warning("reason.CHF-01.never_attested", opened)
            return facts.never_set_up("reason.CHF-01.never_attested", opened)
        made_at = made["made_at"]
        until = made_at + facts.seconds(policy, "escrow-attestation") * facts.SECOND
        until = min(until, facts.number(made.get("expires_at")) or until)
        if to_us(now) >= until:
            return facts.non_compliant(
                policy.severity, "reason.CHF-01.escrow_expired", opened,
                made_at=made_at, expires_at=until,
            )  # fmt: skip
        if not view.settings.get("key_testable", True):
            return facts.warning("reason.CHF-01.attested_only", made_at=made_at)
        if opened is None:
            if late:
                return facts.non_compliant(policy.severity, "reason.CHF-01.not_tested")
            return facts.never_set_up("reason.CHF-01.never_tested")
        tested_at, period_s = facts.seen_at(opened), facts.seconds(policy, "escrow-test")
        if to_us(now) - tested_at > period_s * facts.SECOND:
            return facts.non_compliant(
                policy.severity, "reason.CHF-01.test_old", opened,
                tested_at=tested_at, period_ms=period_s * 1000,
            )  # fmt: skip
        return facts.compliant(
            "reason.CHF-01.good", view.latest.get(_ENCRYPTION), opened,
            tested_at=tested_at, made_at=made_at,
        )  # fmt: skip


def _points(view: View) -> Mapping[str, int]:
    """Return how many of the newest points are encrypted, clear, and of which nobody knows."""
    counted = view.known.get("points_encrypted") or {}
    return {
        name: facts.number(counted.get(name)) or 0 for name in ("encrypted", "clear", "unknown")
    }


def _encrypted(view: View, now: datetime) -> bool | None:
    """Return whether everything there is encrypted, as the tool said last; None: it never did."""
    said = facts.not_in_future(view.latest.get(_ENCRYPTION), now)
    whole = said_encrypted(facts.data(said))
    points = _points(view)
    if whole is False or points["clear"]:
        return False
    if whole is True:
        return True
    return True if points["encrypted"] and not points["unknown"] else None


def _attested(view: View, now: datetime) -> Mapping[str, Any] | None:
    """Return the newest statement that the key lies in escrow; one of the future is none."""
    standing = view.known.get("attestations") or {}
    made = [
        one
        for key, one in standing.items()
        if key.partition("/")[0] == "escrow"
        and (at := facts.number(one.get("made_at"))) is not None
        and at <= to_us(now) + facts.CLOCK_TOLERANCE
    ]
    return max(made, key=lambda one: int(one["made_at"]), default=None)
