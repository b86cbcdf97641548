import os
import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from backupguard.contracts import FetchRequest, JobSelector, VerifyPlan
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    Changing,
    ConfigurationError,
    MissingMeans,
    Unreachable,
)
from backupguard.model import PointState, Verdict
from backupguard.repositories.directory import DIRECTORY
from backupguard.repositories.directory_settings import DirectorySettings
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract

LONG_AGO = datetime(2026, 3, 5, 2, 30, tzinfo=UTC)


def put(path: Path, content: bytes = b"dump", at: datetime = LONG_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def job(pattern: str) -> JobSelector:
    return JobSelector(job="dpi.nightly", application="dpi", pattern=pattern)


def settings(root: Path, **more) -> DirectorySettings:
    return DirectorySettings(**{"type": "directory", "path": root, "timezone": "UTC", **more})


def points(root: Path, here: TestContext, pattern: str, **more):
    with DIRECTORY.open("dumps", settings(root, **more), here) as repository:
        return sorted(repository.points([job(pattern)]), key=lambda point: point.at)


def fetch(root: Path, here: TestContext, pattern: str, into: Path):
    into.mkdir()
    newest = points(root, here, pattern)[-1]
    with DIRECTORY.open("dumps", settings(root), here) as repository:
        return repository.fetch(FetchRequest(point=newest, selector=job(pattern)), into)


class TestFiles(RepositoryContract):
    @pytest.fixture
    def case(self, tmp_path: Path, here: TestContext) -> RepositoryCase:
        root = tmp_path / "dumps"
        put(root / "dpi-20260304-0230.dump.gz", b"older")
        put(root / "dpi-20260305-0230.dump.gz", random.Random(1).randbytes(3_000_000))
        put(root / "other.txt")
        return RepositoryCase(
            kind=DIRECTORY,
            root=root,
            settings_at=settings,
            jobs=(job("dpi-%Y%m%d-%H%M.dump"),),
            context=here,
            files=1,
        )


class TestDirectories(RepositoryContract):
    @pytest.fixture
    def case(self, tmp_path: Path, here: TestContext) -> RepositoryCase:
        root = tmp_path / "dumps"
        for name in ("toc.dat", "3001.dat.gz", "blobs/1.dat"):
            put(root / "dpi-2026-03-05" / name, name.encode())
        return RepositoryCase(
            kind=DIRECTORY,
            root=root,
            settings_at=settings,
            jobs=(job("dpi-%Y-%m-%d"),),
            context=here,
            files=3,
        )


def test_the_time_is_in_the_name_in_the_sites_zone(here: TestContext, tmp_path: Path):
    put(tmp_path / "dpi-20260705-0230.dump.zst")
    (point,) = points(tmp_path, here, "dpi-%Y%m%d-%H%M.dump", timezone="Europe/Paris")
    assert point.at == datetime(2026, 7, 5, 0, 30, tzinfo=UTC)
    assert (point.state, point.bytes, point.files) == (PointState.COMPLETE, 4, 1)
    assert point.native_id == "dpi-20260705-0230.dump.zst"


def test_a_name_of_a_day_is_made_precise_by_the_file(here: TestContext, tmp_path: Path):
    put(tmp_path / "dpi-2026-03-05.dump", at=LONG_AGO)
    put(tmp_path / "dpi-2026-03-01.dump", at=LONG_AGO)  # copied there later
    assert [point.at for point in points(tmp_path, here, "dpi-%Y-%m-%d.dump")] == [
        datetime(2026, 3, 1, tzinfo=UTC),
        LONG_AGO,
    ]


def test_dates_in_directories(here: TestContext, tmp_path: Path):
    put(tmp_path / "2026" / "03" / "dpi-05T0230.sql.xz")
    put(tmp_path / "2026" / "latest" / "dpi-05T0230.sql.xz")
    (point,) = points(tmp_path, here, "%Y/%m/dpi-%dT%H%M.sql")
    assert (point.at, point.native_id) == (LONG_AGO, "2026/03/dpi-05T0230.sql.xz")


def test_what_does_not_match_is_no_point(here: TestContext, tmp_path: Path):
    for name in (
        *("dpi-20261345-0230.dump", "dpi-20260305-0230.dump.part", "xdpi-20260305-0230.dump"),
        *("dpi-20260305-0230.dump.sha256", "dpi-20260305-0230.dump.gz.tmp"),
    ):
        put(tmp_path / name)
    assert points(tmp_path, here, "dpi-%Y%m%d-%H%M.dump") == []


def test_a_rotated_file_stays_the_same_point(here: TestContext, tmp_path: Path):
    old = put(tmp_path / "dpi.dump", b"monday")
    before = points(tmp_path, here, "dpi.dump")
    old.rename(tmp_path / "dpi.dump.1")
    put(tmp_path / "dpi.dump", b"tuesday", LONG_AGO + timedelta(days=1))
    after = points(tmp_path, here, "dpi.dump")
    assert [point.native_id for point in before] == ["dpi.dump@20260305T023000Z"]
    assert [point.native_id for point in after] == [
        "dpi.dump@20260305T023000Z",
        "dpi.dump@20260306T023000Z",
    ]


def test_a_file_being_written_is_no_copy_yet(here: TestContext, tmp_path: Path):
    put(tmp_path / "dpi-20260305.dump", at=datetime.now(UTC) - timedelta(seconds=20))
    (point,) = points(tmp_path, here, "dpi-%Y%m%d.dump")
    assert point.state is PointState.RUNNING
    with pytest.raises(Changing):
        fetch(tmp_path, here, "dpi-%Y%m%d.dump", tmp_path / "into")
    here.clock.set(datetime.now(UTC) + timedelta(seconds=60))
    (point,) = points(tmp_path, here, "dpi-%Y%m%d.dump")
    assert point.state is PointState.COMPLETE


def test_an_empty_file_is_a_failed_point(here: TestContext, tmp_path: Path):
    put(tmp_path / "dpi.dump", b"")
    (point,) = points(tmp_path, here, "dpi.dump")
    assert point.state is PointState.FAILED
    with pytest.raises(BackupDefect) as caught:
        fetch(tmp_path, here, "dpi.dump", tmp_path / "into")
    assert caught.value.code == "empty"


def test_a_file_that_changes_under_the_copy(here: TestContext, tmp_path: Path):
    path = put(tmp_path / "dpi.dump", b"x" * 100_000)
    run = here.tools.run

    class Meddling:
        which = here.tools.which

        def run(self, command):
            done = run(command)
            put(path, b"y" * 100_000, LONG_AGO + timedelta(seconds=1))
            return done

    here.tools = Meddling()
    with pytest.raises(Changing):
        fetch(tmp_path, here, "dpi.dump", tmp_path / "into")


def test_names_that_are_no_utf8_survive(here: TestContext, tmp_path: Path):
    name = os.fsdecode(b"r\xe9sum\xe9-20260305.dump")
    put(tmp_path / name, b"content")
    (point,) = points(tmp_path, here, "*-%Y%m%d.dump")
    assert point.native_id == "r%E9sum%E9-20260305.dump"
    fetched = fetch(tmp_path, here, "*-%Y%m%d.dump", tmp_path / "into")
    assert (tmp_path / "into" / fetched.artifact).read_bytes() == b"content"
    assert fetched.artifact.name == name


def test_links_are_not_followed(here: TestContext, tmp_path: Path):
    root = tmp_path / "root"
    secret = put(tmp_path / "secret-20260305.dump")
    put(root / "dpi-20260305.dump")
    (root / "dpi-20260306.dump").symlink_to(secret)
    (root / "out").symlink_to(tmp_path)
    assert len(points(root, here, "dpi-%Y%m%d.dump")) == 1
    assert points(root, here, "out/secret-%Y%m%d.dump") == []
    assert points(root, here, "../secret-%Y%m%d.dump") == []


def test_a_directory_that_may_not_be_read(here: TestContext, tmp_path: Path):
    root = tmp_path / "closed"
    root.mkdir(mode=0)
    try:
        with pytest.raises(AccessRefused):
            points(root, here, "*")
    finally:
        root.chmod(0o700)


def test_no_room_is_our_trouble(here: TestContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with (tmp_path / "dpi.dump").open("wb") as file:
        file.truncate(1 << 43)  # sparse: larger than the disk, and no bytes on it
    os.utime(tmp_path / "dpi.dump", (0, LONG_AGO.timestamp()))
    with pytest.raises(MissingMeans) as caught:
        fetch(tmp_path, here, "dpi.dump", tmp_path / "into")
    assert caught.value.code == "no_disk"


def verified(root: Path, here: TestContext, percent: int = 100):
    plan = VerifyPlan(data_percent=percent, jobs=(job("dpi-%Y%m%d.dump"),))
    with DIRECTORY.open("dumps", settings(root), here) as repository:
        units = {unit.unit: unit for unit in repository.verify(plan)}
        assert set(units) <= set(repository.units(plan))
        return units


def test_content_that_changes_while_size_and_time_do_not(here: TestContext, tmp_path: Path):
    path = put(tmp_path / "dpi-20260305.dump", b"original")
    twin = put(tmp_path / "dpi-20260306.dump", b"twin")
    assert {unit.verdict for unit in verified(tmp_path, here).values()} == {Verdict.PASSED}
    (point, _) = points(tmp_path, here, "dpi-%Y%m%d.dump")
    assert point.content_id == f"sha256:{sha256(b'original').hexdigest()}"
    put(path, b"0riginal")
    units = verified(tmp_path, here)
    assert units[f"file/{path.name}"].code == "content_changed"
    assert units[f"file/{twin.name}"].verdict is Verdict.PASSED


def test_the_hash_beside_a_dump_is_compared(here: TestContext, tmp_path: Path):
    good = put(tmp_path / "dpi-20260305.dump.gz", b"good")
    bad = put(tmp_path / "dpi-20260306.dump.gz", b"bad")
    for path, content in ((good, b"good"), (bad, b"what it was")):
        put(
            path.with_name(path.name + ".sha256"),
            f"{sha256(content).hexdigest()}  {path.name}\n".encode(),
        )
    units = verified(tmp_path, here)
    assert units[f"file/{good.name}"].verdict is Verdict.PASSED
    assert (units[f"file/{bad.name}"].verdict, units[f"file/{bad.name}"].code) == (
        Verdict.FAILED,
        "corrupt",
    )


def test_a_part_of_the_bytes_is_read_when_a_part_is_asked_for(here: TestContext, tmp_path: Path):
    for day in range(1, 11):
        put(tmp_path / f"dpi-202603{day:02}.dump", b"x" * 1000)
    assert len(verified(tmp_path, here, 30)) == 3


def test_a_pattern_that_cannot_be_read_back_is_the_settings_fault(
    here: TestContext, tmp_path: Path
):
    with pytest.raises(ConfigurationError) as caught:
        points(tmp_path, here, "dpi-%Q.dump")
    assert caught.value.problems[0].key == "select.pattern"


def test_a_mount_that_is_not_there_has_lost_no_backup(
    here: TestContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "dumps"
    dump = put(root / "dpi-20260305-0230.dump")
    assert len(points(root, here, "dpi-%Y%m%d-%H%M.dump")) == 1
    dump.unlink()
    # deleted, on the file system it was on
    assert points(root, here, "dpi-%Y%m%d-%H%M.dump") == []
    monkeypatch.setattr("backupguard.repositories.directory.device_of_path", lambda _: "fs:other")
    for _ in range(2):
        with pytest.raises(Unreachable) as caught:
            points(root, here, "dpi-%Y%m%d-%H%M.dump")
        assert caught.value.code == "not_found"
    put(dump)  # a new disk, in use
    assert len(points(root, here, "dpi-%Y%m%d-%H%M.dump")) == 1
    dump.unlink()
    assert points(root, here, "dpi-%Y%m%d-%H%M.dump") == []


def test_a_name_does_not_depend_on_what_else_is_there(here: TestContext, tmp_path: Path):
    twice = JobSelector(job="dpi.nightly", application="dpi", paths=("dpi-*.dump", "*.dump"))

    def names() -> list[str]:
        with DIRECTORY.open("dumps", settings(tmp_path), here) as repository:
            return sorted(point.native_id for point in repository.points([twice]))

    put(tmp_path / "dpi-a.dump")
    put(tmp_path / "dpi-a.dump.1.gz")  # of the same second
    before = names()
    assert len(before) == 2
    put(tmp_path / "dpi-b.dump", at=LONG_AGO - timedelta(days=1))
    put(tmp_path / "aa.dump", at=LONG_AGO - timedelta(days=2))
    assert set(before) < set(names())
    assert len(names()) == 4
