"""Backups of whole servers in a directory, made by the real mariadb-backup and pg_basebackup."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.contracts import FetchRequest, JobSelector
from backupguard.errors import BackupDefect, Changing
from backupguard.model import PointKind, PointState, RecoveryPoint
from backupguard.repositories.directory import DIRECTORY
from backupguard.testing import TestContext, listing
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.test_directory import job, put, settings
from tests.mariadb import start_mariadb
from tests.postgres import start_cluster

LATER = timedelta(hours=2)


@pytest.fixture(scope="session")
def physical(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a full and an incremental MariaDB backup, and two of PostgreSQL."""
    root = tmp_path_factory.mktemp("physical") / "backups"
    root.mkdir()
    maria = start_mariadb(root.parent / "maria")
    try:
        backup = (
            *("mariadb-backup", "--no-defaults", "--backup", "--user=root"),
            *(f"--socket={maria.socket}", f"--datadir={maria.directory}"),
        )
        subprocess.run([*backup, f"--target-dir={root}/my-full"], check=True, capture_output=True)
        maria.run("create database dpi; create table dpi.t (i int primary key)")
        subprocess.run(
            [*backup, f"--target-dir={root}/my-inc", f"--incremental-basedir={root}/my-full"],
            check=True,
            capture_output=True,
        )
    finally:
        maria.stop()
    cluster = start_cluster(root.parent / "pg")
    try:
        common = ("-c", "fast", "-X", "fetch", "--no-sync")
        cluster.run("pg_basebackup", "-D", str(root / "pg-plain"), *common)
        cluster.run("pg_basebackup", "-D", str(root / "pg-tar"), "-Ft", "-z", *common)
    finally:
        cluster.stop()
    yield root
    shutil.rmtree(root.parent, ignore_errors=True)


@pytest.fixture
def copy(physical: Path, tmp_path: Path) -> Path:
    shutil.copytree(physical, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def points(root: Path, here: TestContext, pattern: str = "*", **more) -> dict[str, RecoveryPoint]:
    here.clock.set(datetime.now(UTC) + LATER)
    with DIRECTORY.open("dumps", settings(root, **more), here) as repository:
        found = list(repository.points([job(pattern)]))
    return {point.native_id.partition("@")[0]: point for point in found}


class TestPhysical(RepositoryContract):
    @pytest.fixture
    def case(self, physical: Path, here: TestContext) -> RepositoryCase:
        here.clock.set(datetime.now(UTC) + LATER)
        files = sum(1 for path in (physical / "pg-tar").iterdir() if path.is_file())
        return RepositoryCase(
            kind=DIRECTORY,
            root=physical,
            settings_at=settings,
            jobs=(job("pg-tar"),),
            context=here,
            files=files,
        )


def test_each_is_one_point_with_its_own_times(physical: Path, here: TestContext):
    found = points(physical, here)
    assert set(found) == {"my-full", "my-inc", "pg-plain", "pg-tar"}
    assert {point.state for point in found.values()} == {PointState.COMPLETE}
    now = datetime.now(UTC)
    for point in found.values():
        assert point.started_at <= point.at <= point.ended_at <= now
        assert now - point.at < timedelta(minutes=15)
        assert point.files >= 2
    assert found["my-full"].extra == {"tool": "mariadb-backup"}
    assert found["pg-tar"].extra == {"tool": "pg_basebackup"}


def test_an_incremental_needs_its_base(physical: Path, copy: Path, here: TestContext):
    found = points(physical, here)
    full, incremental = found["my-full"], found["my-inc"]
    assert (full.kind, full.needs) == (PointKind.FULL, ())
    assert (incremental.kind, incremental.needs) == (PointKind.INCREMENTAL, (full.native_id,))
    shutil.rmtree(copy / "my-full")
    orphan = points(copy, here)["my-inc"]
    assert orphan.state is PointState.WARNING
    assert orphan.extra["base"] == "missing"
    assert orphan.needs[0].startswith("lsn:")


def fetched_chain(root: Path, here: TestContext, into: Path, pattern: str) -> list[list[str]]:
    point = points(root, here, pattern)["my-inc"]
    into.mkdir()
    before = listing(root)
    with DIRECTORY.open("dumps", settings(root), here) as repository:
        fetched = repository.fetch(FetchRequest(point=point, selector=job(pattern)), into)
    assert listing(root) == before
    files = [one for one in (into / fetched.artifact).rglob("*") if one.is_file()]
    assert (fetched.files, fetched.bytes) == (len(files), sum(f.stat().st_size for f in files))
    return [sorted(p.name for p in one.iterdir()) for one in sorted((into / "chain").iterdir())]


def test_an_incremental_is_fetched_with_its_base(physical: Path, here: TestContext, tmp_path: Path):
    assert fetched_chain(physical, here, tmp_path / "a", "*") == [["my-full"], ["my-inc"]]


def test_a_base_that_is_no_entry_of_the_job_is_found(copy: Path, here: TestContext, tmp_path: Path):
    (copy / "weekly" / "47").mkdir(parents=True)
    (copy / "my-full").rename(copy / "weekly" / "47" / "my-full")
    assert fetched_chain(copy, here, tmp_path / "a", "my-*") == [["my-full"], ["my-inc"]]


@pytest.mark.parametrize("change", ["gone", "ended elsewhere", "broken off"])
def test_a_base_that_is_missing_or_does_not_fit(
    copy: Path, here: TestContext, tmp_path: Path, change: str
):
    checkpoints = copy / "my-full" / "xtrabackup_checkpoints"
    if change == "gone":
        shutil.rmtree(copy / "my-full")
    elif change == "broken off":
        checkpoints.unlink()
    else:
        checkpoints.write_text("backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 99\n")
    with pytest.raises(BackupDefect) as caught:
        fetched_chain(copy, here, tmp_path / "a", "*")
    assert caught.value.code == "base_missing"
    assert not list((tmp_path / "a").iterdir()), "nothing was copied in vain"


def test_their_times_survive_a_copy_that_keeps_none(copy: Path, here: TestContext):
    before = points(copy, here)
    for path in copy.rglob("*"):
        os.utime(path, follow_symlinks=False)
    after = points(copy, here)
    assert {name: point.at for name, point in after.items()} == {
        name: point.at for name, point in before.items()
    }


def test_local_times_of_mariadb_are_of_the_sites_zone(copy: Path, here: TestContext):
    info = copy / "my-full" / "xtrabackup_info"
    text = "start_time = 2026-07-05 02:30:00\nend_time = 2026-07-05 02:45:00\n"
    info.write_text(text + "tool_command = --backup --host=srv-db1 --password=...\n")
    point = points(copy, here, timezone="Europe/Paris")["my-full"]
    assert point.at == datetime(2026, 7, 5, 0, 45, tzinfo=UTC)
    assert point.source_host == "srv-db1"


@pytest.mark.parametrize(
    ("backup", "file", "content"),
    [
        ("my-full", "xtrabackup_checkpoints", None),
        ("my-full", "xtrabackup_checkpoints", b"backup_type = \nfrom_lsn = 0\n"),
        ("my-inc", "xtrabackup_checkpoints", b"backup_type = incremental\n"),
        ("pg-plain", "backup_manifest", b'{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": ['),
        ("pg-tar", "backup_manifest", b""),
    ],
    ids=["no checkpoints", "no type", "no end", "half a manifest", "empty manifest"],
)
def test_what_was_broken_off_is_no_copy(
    copy: Path, here: TestContext, tmp_path: Path, backup: str, file: str, content: bytes | None
):
    path = copy / backup / file
    path.unlink() if content is None else path.write_bytes(content)
    found = points(copy, here)
    assert found[backup].state is PointState.FAILED
    twins = {point.state for name, point in found.items() if name[:2] != backup[:2]}
    assert twins == {PointState.COMPLETE}
    into = tmp_path / "into"
    into.mkdir()
    before = listing(copy)
    request = FetchRequest(point=found[backup], selector=job("*"))
    with (
        DIRECTORY.open("dumps", settings(copy), here) as repository,
        pytest.raises(BackupDefect) as caught,
    ):
        repository.fetch(request, into)
    assert caught.value.code == "truncated"
    assert listing(copy) == before
    # a little while after its last change it may still be going on
    here.clock.set(datetime.now(UTC) + timedelta(minutes=10))
    with DIRECTORY.open("dumps", settings(copy), here) as repository:
        states = {
            one.native_id.partition("@")[0]: one.state for one in repository.points([job("*")])
        }
    assert states[backup] is PointState.RUNNING


def test_a_base_backup_that_cannot_tell_whether_it_ended(copy: Path, here: TestContext):
    (copy / "pg-plain" / "backup_manifest").unlink()
    (copy / "pg-tar" / "backup_manifest").rename(copy / "pg-tar" / "backup_manifest.tmp")
    found = points(copy, here)
    assert found["pg-plain"].state is PointState.WARNING
    assert found["pg-tar"].state is PointState.FAILED


def test_a_whole_server_is_fetched_as_it_lies(physical: Path, here: TestContext, tmp_path: Path):
    into = tmp_path / "into"
    into.mkdir()
    point = points(physical, here)["pg-plain"]
    with DIRECTORY.open("dumps", settings(physical), here) as repository:
        fetched = repository.fetch(FetchRequest(point=point, selector=job("*")), into)
    done = subprocess.run(
        ["/usr/lib/postgresql/15/bin/pg_verifybackup", into / fetched.artifact],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# ---- dumps being written


def test_an_open_file_is_being_written_however_old_it_is(here: TestContext, tmp_path: Path):
    slow, done = put(tmp_path / "dpi-20260305.dump"), put(tmp_path / "dpi-20260304.dump")
    selector, into = job("dpi-%Y%m%d.dump"), tmp_path / "into"
    into.mkdir()
    with slow.open("ab"), done.open("rb"):
        found = points(tmp_path, here, "dpi-%Y%m%d.dump")
        assert found[slow.name].state is PointState.RUNNING
        assert found[done.name].state is PointState.COMPLETE
        request = FetchRequest(point=found[slow.name], selector=selector)
        with DIRECTORY.open("dumps", settings(tmp_path), here) as one, pytest.raises(Changing):
            one.fetch(request, into)
    assert points(tmp_path, here, "dpi-%Y%m%d.dump")[slow.name].state is PointState.COMPLETE


def test_a_file_open_below_a_directory_counts_for_it(here: TestContext, tmp_path: Path):
    for name in ("toc.dat", "3001.dat"):
        put(tmp_path / "dpi-20260305" / name)
    with (tmp_path / "dpi-20260305" / "3001.dat").open("ab"):
        (found,) = points(tmp_path, here, "dpi-%Y%m%d").values()
    assert found.state is PointState.RUNNING


def test_a_dump_directory_without_its_contents_list(here: TestContext, tmp_path: Path):
    put(tmp_path / "dpi-20260305" / "3001.dat.gz")
    put(tmp_path / "dpi-20260304" / "3001.dat.gz")
    put(tmp_path / "dpi-20260304" / "toc.dat")
    found = points(tmp_path, here, "dpi-%Y%m%d")
    assert found["dpi-20260305"].state is PointState.FAILED
    assert found["dpi-20260304"].state is PointState.COMPLETE


def test_names_of_unfinished_copies_are_no_points(here: TestContext, tmp_path: Path):
    for name in ("a.dump.part", "b.dump.TMP", "c.dump.filepart", ".d.dump.Xq3f9z", "e.partial"):
        put(tmp_path / name)
    put(tmp_path / "whole.dump")
    assert set(points(tmp_path, here)) - {"context"} == {"whole.dump"}


def test_a_servers_own_directory_is_no_backup_of_its_tool(here: TestContext, tmp_path: Path):
    for name in ("ibdata1", "ib_logfile0", "ib_buffer_pool", "mysql/user.frm"):
        put(tmp_path / "var-lib-mysql" / name)
    (found,) = points(tmp_path, here, "var-*").values()
    assert (found.state, found.extra) == (PointState.COMPLETE, None)


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        (datetime(2025, 10, 26, 0, 50, tzinfo=UTC), 0),  # 02:50 summer time
        (datetime(2025, 10, 26, 1, 50, tzinfo=UTC), 1),  # 02:50 winter time
        (datetime(2025, 11, 20, 8, 0, tzinfo=UTC), 0),  # copied there weeks later: the first
    ],
    ids=["first", "second", "unknown"],
)
def test_the_hour_that_comes_twice(here: TestContext, tmp_path: Path, written: datetime, hour: int):
    put(tmp_path / "dpi-20251026-0230.dump", at=written)
    (point,) = points(tmp_path, here, "dpi-%Y%m%d-%H%M.dump", timezone="Europe/Paris").values()
    assert point.at == datetime(2025, 10, 26, hour, 30, tzinfo=UTC)


def test_the_hour_that_never_comes(here: TestContext, tmp_path: Path):
    put(tmp_path / "dpi-20260329-0230.dump", at=datetime(2026, 3, 29, 1, 31, tzinfo=UTC))
    (point,) = points(tmp_path, here, "dpi-%Y%m%d-%H%M.dump", timezone="Europe/Paris").values()
    assert point.at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_links_among_a_backups_own_files_are_not_followed(copy: Path, here: TestContext):
    outside = put(copy.parent / "outside", b"backup_type = full-backuped\nto_lsn = 1\n")
    checkpoints = copy / "my-full" / "xtrabackup_checkpoints"
    checkpoints.unlink()
    checkpoints.symlink_to(outside)
    os.mkfifo(copy / "pg-plain" / "pipe")
    (copy / "pg-tar" / "loop").symlink_to(copy)
    found = points(copy, here)
    assert found["my-full"].state is PointState.FAILED
    assert found["pg-plain"].state is PointState.COMPLETE
    assert found["pg-tar"].files == 3 - (not (copy / "pg-tar" / "pg_wal.tar.gz").exists())


def test_names_that_are_no_utf8_in_directories(here: TestContext, tmp_path: Path):
    name = os.fsdecode(b"r\xe9sum\xe9-20260305")
    put(tmp_path / name / os.fsdecode(b"\xff.dat"))
    put(tmp_path / name / "toc.dat")
    into = tmp_path / "into"
    into.mkdir()
    (point,) = points(tmp_path, here, "*-%Y%m%d").values()
    assert point.native_id.isascii()
    selector = JobSelector(job="dpi.nightly", application="dpi", pattern="*-%Y%m%d")
    with DIRECTORY.open("dumps", settings(tmp_path), here) as repository:
        fetched = repository.fetch(FetchRequest(point=point, selector=selector), into)
    assert (fetched.files, fetched.artifact.name) == (2, name)
