"""Prune and forget that never rest beside restore tests: never the backup's fault, unless it is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backupguard.model import Status, Verdict
from tests.counts import times
from tests.integration.survival.places import DPI, Place, Restic, Source

TINY = "create table patients (id int primary key); insert into patients values (1), (2);"


@pytest.fixture(autouse=True, scope="module")
def tiny(source: Source) -> None:
    """A dump of next to nothing: what is restored again and again is the way, not the rows."""
    source.create("tiny", TINY)
    source.keep("tiny", source.dumped("tiny", "-Fc"))


@contextmanager
def pruning(restic: Restic, directory: Path) -> Iterator[list[int]]:
    """Back up, forget and prune without a pause; small packs are written anew each time."""
    stop, statuses, junk = threading.Event(), [], directory / "junk"

    def turn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            junk.write_bytes(str(number).encode() * 20_000)
            restic.call("backup", junk, "--tag", "junk", check=False)
            done = restic.call(
                *("forget", "--tag", "junk", "--keep-last", "1", "--prune"),
                *("--max-unused", "0", "--repack-small"),
                check=False,
            )
            statuses.append(done.returncode)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pruning_during_restore_tests_is_never_a_failure(place: Place, source: Source) -> None:
    tests = times(10, 50)
    restic = Restic(repository=place.add("tiny"), password=source.password)
    with pruning(restic, place.directory) as statuses:
        counted = Counter(place.perform().verdict for _ in range(tests))
    assert statuses.count(0) >= tests // 2, "nothing was pruned, so nothing was tried"
    assert counted[Verdict.FAILED] == 0
    assert counted[Verdict.PASSED] >= tests // 2, counted


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pack_that_is_gone_fails_however_much_is_pruned(place: Place, source: Source) -> None:
    nas = place.add("tiny")
    packs = [path for path in (nas / "data").rglob("*") if path.is_file()]
    max(packs, key=lambda path: path.stat().st_size).unlink()
    tests = times(4, 20)
    with pruning(Restic(repository=nas, password=source.password), place.directory):
        counted = Counter(place.perform().verdict for _ in range(tests))
    assert counted == {Verdict.FAILED: tests}
    assert place.judged()["RST-01", DPI].status is Status.NON_COMPLIANT
