"""Judges cases through the real phases of a restore test, with the real engines and repositories."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupguard.contracts import EngineSettings, JobSelector
from backupguard.language import Words
from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from backupguard.repositories.borg import BORG
from backupguard.repositories.restic import RESTIC
from backupguard.testing.contexts import context as new_context
from restore_tests.files import FILES
from restore_tests.firebird import FIREBIRD
from restore_tests.mariadb import MARIADB
from restore_tests.mariadb_physical import MARIADB_PHYSICAL
from restore_tests.openldap import OPENLDAP
from restore_tests.postgresql import POSTGRESQL
from restore_tests.postgresql_physical import POSTGRESQL_PHYSICAL
from restore_tests.samba_ad import SAMBA_AD
from restore_tests.sqlite import SQLITE
from tests.integration.repositories.borg_maker import Borg
from tests.integration.restore_tests.harness import NOW, SELECTOR, Trials
from tests.sabotage.corpus.case import Case, Maker, Material
from tests.sabotage.corpus.sources import Sources

_ENGINES = {
    e.name: e
    for e in (
        POSTGRESQL,
        POSTGRESQL_PHYSICAL,
        MARIADB,
        MARIADB_PHYSICAL,
        SQLITE,
        FIREBIRD,
        OPENLDAP,
        SAMBA_AD,
        FILES,
    )
}
#: Sizes that let several tests run beside each other.
_OWN = {
    "postgresql": {"memory": "600MB", "jobs": 2},
    "postgresql-physical": {"memory": "600MB", "jobs": 2},
    "mariadb": {"memory": "600MB"},
    "mariadb-physical": {"memory": "600MB"},
}
_FRENCH = Words("fr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a case came to. `by` is who spoke and what; `missed` and `alarms` say why it is wrong."""

    case: Case
    detected: bool | None
    by: tuple[str, ...]
    missed: str
    alarms: tuple[str, ...]
    seconds: float = 0.0


@dataclass
class Bench:
    """Judges cases; what several have in common is made and restored once."""

    sources: Sources
    trials: Trials
    made: dict[Maker, Material] = field(default_factory=dict)
    results: dict[str, RestoreTestResult] = field(default_factory=dict)

    def judge(self, case: Case) -> Judgement:
        """Judge the defect, and its clean twin."""
        twin = self.restored(case, case.twin)
        alarms = [line for line in spoken(twin) if line not in case.may]
        if twin.verdict is not Verdict.PASSED and not alarms:
            alarms = [f"{twin.verdict.value}:{twin.code}"]
        if case.make is None:
            return Judgement(case=case, detected=None, by=(), missed="", alarms=tuple(alarms))
        result = self.restored(case, case.make)
        said = spoken(result)
        right = [line for line in said if line in case.speaks]
        missed = ""
        if not right or result.verdict is not case.says:
            missed = f"{result.verdict.value}: {' '.join(said) or 'nothing said'}"
        elif not any(case.words in sentence(line) for line in right):
            missed = f"words: {'; '.join(map(sentence, right))}"
        return Judgement(
            case=case, detected=not missed, by=tuple(right), missed=missed, alarms=tuple(alarms)
        )

    def material(self, make: Maker) -> Material:
        """Return what a maker makes, made once."""
        if make not in self.made:
            self.made[make] = make(self.sources, self.sources.place())
        return self.made[make]

    def restored(self, case: Case, make: Maker) -> RestoreTestResult:
        """Restore what a maker makes as a case would have it; the same question is asked once."""
        plan: dict[str, Any] = {"settings": _settings(case), **case.plan}
        known = self._shape(case)
        if known is not None and case.knows == "accepted":
            plan["baseline"] = Baseline(fingerprint=known, accepted=True, seq=1)
        elif known is not None:
            plan["previous"] = known
        key = _key(case, make, case.knows, id(case.before))
        if key not in self.results:
            self.results[key] = self._perform(self.material(make), plan)
        return self.results[key]

    def _shape(self, case: Case) -> Fingerprint | None:
        if case.knows == "nothing" or case.before is None:
            return None
        key = _key(case, case.before, "learning", 0)
        if key not in self.results:
            plan = {"settings": _settings(case), **case.plan}
            self.results[key] = self._perform(self.material(case.before), plan)
        shape = self.results[key].fingerprint
        assert shape is not None, (case.name, self.results[key])
        return shape

    def _perform(self, material: Material, plan: dict[str, Any]) -> RestoreTestResult:
        self.trials.now = plan.pop("now", NOW)  # a server's own copies are of the day they are made
        if isinstance(material, Path):
            return self.trials.restore(material, **plan)
        here = new_context(self.sources.place(), run="run-0")
        here.clock.set(NOW)
        kind = BORG if isinstance(material, Borg) else RESTIC
        name = "dpi-*" if isinstance(material, Borg) else None
        selector = JobSelector(
            job=SELECTOR.job,
            application=SELECTOR.application,
            paths=(str(material.source),),
            **({"name": name} if name else {}),
        )
        with kind.open("nas", material.settings(), here) as repository:
            return self.trials.perform(repository, **{"selectors": {"nas": (selector,)}, **plan})


def _settings(case: Case) -> EngineSettings:
    given = {"engine": case.engine, **_OWN.get(case.engine, {}), **case.settings}
    return _ENGINES[case.engine].settings.model_validate(given)


def _key(case: Case, make: Maker, knows: str, before: int) -> str:
    said = json.dumps([case.engine, case.settings, case.plan], sort_keys=True, default=str)
    return f"{id(make)} {knows} {before} {said}"


def spoken(result: RestoreTestResult) -> list[str]:
    """Return who said what of a result: phases that did not pass, checks that were not silent."""
    phases = [
        f"{done.phase.value}:{done.code}"
        for done in result.phases
        if done.verdict is not Verdict.PASSED and done.code
    ]
    return phases + [f"{check.name}:{check.code}" for check in result.checks if check.code != "ok"]


def sentence(line: str) -> str:
    """Return what a French reader sees of a line of `spoken`."""
    who, _, code = line.partition(":")
    phases = {"select", "fetch", "prepare", "load", "open", "verify", "discard"}
    return _FRENCH.text(f"{'error' if who in phases else 'check'}.{code}")


def bench(sources: Sources, directory: Path) -> Bench:
    """Return a bench whose restores happen below a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(sources=sources, trials=Trials(directory, engines=_ENGINES))
