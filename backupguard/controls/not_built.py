"""The controls of the catalogue that this version does not judge, and says so."""

from __future__ import annotations

from datetime import datetime

from backupguard.model import Judgement, Message, Policy, Scope, Status, View


class NotBuilt:
    """Answers `not_applicable` for a control that is absent from this version, once per site."""

    scope = Scope.SITE
    reads: frozenset[str] = frozenset()

    def __init__(self, identifier: str) -> None:
        self.id = identifier

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:  # noqa: ARG002
        """Say that nothing is judged."""
        return Judgement(status=Status.NOT_APPLICABLE, reason=Message(id="reason.not_built"))
