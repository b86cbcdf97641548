import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupguard.contracts import Capability, VerifiedUnit
from backupguard.errors import Cancelled, Unreachable
from backupguard.model import Fact, Listing, Observation, Verdict, VerifiedCoverage
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext, TestRepositories
from backupguard.testing.probes import ProbeCase, ProbeContract
from probes.integrity import INTEGRITY, IntegritySettings
from probes.inventory import INVENTORY
from tests.integration.repositories.restic_maker import Restic, damage
from tests.integration.repositories.test_restic_damage import copied


def repositories(restic: Restic, here: TestContext, *identifiers: str, **more):
    jobs = (restic.selector(restic.source),)
    return TestRepositories(
        context=here,
        entries={name: (RESTIC, restic.settings(**more), jobs) for name in identifiers},
    )


class TestInventory(ProbeContract):
    @pytest.fixture
    def case(self, restic_018: Restic, here: TestContext, tmp_path: Path) -> ProbeCase:
        return ProbeCase(
            probe=INVENTORY,
            subject="site",
            settings=INVENTORY.settings(),
            context=here,
            healthy=repositories(restic_018, here, "nas", "offsite"),
            unreachable=repositories(restic_018, here, "nas", url=str(tmp_path / "none")),
        )


class TestIntegrity(ProbeContract):
    @pytest.fixture
    def case(self, restic_018: Restic, here: TestContext, tmp_path: Path) -> ProbeCase:
        return ProbeCase(
            probe=INTEGRITY,
            subject="repository/nas",
            settings=IntegritySettings(),
            context=here,
            healthy=repositories(restic_018, here, "nas"),
            unreachable=repositories(restic_018, here, "nas", url=str(tmp_path / "none")),
        )


class Hanging:
    """A type whose repositories take their time before they fail."""

    name = "hanging"
    settings = RESTIC.settings

    @contextmanager
    def open(self, identifier, settings, context):
        time.sleep(settings)
        raise Unreachable("timeout")
        yield

    def attack(self, identifier, settings, context):
        return None


def test_a_dead_repository_delays_no_other(
    restic_018: Restic, here: TestContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("probes.inventory.PATIENCE_S", 0.5)
    healthy = repositories(restic_018, here, "b", "c", "d").entries
    dead = {name: (Hanging(), 20, ()) for name in ("a1", "a2")}
    asked = TestRepositories(context=here, entries={**dead, **healthy})
    began = time.monotonic()
    order, times = [], {}
    for one in INVENTORY.observe("site", asked, here, None):
        if isinstance(one, Observation):
            order.append(one.subject)
            times[one.subject] = time.monotonic() - began
            if one.data["reachable"]:
                assert one.data["tool_version"] == "0.18.0"
            else:
                assert one.data["code"] == "timeout"
    assert set(order[:3]) == {"repository/b", "repository/c", "repository/d"}
    assert max(times[f"repository/{name}"] for name in "bcd") < 15
    assert set(order[3:]) == {"repository/a1", "repository/a2"}


def test_a_repository_that_never_answers_is_given_up(
    here: TestContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("probes.inventory.LONGEST_S", 1.5)
    asked = TestRepositories(
        context=here, entries={"slow": (Hanging(), 0.2, ()), "dead": (Hanging(), 6, ())}
    )
    began = time.monotonic()
    seen = list(INVENTORY.observe("site", asked, here, None))
    assert time.monotonic() - began < 5
    assert [(one.subject, one.data["code"]) for one in seen] == [
        ("repository/slow", "timeout"),
        ("repository/dead", "timeout"),
    ]


def test_what_was_dead_last_time_comes_last(restic_018: Restic, here: TestContext):
    asked = repositories(restic_018, here, "a", "b")
    asked.bound = 1
    first = next(
        one for one in INVENTORY.observe("site", asked, here, None) if isinstance(one, Observation)
    )
    dead = Observation(
        **{
            **{name: getattr(first, name) for name in first.__slots__},
            "data": {**first.data, "reachable": False},
        }
    )
    here.known.facts["repository.inspected", "repository/a"] = Fact(
        seq=1, recorded_at=here.now(), run=None, author=None, hash=b"", observation=dead
    )
    del asked.opened[:]
    list(INVENTORY.observe("site", asked, here, None))
    assert asked.opened == ["b", "a"]


def test_a_mistake_in_one_plugin_hides_no_other(restic_018: Restic, here: TestContext):
    class Broken(Hanging):
        def open(self, identifier, settings, context):
            raise ZeroDivisionError

    healthy = repositories(restic_018, here, "b").entries
    asked = TestRepositories(context=here, entries={"a": (Broken(), None, ()), **healthy})
    seen = list(INVENTORY.observe("site", asked, here, None))
    codes = {one.subject: one.data["code"] for one in seen if isinstance(one, Observation)}
    assert codes == {"repository/a": "bug", "repository/b": None}
    assert [one.repository for one in seen if isinstance(one, Listing)] == ["b"]


def test_a_cancelled_inventory_ends(restic_018: Restic, here: TestContext):
    here.cancel.set("by_operator")
    with pytest.raises(Cancelled):
        list(INVENTORY.observe("site", repositories(restic_018, here, "a"), here, None))


def test_damage_is_a_failed_verification_and_its_twin_is_not(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    def verdict(restic: Restic):
        settings = IntegritySettings(data_percent=100)
        (seen,) = INTEGRITY.observe(
            "repository/nas", repositories(restic, here, "nas"), here, settings
        )
        return seen.data["verdict"], seen.data["code"], seen.data["complete_at"]

    healthy = verdict(restic_018)
    assert healthy[:2] == ("passed", None)
    assert healthy[2] is not None
    broken = copied(restic_018, tmp_path / "broken")
    damage(max(broken.packs(), key=lambda pack: pack.stat().st_size), "flipped")
    assert verdict(broken) == ("failed", "corrupt", None)


def test_damage_found_before_an_unforeseen_error_is_told(here: TestContext):
    class Broken(Hanging):
        capabilities = frozenset({Capability.VERIFY})

        @contextmanager
        def open(self, identifier, settings, context):
            yield self

        def verify(self, plan):
            yield VerifiedUnit(unit="file/a", verdict=Verdict.FAILED, bytes=1, code="corrupt")
            raise OSError(5, "Input/output error")

    asked = TestRepositories(context=here, entries={"nas": (Broken(), None, ())})
    observing = INTEGRITY.observe("repository/nas", asked, here, IntegritySettings())
    told = next(observing).data
    with pytest.raises(OSError, match="Input"):
        next(observing)
    assert (told["verdict"], told["code"]) == ("failed", "corrupt")
    assert [unit["unit"] for unit in told["units"]] == ["file/a"]


def test_complete_since_the_unit_that_was_read_first(restic_018: Restic, here: TestContext):
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    here.known.covered["nas"] = {
        unit: VerifiedCoverage(repository="nas", unit=unit, verified_at=at, seq=1)
        for unit, at in (
            ("data/001of002", long_ago),
            ("data/002of002", datetime(2025, 1, 1, tzinfo=UTC)),
            ("data/001of020", datetime(2024, 1, 1, tzinfo=UTC)),  # another division, long gone
        )
    }
    (seen,) = INTEGRITY.observe(
        "repository/nas",
        repositories(restic_018, here, "nas"),
        here,
        IntegritySettings(data_percent=50),
    )
    assert [unit["unit"] for unit in seen.data["units"]] == ["structure", "data/002of002"]
    assert seen.data["complete_at"] == int(long_ago.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("left", "verdict", "read"),
    [(0, "could_not_verify", 0), (1, "could_not_verify", 1), (None, "passed", 2)],
    ids=["nothing-left", "too-little-left", "no-limit"],
)
def test_what_a_daily_limit_leaves_no_room_for_is_told(
    restic_018: Restic, here: TestContext, left: int | None, verdict: str, read: int
):
    asked = repositories(restic_018, here, "nas")
    asked.allowed = {} if left is None else {"nas": left}
    settings = IntegritySettings(data_percent=100)
    (seen,) = INTEGRITY.observe("repository/nas", asked, here, settings)
    assert seen.data["verdict"] == verdict
    assert seen.data["code"] == (None if left is None else "daily_limit")
    # Where packs fall is chance: a bucket may be empty, and reading it reads nothing.
    kinds = {
        unit["unit"].split("/")[0]
        for unit in seen.data["units"]
        if unit["unit"] == "structure" or unit["bytes"]
    }
    assert len(kinds) == read
