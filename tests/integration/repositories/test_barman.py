import fcntl
import gzip
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    ConfigurationError,
    Misunderstood,
    Unreachable,
)
from backupguard.model import PointKind, PointState
from backupguard.repositories.barman import BARMAN
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.barman_maker import Barman, selector


class TestBarman(RepositoryContract):
    @pytest.fixture
    def case(self, barman: Barman, here: TestContext) -> RepositoryCase:
        return RepositoryCase(
            kind=BARMAN,
            root=barman.home,
            settings_at=barman.settings,
            jobs=(selector(),),
            context=here,
            files=files_of(newest_info(barman.home).parent) + segments_of(newest_info(barman.home)),
        )


@pytest.fixture
def broken(barman: Barman, tmp_path: Path) -> Path:
    def inside(directory: str, names: list[str]) -> list[str]:
        return names if Path(directory).name == "data" else []  # nobody looks there

    return Path(shutil.copytree(barman.home, tmp_path / "broken", symlinks=True, ignore=inside))


def files_of(base: Path) -> int:
    return sum(path.is_file() and not path.is_symlink() for path in base.rglob("*")) - 1


def segments_of(info: Path) -> int:
    """How many segments of the log a backup needs to be whole: a checkpoint may fall between."""
    said = dict(line.split("=", 1) for line in info.read_text().splitlines())
    first, last = (int(said[name][8:16], 16) << 8 | int(said[name][16:], 16)
                   for name in ("begin_wal", "end_wal"))  # fmt: skip
    return last - first + 1


def points(barman: Barman, here: TestContext, home: Path | None = None, **more):
    with BARMAN.open("bm", barman.settings(home, **more), here) as repository:
        return sorted(repository.points([selector()]), key=lambda point: point.at)


def newest_info(home: Path) -> Path:
    return max(home.glob("dpi/base/*/backup.info"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_points_are_what_barman_itself_lists(barman: Barman, here: TestContext):
    said = json.loads(barman.run("-f", "json", "list-backups", "dpi"))["dpi"]
    found = points(barman, here)
    assert {one.native_id for one in found} == {one["backup_id"] for one in said}
    ended = {one["backup_id"]: int(one["end_time_timestamp"]) for one in said}
    for one in found:
        assert int(one.at.timestamp()) == ended[one.native_id]
        assert (one.kind, one.state) == (PointKind.FULL, PointState.COMPLETE)
        assert one.started_at < one.ended_at
        assert one.bytes > 10_000_000
        assert one.bytes_added > 0
        assert one.extra["mode"] == "postgres"
        assert int(one.extra["system"]) > 0
        assert "wal_gap" not in one.extra


def test_the_log_leads_from_one_backup_to_the_next_and_on(barman: Barman, here: TestContext):
    first, second = points(barman, here)
    newest = max(barman.segments().values(), key=lambda path: path.name)
    assert first.covers_until == second.at
    assert second.covers_until == datetime.fromtimestamp(int(newest.stat().st_mtime), UTC)
    assert second.covers_until >= second.at


def test_a_segment_that_was_lost_ends_what_is_covered(
    barman: Barman, here: TestContext, broken: Path
):
    segments = barman.segments(broken)
    lost = sorted(segments)[-2]
    segments[lost].unlink()  # and still stands in xlog.db
    assert lost in (broken / "dpi" / "wals" / "xlog.db").read_text()
    _, second = points(barman, here, broken)
    assert second.extra["wal_gap"] == {"first": lost, "last": lost, "segments": 1}
    assert second.covers_until < points(barman, here)[1].covers_until
    assert second.state is PointState.COMPLETE


def test_a_late_segment_is_no_loss_yet(barman: Barman, here: TestContext, broken: Path):
    segments = barman.segments(broken)
    segments[sorted(segments)[-2]].unlink()
    assert all(
        "wal_gap" not in one.extra for one in points(barman, here, broken, archive_settle="1d")
    )


def test_an_empty_segment_is_none(barman: Barman, here: TestContext, broken: Path):
    segments = barman.segments(broken)
    segments[sorted(segments)[-2]].write_bytes(b"")
    assert "wal_gap" in points(barman, here, broken)[-1].extra


def test_a_backup_without_its_own_log_cannot_be_restored(
    barman: Barman, here: TestContext, broken: Path
):
    info = newest_info(broken).read_text()
    (stop,) = [line[8:] for line in info.splitlines() if line.startswith("end_wal=")]
    barman.segments(broken)[stop].unlink()
    first, second = points(barman, here, broken)
    assert (first.state, second.state) == (PointState.COMPLETE, PointState.FAILED)
    assert second.covers_until == second.at
    edit(newest_info(broken), "status=DONE", "status=WAITING_FOR_WALS")
    assert points(barman, here, broken)[-1].state is PointState.RUNNING


def test_a_backup_whose_data_is_gone(barman: Barman, here: TestContext, broken: Path):
    shutil.rmtree(newest_info(broken).parent / "data")
    first, second = points(barman, here, broken)
    assert (first.state, second.state) == (PointState.COMPLETE, PointState.FAILED)
    assert second.extra["missing_object"] is True


def test_an_incremental_backup_without_its_parent(barman: Barman, here: TestContext, broken: Path):
    older, newer = sorted(broken.glob("dpi/base/*"))
    with (newer / "backup.info").open("a") as file:
        file.write(f"parent_backup_id={older.name}\n")
    _, second = points(barman, here, broken)
    assert (second.kind, second.needs) == (PointKind.INCREMENTAL, (older.name,))
    assert second.state is PointState.COMPLETE
    shutil.rmtree(older)
    (second,) = points(barman, here, broken)
    assert second.state is PointState.FAILED


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("FAILED", PointState.FAILED),
        ("STARTED", PointState.RUNNING),
        ("EMPTY", PointState.RUNNING),
        ("SYNCING", PointState.RUNNING),
        ("WAITING_FOR_WALS", PointState.WARNING),
        ("SOMETHING_NEW", PointState.WARNING),
    ],
)
def test_what_barman_says_of_a_run(
    barman: Barman, here: TestContext, broken: Path, status: str, state: PointState
):
    edit(newest_info(broken), "status=DONE", f"status={status}")
    assert points(barman, here, broken)[-1].state is state


def test_a_backup_that_has_only_begun(barman: Barman, here: TestContext, broken: Path):
    path = newest_info(broken)
    lines = [line if line.startswith("xlog_segment_size") else line.split("=")[0] + "=None"
             for line in path.read_text().splitlines()]  # fmt: skip
    path.write_text("\n".join([*lines, "status=EMPTY"]) + "\n")
    # It need not be the last: its time is that of its beginning, and a backup takes a second.
    (running,) = [one for one in points(barman, here, broken) if one.state is PointState.RUNNING]
    assert abs(running.at - points(barman, here)[-1].at) < timedelta(minutes=5)


def test_what_a_later_barman_has_moved_is_found(barman: Barman, here: TestContext, broken: Path):
    before = points(barman, here, broken)
    meta = broken / "dpi" / "meta"
    meta.mkdir()
    for info in broken.glob("dpi/base/*/backup.info"):
        info.rename(meta / f"{info.parent.name}-backup.info")
    assert points(barman, here, broken) == before
    # what lies in the new place goes before what was left in the old one
    newest = max(meta.iterdir())
    old = broken / "dpi" / "base" / newest.name.removesuffix("-backup.info") / "backup.info"
    old.write_text(newest.read_text().replace("status=DONE", "status=STARTED"))
    assert points(barman, here, broken) == before


def test_times_carry_their_zone(barman: Barman, here: TestContext, broken: Path):
    path = newest_info(broken)
    (line,) = [one for one in path.read_text().splitlines() if one.startswith("end_time=")]
    moment = datetime.fromisoformat(line[9:])
    there = moment.astimezone(ZoneInfo("America/New_York"))
    edit(path, line, f"end_time={there}")
    assert points(barman, here, broken)[-1].at == moment


def test_a_promoted_server_is_followed(barman: Barman, here: TestContext, broken: Path):
    segments = barman.segments(broken)
    last = max(segments)
    fork = int(last[16:], 16)
    directory = broken / "dpi" / "wals" / "0000000200000000"
    directory.mkdir()
    shutil.copy2(segments[last], directory / f"00000002{last[8:]}")
    shutil.copy2(segments[last], directory / f"0000000200000000{fork + 1:08X}")
    segments[last].unlink()
    line = f"1\t0/{fork * (16 << 20) + 99:X}\tno recovery target specified\n"
    (broken / "dpi" / "wals" / "00000002.history").write_bytes(gzip.compress(line.encode()))
    *_, second = points(barman, here, broken)
    assert "wal_gap" not in second.extra
    assert second.covers_until == points(barman, here)[-1].covers_until
    (broken / "dpi" / "wals" / "00000002.history").write_bytes(b"\x1f\x8bxxx")
    with pytest.raises(BackupDefect):
        points(barman, here, broken)


def refused(barman: Barman, here: TestContext, home: Path, job=None) -> BackupGuardError:
    with (
        pytest.raises(BackupGuardError) as caught,
        BARMAN.open("bm", barman.settings(home), here) as repository,
    ):
        list(repository.points([job or selector()]))
    return caught.value


def test_an_unknown_server_and_none(barman: Barman, here: TestContext):
    error = refused(barman, here, barman.home, selector("nosuch"))
    assert (type(error), error.code) == (Unreachable, "not_found")
    for name in (None, "../dpi"):
        assert isinstance(refused(barman, here, barman.home, selector(name)), ConfigurationError)


@pytest.mark.parametrize("damage", [b"status", b"status=DONE", b"\x00\xff" * 50, b""])
def test_a_catalogue_that_is_cut_is_not_understood(
    barman: Barman, here: TestContext, broken: Path, damage: bytes
):
    newest_info(broken).write_bytes(damage)
    error = refused(barman, here, broken)
    assert (type(error), error.code) == (Misunderstood, "output_unparsable")


def test_what_may_not_be_read(barman: Barman, here: TestContext, broken: Path):
    newest_info(broken).chmod(0)
    error = refused(barman, here, broken)
    assert (type(error), error.code) == (AccessRefused, "permission")


def test_links_are_not_followed(barman: Barman, here: TestContext, broken: Path):
    path = newest_info(broken)
    target = path.rename(broken / "elsewhere")
    path.symlink_to(target)
    assert isinstance(refused(barman, here, broken), AccessRefused)


def test_receiving_log_all_the_time_is_no_lock(barman: Barman, here: TestContext):
    path = barman.directory / "lock" / ".dpi-receive-wal.lock"
    with path.open("w") as file, BARMAN.open("bm", barman.settings(), here) as repository:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert repository.inspect().locks == ()


def test_only_a_lock_that_is_held_is_told(barman: Barman, here: TestContext):
    path = barman.directory / "lock" / ".dpi-backup.lock"
    assert path.exists()  # Barman leaves it lying
    with BARMAN.open("bm", barman.settings(), here) as repository:
        assert repository.inspect().locks == ()
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (lock,) = repository.inspect().locks
        assert lock.alive is True
        assert repository.inspect().locks == ()
