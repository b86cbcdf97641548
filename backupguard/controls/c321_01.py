"""321-01: production, two independent backups in two failure domains, one offline, one off-site.

Independence is declared and attested every year; what was found by looking lowers the count. Offline
is what is proved away: its copy was read here, it was seen to leave, and a person said where it went
(ANSSI R11, v1.1). An immutable copy does not stand in for that one, and is said in words.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backupguard.controls import copies as counting
from backupguard.controls import facts
from backupguard.controls.copies import Copy, Count, Why
from backupguard.model import Criticality, Fact, Judgement, Policy, Scope, Severity, View

#: Of several reasons why copies do not count, the one that is said.
_SAID_FIRST = (Why.BROKEN, Why.STALE, Why.EMPTY, Why.SNAPSHOT, Why.PRODUCTION)


class ThreeTwoOne:
    """Counts the copies of an application that would survive together with it."""

    id: ClassVar[str] = "321-01"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset(
        {
            *("repository.inspected", "repository.confirmed", "restore-test.result"),
            *("medium.seen", "medium.copy", "medium.moved", "isolation.seen", "immutability.tried"),
        }
    )

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        copies = counting.copies_of(view)
        if not copies:
            return facts.never_set_up("reason.321-01.no_job")
        return facts.worst_of(
            [self._part(view, policy, part, now) for part in counting.parts(copies).values()]
        )

    def _part(
        self, view: View, policy: Policy, copies: tuple[Copy, ...], now: datetime
    ) -> Judgement:
        """Judge one part of an application: a database of its own, or the whole."""
        found = self._count(view, policy, copies, now)
        judgement = self._measured(view, policy, copies, found, now)
        # What nobody could look at lately may still be there: it is lost from sight, not missing.
        names = found.because(Why.UNSEEN)
        forgiving = self._count(view, policy, copies, now, Why.UNSEEN)
        without = self._measured(view, policy, copies, forgiving, now)
        if not names or facts.worst_of([without, judgement]) is without:
            return judgement
        gone = [copy for copy in copies if copy.get("repository") in names]
        since = min(at for copy in gone if (at := counting.lapse(copy)) is not None)
        blind = facts.lost(
            policy, now, since, "reason.321-01.unseen", *_inspected(view),
            repository=", ".join(names), code=facts.code(gone[0]), count=len(found.independent),
        )  # fmt: skip
        return facts.worst_of([blind, without])

    def _measured(
        self, view: View, policy: Policy, copies: tuple[Copy, ...], found: Count, now: datetime
    ) -> Judgement:
        needed = facts.seconds(policy, "copies")
        if all(facts.number(copy.get("seen_at")) is None for copy in copies):
            return _not_yet(view, copies, found)
        if len(found.independent) >= needed:
            return self._where(view, policy, found)
        known = self._count(view, policy, copies, now, Why.UNSEEN, Why.STALE)
        waiting = (Why.UNSEEN, Why.NEVER_SEEN, Why.UNPROVEN)
        hoped = self._count(view, policy, copies, now, *waiting)
        if len(known.independent) < needed <= len(hoped.independent):
            return _not_yet(view, copies, found)
        return self._too_few(view, policy, found, needed)

    def _count(
        self, view: View, policy: Policy, copies: tuple[Copy, ...], now: datetime, *forgiven: Why
    ) -> Count:
        return counting.count(
            copies,
            view.settings.get("failure_domain"),
            now,
            attested_s=facts.seconds(policy, "attestation"),
            forgiven=forgiven,
        )

    def _too_few(self, view: View, policy: Policy, found: Count, needed: int) -> Judgement:
        why = next((why for why in _SAID_FIRST if found.because(why)), None)
        reason, names = "few", tuple(name for group in found.independent for name in group)
        if found.contradicted:
            reason, names = "one_place", found.contradicted
        elif why is not None:
            reason, names = why.value, found.because(why)
        elif any(len(group) > 1 for group in found.independent):
            reason = "one_domain"
        return facts.non_compliant(
            self._severity(view, policy, found),
            f"reason.321-01.few_{reason}" if reason != "few" else "reason.321-01.few",
            *_inspected(view),
            count=len(found.independent),
            needed=needed,
            repository=", ".join(sorted(names)) or "—",
        )

    def _severity(self, view: View, policy: Policy, found: Count) -> Severity:
        """Return how urgent it is: the only copy left of a vital application is online."""
        away = found.offline or found.declared_offline
        alone = len(found.independent) <= 1 and not away
        vital = facts.most_vital(view) is Criticality.C1
        return Severity.CRITICAL if alone and vital else policy.severity

    def _where(self, view: View, policy: Policy, found: Count) -> Judgement:
        """Judge enough copies by where they are."""
        inspected = _inspected(view)
        if found.undeclared:
            return facts.never_set_up(
                "reason.321-01.undeclared", *inspected, repository=", ".join(found.undeclared)
            )
        if view.settings.get("failure_domain") is None:
            return facts.never_set_up("reason.321-01.production_undeclared", *inspected)
        if not found.offline and not found.declared_offline:
            return self._no_offline(view, policy, found)
        if not found.off_site:
            return facts.non_compliant(policy.severity, "reason.321-01.no_off_site", *inspected)
        offline = ", ".join(found.offline or found.declared_offline)
        if found.old:
            proved = "attestation_proved" if found.offline else "attestation"
            return facts.warning(
                f"reason.321-01.{proved}", *inspected,
                repository=", ".join(found.old), offline=offline,
            )  # fmt: skip
        if not found.offline:
            return facts.warning(
                "reason.321-01.offline_declared", *inspected,
                repository=offline, count=len(found.independent),
            )  # fmt: skip
        return facts.compliant(
            "reason.321-01.kept",
            *inspected,
            *_media(view),
            count=len(found.independent),
            offline=offline,
            off_site=", ".join(found.off_site),
            immutable=", ".join(found.immutable) or "@copies.none_immutable",
        )

    def _no_offline(self, view: View, policy: Policy, found: Count) -> Judgement:
        """Say that no copy is offline; one that is said to be and is not is named first."""
        inspected = _inspected(view)
        if found.online:
            return facts.non_compliant(
                policy.severity, "reason.321-01.offline_reached", *inspected, *_media(view),
                repository=", ".join(found.online),
            )  # fmt: skip
        if found.immutable:
            return facts.non_compliant(
                policy.severity, "reason.321-01.no_offline_immutable", *inspected,
                repository=", ".join(found.immutable),
            )  # fmt: skip
        return facts.non_compliant(policy.severity, "reason.321-01.no_offline", *inspected)


def _not_yet(view: View, copies: tuple[Copy, ...], found: Count) -> Judgement:
    """Say what has to be looked at, or confirmed, before anything can be counted."""
    unproven = found.because(Why.UNPROVEN)
    if unproven:
        return facts.unproven(unproven[0], *_inspected(view))
    first = next(copy for copy in copies if facts.number(copy.get("seen_at")) is None)
    return facts.never_set_up(
        "reason.never_seen",
        *_inspected(view),
        repository=str(first.get("repository")),
        code=facts.code(first),
    )


def _inspected(view: View) -> list[Fact | None]:
    return [job.latest.get("repository.inspected") for job in view.children]


def _media(view: View) -> list[Fact | None]:
    return [fact for kind, fact in view.latest.items() if kind.startswith("medium.")]
