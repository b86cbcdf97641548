"""Would an attacker with the backup writer's rights get at the copies? It is tried.

First what the repository's settings and locks say (`protection.seen`), then every attempt of its
attacker against canaries of its own (`immutability.attempt`: the intent is stored before anything is
done), then what came of all of them (`immutability.tried`). What goes wrong in one part hides nothing
of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from backupguard.contracts import (
    Attacker,
    AttackerKind,
    AttackOutcome,
    Attempt,
    Bearing,
    CanaryPlace,
    Context,
    ProbeSettings,
    Repositories,
)
from backupguard.errors import BackupGuardError, Cancelled, Interrupted, verdict_of
from backupguard.model import Fact, Observation, Scope, Subject, Verdict
from probes.immutability_protection import protection_seen

#: So many names of canaries are remembered; a lifecycle rule of the site's may take older ones away.
_REMEMBERED = 200
#: Credentials with which nothing can be proved.
_WRONG = frozenset({"administrator", "read_only"})
#: Why something that could not be tried stands in the way of nothing: there was nothing to try.
_NOT_BLOCKING = frozenset({"no_probe_bucket", "not_locked", "not_offered"})


#: After these, where they worked, the canary is not there any more.
_REMOVES = frozenset({"remove-canary", "delete-canary", "delete-repository"})


class ImmutabilitySettings(ProbeSettings):
    """Settings of the probe `immutability`: how many of each job's newest points are looked at."""

    points: Annotated[int, Field(ge=1, le=100)] = 10


class Immutability:
    """Probe `immutability`: one repository a run."""

    name = "immutability"
    scope = Scope.REPOSITORY
    settings: type[ProbeSettings] = ImmutabilitySettings

    def observe(
        self, subject: Subject, repositories: Repositories, context: Context, settings: Any
    ) -> Iterator[Observation]:
        """Yield what the settings say, every attempt, and what came of them.

        Raises Cancelled, and whatever nobody foresaw; what was seen until then is yielded before.
        """
        seen, first = protection_seen(subject, repositories, context, settings.points)
        yield seen
        trial = _Trial(subject, repositories, context)
        yield from trial.attempts()
        yield trial.tried()
        for error in (first, trial.error):
            if error is not None and _unforeseen(error):
                raise error


def _unforeseen(error: Exception) -> bool:
    expected = isinstance(error, BackupGuardError)
    return not expected or isinstance(error, Cancelled | Interrupted)


class _Trial:
    """Everything tried against one repository as one attacker, in one run."""

    def __init__(self, subject: Subject, repositories: Repositories, context: Context) -> None:
        self._subject = subject
        self._identifier = subject.partition("/")[2]
        self._repositories = repositories
        self._context = context
        self._last = context.known.latest("immutability.tried", subject)
        self._kind = AttackerKind.BACKUP_WRITER
        self._results: list[Attempt] = []
        self._canaries: dict[str, None] = dict.fromkeys(self._remembered())
        self._bearing: Bearing | None = None
        self.error: Exception | None = None
        self._nothing = False

    # ---- what earlier runs left

    def _earlier(self) -> tuple[Fact, ...]:
        """Return the attempts of runs that never came to say what came of them."""
        after = self._last.seq if self._last is not None else 0
        known = self._context.known.since("immutability.attempt", self._subject, after)
        return tuple(fact for fact in known if fact.observation.data is not None)

    def _remembered(self) -> Iterator[str]:
        """Yield the canaries that may still lie there, newest first."""
        for fact in reversed(self._earlier()):
            data = fact.observation.data
            if data["name"].startswith("put-"):
                yield data["target"]
        if self._last is not None and self._last.observation.data is not None:
            yield from self._last.observation.data["canaries"]

    def _unanswered(self) -> Iterator[Observation]:
        """Yield the results that a killed run never had: nobody can tell what came of its intents."""
        intents: dict[str, Fact] = {}
        for fact in self._earlier():
            name, _, what = fact.observation.key.rpartition("/")
            if what == "intent":
                intents[name] = fact
            else:
                intents.pop(name, None)
        for name, fact in intents.items():
            yield Observation(
                kind="immutability.attempt",
                subject=self._subject,
                observed_at=self._context.now(),
                key=f"{name}/result",
                data={
                    **fact.observation.data,
                    "outcome": str(AttackOutcome.UNTRIED),
                    "code": "daemon_died",
                },
            )

    # ---- this run

    def attempts(self) -> Iterator[Observation]:
        """Yield intent and result of every attempt; never raises but for a closed generator."""
        yield from self._unanswered()
        place = CanaryPlace(
            token=hashlib.sha256(self._context.work.name.encode()).hexdigest()[:16],
            remembered=tuple(self._canaries),
            jobs=tuple(self._repositories.jobs(self._identifier)),
        )
        try:
            opened = self._repositories.attack(self._identifier)
            if opened is None:
                self._nothing = True
                return
            with opened as attacker:
                self._kind = attacker.kind
                yield from self._attacked(attacker, place)
                self._bearing = attacker.bearing()
        except Exception as error:  # noqa: BLE001 - what was tried until then must not be lost
            self.error = error

    def _attacked(self, attacker: Attacker, place: CanaryPlace) -> Iterator[Observation]:
        open_intent: Attempt | None = None
        number = 0
        try:
            for attempt in attacker.attempts(place):
                if attempt.outcome is None:
                    self._context.cancel.raise_if_set()
                    number += 1
                    open_intent = attempt
                    if attempt.name.startswith("put-"):
                        self._canaries = {attempt.target: None, **self._canaries}
                    self._context.progress(number, None, "attempts")
                    yield self._observed(attempt, number, "intent")
                else:
                    open_intent = None
                    self._came(attempt)
                    yield self._observed(attempt, number, "result")
        except Exception as error:
            if open_intent is not None:
                _, code = verdict_of(error)
                came = Attempt(
                    name=open_intent.name,
                    target=open_intent.target,
                    destructive=open_intent.destructive,
                    outcome=AttackOutcome.UNTRIED,
                    code=code,
                )
                self._came(came)
                yield self._observed(came, number, "result")
            raise

    def _came(self, attempt: Attempt) -> None:
        self._results.append(attempt)
        gone = attempt.name in _REMOVES and attempt.outcome is AttackOutcome.WORKED
        never = attempt.name.startswith("put-") and attempt.outcome is AttackOutcome.REFUSED
        if gone or never:
            self._canaries.pop(attempt.target, None)

    def _observed(self, attempt: Attempt, number: int, what: str) -> Observation:
        run = self._context.work.name
        return Observation(
            kind="immutability.attempt",
            subject=self._subject,
            observed_at=self._context.now(),
            key=f"immutability/{self._identifier}/{run}/{self._kind}/{number}/{what}",
            data={
                "attacker": str(self._kind),
                "name": attempt.name,
                "target": attempt.target,
                "destructive": attempt.destructive,
                "outcome": str(attempt.outcome) if attempt.outcome is not None else None,
                "code": attempt.code,
                "request_id": attempt.request_id,
            },
        )

    # ---- what came of it

    def tried(self) -> Observation:
        """Return what came of everything."""
        run = self._context.work.name
        bearing = self._bearing or Bearing(reaches_data=False, credentials="unknown")
        verdict, code = self._verdict(bearing)
        before = self._last.observation.data if self._last is not None else None
        key = f"immutability/{self._identifier}/{run}/{self._kind}/"
        earlier = self._earlier()
        data: dict[str, Any] = {
            "attacker": str(self._kind),
            "verdict": str(verdict),
            "code": code,
            "worked": self._named(AttackOutcome.WORKED),
            "refused": self._named(AttackOutcome.REFUSED),
            "untried": self._named(AttackOutcome.UNTRIED),
            "credentials": bearing.credentials,
            "reaches_data": bearing.reaches_data,
            "before": before["verdict"] if before else None,
            "canaries": list(self._canaries)[:_REMEMBERED],
            "attempts": [one.seq for one in earlier if one.observation.key.startswith(key)],
        }
        if bearing.notes:
            data["notes"] = list(bearing.notes)
        return Observation(
            kind="immutability.tried",
            subject=self._subject,
            observed_at=self._context.now(),
            key=f"{key}tried",
            data=data,
        )

    def _named(self, outcome: AttackOutcome) -> list[str]:
        """Return what was tried with that outcome, each name once, in the order it was tried."""
        found = [one.name for one in self._results if one.destructive and one.outcome is outcome]
        return list(dict.fromkeys(found))

    def _verdict(self, bearing: Bearing) -> tuple[Verdict, str | None]:
        """Return proved, refuted or inconclusive, and why; what worked outweighs all else."""
        if self._named(AttackOutcome.WORKED):
            return Verdict.FAILED, None
        code = self._obstacle(bearing)
        return (Verdict.PASSED, None) if code is None else (Verdict.COULD_NOT_VERIFY, code)

    def _obstacle(self, bearing: Bearing) -> str | None:
        if self.error is not None:
            return verdict_of(self.error)[1]
        if self._nothing:
            return "nothing_to_try"
        if bearing.code is not None:
            return bearing.code
        if bearing.credentials in _WRONG:
            return bearing.credentials
        if not bearing.reaches_data:
            return "elsewhere"
        blocked = (
            one
            for one in self._results
            if one.destructive
            and one.outcome is AttackOutcome.UNTRIED
            and one.code not in _NOT_BLOCKING
        )
        if next(blocked, None) is not None:
            return "untried"
        return None if self._named(AttackOutcome.REFUSED) else "nothing_refused"


IMMUTABILITY = Immutability()
