"""From a real server through probe, facts and control: proved, refuted, and what proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backupguard.assess.tampering import Tried
from backupguard.evidence.kinds import check_payload
from backupguard.model import Fact, Judgement, Scope, View
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext, TestRepositories, context
from probes.immutability import IMMUTABILITY, ImmutabilitySettings
from tests.integration.repositories.test_rest_server_attack import served, serving, settings
from tests.unit.controls.control_facts import judge

__all__ = ["served", "settings"]  # fixtures

NAS = "repository/nas"


class Weeks:
    """One repository, week after week: what every run of the probe records, and IMM-02 makes of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts: list[Fact] = []

    def run(self, chosen: Any) -> Judgement:
        here = context(self.directory, run=f"run-{len(self.facts)}")
        self._remind(here)
        repositories = TestRepositories(context=here, entries={"nas": (RESTIC, chosen, ())})
        for one in IMMUTABILITY.observe(NAS, repositories, here, ImmutabilitySettings()):
            check_payload(one.kind, one.kind_version, one.data)
            seq = len(self.facts) + 1
            fact = Fact(
                seq=seq, recorded_at=here.now(), run=None, author=None, hash=b"", observation=one
            )
            self.facts.append(fact)
            here.known.history.append(fact)
        tried = Tried()
        for fact in self.facts:
            if fact.observation.kind == "immutability.tried":
                tried.learn(fact)
        newest = next(f for f in reversed(self.facts) if f.observation.kind == "immutability.tried")
        view = View(
            scope=Scope.REPOSITORY,
            subject=NAS,
            settings={"criticality": "C1"},
            latest={"immutability.tried": newest} | tried.of(NAS),
            known={"newest_record_at": None},
        )
        return judge("IMM-02", view, here.now())

    def _remind(self, here: TestContext) -> None:
        here.known.history += self.facts
        for fact in self.facts:
            here.known.facts[fact.observation.kind, NAS] = fact

    @property
    def last(self) -> dict[str, Any]:
        return self.facts[-1].observation.data  # type: ignore[no-any-return]


def test_rest_server_without_append_only_is_named_by_imm_02(
    served: Path, settings: Any, tmp_path: Path
) -> None:
    weeks = Weeks(tmp_path / "weeks")
    with serving(served, "--append-only") as port:
        proved = weeks.run(settings(port))
    assert (proved.status, proved.reason.id) == ("compliant", "reason.IMM-02.proved")
    assert len(weeks.last["canaries"]) == 1  # it cannot be removed, and that is right
    with serving(served) as port:
        refuted = weeks.run(settings(port))
    assert (refuted.status, refuted.severity) == ("non_compliant", "critical")
    assert refuted.reason.id == "reason.IMM-02.lost_protection"
    assert refuted.reason.values["what"] == "@attempt.delete-data"
    # the server is down: nothing is proved, and what was found stands
    down = weeks.run(settings(port))
    assert weeks.last["verdict"] == "could_not_verify"
    assert down.reason.id == "reason.IMM-02.lost_protection"
    with serving(served, "--append-only") as port:
        assert weeks.run(settings(port)).status == "compliant"


def test_wrong_credentials_never_prove_anything(
    served: Path, settings: Any, tmp_path: Path
) -> None:
    weeks = Weeks(tmp_path / "weeks")
    with serving(served, "--append-only") as port:
        seen = weeks.run(settings(port, login="dpi:wrong"))
    assert weeks.last["verdict"] == "could_not_verify"
    assert (seen.status, seen.reason.id) == ("not_measurable", "reason.IMM-02.wrong_credentials")
