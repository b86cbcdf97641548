"""Attackers of files: without rights of their own, and, as root on real file systems, with flags."""

import getpass
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from backupguard.contracts import CanaryPlace, JobSelector
from backupguard.errors import MissingMeans
from backupguard.helper import files as helper_files
from backupguard.helper import tampering
from backupguard.helper.client import Helper
from backupguard.repositories import files_attack
from backupguard.repositories.directory import DIRECTORY
from backupguard.repositories.directory_settings import DirectorySettings
from backupguard.repositories.files_attack import FilesAttacker
from backupguard.repositories.restic import RESTIC
from backupguard.testing import TestContext, listing
from tests.integration.repositories.attacks import TOKEN, Attack, apart_from_canaries, attack
from tests.integration.repositories.restic_maker import Restic

CONTENT = {"overwrite-canary", "truncate-canary"}
NAMES = {"rename-canary", "delete-canary"}
CANARY = f"backupguard-canary-{TOKEN}"


def dumps(directory: Path, count: int = 3) -> Path:
    """A directory of dumps that are old enough to count."""
    directory.mkdir()
    for number in range(count):
        dump = directory / f"dpi-{number}.dump"
        dump.write_text(f"dump {number}")
        os.utime(dump, (time.time() - 86400 * (number + 1),) * 2)
    return directory


def settings(path: Path) -> DirectorySettings:
    return DirectorySettings(type="directory", path=path, backup_user=getpass.getuser())


def test_files_that_their_writer_may_delete_are_refuted(here: TestContext, tmp_path: Path):
    place = dumps(tmp_path / "dumps")
    before = apart_from_canaries(tmp_path)
    seen = attack(DIRECTORY, settings(place), here)
    assert seen.worked == CONTENT | NAMES | {"rename-directory"}
    assert seen.bearing.credentials == "writer"
    assert apart_from_canaries(tmp_path) == before
    assert sorted(path.name for path in place.iterdir()) == [f"dpi-{n}.dump" for n in range(3)]


def test_the_canary_lies_where_restic_keeps_its_packs(
    restic_018: Restic, here: TestContext, tmp_path: Path
):
    copy = replace(restic_018, root=tmp_path / "copy")
    shutil.copytree(restic_018.root, copy.root)
    before = apart_from_canaries(copy.root)
    seen = attack(RESTIC, copy.settings(backup_user=getpass.getuser()), here)
    assert {one.target for one in seen.attempts if one.name == "delete-canary"} == {
        f"data/00/{CANARY}"
    }
    assert "delete-canary" in seen.worked
    assert apart_from_canaries(copy.root) == before


def test_a_directory_this_account_may_not_write_to_proves_nothing(
    here: TestContext, tmp_path: Path
):
    place = dumps(tmp_path / "dumps")
    place.chmod(0o500)
    before = listing(place)
    seen = attack(DIRECTORY, settings(place), here)
    place.chmod(0o700)
    assert seen.outcomes["put-canary"] == ("refused", "EACCES")
    assert seen.untried == CONTENT | NAMES
    assert seen.bearing.credentials == "read_only"
    assert not seen.proved
    assert set(listing(place)) == set(before)


def test_without_a_backup_user_nothing_is_tried(here: TestContext, tmp_path: Path):
    nobody = DirectorySettings(type="directory", path=tmp_path)
    assert DIRECTORY.attack("nas", nobody, here) is None


def test_an_account_that_is_not_there(here: TestContext, tmp_path: Path):
    unknown = DirectorySettings(type="directory", path=tmp_path, backup_user="no-such-account")
    with pytest.raises(MissingMeans) as caught:
        DIRECTORY.attack("nas", unknown, here)
    assert caught.value.code == "user_missing"


def test_another_account_needs_the_helper(
    here: TestContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files_attack, "Helper", partial(Helper, tmp_path / "none"))
    other = DirectorySettings(type="directory", path=tmp_path, backup_user="nobody")
    with pytest.raises(MissingMeans) as caught:
        attack(DIRECTORY, other, here)
    assert caught.value.code == "helper_missing"


def test_a_canary_is_no_backup(here: TestContext, tmp_path: Path):
    place = dumps(tmp_path / "dumps")
    (place / CANARY).write_text("canary")
    selector = JobSelector(job="dpi.nightly", application="dpi", pattern="*")
    with DIRECTORY.open("nas", settings(place), here) as repository:
        names = {point.native_id for point in repository.points([selector])}
    assert len(names) == 3
    assert not any("canary" in name for name in names)


# ---- as root: real file systems, flags, another account


BACKUP = "nobody"


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes, mounts and removes file systems in image files."""
    mounted: list[Path] = []

    def made(kind: str = "ext4", size: str = "16M") -> Path:
        image, place = tmp_path / f"{kind}.img", tmp_path / kind
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
        place.mkdir()
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        mounted.append(place)
        return place

    yield made
    for place in reversed(mounted):
        subprocess.run(["chattr", "-R", "-i", "-a", place], check=False, capture_output=True)
        subprocess.run(["umount", "-l", place], check=True)


def as_backup_user(place: Path, token: str = TOKEN, remembered: tuple[str, ...] = ()) -> Attack:
    """Attack a directory as the helper does: a process of its own per attempt, as another account."""

    def perform(token, attempt, remembered):
        asked = helper_files.Attempted(token=token, attempt=attempt, remembered=tuple(remembered))
        declared = {"path": str(place), "backup-user": BACKUP}
        return helper_files.try_files(declared, asked, tampering.perform)["result"]

    attacker = FilesAttacker("nas", perform)
    results = [
        one
        for one in attacker.attempts(CanaryPlace(token=token, remembered=remembered))
        if one.outcome is not None
    ]
    return Attack(results, attacker.bearing())


def of_backup_user(place: Path) -> Path:
    account = pwd.getpwnam(BACKUP)
    for path in (place, *place.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
    return place


def chattr(flags: str, *paths: Path) -> None:
    subprocess.run(["chattr", flags, *paths], check=True)


@pytest.fixture
def kept(loop: Callable[..., Path], tmp_path: Path) -> Path:
    """Dumps of the backup user on ext4, in a directory whose parent is root's."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    return of_backup_user(dumps(loop() / "dumps"))


@pytest.mark.root
def test_immutable_files_are_proved_with_a_canary_that_is_flagged_like_them(kept: Path):
    chattr("+i", *kept.iterdir())
    before = apart_from_canaries(kept)
    first = as_backup_user(kept)
    assert first.untried == CONTENT | NAMES
    assert first.bearing.code == "canary_unflagged"
    assert not first.proved
    chattr("+i", kept / CANARY)  # what flags the backups flags the canary
    second = as_backup_user(kept, "f" * 16, (CANARY,))
    assert second.proved, second.outcomes
    assert second.refused == CONTENT | NAMES | {"rename-directory"}
    assert {second.outcomes[name][1] for name in CONTENT | NAMES} == {"EPERM"}
    assert apart_from_canaries(kept) == before


@pytest.mark.root
def test_immutable_flag_removed_is_refuted(kept: Path):
    chattr("+i", *kept.iterdir())
    as_backup_user(kept)
    chattr("+i", kept / CANARY)
    assert as_backup_user(kept, "f" * 16, (CANARY,)).proved
    chattr("-i", kept / "dpi-0.dump")
    seen = as_backup_user(kept, "e" * 16, (CANARY,))
    assert seen.worked == CONTENT | NAMES
    assert sorted(path.name for path in kept.iterdir()) == [
        CANARY, "dpi-0.dump", "dpi-1.dump", "dpi-2.dump"
    ]  # fmt: skip


@pytest.mark.root
def test_a_directory_that_only_appends_keeps_names_and_not_contents(kept: Path):
    chattr("+a", kept)
    seen = as_backup_user(kept)
    assert seen.worked == CONTENT
    assert seen.refused == NAMES | {"rename-directory"}


@pytest.mark.root
def test_files_of_somebody_else_say_nothing_of_the_canary(kept: Path):
    for path in kept.iterdir():
        os.chown(path, 0, 0)
        path.chmod(0o644)
    kept.chmod(0o1777)
    os.chown(kept, 0, 0)
    seen = as_backup_user(kept)
    assert seen.untried == CONTENT | NAMES
    assert not seen.proved
    kept.chmod(0o777)  # without the sticky bit whoever writes there may delete
    assert as_backup_user(kept).worked == NAMES


@pytest.mark.root
def test_a_read_only_file_system_is_proved_and_a_read_only_mount_of_another_is_not(
    kept: Path, tmp_path: Path
):
    seen_by = tmp_path / "seen"
    seen_by.mkdir()
    subprocess.run(["mount", "--bind", kept.parent, seen_by], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", seen_by], check=True)
        bound = as_backup_user(seen_by / "dumps")
        assert bound.bearing.code == "read_only_here"
        assert not bound.proved
    finally:
        subprocess.run(["umount", seen_by], check=True)
    subprocess.run(["mount", "-o", "remount,ro", kept.parent], check=True)
    whole = as_backup_user(kept)
    subprocess.run(["mount", "-o", "remount,rw", kept.parent], check=True)
    assert whole.proved, whole.outcomes
    assert {code for _, code in whole.outcomes.values()} == {"EROFS"}


@pytest.mark.root
def test_a_read_only_snapshot_is_proved_unless_the_backup_user_owns_it(
    loop: Callable[..., Path], kept: Path
):
    place = loop("btrfs", "120M")
    run = partial(subprocess.run, check=True, capture_output=True)
    run(["btrfs", "subvolume", "create", place / "live"])
    of_backup_user(dumps(place / "live" / "dumps"))
    run(["btrfs", "subvolume", "snapshot", "-r", place / "live", place / "snapshot"])
    assert as_backup_user(place / "live" / "dumps").worked >= CONTENT | NAMES
    kept_snapshot = as_backup_user(place / "snapshot" / "dumps")
    assert kept_snapshot.proved, kept_snapshot.outcomes
    os.chown(place / "live", pwd.getpwnam(BACKUP).pw_uid, -1)
    run(["btrfs", "subvolume", "snapshot", "-r", place / "live", place / "own"])
    own = as_backup_user(place / "own" / "dumps")
    assert own.bearing.code == "snapshot_owner"
    assert not own.proved
