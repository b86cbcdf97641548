"""What has to be picked out of all facts of a kind: read once, then only what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from backupguard.assess import (
    acknowledged,
    attestations,
    declared,
    overrides,
    protections,
    reach,
    record_clock,
    tampering,
    waivers,
    weakenings,
)
from backupguard.assess.backups import Remembered
from backupguard.assess.clean_points import TestedPoints
from backupguard.contracts import Store
from backupguard.controls.chf_01 import said_encrypted
from backupguard.model import (
    AgeClass,
    Fact,
    Origin,
    PointsLost,
    Subject,
    Verdict,
    age_tested,
    repository_subject,
    to_us,
)

_KINDS = (
    "restore-test.result",
    "self-test.result",
    "repository.inspected",
    "repository.verified",
    "plan.issued",
    "evidence.anchored",
    "pause.started",
    "pause.ended",
    *acknowledged.KINDS,
    *record_clock.KINDS,
    *attestations.KINDS,
    *tampering.KINDS,
    *protections.KINDS,
    *weakenings.KINDS,
    *waivers.KINDS,
    *overrides.KINDS,
)
_CONCLUSIVE = frozenset({Verdict.PASSED, Verdict.FAILED})

#: For how long it is remembered which points vanished.
LOSSES_KEPT = timedelta(days=31)

#: application, engine, repository, origin of a restore test.
TestKey = tuple[str, str, str, str]


def payload(fact: Fact) -> Mapping[str, Any]:
    """Return a fact's payload; nothing where its body was pruned."""
    found = fact.observation.data
    return found if isinstance(found, Mapping) else {}


class Verified:
    """What stands of a repository's verifications: complete readings, and what was found wrong."""

    def __init__(self) -> None:
        self.complete: Fact | None = None
        self._wrong: dict[str, Fact] = {}

    @property
    def failed(self) -> Fact | None:
        """Return the newest fact with a unit that was wrong and has not been right since."""
        return max(self._wrong.values(), key=lambda fact: fact.seq, default=None)

    def learn(self, fact: Fact) -> None:
        """Take one `repository.verified` into account; facts come in order."""
        found = payload(fact)
        complete_at = found.get("complete_at")
        if complete_at is not None:
            self.complete = fact
            # Every unit was read since then, and found right unless it is named below.
            self._wrong = {
                unit: wrong
                for unit, wrong in self._wrong.items()
                if to_us(wrong.observation.observed_at) >= complete_at
            }
        named = False
        for unit in found.get("units") or ():
            if unit["verdict"] == Verdict.FAILED:
                self._wrong[unit["unit"]] = fact
                named = True
            elif unit["verdict"] == Verdict.PASSED:
                self._wrong.pop(unit["unit"], None)
        if found.get("verdict") == Verdict.FAILED and not named:
            self._wrong[""] = fact
        elif found.get("verdict") == Verdict.PASSED and complete_at is not None:
            self._wrong.pop("", None)


class History:
    """Facts picked out of the store, brought up to date by `update`; costs what is new."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seq = 0
        self._first_seen: dict[Subject, datetime] = {}
        self.passed: dict[Subject, Fact] = {}
        self.concluded: dict[Subject, dict[str, Fact]] = {}
        self.aged: dict[Subject, dict[AgeClass, Fact]] = {}
        self._failed: dict[Subject, dict[tuple[str, str], Fact]] = {}
        self._listed_seq = 0
        self.newest_test: dict[TestKey, Fact] = {}
        self.newest_success: dict[TestKey, Fact] = {}
        self.newest_failure: dict[TestKey, Fact] = {}
        self.outcomes: dict[TestKey, Counter[str]] = {}
        self.verified: dict[Subject, Verified] = {}
        self.encryption: dict[Subject, Fact] = {}  # the newest that says whether it is encrypted
        #: "opened" and "refused": the newest tests with an escrowed key.
        self.escrow: dict[Subject, dict[str, Fact]] = {}
        self.places: dict[Subject, Fact] = {}  # the newest that says where a repository lies
        self.lost: dict[tuple[str, str], list[PointsLost]] = {}
        self._lost_seq: int | None = None
        self.looks = reach.Looks()
        self._looked_seq: int | None = None
        self.backups = Remembered(store)
        self.self_test: Fact | None = None  # the newest that came to a conclusion
        self.reported: str | None = None
        self.anchored: dict[str, Fact] = {}  # per place the newest that was seen to be put there
        self.acknowledgements = acknowledged.Acknowledgements()
        self.plan: Fact | None = None  # the newest that was kept where the settings say
        self.pause: Fact | None = None
        self.attestations = attestations.Attestations()
        self.tried = tampering.Tried()
        self.protections = protections.Protections()
        self.weakenings = weakenings.Weakenings()
        self.waivers = waivers.Waivers()
        self.overrides = overrides.Overrides()
        self.clock = record_clock.RecordClock(store)
        self.declared = declared.DeclaredTests()
        self.tested: dict[Subject, TestedPoints] = {}

    def update(self) -> None:
        """Read the facts recorded since the last call."""
        for fact in self._store.facts(after=self._seq, kinds=_KINDS):
            self._seq = fact.seq
            self._learn(fact)
            kind = fact.observation.kind
            if kind in attestations.KINDS:
                self.attestations.learn(fact)
            elif kind in acknowledged.KINDS:
                self.acknowledgements.learn(fact)
            elif kind in tampering.KINDS:
                self.tried.learn(fact)
            elif kind in protections.KINDS:
                self.protections.learn(fact)
            elif kind in waivers.KINDS:
                self.waivers.learn(fact)
            elif kind in overrides.KINDS:
                self.overrides.learn(fact)
            elif kind in weakenings.KINDS:
                self.weakenings.learn(fact)
            elif kind == "self-test.result" and payload(fact).get("noticed") is not None:
                self.self_test = fact
        self._forget_vanished()
        self._losses()
        self._looks()
        self.backups.update()

    def _learn(self, fact: Fact) -> None:
        match fact.observation.kind:
            case "restore-test.result":
                self._test(fact)
            case "repository.verified":
                self.verified.setdefault(fact.observation.subject, Verified()).learn(fact)
            case "repository.inspected":
                if payload(fact).get("device") is not None:
                    self.places[fact.observation.subject] = fact
                if said_encrypted(payload(fact)) is not None:
                    self.encryption[fact.observation.subject] = fact
            case "report.issued" if "annex" not in payload(fact):
                self.reported = max(self.reported or "", payload(fact).get("month") or "")
            case "evidence.anchored" if fact.observation.origin is Origin.OBSERVED:
                self.anchored[str(payload(fact).get("place"))] = fact
            case "plan.issued":
                self.plan = fact if payload(fact).get("configured") else self.plan
            case "pause.started":
                self.pause = fact
            case "pause.ended":
                self.pause = None
            case "clock.stepped" | "daemon.started":
                self.clock.learn(fact)

    def failed_points(self, subject: Subject) -> Mapping[str, Fact]:
        """Return per repository the newest failed test of a point that stands and never passed since.

        A pass of another point says nothing of this one.
        """
        newest: dict[str, Fact] = {}
        for (repository, _), fact in self._failed.get(subject, {}).items():
            known = newest.get(repository)
            if known is None or fact.seq > known.seq:
                newest[repository] = fact
        return newest

    def _forget_vanished(self) -> None:
        """Forget failures of points that are no longer kept; reads listings only if any."""
        failed = [fact.seq for points in self._failed.values() for fact in points.values()]
        if not failed:
            return
        after = max(self._listed_seq, min(failed))
        for fact in self._store.facts(after=after, kinds=("inventory.listed",)):
            self._listed_seq = fact.seq
            repository = fact.observation.subject.removeprefix(repository_subject(""))
            for gone in payload(fact).get("vanished") or ():
                for points in self._failed.values():
                    wrong = points.get((repository, gone["native_id"]))
                    if wrong is not None and wrong.seq < fact.seq:
                        del points[repository, gone["native_id"]]

    def _losses(self) -> None:
        """Remember the points that vanished in the last month, by (job, repository)."""
        head = self._store.head()[0]
        after = self._lost_seq if self._lost_seq is not None else self._a_month_before(head)
        self._lost_seq = head
        for one in self._store.losses(after) if after < head else ():
            known = self.lost.setdefault((one.job, one.repository), [])
            known.append(one)
            while known[0].seen_at < one.seen_at - LOSSES_KEPT:
                known.pop(0)

    def _looks(self) -> None:
        """Remember what was reached in the last month, and before it the newest look of each."""
        head = self._store.head()[0]
        if self._looked_seq is None:
            self._looked_seq = self._a_month_before(head)
            known = self._store.latest(kinds=reach.KINDS).values()
            old = [fact for found in known for fact in found.values()]
            for fact in sorted(old, key=lambda fact: fact.seq):
                if fact.seq <= self._looked_seq:
                    self.looks.learn(fact)
        if self._looked_seq < head:
            for fact in self._store.facts(after=self._looked_seq, kinds=reach.KINDS):
                self.looks.learn(fact)
            self._looked_seq = head

    def _a_month_before(self, head: int) -> int:
        """Return the newest record that is a month older than `head`, 0 for none."""
        newest = self._store.fact(head)
        if newest is None:
            return 0
        low, high = 0, head
        while low < high:
            middle = (low + high + 1) // 2
            fact = self._store.fact(middle)
            if fact is not None and fact.recorded_at < newest.recorded_at - LOSSES_KEPT:
                low = middle
            else:
                high = middle - 1
        return low

    def _test(self, fact: Fact) -> None:
        found = payload(fact)
        subject, verdict = fact.observation.subject, found.get("verdict")
        if verdict is None:  # pruned
            return
        repository = found.get("repository") or "-"
        if found.get("key") == "escrow":
            known = self.escrow.setdefault(repository_subject(repository), {})
            if found.get("code") == "wrong_key":
                known["refused"] = fact
            elif (found.get("level") or 0) > 0:  # its bytes came back, whatever they are worth
                known["opened"] = fact
        key = (
            subject.removeprefix("application/"),
            found.get("engine") or "unknown",
            repository,
            fact.observation.origin.value,
        )
        self._newest(key, verdict, fact)
        if declared.is_declared(fact):
            self.declared.learn(fact)
            return
        self.tested.setdefault(subject, TestedPoints()).learn(fact)
        if verdict == Verdict.PASSED:
            self.passed[subject] = fact
        point = found.get("point")
        if point and verdict == Verdict.PASSED:
            self._failed.get(subject, {}).pop((repository, point), None)
        elif point and verdict == Verdict.FAILED:
            self._failed.setdefault(subject, {})[repository, point] = fact
        if verdict in _CONCLUSIVE:
            self.concluded.setdefault(subject, {})[repository] = fact
            age = age_tested(fact)
            if age is not None:
                self.aged.setdefault(subject, {})[age] = fact

    def _newest(self, key: TestKey, verdict: str, fact: Fact) -> None:
        """Count a test; one that was told late does not stand for one done after it."""
        self.outcomes.setdefault(key, Counter())[verdict] += 1
        kinds = [self.newest_test]
        if verdict == Verdict.PASSED:
            kinds.append(self.newest_success)
        if verdict == Verdict.FAILED:
            kinds.append(self.newest_failure)
        for known in kinds:
            before = known.get(key)
            late = before is not None and (
                before.observation.observed_at > fact.observation.observed_at
            )
            if not (late and declared.is_declared(fact)):
                known[key] = fact

    def first_seen(self, subject: Subject) -> datetime | None:
        """Return when a subject was first judged, None when it never was."""
        if subject not in self._first_seen:
            first = next(iter(self._store.facts(kinds=("finding.changed",), subject=subject)), None)
            if first is None:
                return None
            self._first_seen[subject] = first.observation.observed_at
        return self._first_seen[subject]
