"""RST-02: was what came back really the application's data, and was it proved?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, Policy, Scope, Verdict, View, to_us

#: A test told of: what was restored is damaged (and not: it could not be restored).
_DAMAGED = "declared_damaged"
#: The site says that its job writes a canary, and there is none.
_NO_CANARY = "warning_canary_missing"


class RestoredContent:
    """Judges the checks of the last conclusive tests, and how much they could prove."""

    id: ClassVar[str] = "RST-02"
    scope: ClassVar[Scope] = Scope.APPLICATION
    reads: ClassVar[frozenset[str]] = frozenset({"restore-test.result"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one application."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        tests = facts.concluded(view, now)
        reached = _reached(view, policy)
        if reached is not None:
            return reached
        for test in tests.values():
            wrong = _checks(test, Verdict.FAILED)
            if wrong:
                return facts.non_compliant(
                    policy.severity,
                    "reason.RST-02.failed",
                    test,
                    check=str(wrong[0].get("name")),
                    code=facts.code(wrong[0]),
                    count=len(wrong),
                    tested_at=facts.seen_at(test),
                )
        told = facts.declared_tests(view, now)
        for test in told:
            if any(check.get("code") == _DAMAGED for check in _checks(test, Verdict.FAILED)):
                said = facts.told_by(test)
                return facts.non_compliant(
                    policy.severity, "reason.RST-02.failed_declared", test, **said
                )
        newest = next(iter(tests.values()), None)
        oldest = to_us(now) - facts.allowed_s(policy) * facts.SECOND
        if newest is None or facts.seen_at(newest) < oldest:
            declared = self._by_word(told, policy, oldest, newest)
            if declared is not None:
                return declared
        if newest is None:
            return facts.never_set_up("reason.RST-02.never")
        result = facts.data(newest)
        tested_at = facts.seen_at(newest)
        if result.get("verdict") != Verdict.PASSED:
            return facts.lost(
                policy, now, tested_at, "reason.RST-02.not_reached", newest,
                code=facts.code(result), tested_at=tested_at,
            )  # fmt: skip
        content = self._passed(view, policy, newest, now)
        valid_until = tested_at + facts.allowed_s(policy) * facts.SECOND
        if to_us(now) <= valid_until:
            return content
        old = facts.lost(policy, now, valid_until, "reason.RST-02.old", newest, tested_at=tested_at)
        return facts.worst_of([old, content])

    def _by_word(
        self, told: list[Fact], policy: Policy, oldest: int, newest: Fact | None
    ) -> Judgement | None:
        """Judge by the best test told of since `oldest`; None for none."""
        valid = [
            test
            for test in told
            if facts.seen_at(test) >= oldest and facts.data(test).get("verdict") == Verdict.PASSED
        ]
        best = max(
            valid,
            key=lambda test: (
                min(facts.level_of(test), _enough(policy)),
                facts.authenticated(test),
                facts.seen_at(test),
            ),
            default=None,
        )
        if best is None:
            return None
        said = facts.told_by(best)
        if facts.level_of(best) < _enough(policy):
            return facts.warning("reason.RST-02.level_declared", best, newest, **said)
        if not facts.authenticated(best):
            return facts.warning("reason.RST-02.unsigned", best, newest, **said)
        return facts.compliant("reason.RST-02.declared", best, newest, **said)

    def _passed(self, view: View, policy: Policy, test: Fact, now: datetime) -> Judgement:
        result = facts.data(test)
        level = facts.number(result.get("level")) or 0
        tested_at = facts.seen_at(test)
        loss_ms = facts.number(result.get("data_loss_ms"))
        rpo_s = facts.number(view.settings.get("rpo_s"))
        if loss_ms is not None and rpo_s is not None and loss_ms > rpo_s * 1000:
            return facts.non_compliant(
                policy.severity,
                "reason.RST-02.data_loss",
                test,
                loss_ms=loss_ms,
                rpo_ms=rpo_s * 1000,
            )
        undecided = _checks(test, Verdict.COULD_NOT_VERIFY)
        if undecided:
            name = str(undecided[0].get("name"))
            code = facts.code(undecided[0])
            return facts.warning(
                "reason.RST-02.undecided", test, check=name, code=code, count=len(undecided)
            )
        if any(check.get("code") == _NO_CANARY for check in result.get("checks") or ()):
            return facts.warning("reason.RST-02.canary_missing", test, tested_at=tested_at)
        if not facts.number(result.get("checks_configured")):
            return facts.warning("reason.RST-02.no_business_check", test, level=level)
        part = facts.part_tested(test, now)
        if part is None and not result.get("baseline_accepted"):
            return facts.warning("reason.RST-02.provisional", test, level=level)
        if level < facts.seconds(policy, "level"):
            return facts.warning("reason.RST-02.level", test, level=level)
        if part is not None:
            said = {"level": level, "tested_at": tested_at, **part[0]}
            if not part[1]:
                return facts.warning("reason.RST-02.part_uncovered", test, **said)
            return facts.compliant("reason.RST-02.part", test, **said)
        return facts.compliant("reason.RST-02.proved", test, level=level, tested_at=tested_at)


def _reached(view: View, policy: Policy) -> Judgement | None:
    """Return the finding for content that is bad from some point on, with the last clean point.

    None where the newest point is not bad, or none is known to be clean.
    """
    found: Mapping[str, Any] | None = view.known.get("reached")
    if not found or found.get("clean_at") is None:
        return None
    reason = "reason.RST-02.reached"
    if found["between"]:
        reason += "_between"
    return facts.non_compliant(
        policy.severity,
        reason,
        view.latest.get("restore-test.first-bad"),
        view.latest.get("restore-test.last-clean"),
        check=str(found["check"]) or "—",
        code=f"@code.{found['code'] or 'none'}",
        bad_at=int(found["bad_at"]),
        bad_point=str(found["bad_point"])[:10],
        clean_at=int(found["clean_at"]),
        clean_point=str(found["clean_point"])[:10],
        repository=str(found["clean_repository"]),
        between=int(found["between"]),
        unverified=int(found["unverified"]),
    )


def _enough(policy: Policy) -> int:
    """Return the level from which content is proved."""
    return facts.seconds(policy, "level")


def _checks(test: Fact, verdict: Verdict) -> list[Mapping[str, Any]]:
    """Return the checks of a test that ended so, the site's own first."""
    found = [
        check for check in facts.data(test).get("checks") or () if check.get("verdict") == verdict
    ]
    return sorted(found, key=lambda check: not check.get("configured"))
