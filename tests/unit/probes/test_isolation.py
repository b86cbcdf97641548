"""The probe `isolation`: what it yields, and what its task makes of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backupguard.daemon.isolation import _verdict, plan_of
from backupguard.errors import Cancelled
from backupguard.evidence.kinds import check_payload
from backupguard.model import SITE, Observation, Verdict
from backupguard.testing import contexts
from probes import isolation
from probes.isolation import ISOLATION, Plan
from tests.integration.isolation.places import free_port, listening
from tests.unit.controls.test_isolation import configured, offline

NO_REPOSITORIES: Any = None  # it looks at ports, not at copies


def observe(tmp_path: Path, plan: Any, context: Any = None) -> list[Observation]:
    seen = list(
        ISOLATION.observe(SITE, NO_REPOSITORIES, context or contexts.context(tmp_path), plan)
    )
    for one in seen:
        check_payload(one.kind, one.kind_version, one.data)
    return seen


def test_without_anything_to_try_only_the_host_is_looked_at(tmp_path: Path) -> None:
    (joined,) = observe(tmp_path, Plan(root=tmp_path))
    assert joined.kind == "host.joined"
    assert joined.subject == f"host/{joined.data['host']}"
    assert joined.data["joined"] is False
    assert [one.kind for one in observe(tmp_path, object())] == ["host.joined"]


@pytest.mark.parametrize(
    ("witness", "code", "verdict"),
    [
        (True, None, Verdict.PASSED),
        (False, "witness_silent", Verdict.COULD_NOT_VERIFY),
        (None, "no_witness", Verdict.COULD_NOT_VERIFY),
    ],
    ids=["answers", "silent", "none"],
)
def test_without_its_witness_a_look_proves_nothing(
    tmp_path: Path, witness: bool | None, code: str | None, verdict: Verdict
) -> None:
    with listening() as port:
        place = {True: f"127.0.0.1:{port}", False: f"127.0.0.1:{free_port()}", None: None}[witness]
        plan = Plan(wanted=(("coffre", "127.0.0.1", free_port()),), witness=place, root=tmp_path)
        _, seen = observe(tmp_path, plan)
    assert seen.subject == "vantage/self"
    assert seen.data["code"] == code
    assert seen.data["zone"] is None
    assert [row["outcome"] for row in seen.data["rows"]] == ["refused"]
    assert _verdict(seen) == (verdict, code)


@pytest.mark.parametrize("announced", [False, True])
def test_an_answer_is_one_outside_its_window(tmp_path: Path, announced: bool) -> None:
    def tell(target: str, began: datetime, ended: datetime) -> bool:
        assert (target, began <= ended) == ("coffre", True)
        return announced

    with listening() as port:
        wanted = (("coffre", "127.0.0.1", port),)
        plan = Plan(wanted=wanted, witness=f"127.0.0.1:{port}", announced=tell, root=tmp_path)
        _, seen = observe(tmp_path, plan)
    assert seen.data["rows"][0]["announced"] is announced
    expected = (Verdict.PASSED, None) if announced else (Verdict.FAILED, "answers")
    assert _verdict(seen) == expected


def test_half_a_look_is_none(tmp_path: Path) -> None:
    context = contexts.context(tmp_path)

    class Cancel:
        def is_set(self) -> bool:
            return True

        def raise_if_set(self) -> None:
            raise Cancelled("by_operator")

    context.cancel = Cancel()  # type: ignore[assignment]
    with pytest.raises(Cancelled):
        observe(tmp_path, Plan(wanted=(("a", "127.0.0.1", 1),), root=tmp_path), context)


def test_this_host_tries_what_an_offline_medium_lies_behind_and_no_repository_it_reads() -> None:
    assert plan_of(configured()).wanted == ()
    assert plan_of(offline()).wanted == (("coffre", "nas.example", 445),)
    by_repository = offline(media=[], repositories=["coffre"])
    assert plan_of(by_repository).wanted == (("coffre", "nas.example", 445),)


def test_windows_are_announced_in_the_sites_time() -> None:
    from datetime import UTC

    plan = plan_of(offline(windows=["Fri 09:30-10:30"]))
    nine = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)  # a Friday, 10:00 in Paris
    assert plan.announced("coffre", nine, nine)
    assert not plan.announced("coffre", nine.replace(hour=10), nine.replace(hour=10))
    assert plan.announced("coffre", nine.replace(hour=8), nine), "it opens meanwhile"
    assert not plan.announced("gone", nine, nine)
    assert not plan_of(offline()).announced("coffre", nine, nine), "no window: never"


def test_the_probe_is_the_one_that_is_shipped() -> None:
    assert isolation.ISOLATION.name == "isolation"
