"""What the probe makes of an attacker's attempts: facts in order, and one verdict that is no better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import (
    AttackerKind,
    AttackOutcome,
    Attempt,
    Bearing,
    CanaryPlace,
    Capability,
    JobSelector,
    Protection,
    ProtectionState,
    Weakness,
)
from backupguard.errors import AccessRefused, Cancelled, MissingMeans, Unreachable
from backupguard.evidence.kinds import check_payload
from backupguard.model import Fact, Observation, PointKind, PointState, RecoveryPoint
from backupguard.testing import TestContext, TestRepositories, context
from backupguard.testing.probes import ProbeCase, ProbeContract
from probes.immutability import IMMUTABILITY, ImmutabilitySettings
from probes.immutability_protection import cost_micro_eur

SUBJECT = "repository/cloud"
JOB = JobSelector(job="dpi.nightly", application="dpi")
REFUSED, WORKED, UNTRIED = AttackOutcome.REFUSED, AttackOutcome.WORKED, AttackOutcome.UNTRIED
PUT = Attempt(name="put-canary", target="canary-1", outcome=WORKED, destructive=False)
NO = Attempt(name="delete-version", target="canary-1", outcome=REFUSED, code="AccessDenied")
YES = Attempt(name="delete", target="canary-1", outcome=WORKED)


class Playing:
    """An attacker that does what the test wrote down."""

    kind = AttackerKind.BACKUP_WRITER

    def __init__(self, script: Sequence[Attempt | Exception], bearing: Bearing) -> None:
        self.script, self.told = script, bearing
        self.acted: list[str] = []
        self.place: CanaryPlace | None = None

    def attempts(self, canary: CanaryPlace) -> Iterator[Attempt]:
        self.place = canary
        for one in self.script:
            if isinstance(one, Exception):
                raise one
            yield replace(one, outcome=None, code=None, request_id=None)
            self.acted.append(one.name)
            if one.code == "raise":
                raise Unreachable("timeout")
            yield one

    def bearing(self) -> Bearing:
        return self.told


class Reading:
    """A repository with nothing but what its maker was told."""

    capabilities = frozenset({Capability.PROTECTION})

    def __init__(self, *protections: Protection | Exception) -> None:
        self.protections = protections

    def protection(self, points: Any) -> Iterator[Protection]:
        self.asked = [point.native_id for point in points]
        for one in self.protections:
            if isinstance(one, Exception):
                raise one
            yield one

    def protection_state(self) -> ProtectionState:
        return ProtectionState(
            mechanism="s3-object-lock",
            mode="compliance",
            retention_s=86400,
            weaknesses=(Weakness(code="mfa_delete_off"),),
        )

    def requests(self) -> dict[str, int]:
        return {"HeadObject": 10, "ListObjectVersions": 2, "DeleteObject": 5}


class Plain:
    """A repository that knows nothing of protections."""

    capabilities: frozenset[Capability] = frozenset()


class Kind:
    """A type of repositories as a test wants it."""

    name = "played"

    def __init__(self, repository: Any = None, attacker: Any = None) -> None:
        self.repository, self.attacker = repository or Plain(), attacker

    @contextmanager
    def open(self, identifier: str, settings: Any, context: Any) -> Iterator[Any]:
        if isinstance(self.repository, Exception):
            raise self.repository
        yield self.repository

    def attack(self, identifier: str, settings: Any, context: Any) -> Any:
        if isinstance(self.attacker, Exception):
            raise self.attacker
        return nullcontext(self.attacker) if self.attacker is not None else None


@pytest.fixture
def here(tmp_path: Path) -> TestContext:
    return context(tmp_path)


def observed(here: TestContext, kind: Kind) -> Iterator[Observation]:
    """Yield what the probe yields, each stored before it goes on, as a run does it."""
    repositories = TestRepositories(context=here, entries={"cloud": (kind, None, (JOB,))})
    seen = IMMUTABILITY.observe(SUBJECT, repositories, here, ImmutabilitySettings())
    for one in seen:
        check_payload(one.kind, one.kind_version, one.data)
        store(here, one)
        yield one


def store(here: TestContext, one: Observation) -> Fact:
    history = here.known.history
    assert one.key not in {fact.observation.key for fact in history}
    fact = Fact(
        seq=len(history) + 1, recorded_at=one.observed_at, run=None, author=None, hash=b"",
        observation=one,
    )  # fmt: skip
    history.append(fact)
    here.known.facts[one.kind, one.subject] = fact
    return fact


def played(
    here: TestContext, *script: Attempt | Exception, bearing: Bearing | None = None
) -> dict[str, Any]:
    attacker = Playing(script, bearing or Bearing(reaches_data=True))
    return list(observed(here, Kind(attacker=attacker)))[-1].data


class TestContract(ProbeContract):
    @pytest.fixture
    def case(self, here: TestContext) -> ProbeCase:
        def repositories(kind: Kind) -> TestRepositories:
            return TestRepositories(context=here, entries={"cloud": (kind, None, (JOB,))})

        attacker = Playing([PUT, NO], Bearing(reaches_data=True))
        gone = Unreachable("timeout")
        return ProbeCase(
            probe=IMMUTABILITY,
            subject=SUBJECT,
            settings=ImmutabilitySettings(),
            context=here,
            healthy=repositories(Kind(Reading(), attacker)),
            unreachable=repositories(Kind(gone, gone)),
        )


# ----------------------------------------------------------------------------------------- verdicts


def test_everything_refused_is_proved(here: TestContext) -> None:
    data = played(here, PUT, NO)
    assert (data["verdict"], data["code"], data["refused"]) == ("passed", None, ["delete-version"])
    assert data["attempts"] == [2, 3, 4, 5], "the numbers of its facts"
    assert data["canaries"] == ["canary-1"]


@pytest.mark.parametrize(
    ("script", "bearing"),
    [
        pytest.param([PUT, YES, NO], None, id="one-worked"),
        pytest.param([PUT, YES, Unreachable("timeout")], None, id="then-the-server-went-away"),
        pytest.param([PUT, YES, replace(NO, code="raise")], None, id="then-an-attempt-broke-off"),
        pytest.param(
            [PUT, YES], Bearing(reaches_data=False, credentials="administrator", code="clock_skew"),
            id="with-the-wrong-credentials",
        ),
    ],
)  # fmt: skip
def test_what_worked_refutes_whatever_comes_after(
    here: TestContext, script: list[Any], bearing: Bearing | None
) -> None:
    data = played(here, *script, bearing=bearing)
    assert (data["verdict"], data["worked"]) == ("failed", ["delete"])


@pytest.mark.parametrize(
    ("script", "bearing", "code"),
    [
        pytest.param([PUT], None, "nothing_refused", id="nothing-destructive-was-tried"),
        pytest.param([], None, "nothing_refused", id="nothing-was-tried"),
        pytest.param(
            [PUT, NO, replace(NO, outcome=UNTRIED, code="418")], None, "untried", id="one-is-unclear"
        ),
        pytest.param(
            [replace(NO, outcome=UNTRIED, code="no_probe_bucket")], None, "nothing_refused",
            id="only-what-need-not-be-tried",
        ),
        pytest.param(
            [PUT, NO], Bearing(reaches_data=True, credentials="administrator"), "administrator",
            id="administrator",
        ),
        pytest.param(
            [PUT, NO], Bearing(reaches_data=True, credentials="read_only"), "read_only", id="reader"
        ),
        pytest.param([PUT, NO], Bearing(reaches_data=False), "elsewhere", id="elsewhere"),
        pytest.param(
            [PUT, NO], Bearing(reaches_data=True, code="clock_skew"), "clock_skew", id="clocks"
        ),
        pytest.param([PUT, NO, Unreachable("timeout")], None, "timeout", id="server-gone"),
        pytest.param([AccessRefused("authentication")], None, "authentication", id="wrong-key"),
        pytest.param([PUT, replace(NO, code="raise")], None, "timeout", id="broke-off"),
    ],
)  # fmt: skip
def test_what_proves_nothing_is_inconclusive(
    here: TestContext, script: list[Any], bearing: Bearing | None, code: str
) -> None:
    data = played(here, *script, bearing=bearing)
    assert (data["verdict"], data["code"]) == ("could_not_verify", code)


def test_what_need_not_be_tried_stands_in_the_way_of_nothing(here: TestContext) -> None:
    spared = replace(NO, name="suspend-versioning", outcome=UNTRIED, code="no_probe_bucket")
    data = played(here, PUT, NO, spared)
    assert (data["verdict"], data["untried"]) == ("passed", ["suspend-versioning"])


@pytest.mark.parametrize(
    ("attacker", "code"),
    [(None, "nothing_to_try"), (MissingMeans("writer_missing"), "writer_missing")],
    ids=["none", "no-credentials"],
)
def test_without_an_attacker_nothing_is_proved(here: TestContext, attacker: Any, code: str) -> None:
    data = list(observed(here, Kind(attacker=attacker)))[-1].data
    assert (data["verdict"], data["code"]) == ("could_not_verify", code)


def test_the_last_verdict_is_told_beside_the_new_one(here: TestContext) -> None:
    assert played(here, PUT, NO)["before"] is None
    here.work = here.work.with_name("run-2")
    assert played(here, PUT, YES)["before"] == "passed"


# ------------------------------------------------------------------------------------ intent and act


def test_nothing_is_done_before_its_intent_is_stored(here: TestContext) -> None:
    attacker = Playing([PUT, NO], Bearing(reaches_data=True))
    seen = observed(here, Kind(attacker=attacker))
    for one in seen:
        if one.kind == "immutability.attempt" and one.data["outcome"] is None:
            assert one.data["name"] not in attacker.acted
    assert attacker.acted == ["put-canary", "delete-version"]


def test_a_killed_run_leaves_its_canary_known_and_its_intent_answered(here: TestContext) -> None:
    seen = observed(here, Kind(attacker=Playing([PUT, NO], Bearing(reaches_data=True))))
    for one in seen:
        if one.kind == "immutability.attempt" and one.data["name"] == "delete-version":
            break  # killed: the intent is stored, nothing after it
    seen.close()
    here.work = here.work.with_name("run-2")
    attacker = Playing([replace(NO, target="canary-2")], Bearing(reaches_data=True))
    again = list(observed(here, Kind(attacker=attacker)))
    assert attacker.place is not None
    assert attacker.place.remembered == ("canary-1",)
    answered = [one for one in again if one.data.get("code") == "daemon_died"]
    assert [one.data["outcome"] for one in answered] == ["untried"]
    assert answered[0].key.endswith("run-1/backup_writer/2/result")
    assert again[-1].data["canaries"] == ["canary-1"]
    here.work = here.work.with_name("run-3")
    third = list(observed(here, Kind(attacker=Playing([], Bearing(reaches_data=True)))))
    assert not [one for one in third if one.data.get("code") == "daemon_died"], "once is enough"


def test_canaries_are_remembered_until_they_are_removed(here: TestContext) -> None:
    refused = replace(PUT, target="canary-2", outcome=REFUSED)
    assert played(here, PUT, NO, refused)["canaries"] == ["canary-1"]
    here.work = here.work.with_name("run-2")
    gone = Attempt(name="remove-canary", target="canary-1", outcome=WORKED, destructive=False)
    assert played(here, gone, replace(PUT, target="canary-3"))["canaries"] == ["canary-3"]
    here.work = here.work.with_name("run-3")
    kept = replace(gone, target="canary-3", outcome=REFUSED)
    assert played(here, kept)["canaries"] == ["canary-3"]


def test_a_run_that_is_cancelled_tells_what_it_knows_and_ends(here: TestContext) -> None:
    seen: list[Observation] = []
    attacker = Playing([PUT, YES, NO], Bearing(reaches_data=True))

    def run() -> None:
        for one in observed(here, Kind(attacker=attacker)):
            seen.append(one)
            if one.data.get("name") == "delete" and one.data["outcome"]:
                here.cancel.set("by_operator")  # type: ignore[attr-defined]

    with pytest.raises(Cancelled):
        run()
    assert seen[-1].kind == "immutability.tried"
    assert (seen[-1].data["verdict"], attacker.acted) == ("failed", ["put-canary", "delete"])


# ---------------------------------------------------------------------------------------- protection


def point(day: int) -> RecoveryPoint:
    at = datetime(2026, 3, day, tzinfo=UTC)
    return RecoveryPoint(
        repository="cloud", job="dpi.nightly", native_id=f"v{day}", at=at, covers_until=at,
        kind=PointKind.FULL, state=PointState.COMPLETE,
    )  # fmt: skip


def lock(day: int, until: datetime | None) -> Protection:
    return Protection(
        native_id=f"v{day}", mechanism="s3-object-lock", locked_until=until, job="dpi.nightly",
        mode="compliance" if until else None, objects=3, unlocked=0 if until else 1,
    )  # fmt: skip


LATER = datetime(2026, 4, 1, tzinfo=UTC)


def test_settings_and_locks_are_told_with_what_they_cost(here: TestContext) -> None:
    here.known.standing_points["dpi.nightly", "cloud"] = [point(day) for day in range(20, 0, -1)]
    reading = Reading(lock(19, LATER), lock(20, LATER + timedelta(days=1)))
    data = next(observed(here, Kind(reading))).data
    assert reading.asked == [f"v{day}" for day in range(20, 10, -1)], "the ten newest"
    assert (data["mechanism"], data["mode"], data["retention_ms"]) == (
        "s3-object-lock", "compliance", 86_400_000,
    )  # fmt: skip
    assert [one["native_id"] for one in data["points"]] == ["v20", "v19"]
    assert data["locked_until_at"] == int(LATER.timestamp() * 1_000_000)
    assert data["weaknesses"] == [{"code": "mfa_delete_off", "values": {}}]
    assert (data["cost_micro_eur"], data["verdict"]) == (14, "passed")
    assert cost_micro_eur({}) == 0


def test_one_point_without_a_lock_and_nothing_is_locked(here: TestContext) -> None:
    here.known.standing_points["dpi.nightly", "cloud"] = [point(20), point(19)]
    data = next(observed(here, Kind(Reading(lock(20, None), lock(19, LATER))))).data
    assert data["locked_until_at"] is None


def test_what_breaks_off_keeps_what_was_read_and_the_attempts(here: TestContext) -> None:
    here.known.standing_points["dpi.nightly", "cloud"] = [point(20), point(19)]
    reading = Reading(lock(20, LATER), Unreachable("timeout"))
    seen = list(observed(here, Kind(reading, Playing([PUT, NO], Bearing(reaches_data=True)))))
    data = seen[0].data
    assert (data["verdict"], data["code"], len(data["points"])) == (
        "could_not_verify",
        "timeout",
        1,
    )
    assert data["locked_until_at"] is None
    assert seen[-1].data["verdict"] == "passed"


def test_a_type_that_knows_no_protection_says_so(here: TestContext) -> None:
    data = next(observed(here, Kind())).data
    assert (data["mechanism"], data["points"], data["cost_micro_eur"]) == ("none", [], None)


def test_a_bug_in_one_part_does_not_hide_the_other(here: TestContext) -> None:
    seen: list[Observation] = []
    attacker = Playing([PUT, YES], Bearing(reaches_data=True))
    broken = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        seen.extend(observed(here, Kind(broken, attacker)))
    kinds = [fact.observation.kind for fact in here.known.history]
    assert kinds[0] == "protection.seen"
    assert here.known.history[-1].observation.data["verdict"] == "failed"
