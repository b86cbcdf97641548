"""A repository that is pruned all the time while it is read: a change, and never a defect."""

import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backupguard.contracts import FetchRequest
from backupguard.errors import BackupGuardError
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext
from tests.counts import times
from tests.integration.repositories.restic_maker import Restic, damage, make


@pytest.fixture
def churned(tmp_path: Path) -> Restic:
    restic = make(tmp_path / "churned", "0.18")
    (restic.source / "dpi.dump").write_bytes(random.Random(3).randbytes(1_500_000))
    restic.backup(restic.source, "--tag", "keep")
    return restic


@contextmanager
def pruning(restic: Restic) -> Iterator[list[int]]:
    """Back up, forget and prune without a pause; small packs are written anew each time."""
    stop, statuses = threading.Event(), []
    junk = restic.source.with_name("junk")
    junk.mkdir()

    def turn() -> None:
        chance = random.Random(5)
        while not stop.is_set():
            (junk / "log").write_bytes(chance.randbytes(100_000))
            try:
                restic.backup(junk, "--tag", "junk", check=False)
                done = restic.run(
                    *("forget", "--tag", "junk", "--keep-last", "1", "--prune"),
                    *("--max-unused", "0", "--repack-small"),
                    check=False,
                )
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


def outcomes(restic: Restic, here: TestContext, tmp_path: Path, times: int) -> Counter:
    selector = restic.selector(restic.source, tags=("keep",))
    counted: Counter = Counter()
    for number in range(times):
        into = tmp_path / f"into-{number}"
        into.mkdir()
        try:
            with RESTIC.open("nas", restic.settings(), here) as repository:
                point = next(repository.points([selector]))
                repository.fetch(FetchRequest(point=point, selector=selector), into)
            counted["passed"] += 1
        except BackupGuardError as error:
            counted[str(error.verdict)] += 1
        shutil.rmtree(into)
    return counted


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pruning_during_fetches_is_never_a_failure(
    churned: Restic, here: TestContext, tmp_path: Path
):
    fetches = times(12, 50)
    with pruning(churned) as statuses:
        counted = outcomes(churned, here, tmp_path, fetches)
    assert statuses.count(0) >= fetches // 5, "nothing was pruned, so nothing was tried"
    assert counted["failed"] == 0
    assert counted["passed"] >= fetches // 2
    print(counted, len(statuses))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pack_that_is_really_gone_fails_every_time(
    churned: Restic, here: TestContext, tmp_path: Path
):
    damage(max(churned.packs(), key=lambda pack: pack.stat().st_size), "deleted")
    with pruning(churned):
        counted = outcomes(churned, here, tmp_path, times(3, 10))
    assert counted == {"failed": times(3, 10)}
