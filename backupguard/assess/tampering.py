"""What stands of the attempts against each repository: the last conclusion, and the last proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from backupguard.assess.overrides import Overrides
from backupguard.assess.picture import ImmutabilityPicture
from backupguard.controls import Catalogue, facts
from backupguard.controls.imm_02 import CONCLUDED, PROVED, UNTESTED, ImmutabilityTried
from backupguard.model import Fact, Subject, Verdict, repository_subject, to_us
from backupguard.settings import Settings

KINDS = ("immutability.tried",)

_REFUTED, _INCONCLUSIVE, _PROVED = 0, 1, 2
_WRITER = "backup_writer"


class Tried:
    """Picks what stands out of every `immutability.tried`; facts come in order and once each."""

    def __init__(self) -> None:
        self._concluded: dict[Subject, Fact] = {}
        self._proved: dict[Subject, Fact] = {}

    def learn(self, fact: Fact) -> None:
        """Take one into account; one whose body was pruned says nothing."""
        data = fact.observation.data
        verdict = data.get("verdict") if isinstance(data, Mapping) else None
        if verdict in {Verdict.PASSED, Verdict.FAILED}:
            self._concluded[fact.observation.subject] = fact
        if verdict == Verdict.PASSED:
            self._proved[fact.observation.subject] = fact

    def of(self, subject: Subject) -> dict[str, Fact]:
        """Return what a view holds of one repository beside its newest fact."""
        found = {CONCLUDED: self._concluded, PROVED: self._proved}
        return {name: kept[subject] for name, kept in found.items() if subject in kept}

    def verdict(self, subject: Subject, now: datetime, holds: timedelta) -> int:
        """Return 2 for proved, 1 for inconclusive, 0 for refuted.

        What was refuted stays so until it is proved; what was proved holds for `holds`.
        """
        fact = self._concluded.get(subject)
        if fact is None or not isinstance(fact.observation.data, Mapping):
            return _INCONCLUSIVE
        if fact.observation.data["verdict"] == Verdict.FAILED:
            return _REFUTED
        return _PROVED if now - fact.observation.observed_at <= holds else _INCONCLUSIVE


def pictures(
    settings: Settings,
    tried: Tried,
    overrides: Overrides,
    latest: Mapping[Subject, Mapping[str, Fact]],
    catalogue: Catalogue,
    now: datetime,
) -> Iterator[ImmutabilityPicture]:
    """Yield one picture per repository; a proof counts as long as the control lets it."""
    for name in settings.repositories:
        subject = repository_subject(name)
        policy, _ = overrides.policy(
            catalogue, ImmutabilityTried.id, settings.criticality_of(name), subject, now
        )
        holds = timedelta(seconds=facts.allowed_s(policy))
        verdicts = {_WRITER: tried.verdict(subject, now, holds)}
        verdicts |= dict.fromkeys(UNTESTED, _INCONCLUSIVE)
        seen = latest.get(subject, {}).get("protection.seen")
        yield ImmutabilityPicture(
            repository=name,
            verdicts=verdicts,
            locked_until_at=_locked_until(seen, now),
        )


def _locked_until(seen: Fact | None, now: datetime) -> int | None:
    """Return until when the newest points are locked, 0 where one is not; None where unknown."""
    data = seen.observation.data if seen is not None else None
    if not isinstance(data, Mapping) or data["verdict"] != Verdict.PASSED or not data["points"]:
        return None
    until: int | None = data["locked_until_at"]
    return until if until is not None and until > to_us(now) else 0
