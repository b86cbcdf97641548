import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest

from backupguard.contracts import FetchRequest, Part
from backupguard.errors import BackupDefect, Misunderstood
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext
from tests.integration.repositories.restic_maker import AWKWARD, NOT_UTF8, Restic, make


def points(restic: Restic, here: TestContext, *selectors):
    with RESTIC.open("nas", restic.settings(), here) as repository:
        return list(repository.points(selectors))


def fetch(restic: Restic, here: TestContext, selector, into: Path):
    into.mkdir()
    with RESTIC.open("nas", restic.settings(), here) as repository:
        newest = max(repository.points([selector]), key=lambda point: point.at)
        return repository.fetch(FetchRequest(point=newest, selector=selector), into)


def test_what_a_snapshot_says_is_in_the_point(restic: Restic, here: TestContext):
    found = points(restic, here, restic.selector(restic.source))
    assert len(found) == 2
    assert len({point.content_id for point in found}) == 2
    for point in found:
        assert point.source_host == "srv1"
        assert point.encrypted
        assert abs(datetime.now(UTC) - point.at) < timedelta(hours=1)
        if restic.version != "0.14":
            assert point.bytes > 400_000
            assert point.files in {4, 5}
            assert point.started_at <= point.ended_at


def test_a_snapshot_counts_only_for_jobs_it_contains(restic_018: Restic, here: TestContext):
    source = restic_018.source
    inside = restic_018.selector(source / "dpi.dump", job="a.inside")
    beside = restic_018.selector(source.with_name("src2"), job="a.beside")
    above = restic_018.selector(source.parent, job="a.above")
    tagged = restic_018.selector(source, job="a.tagged", tags=("nightly",))
    elsewhere = restic_018.selector(source, job="a.elsewhere", host="srv2")
    found = points(restic_018, here, inside, beside, above, tagged, elsewhere)
    assert [point.job for point in found] == ["a.inside", "a.inside", "a.tagged"]


def test_one_call_of_restic_serves_all_jobs(restic_018: Restic, here: TestContext):
    calls = []
    run = here.tools.run

    class Counting:
        which = here.tools.which

        def run(self, command):
            calls.append([word for word in command.argv if not word.startswith("-")][1])
            return run(command)

    here.tools = Counting()
    jobs = [restic_018.selector(restic_018.source, job=f"a.{number}") for number in range(20)]
    with RESTIC.open("nas", restic_018.settings(), here) as repository:
        assert len(list(repository.points(jobs))) == 40
        repository.inspect()
    assert [call for call in calls if call != "version"] == ["snapshots", "cat"]
    del calls[:]
    with RESTIC.open("nas", restic_018.settings(), here) as repository:
        list(repository.points(jobs))
        assert repository.inspect().repository_id
    assert calls == ["snapshots"]


def test_names_that_look_like_patterns_are_meant_literally(
    restic: Restic, here: TestContext, tmp_path: Path
):
    selector = restic.selector(restic.source / "etc" / AWKWARD)
    fetched = fetch(restic, here, selector, tmp_path / "into")
    assert fetched.files == 1
    assert (tmp_path / "into" / fetched.artifact).read_text() == "one"
    assert fetched.artifact.name == AWKWARD


def test_names_that_are_no_utf8_survive(restic: Restic, here: TestContext, tmp_path: Path):
    fetched = fetch(restic, here, restic.selector(restic.source / "etc"), tmp_path / "into")
    restored = tmp_path / "into" / fetched.artifact / NOT_UTF8
    assert restored.read_text() == "a name that is no UTF-8"


def test_a_selection_that_no_snapshot_holds_is_a_defect(
    restic: Restic, here: TestContext, tmp_path: Path
):
    with pytest.raises(BackupDefect) as caught:
        fetch(restic, here, restic.selector(restic.source / "lost.dump"), tmp_path / "into")
    assert caught.value.code == "selection_absent"


def test_a_backup_of_a_relative_path_is_found(here: TestContext, tmp_path: Path):
    restic = make(tmp_path / "relative", "0.18")
    (restic.source / "dpi.dump").write_text("x" * 1000)
    restic.backup("src", cwd=restic.source.parent)
    fetched = fetch(restic, here, restic.selector(restic.source / "dpi.dump"), tmp_path / "into")
    assert fetched.artifact == PurePosixPath("src/dpi.dump")
    assert (tmp_path / "into" / fetched.artifact).stat().st_size == 1000


def test_a_point_of_the_future_is_marked(here: TestContext, tmp_path: Path):
    restic = make(tmp_path / "future", "0.19")
    (restic.source / "a").write_text("a")
    restic.backup(restic.source, "--time", "2099-01-01 02:00:00")
    restic.backup(restic.source)
    future, present = sorted(
        points(restic, here, restic.selector(restic.source)), key=lambda point: -point.at.year
    )
    assert future.extra == {"future": True}
    assert present.extra is None


def test_stray_lines_before_the_answer_are_passed_over(
    restic: Restic, here: TestContext, tmp_path: Path
):
    wrapper = script(
        tmp_path, f'echo "[0:00] warning: a new version"\nexec {restic.settings().program} "$@"\n'
    )
    with RESTIC.open("nas", restic.settings(program=wrapper), here) as repository:
        assert len(list(repository.points([restic.selector(restic.source)]))) == 2
        assert repository.inspect().format_version == "2"


def test_an_answer_that_is_no_answer_is_never_an_empty_repository(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    real = restic_018.settings().program
    cut = script(tmp_path, f'{real} "$@" | head -c 300\n')
    with (
        RESTIC.open("nas", restic_018.settings(program=cut), here) as repository,
        pytest.raises(Misunderstood),
    ):
        list(repository.points([restic_018.selector(restic_018.source)]))


def test_locks_are_explained_and_left_alone(here: TestContext, tmp_path: Path):
    restic = make(tmp_path / "locked", "0.18")
    (restic.source / "a").write_text("a")
    restic.backup(restic.source)
    argv = [restic.settings().program, "-r", restic.root, "-p", restic.password, "--no-cache"]
    with subprocess.Popen(
        [*argv, "backup", "--stdin"],
        stdin=subprocess.PIPE,  # never written to: the backup waits, and holds its lock
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as other:
        deadline = time.monotonic() + 20
        while not list((restic.root / "locks").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        with RESTIC.open("nas", restic.settings(), here) as repository:
            lock = repository.inspect().locks[0]
        other.kill()
    assert (lock.holder_pid, lock.alive, lock.exclusive) == (other.pid, True, False)
    assert lock.holder_host == os.uname().nodename
    assert abs(here.now() - lock.since) < timedelta(minutes=1)
    names = list((restic.root / "locks").iterdir())
    fetch(restic, here, restic.selector(restic.source), tmp_path / "into")
    with RESTIC.open("nas", restic.settings(), here) as repository:
        assert [lock.alive for lock in repository.inspect().locks] == [False]
    assert list((restic.root / "locks").iterdir()) == names


def test_a_rewritten_repository_is_not_taken_for_the_old_one(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    other = make(tmp_path / "other", "0.18")
    place = tmp_path / "place"
    seen = []
    for repository_root in (restic_018.root, other.root):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(repository_root, place)
        with RESTIC.open("nas", other.settings(url=str(place)), here) as repository:
            list(repository.points([]))
            seen.append(repository.inspect().repository_id)
    assert len(set(seen)) == 2


def script(directory: Path, body: str) -> Path:
    path = directory / "restic"
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(0o755)
    return path


def test_the_same_listing_again_is_nothing_new(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    selector = restic_018.selector(restic_018.source)
    with RESTIC.open("nas", restic_018.settings(), here) as repository:
        first = repository.changes([selector], None)
        same = repository.changes([selector], first.mark)
    assert len(tuple(first.points)) == first.standing[selector.job] == 2
    assert (tuple(same.points), same.complete, same.mark) == ((), False, first.mark)
    assert same.standing == first.standing
    # Seen from before it was made, a snapshot is of the future, and that changes by itself.
    here.clock.set(datetime.now(UTC) - timedelta(days=9))
    with RESTIC.open("nas", restic_018.settings(), here) as repository:
        ahead = repository.changes([selector], None)
        again = repository.changes([selector], ahead.mark)
    assert [point.extra for point in ahead.points] == [{"future": True}] * 2
    assert again.complete


def test_what_no_engine_reads_again_is_compared_with_the_snapshot(
    restic: Restic, here: TestContext, tmp_path: Path
):
    asked = []
    run = here.tools.run

    class Listening:
        which = here.tools.which

        def run(self, command):
            asked.append(command.argv)
            return run(command)

    here.tools = Listening()
    selector = restic.selector(restic.source)
    with RESTIC.open("nas", restic.settings(), here) as repository:
        newest = max(repository.points([selector]), key=lambda point: point.at)
        for exact in (False, True):
            into = tmp_path / str(exact)
            into.mkdir()
            request = FetchRequest(point=newest, selector=selector, exact=exact)
            assert repository.fetch(request, into).files > 3
    restored = [argv for argv in asked if "restore" in argv]
    assert ["--verify=true" in argv for argv in restored] == [False, True]


def test_of_what_is_too_large_each_fetch_brings_another_part(
    restic: Restic, here: TestContext, tmp_path: Path
):
    selector = restic.selector(restic.source)
    seen: set[str] = set()
    read_at: dict[str, int] = {}
    with RESTIC.open("nas", restic.settings(), here) as repository:
        newest = max(repository.points([selector]), key=lambda point: point.at)
        whole = tmp_path / "whole"
        whole.mkdir()
        everything = repository.fetch(FetchRequest(point=newest, selector=selector), whole)
        for turn in range(1, 9):
            into = tmp_path / str(turn)
            into.mkdir()
            part = Part(max_bytes=1000, always=(), read_at=read_at, key=bytes(32))
            request = FetchRequest(point=newest, selector=selector, part=part, exact=True)
            fetched = repository.fetch(request, into)
            assert fetched.artifact == everything.artifact
            assert fetched.part is not None
            assert fetched.part.total_bytes == everything.bytes
            assert 0 < len(fetched.part.chosen) < len(fetched.part.shares)
            seen |= {
                os.fsdecode(path)[len(str(into)) :] for path in into.rglob("*") if path.is_file()
            }
            read_at = {**read_at, **dict.fromkeys(fetched.part.chosen, turn)}
            if len(read_at) == len(fetched.part.shares):
                break
    names = (path for path in whole.rglob("*") if path.is_file() and not path.is_symlink())
    assert {os.fsdecode(path)[len(str(whole)) :] for path in names} <= seen
