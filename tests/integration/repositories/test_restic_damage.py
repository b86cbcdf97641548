"""Damaged repositories are `failed`, by fetch and by check, in every version; clean twins are not."""

import random
import shutil
from pathlib import Path

import pytest

from backupguard.contracts import FetchRequest, VerifyPlan
from backupguard.errors import BackupDefect
from backupguard.model import Verdict
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext
from tests.counts import FULL, times
from tests.integration.repositories.restic_maker import Restic, damage, make


@pytest.fixture(scope="session")
def many_packs(tmp_path_factory: pytest.TempPathFactory) -> Restic:
    """At least 50 packs of 4 MiB, as restic 0.18 makes them."""
    restic = make(tmp_path_factory.mktemp("many") / "packs", "0.18")
    with (restic.source / "dpi.dump").open("wb") as file:
        chance = random.Random(11)
        for _ in range(300):  # packs grow past 4 MiB by up to a chunk, whose cuts are random
            file.write(chance.randbytes(1 << 20))
    restic.backup(restic.source, "--pack-size", "4")
    (restic.source / "dpi.dump").unlink()
    assert len(restic.packs()) >= 50
    return restic


def copied(restic: Restic, to: Path) -> Restic:
    shutil.copytree(restic.root, to, copy_function=shutil.copy2)
    return Restic(restic.version, to, restic.password, restic.source)


def outcome(restic: Restic, here: TestContext, into: Path) -> str:
    into.mkdir()
    selector = restic.selector(restic.source)
    with RESTIC.open("nas", restic.settings(), here) as repository:
        point = next(repository.points([selector]))
        try:
            repository.fetch(FetchRequest(point=point, selector=selector), into)
        except BackupDefect as error:
            return error.code
    return "passed"


def verified(restic: Restic, here: TestContext, percent: int = 100):
    with RESTIC.open("nas", restic.settings(), here) as repository:
        return {unit.unit: unit for unit in repository.verify(VerifyPlan(data_percent=percent))}


@pytest.mark.parametrize(
    ("how", "code"),
    [("flipped", "corrupt"), ("truncated", "corrupt"), ("deleted", "missing_object")],
)
@pytest.mark.parametrize("seed", [1, 2][: times(1, 2)])
def test_one_pack_among_many(
    many_packs: Restic, here: TestContext, tmp_path: Path, how: str, code: str, seed: int
):
    restic = copied(many_packs, tmp_path / "broken")
    pack = random.Random(seed).choice(restic.packs(larger_than=1 << 20))
    damage(pack, how)
    assert outcome(restic, here, tmp_path / "into") == code
    units = verified(restic, here)
    failed = {name: unit for name, unit in units.items() if unit.verdict is Verdict.FAILED}
    bucket = int(pack.name[:2], 16) % 2 + 1
    assert f"data/00{bucket}of002" in failed
    assert units[f"data/00{3 - bucket}of002"].verdict is Verdict.PASSED or how != "flipped"
    assert {unit.code for unit in failed.values()} == {code} or how == "truncated"
    assert any(name.startswith(pack.name[:8]) for unit in failed.values() for name in unit.objects)


def test_the_twin_of_many_packs_is_silent(many_packs: Restic, here: TestContext, tmp_path: Path):
    assert outcome(many_packs, here, tmp_path / "into") == "passed"
    units = verified(many_packs, here)
    assert {unit.verdict for unit in units.values()} == {Verdict.PASSED}
    assert set(units) == {"structure", "data/001of002", "data/002of002"}
    assert sum(unit.bytes for unit in units.values()) > 200 << 20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["flipped", "deleted"])
def test_a_damaged_pack_in_every_version(
    restic: Restic, here: TestContext, tmp_path: Path, how: str
):
    patient = (restic.version, how) == ("0.14", "deleted")  # it waits 45 s for each missing file
    if patient and not FULL:
        pytest.skip("tried with BACKUPGUARD_FULL=1 only")
    broken = copied(restic, tmp_path / "broken")
    damage(max(broken.packs(), key=lambda pack: pack.stat().st_size), how)
    assert outcome(broken, here, tmp_path / "into") in {"corrupt", "missing_object"}
    if not patient:
        units = verified(broken, here)
        assert Verdict.FAILED in {unit.verdict for unit in units.values()}


def test_a_damaged_snapshot_record_makes_no_shorter_list(
    restic: Restic, here: TestContext, tmp_path: Path
):
    broken = copied(restic, tmp_path / "broken")
    damage(min((broken.root / "snapshots").iterdir()), "flipped")
    with (
        RESTIC.open("nas", broken.settings(), here) as repository,
        pytest.raises(BackupDefect) as caught,
    ):
        list(repository.points([restic.selector(restic.source)]))
    assert caught.value.code == "corrupt"


def test_a_damaged_index_is_a_defect(restic: Restic, here: TestContext, tmp_path: Path):
    broken = copied(restic, tmp_path / "broken")
    for index in (broken.root / "index").iterdir():
        damage(index, "flipped")
    assert outcome(broken, here, tmp_path / "into") == "corrupt"


def test_the_least_recently_read_bucket_comes_first(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    from datetime import UTC, datetime

    from backupguard.model import VerifiedCoverage

    settings = restic_018.settings(data_buckets=4)
    here.known.covered["nas"] = {
        f"data/00{number}of004": VerifiedCoverage(
            repository="nas",
            unit=f"data/00{number}of004",
            verified_at=datetime(2026, 1, day, tzinfo=UTC),
            seq=number,
        )
        for number, day in ((1, 4), (2, 2), (3, 3), (4, 5))
    }
    with RESTIC.open("nas", settings, here) as repository:
        units = [unit.unit for unit in repository.verify(VerifyPlan(data_percent=50))]
    assert units == ["structure", "data/002of004", "data/003of004"]
