import fcntl
import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.contracts import FetchRequest, VerifyPlan
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    ConfigurationError,
    MissingMeans,
    Misunderstood,
    TimedOut,
    Unreachable,
)
from backupguard.model import PointKind, PointState
from backupguard.repositories.pgbackrest import PGBACKREST
from backupguard.repositories.pgbackrest_settings import PgBackRestSettings
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.pgbackrest_maker import (
    Archived,
    selector,
)
from tests.postgres import BINARIES


@pytest.fixture(scope="module")
def brought(archived: Archived) -> int:
    """How many files a fetch of the newest backup must bring: those of a plain restore, and log."""
    target = archived.directory / "plain"
    target.mkdir()
    (target / "data").mkdir(mode=0o700)
    archived.run(
        f"--pg1-path={target / 'data'}", f"--tablespace-map-all={target / 'spaces'}",
        "--type=immediate", "restore",
    )  # fmt: skip
    files = sum(1 for path in target.rglob("*") if path.is_file() and not path.is_symlink())
    newest = json.loads(archived.run("--output=json", "info"))[0]["backup"][-1]["archive"]
    return files + int(newest["stop"], 16) - int(newest["start"], 16) + 1


class TestPgBackRest(RepositoryContract):
    @pytest.fixture
    def case(self, archived: Archived, brought: int, here: TestContext) -> RepositoryCase:
        return RepositoryCase(
            kind=PGBACKREST,
            root=archived.repo,
            settings_at=archived.settings,
            jobs=(selector(),),
            context=here,
            files=brought,
        )


@pytest.fixture
def broken(archived: Archived, tmp_path: Path) -> Path:
    return archived.copy(tmp_path / "broken")


def points(archived: Archived, here: TestContext, path: Path | None = None, **more):
    with PGBACKREST.open("pg", archived.settings(path, **more), here) as repository:
        return sorted(repository.points([selector()]), key=lambda point: point.at)


def verified(archived: Archived, here: TestContext, path: Path | None = None, **more):
    plan = VerifyPlan(data_percent=100, jobs=(selector(),))
    with PGBACKREST.open("pg", archived.settings(path, **more), here) as repository:
        units = {unit.unit: unit for unit in repository.verify(plan)}
        assert set(units) == set(repository.units(plan))
    return {name: unit.code for name, unit in units.items()}


CLEAN = {f"main/{part}": None for part in ("structure", "continuity", "log", "backups")}


def fetch(archived: Archived, here: TestContext, into: Path, path=None, number=-1, at=None):
    into.mkdir()
    point = points(archived, here, path)[number]
    with PGBACKREST.open("pg", archived.settings(path), here) as repository:
        return repository.fetch(FetchRequest(point=point, selector=selector(), at=at), into)


def started(cluster: Path, socket: Path, sql: str) -> str:
    """Start a fetched cluster where it was moved to, wait for its promotion, ask, and stop it."""
    data = cluster / "data"
    options = f"-c listen_addresses='' -c unix_socket_directories='{socket}' -c archive_mode=off"
    log = cluster / "server.log"
    subprocess.run(
        [BINARIES / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    try:
        ask = [BINARIES / "psql", "-h", socket, "-U", "hospital", "-qAtX", "postgres", "-c"]
        for _ in range(100):
            done = subprocess.run([*ask, "select pg_is_in_recovery()"], capture_output=True)
            if done.stdout.strip() == b"f":
                break
            time.sleep(0.1)
        return subprocess.run([*ask, sql], capture_output=True, text=True).stdout.strip()
    finally:
        subprocess.run([BINARIES / "pg_ctl", "-D", data, "-m", "immediate", "stop"],
                       check=False, stdout=subprocess.DEVNULL)  # fmt: skip


# ---- what is seen


def test_full_differential_and_incremental(archived: Archived, here: TestContext):
    full, diff, incr = points(archived, here)
    assert [one.kind for one in (full, diff, incr)] == [
        PointKind.FULL,
        PointKind.DIFFERENTIAL,
        PointKind.INCREMENTAL,
    ]
    assert (full.needs, diff.needs) == ((), (full.native_id,))
    assert set(incr.needs) == {full.native_id, diff.native_id}
    assert {one.state for one in (full, diff, incr)} == {PointState.COMPLETE}
    assert all(one.encrypted and one.started_at <= one.ended_at for one in (full, diff, incr))
    assert full.bytes > 10_000_000 > full.bytes_added > diff.bytes_added > 0
    assert all("wal_gap" not in one.extra for one in (full, diff, incr))
    assert full.extra["postgresql"] == "15"


def test_each_point_covers_up_to_the_next_and_the_newest_to_the_newest_segment(
    archived: Archived, here: TestContext
):
    full, diff, incr = points(archived, here)
    newest = max(archived.segments().values(), key=lambda path: path.name)
    assert full.covers_until == diff.at
    assert diff.covers_until == incr.at
    assert incr.covers_until == datetime.fromtimestamp(int(newest.stat().st_mtime), UTC)


def test_the_state_names_the_tool_and_that_it_is_encrypted(archived: Archived, here: TestContext):
    with PGBACKREST.open("pg", archived.settings(), here) as repository:
        state = repository.inspect()
    assert (state.tool, state.encrypted, state.format_version) == ("pgbackrest", True, "5")
    assert state.tool_version.startswith("2.")
    assert state.locks == ()


def test_a_lock_is_told_and_left_alone(archived: Archived, here: TestContext):
    path = archived.directory / "lock" / "main-backup.lock"
    path.write_text(json.dumps({"execId": "1-a", "pid": os.getpid()}))
    try:
        with PGBACKREST.open("pg", archived.settings(), here) as repository:
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                (lock,) = repository.inspect().locks
                assert (lock.holder_pid, lock.alive, lock.exclusive) == (os.getpid(), True, True)
            (left,) = repository.inspect().locks
        assert left.alive is False
        assert path.exists()
    finally:
        path.unlink()


# ---- sabotage, each with the clean twin above


def test_a_healthy_repository_verifies(archived: Archived, here: TestContext):
    assert verified(archived, here) == CLEAN


def test_a_segment_that_was_lost_ends_what_is_covered(
    archived: Archived, here: TestContext, broken: Path
):
    segments = archived.segments(broken)
    last = max(segments)
    lost = sorted(segments)[-2]
    segments[lost].unlink()
    *_, incr = points(archived, here, broken)
    healthy = points(archived, here)[-1]
    before = segments[sorted(segments)[-3]]
    assert incr.state is PointState.COMPLETE
    assert incr.extra["wal_gap"] == {"first": lost, "last": lost, "segments": 1}
    assert incr.covers_until == max(
        incr.at, datetime.fromtimestamp(int(before.stat().st_mtime), UTC)
    )
    assert incr.covers_until < healthy.covers_until
    assert verified(archived, here, broken) == {**CLEAN, "main/continuity": "wal_gap"}
    assert last > lost


def test_a_late_segment_is_no_loss_yet(archived: Archived, here: TestContext, broken: Path):
    segments = archived.segments(broken)
    segments[sorted(segments)[-2]].unlink()
    for one in points(archived, here, broken, archive_settle="1d"):
        assert "wal_gap" not in one.extra
    codes = verified(archived, here, broken, archive_settle="1d")
    assert codes["main/continuity"] is None


def test_log_between_backups_may_be_dropped_on_purpose(
    archived: Archived, here: TestContext, broken: Path
):
    said = json.loads(archived.run("--output=json", "info"))[0]["backup"]
    stop, start = said[0]["archive"]["stop"], said[1]["archive"]["start"]
    for name, path in archived.segments(broken).items():
        if stop < name < start:
            path.unlink()
    full, *_ = points(archived, here, broken)
    assert "wal_gap" in full.extra
    full, *_ = points(archived, here, broken, archive_expires=True)
    assert "wal_gap" not in full.extra
    assert full.covers_until < points(archived, here)[0].covers_until


def test_a_backup_without_its_own_log_cannot_be_restored(
    archived: Archived, here: TestContext, broken: Path, tmp_path: Path
):
    said = json.loads(archived.run("--output=json", "info"))[0]["backup"][1]
    archived.segments(broken)[said["archive"]["stop"]].unlink()
    full, diff, incr = points(archived, here, broken)
    assert (full.state, diff.state, incr.state) == (
        PointState.COMPLETE,
        PointState.FAILED,
        PointState.COMPLETE,
    )
    assert diff.covers_until == diff.at
    with pytest.raises(BackupDefect) as caught:
        fetch(archived, here, tmp_path / "into", broken, 1)
    assert caught.value.code == "wal_gap"


def test_a_flipped_byte(archived: Archived, here: TestContext, broken: Path, tmp_path: Path):
    victim = max(
        broken.glob("backup/main/*F/pg_data/base/5/*"), key=lambda path: path.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x40
    victim.write_bytes(content)
    assert verified(archived, here, broken) == {**CLEAN, "main/backups": "corrupt"}
    with pytest.raises(BackupDefect) as caught:
        fetch(archived, here, tmp_path / "into", broken)
    assert caught.value.code == "corrupt"


def test_a_damaged_segment(archived: Archived, here: TestContext, broken: Path):
    victim = max(archived.segments(broken).values())
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x40
    victim.write_bytes(content)
    assert verified(archived, here, broken) == {**CLEAN, "main/log": "corrupt"}


def test_a_file_that_is_gone(archived: Archived, here: TestContext, broken: Path, tmp_path: Path):
    max(
        broken.glob("backup/main/*F/pg_data/base/5/*"), key=lambda path: path.stat().st_size
    ).unlink()
    assert verified(archived, here, broken)["main/backups"] == "missing_object"
    with pytest.raises(BackupDefect) as caught:
        fetch(archived, here, tmp_path / "into", broken)
    assert caught.value.code == "missing_object"


def test_a_full_backup_that_is_gone_takes_those_with_it_that_need_it(
    archived: Archived, here: TestContext, broken: Path
):
    shutil.rmtree(broken / "backup" / "main" / archived.labels()[0])
    found = points(archived, here, broken)
    assert {one.state for one in found} == {PointState.FAILED}
    assert all(one.extra["missing_object"] for one in found)
    assert verified(archived, here, broken)["main/structure"] == "missing_object"


# ---- trouble on our side


def refused(archived: Archived, here: TestContext, settings: PgBackRestSettings, job=None):
    with (
        pytest.raises(BackupGuardError) as caught,
        PGBACKREST.open("pg", settings, here) as repository,
    ):
        list(repository.points([job or selector()]))
    return caught.value


def test_a_wrong_passphrase_accuses_nobody(archived: Archived, here: TestContext, tmp_path: Path):
    wrong = tmp_path / "wrong"
    wrong.write_text("falsch-falsch")
    error = refused(archived, here, archived.settings(credentials={"reader": {"file": wrong}}))
    assert (type(error), error.code) == (AccessRefused, "wrong_key")
    error = refused(archived, here, archived.settings(credentials={}))
    assert (type(error), error.code) == (AccessRefused, "wrong_key")


def test_a_damaged_list_of_backups_is_not_the_keys_fault(
    archived: Archived, here: TestContext, broken: Path
):
    for name in ("backup.info", "backup.info.copy"):
        path = broken / "backup" / "main" / name
        path.write_bytes(path.read_bytes()[:400] + b"x" * 200)
    error = refused(archived, here, archived.settings(broken))
    assert (type(error), error.code) == (BackupDefect, "corrupt")
    for name in ("backup.info", "backup.info.copy"):
        (broken / "backup" / "main" / name).unlink()
    error = refused(archived, here, archived.settings(broken))
    assert (type(error), error.code) == (BackupDefect, "missing_object")


def test_an_unknown_stanza_and_none(archived: Archived, here: TestContext):
    error = refused(archived, here, archived.settings(), selector("nosuch"))
    assert (type(error), error.code) == (Unreachable, "not_found")
    assert isinstance(
        refused(archived, here, archived.settings(), selector(None)), ConfigurationError
    )


def test_what_may_not_be_read(archived: Archived, here: TestContext, broken: Path):
    (broken / "backup" / "main").chmod(0)
    try:
        error = refused(archived, here, archived.settings(broken))
    finally:
        (broken / "backup" / "main").chmod(0o755)
    assert (type(error), error.code) == (AccessRefused, "permission")


def script(path: Path, text: str) -> Path:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "error", "code"),
    [
        ('echo "pgBackRest 1.29"', MissingMeans, "version_unsupported"),
        ('echo "pgBackRest 3.0"', MissingMeans, "version_unsupported"),
        ("exit 1", MissingMeans, "version_unsupported"),
        (
            'case "$*" in version) echo "pgBackRest 2.45";; *) sleep 60;; esac',
            TimedOut,
            "phase_limit",
        ),
        (
            'case "$*" in version) echo "pgBackRest 2.45";; *) echo \'[{"name":"main","re\';; esac',
            Misunderstood,
            "output_unparsable",
        ),
        (
            'case "$*" in version) echo "pgBackRest 2.45";; *) echo "[]";; esac',
            Misunderstood,
            "output_unparsable",
        ),
    ],
    ids=["too old", "too new", "says nothing", "hangs", "half an answer", "no stanza"],
)
def test_programs_that_are_not_what_they_should_be(
    archived: Archived, here: TestContext, tmp_path: Path, text: str, error: type, code: str
):
    program = script(tmp_path / "pgbackrest", text)
    found = refused(archived, here, archived.settings(program=program, refresh_timeout="2s"))
    assert (type(found), found.code) == (error, code)


def test_a_program_that_is_not_there(archived: Archived, here: TestContext, tmp_path: Path):
    found = refused(archived, here, archived.settings(program=tmp_path / "nothing"))
    assert (type(found), found.code) == (MissingMeans, "program_missing")


def test_stray_lines_before_the_answer(archived: Archived, here: TestContext, tmp_path: Path):
    program = script(tmp_path / "pgbackrest", 'case "$*" in *info*) echo "P00   WARN: a word";; esac\n'
                     'exec /usr/bin/pgbackrest "$@"\n')  # fmt: skip
    assert points(archived, here, program=program) == points(archived, here)


def test_a_listing_of_the_log_that_is_cut(archived: Archived, here: TestContext, tmp_path: Path):
    program = script(
        tmp_path / "pgbackrest",
        'case "$*" in *recurse*) /usr/bin/pgbackrest "$@" | head -c 300;; '
        '*) exec /usr/bin/pgbackrest "$@";; esac\n',
    )
    found = refused(archived, here, archived.settings(program=program))
    assert (type(found), found.code) == (Misunderstood, "output_unparsable")


def test_the_sites_configuration_says_where_the_repository_is(
    archived: Archived, here: TestContext, tmp_path: Path
):
    site = tmp_path / "site.conf"
    site.write_text(archived.configuration.read_text() + "[global:restore]\ndelta=y\n")
    settings = PgBackRestSettings(
        type="pgbackrest", credentials={"backend": {"file": site}}, archive_settle="0s",
        lock_path=tmp_path,
    )  # fmt: skip
    with PGBACKREST.open("pg", settings, here) as repository:
        assert len(list(repository.points([selector()]))) == 3
    site.write_text("[global]\nrepo1-host=backup.example\nrepo1-path=/srv\n")
    assert isinstance(refused(archived, here, settings), ConfigurationError)


def test_verify_reads_all_only_once_enough_was_saved_up(archived: Archived, here: TestContext):
    def parts(percent: int, limit: int | None = None) -> set[str]:
        plan = VerifyPlan(data_percent=percent, jobs=(selector(),), max_bytes=limit)
        with PGBACKREST.open("pg", archived.settings(), here) as repository:
            return {unit.unit.partition("/")[2] for unit in repository.verify(plan)}

    everything = {"structure", "continuity", "log", "backups"}
    assert parts(0) == {"structure", "continuity"}
    assert parts(50) == everything  # never read before
    assert parts(50) == {"structure", "continuity"}
    assert parts(50) == everything
    assert parts(100, 1000) == {"structure", "continuity"}


# ---- restores


def test_a_fetched_backup_starts_elsewhere_without_the_repository(
    archived: Archived, here: TestContext, tmp_path: Path
):
    fetched = fetch(archived, here, tmp_path / "into", number=0)
    needle = archived.secret.read_bytes().strip()
    for root in (here.work, here.cache, tmp_path / "into"):
        assert not [
            path for path in root.rglob("*") if path.is_file() and needle in path.read_bytes()
        ]
    moved = tmp_path / "m"
    (tmp_path / "into" / fetched.artifact).rename(moved)
    (tmp_path / "into").rmdir()
    asked = "select (select count(*) from stays) || ' ' || (select count(*) from labs)"
    assert started(moved, archived.sockets, asked) == "0 500"


def test_a_point_in_time_is_reached(archived: Archived, here: TestContext, tmp_path: Path):
    at = datetime.fromisoformat(archived.mark.read_text())
    fetched = fetch(archived, here, tmp_path / "into", number=0, at=at)
    cluster = tmp_path / "into" / fetched.artifact
    assert started(cluster, archived.sockets, "select count(*) from stays") == "5"


def test_a_time_past_the_log_and_one_behind_a_gap(
    archived: Archived, here: TestContext, broken: Path, tmp_path: Path
):
    late = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(BackupDefect) as caught:
        fetch(archived, here, tmp_path / "one", at=late)
    assert caught.value.code == "no_point"
    segments = archived.segments(broken)
    segments[sorted(segments)[-2]].unlink()
    with pytest.raises(BackupDefect) as caught:
        fetch(archived, here, tmp_path / "two", broken, at=late)
    assert caught.value.code == "wal_gap"
