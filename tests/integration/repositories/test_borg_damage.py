"""Damaged repositories are `failed`, by fetch and by reading, in every version; twins are not."""

import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backupguard.contracts import FetchRequest, VerifyPlan
from backupguard.errors import BackupDefect, BackupGuardError, Changing
from backupguard.model import Verdict
from backupguard.repositories.borg import BORG
from backupguard.testing import TestContext
from tests.integration.repositories.borg_maker import Borg, job, make
from tests.integration.repositories.restic_maker import damage


def outcome(borg: Borg, here: TestContext, into: Path) -> str:
    into.mkdir()
    selector = job(borg.source)
    with BORG.open("nas", borg.settings(), here) as repository:
        point = next(point for point in repository.points([selector]) if point.files == 3)
        try:
            repository.fetch(FetchRequest(point=point, selector=selector), into)
        except BackupDefect as error:
            return error.code
    return "passed"


def verified(borg: Borg, here: TestContext):
    with BORG.open("nas", borg.settings(), here) as repository:
        plan = VerifyPlan(data_percent=100)
        return {unit.unit: unit for unit in repository.verify(plan)}


@pytest.mark.parametrize(
    ("how", "code"),
    [("flipped", "corrupt"), ("truncated", "corrupt"), ("deleted", "missing_object")],
)
def test_a_damaged_segment(borg: Borg, here: TestContext, tmp_path: Path, how: str, code: str):
    broken = borg.copied(tmp_path / "broken")
    segment = broken.largest_segment()
    damage(segment, how)
    if how == "flipped":
        # what lies in the damaged chunk only is accused; the listing and the dump by itself are not
        assert outcome(broken, here, tmp_path / "into") == code
        units = verified(broken, here)
        assert units["structure"].verdict is Verdict.PASSED
        assert Counter(unit.code for unit in units.values()) == {code: 2, None: 2}
        assert units != {}
        assert f"segment-{segment.name}" in {
            name for unit in units.values() for name in unit.objects
        }
    else:
        # the items of the archives lie in it, too: what is not remembered cannot even be listed
        with pytest.raises(BackupDefect) as caught:
            outcome(broken, here, tmp_path / "into")
        assert caught.value.code == code


@pytest.mark.parametrize(("how", "code"), [("truncated", "corrupt"), ("deleted", "missing_object")])
def test_lost_data_is_seen_without_reading_it(
    borg_12: Borg, here: TestContext, tmp_path: Path, how: str, code: str
):
    # the archives are known already, as they are in all refreshes but the first
    broken = borg_12.copied(tmp_path / "broken")
    with BORG.open("nas", broken.settings(), here) as repository:
        list(repository.points([job(name=None)]))
    segment = broken.largest_segment()
    damage(segment, how)
    with BORG.open("nas", broken.settings(), here) as repository:
        (unit,) = repository.verify(VerifyPlan(data_percent=0))
    assert (unit.unit, unit.verdict, unit.code) == ("structure", Verdict.FAILED, code)
    assert unit.objects == (f"segment-{segment.name}",)
    assert outcome(broken, here, tmp_path / "into") in {"corrupt", "missing_object"}


def test_the_twin_is_silent(borg_14: Borg, here: TestContext, tmp_path: Path):
    twin = borg_14.copied(tmp_path / "twin")
    assert outcome(twin, here, tmp_path / "into") == "passed"
    units = verified(twin, here)
    assert {unit.verdict for unit in units.values()} == {Verdict.PASSED}
    assert len(units) == 4
    assert sum(unit.bytes for unit in units.values()) > 800_000


def test_a_damaged_list_of_archives_makes_no_shorter_list(
    borg_14: Borg, here: TestContext, tmp_path: Path
):
    broken = borg_14.copied(tmp_path / "broken")
    segments = (path for path in (broken.root / "data").rglob("*") if path.is_file())
    # the last but the commit holds the list
    last = sorted(segments, key=lambda path: int(path.name))[-2]
    damage(last, "flipped")
    with (
        BORG.open("nas", broken.settings(), here) as repository,
        pytest.raises(BackupDefect) as caught,
    ):
        list(repository.points([job()]))
    assert caught.value.code == "corrupt"


def test_zeros_of_borgs_own_repair_are_no_backup(here: TestContext, tmp_path: Path):
    borg = make(tmp_path / "repaired", "1.2")
    (borg.source / "dpi.dump").write_bytes(random.Random(5).randbytes(300_000))
    borg.create("dpi-1", borg.source)
    (borg.source / "dpi.dump").unlink()
    (borg.source / "small").write_text("small")
    borg.create("dpi-2", borg.source)
    with (borg.largest_segment()).open("r+b") as file:
        file.seek(100_000)
        file.write(b"damage")
    answer = {"BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES"}
    borg.run("check", "--repair", str(borg.root), environment=answer, check=False)
    units = verified(borg, here)
    assert units["structure"].verdict is Verdict.PASSED
    assert Counter(unit.code for unit in units.values()) == {"corrupt": 1, None: 2}


@pytest.fixture
def churned(tmp_path: Path) -> Borg:
    borg = make(tmp_path / "churned", "1.2")
    (borg.source / "dpi.dump").write_bytes(random.Random(3).randbytes(1_500_000))
    borg.create("dpi-keep", borg.source)
    return borg


@contextmanager
def compacting(borg: Borg) -> Iterator[list[int]]:
    """Back up, delete and compact without a pause."""
    stop, statuses = threading.Event(), []
    junk = borg.source.with_name("junk")
    junk.mkdir()

    def turn() -> None:
        chance = random.Random(5)
        number = 0
        while not stop.is_set():
            number += 1
            (junk / "log").write_bytes(chance.randbytes(100_000))
            try:
                borg.create(f"junk-{number}", junk, check=False)
                borg.run("delete", f"{borg.root}::junk-{number}", check=False)
                done = borg.run("compact", "--threshold", "0", str(borg.root), check=False)
            except subprocess.SubprocessError:
                continue
            statuses.append(done.returncode)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def outcomes(borg: Borg, here: TestContext, tmp_path: Path, times: int) -> Counter:
    selector = job(borg.source, name="dpi-keep")
    counted: Counter = Counter()
    for number in range(times):
        into = tmp_path / f"into-{number}"
        into.mkdir()
        try:
            with BORG.open("nas", borg.settings(), here) as repository:
                point = next(repository.points([selector]))
                repository.fetch(FetchRequest(point=point, selector=selector), into)
                units = list(repository.verify(VerifyPlan(data_percent=100, jobs=(selector,))))
            counted[str(max(unit.verdict for unit in units))] += 1
        except BackupGuardError as error:
            counted[str(error.verdict)] += 1
        shutil.rmtree(into)
    return counted


@pytest.mark.slow
def test_compacting_meanwhile_is_never_a_failure(churned: Borg, here: TestContext, tmp_path: Path):
    with compacting(churned) as statuses:
        counted = outcomes(churned, here, tmp_path, 3)
    assert statuses.count(0) >= 2, "nothing was compacted, so nothing was tried"
    assert counted["failed"] == 0
    assert counted["passed"] >= 1


def test_an_archive_pruned_between_two_looks(borg_12: Borg, here: TestContext, tmp_path: Path):
    borg = borg_12.copied(tmp_path / "pruned")
    into = tmp_path / "into"
    into.mkdir()
    run = here.tools.run
    deleted: list[bool] = []

    class Pruning:
        which = here.tools.which

        def run(self, command):
            if "extract" in command.argv and not deleted:
                deleted.append(True)
                borg.run("delete", f"{borg.root}::dpi-1")
            return run(command)

    with BORG.open("nas", borg.settings(), here) as repository:
        point = next(one for one in repository.points([job()]) if one.extra == {"name": "dpi-1"})
    here.tools = Pruning()
    with BORG.open("nas", borg.settings(), here) as repository, pytest.raises(Changing):
        repository.fetch(FetchRequest(point=point, selector=job()), into)
