"""What is read of healthy borg repositories, and how little is asked."""

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.contracts import Credentials, FetchRequest, Part, VerifyPlan
from backupguard.errors import AccessRefused, BackupDefect, ConfigurationError
from backupguard.model import PointState, RecoveryPoint, VerifiedCoverage
from backupguard.repositories.borg import BORG
from backupguard.testing import TestContext, context
from tests.integration.repositories.borg_maker import NOT_UTF8, PASSPHRASE, Borg, job, make


def points(borg: Borg, here: TestContext, *jobs, **settings) -> list[RecoveryPoint]:
    with BORG.open("nas", borg.settings(**settings), here) as repository:
        found = repository.points(jobs or (job(),))
        return sorted(found, key=lambda point: (point.at, point.extra["name"]))


class Watching:
    """The jail, with every command kept."""

    def __init__(self, here: TestContext) -> None:
        self._tools = here.tools
        self.commands = []
        here.tools = self

    def which(self, program):
        return self._tools.which(program)

    def run(self, command):
        self.commands.append(command)
        return self._tools.run(command)

    @property
    def verbs(self) -> Sequence[str]:
        known = {"list", "info", "extract", "check"}
        return [next((word for word in one.argv if word in known), "") for one in self.commands]


def test_points_have_figures_and_utc_times(borg: Borg, here: TestContext):
    began = datetime.now(UTC)
    first, second = points(borg, here)
    assert (first.extra, second.extra) == ({"name": "dpi-1"}, {"name": "dpi-2"})
    assert began - timedelta(hours=1) < first.at <= second.at <= began
    assert first.started_at == first.at <= first.ended_at <= second.ended_at
    assert (first.state, first.files, second.files) == (PointState.COMPLETE, 3, 4)
    assert first.bytes > 400_000 > second.bytes_added
    assert first.encrypted
    assert first.source_host == os.uname().nodename


def test_a_writer_in_another_zone_through_its_hour_twice(here: TestContext, tmp_path: Path):
    borg = make(tmp_path / "dst", "1.2")
    (borg.source / "a").write_text("a")
    # half past two twice, in the night when Paris sets its clocks back; borg takes UTC here
    for number, moment in enumerate(("2025-10-26T00:30:00", "2025-10-26T01:30:00")):
        borg.create(
            f"dpi-{number}",
            borg.source,
            options=("--timestamp", moment),
            environment={"TZ": "Europe/Paris"},
        )
    assert [point.at for point in points(borg, here)] == [
        datetime(2025, 10, 26, 0, 30, tzinfo=UTC),
        datetime(2025, 10, 26, 1, 30, tzinfo=UTC),
    ]


def test_jobs_are_told_by_name_and_host(borg_14: Borg, here: TestContext):
    labo = job("stdin", job="labo.nightly", name="labo-{1}")
    elsewhere = job(job="dpi.elsewhere", host="another-host")
    whole = job(job="all.nightly", name=None)
    found = points(borg_14, here, labo, elsewhere, whole)
    assert [point.job for point in found].count("labo.nightly") == 1
    assert [point.job for point in found].count("all.nightly") == 3
    assert not [point for point in found if point.job == "dpi.elsewhere"]


def test_tags_are_no_selection_that_borg_knows(borg_12: Borg, here: TestContext):
    with pytest.raises(ConfigurationError) as caught:
        points(borg_12, here, job(tags=("nightly",)))
    assert caught.value.problems[0].key == "select.tags"


def test_only_what_is_new_is_asked(borg_12: Borg, here: TestContext, tmp_path: Path):
    borg = borg_12.copied(tmp_path / "grown")
    watched = Watching(here)
    before = points(borg, here)
    assert watched.verbs[-3:] == ["list", "info", "info"]
    watched.commands.clear()
    assert points(borg, here) == before
    assert watched.verbs == ["list"]
    borg.create("dpi-3", borg.source)
    watched.commands.clear()
    after = points(borg, here)
    assert watched.verbs == ["list", "info"]
    assert after[:2] == before
    # the cache is lost, and what the store knows serves as well
    shutil.rmtree(here.cache)
    here.known.standing_points[("dpi.nightly", "nas")] = after
    watched.commands.clear()
    assert points(borg, here) == after
    assert watched.verbs == ["list"]
    with BORG.open("nas", borg.settings(), here) as repository:
        watched.commands.clear()
        list(repository.points([job()]))
        repository.inspect()
    assert watched.verbs == ["list"]


def test_many_new_archives_are_asked_about_at_once(here: TestContext, tmp_path: Path):
    borg = make(tmp_path / "many", "1.2", "none")
    (borg.source / "a").write_text("a")
    for number in range(6):
        borg.create(f"{'dpi' if number % 2 else 'other'}-{number}", borg.source)
    borg.create("dpi-7.checkpoint", borg.source)
    watched = Watching(here)
    found = points(borg, here, job(name=None), credentials=Credentials())
    assert watched.verbs[-2:] == ["list", "info"]
    assert len(found) == 6, "a checkpoint is no copy"
    assert {point.encrypted for point in found} == {False}


def test_a_repository_without_a_passphrase_where_one_is_expected(here: TestContext, tmp_path: Path):
    borg = make(tmp_path / "plain", "1.2", "none")
    with pytest.raises(AccessRefused) as caught:
        points(borg, here)
    assert caught.value.message.id == "repositories.borg-unencrypted"


def test_a_repository_that_was_put_elsewhere(borg_14: Borg, here: TestContext, tmp_path: Path):
    points(borg_14, here)
    moved = borg_14.copied(tmp_path / "moved")
    with pytest.raises(AccessRefused) as caught:
        points(moved, here)
    assert caught.value.message.id == "repositories.borg-relocated"


def test_the_passphrase_is_in_no_argument_and_no_variable(borg_12: Borg, here: TestContext):
    watched = Watching(here)
    points(borg_12, here)
    for command in watched.commands:
        assert PASSPHRASE not in " ".join(command.argv) + repr(command.environment)


def test_a_whole_archive_with_links_a_pipe_and_odd_names(
    borg: Borg, here: TestContext, tmp_path: Path
):
    into = tmp_path / "into"
    into.mkdir()
    with BORG.open("nas", borg.settings(), here) as repository:
        newest = max(repository.points([job()]), key=lambda point: point.files)
        fetched = repository.fetch(FetchRequest(point=newest, selector=job()), into)
    assert (fetched.files, str(fetched.artifact)) == (5, ".")
    assert (into / "etc" / NOT_UTF8).read_text() == "a name that is no UTF-8"
    assert (into / "etc" / "hard").samefile(into / "etc" / NOT_UTF8)
    assert (into / "etc" / "out").is_symlink()
    assert (into / "etc" / "out").readlink() == Path("/nowhere/passwd")


def test_a_link_whose_file_is_not_selected(borg_14: Borg, here: TestContext, tmp_path: Path):
    into = tmp_path / "into"
    into.mkdir()
    selector = job(str(borg_14.source / "etc" / "hard"))
    with BORG.open("nas", borg_14.settings(), here) as repository:
        newest = max(repository.points([selector]), key=lambda point: point.at)
        fetched = repository.fetch(FetchRequest(point=newest, selector=selector), into)
    assert (fetched.files, fetched.bytes) == (1, 23)


def test_a_dump_that_came_by_standard_input(borg_12: Borg, here: TestContext, tmp_path: Path):
    into = tmp_path / "into"
    into.mkdir()
    selector = job("stdin", name="labo-*")
    with BORG.open("nas", borg_12.settings(), here) as repository:
        (point,) = repository.points([selector])
        fetched = repository.fetch(FetchRequest(point=point, selector=selector), into)
    assert (into / fetched.artifact).read_text() == "-- PostgreSQL database dump\n"


def test_a_selection_that_is_not_there(borg_14: Borg, here: TestContext, tmp_path: Path):
    into = tmp_path / "into"
    into.mkdir()
    selector = job("/srv/nothing")
    with BORG.open("nas", borg_14.settings(), here) as repository:
        point = next(repository.points([selector]))
        with pytest.raises(BackupDefect) as caught:
            repository.fetch(FetchRequest(point=point, selector=selector), into)
    assert caught.value.code == "selection_absent"


def test_units_are_read_by_turns(borg_12: Borg, here: TestContext):
    with BORG.open("nas", borg_12.settings(), here) as repository:
        first, second = points(borg_12, here)
        here.known.covered["nas"] = {
            f"archive/{second.native_id}": VerifiedCoverage(
                repository="nas",
                unit=f"archive/{second.native_id}",
                verified_at=datetime(2026, 1, 1, tzinfo=UTC),
                seq=1,
            )
        }
        plan = VerifyPlan(data_percent=10, jobs=(job(),))
        units = [unit.unit for unit in repository.verify(plan)]
        assert units == ["structure", f"archive/{first.native_id}"]
        assert set(units) < set(repository.units(plan))
        assert len(repository.units(plan)) == 3


def test_a_dead_runs_cache_lock_stops_nobody(borg_12: Borg, here: TestContext, tmp_path: Path):
    points(borg_12, here)
    (cache,) = (here.cache / "borg-nas" / "base" / ".cache" / "borg").glob("[0-9a-f]*")
    (cache / "lock.exclusive").mkdir()
    (cache / "lock.exclusive" / f"{os.uname().nodename}@1.2-0").touch()
    (here.cache / "borg-nas" / "archives.json").unlink()
    assert len(points(borg_12, context(tmp_path / "context"))) == 2


def test_of_what_is_too_large_each_fetch_brings_another_part(
    borg: Borg, here: TestContext, tmp_path: Path
):
    whole = tmp_path / "whole"
    whole.mkdir()
    seen: set[str] = set()
    read_at: dict[str, int] = {}
    with BORG.open("nas", borg.settings(), here) as repository:
        newest = max(repository.points([job()]), key=lambda point: point.files)
        everything = repository.fetch(FetchRequest(point=newest, selector=job()), whole)
        for turn in range(1, 9):
            into = tmp_path / str(turn)
            into.mkdir()
            part = Part(max_bytes=1000, always=(), read_at=read_at, key=bytes(32))
            request = FetchRequest(point=newest, selector=job(), part=part)
            fetched = repository.fetch(request, into)
            assert fetched.part is not None
            assert fetched.part.total_bytes <= everything.bytes
            seen |= files_below(into)
            read_at = {**read_at, **dict.fromkeys(fetched.part.chosen, turn)}
            if len(read_at) == len(fetched.part.shares):
                break
    assert files_below(whole) == seen


def files_below(root: Path) -> set[str]:
    return {
        os.fsdecode(path)[len(str(root)) :]
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
