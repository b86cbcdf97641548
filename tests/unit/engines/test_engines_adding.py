"""An engine is added whole or not at all, from what was signed and from nothing else."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backupguard import engines
from backupguard.engines import unpacking
from backupguard.errors import BackupGuardError
from tests.unit.engines import archives
from tests.unit.engines.archives import KEY, SOUND, archive, directory, link, listed, member

PUBLIC = KEY.public_key()


def files(root: Path) -> list[str]:
    """Return everything below a directory but the lock that an adding leaves."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.name != ".lock")


def refused(file: Path, root: Path) -> BackupGuardError:
    """Add an archive that must be refused, and see that nothing changed."""
    before = files(root)
    with pytest.raises(BackupGuardError) as caught:
        engines.add(file, PUBLIC, root)
    assert files(root) == before
    return caught.value


def test_an_engine_is_in_its_place_and_everybody_may_read_it(tmp_path: Path) -> None:
    root, before = tmp_path / "opt" / "engines", os.umask(0o077)
    try:
        added, new = engines.add(archive(tmp_path / "stick"), PUBLIC, root)
    finally:
        os.umask(before)
    assert (added.engine, added.version, new) == ("postgresql", "17", True)
    place = root / "postgresql" / "17"
    assert (place / "bin" / "postgres").read_bytes() == archives.PROGRAM
    for path, mode in (("bin/postgres", 0o755), ("usr/bin", 0o755), ("engine.json", 0o644)):
        assert stat.S_IMODE((place / path).stat().st_mode) == mode, path
    for above in (place, root, root.parent):
        assert stat.S_IMODE(above.stat().st_mode) == 0o755, above
    assert not list(root.glob(".unfinished-*"))


def test_the_same_archive_twice_changes_nothing(tmp_path: Path) -> None:
    file, root = archive(tmp_path / "stick"), tmp_path / "engines"
    engines.add(file, PUBLIC, root)
    inode = (root / "postgresql" / "17").stat().st_ino
    assert engines.add(file, PUBLIC, root, replace=True)[1] is False
    assert (root / "postgresql" / "17").stat().st_ino == inode


def test_another_archive_of_the_same_version_is_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "engines"
    engines.add(archive(tmp_path / "one"), PUBLIC, root)
    other = archive(tmp_path / "two", [directory("usr"), member("usr/new", b"new")])
    error = refused(other, root)
    assert error.message.id == "engines.exists"
    assert engines.add(other, PUBLIC, root, replace=True)[1] is True
    assert (root / "postgresql" / "17" / "usr" / "new").exists()
    assert not (root / "postgresql" / "17" / "usr" / "bin").exists()
    assert not list(root.glob(".[!l]*"))


def test_a_signature_of_somebody_else(tmp_path: Path) -> None:
    file = archive(tmp_path / "stick")
    listed(file, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
    (tmp_path / "engines").mkdir()
    error = refused(file, tmp_path / "engines")
    assert (error.code, error.message.id) == ("wrong_key", "engines.bad-signature")


@pytest.mark.parametrize(
    ("missing", "message"),
    [("SHA256SUMS", "engines.unreadable"), ("SHA256SUMS.sig", "engines.unreadable")],
)
def test_no_list_or_no_signature(tmp_path: Path, missing: str, message: str) -> None:
    file = archive(tmp_path / "stick")
    file.with_name(missing).unlink()
    assert refused(file, tmp_path / "engines").message.id == message


def test_a_list_that_was_changed_after_it_was_signed(tmp_path: Path) -> None:
    file = archive(tmp_path / "stick")
    sums = file.with_name("SHA256SUMS")
    sums.write_text(sums.read_text().replace("a", "b"))
    assert refused(file, tmp_path / "engines").message.id == "engines.bad-signature"


def test_a_file_that_the_list_does_not_name(tmp_path: Path) -> None:
    file = archive(tmp_path / "stick")
    other = file.rename(file.with_name("other.tar.xz"))
    assert refused(other, tmp_path / "engines").message.id == "engines.unlisted"


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_an_archive_that_is_cut_off(tmp_path: Path, kept: int) -> None:
    file = archive(tmp_path / "stick")
    file.write_bytes(file.read_bytes()[:kept])
    (tmp_path / "engines").mkdir()
    assert refused(file, tmp_path / "engines").message.id == "engines.damaged"


@pytest.mark.parametrize(
    "members",
    [
        [member("../escaped", b"x")],
        [member("/etc/escaped", b"x")],
        [directory("usr"), member("usr/../../escaped", b"x")],
        [link("usr", "../../../.."), member("usr/escaped", b"x")],
        [link("usr", "/etc")],
        [directory("a"), directory("a/b"), link("a/b/c", "../.."), link("d", "a/b/c/..")],
        [member("file", b"x"), member("file", b"y")],
        [member("fifo", kind=tarfile.FIFOTYPE)],
        [member("device", kind=tarfile.CHRTYPE)],
        [member("engine.json", b"{}")],
        [member("hard", kind=tarfile.LNKTYPE, link="engine.json")],
        [member("archive.sha256", b"x")],
        [member("no-directory/file", b"x")],
    ],
    ids=[
        *("up", "absolute", "up-inside", "through-a-link", "link-away", "links-that-add-up"),
        *("twice", "fifo", "device", "description-twice", "hard-link", "our-own", "no-directory"),
    ],
)
def test_what_does_not_belong_into_an_engine(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    root = tmp_path / "place" / "engines"
    root.mkdir(parents=True)
    error = refused(archive(tmp_path / "stick", members), root)
    assert error.message.id == "engines.reaches-out"
    assert files(tmp_path / "place") == ["engines"]


def test_links_inside_are_kept(tmp_path: Path) -> None:
    members = [*SOUND, link("usr/bin/postmaster", "postgres"), link("usr/up", "../bin/postgres")]
    engines.add(archive(tmp_path / "stick", members), PUBLIC, tmp_path / "engines")
    place = tmp_path / "engines" / "postgresql" / "17"
    assert (place / "usr" / "up").read_bytes() == archives.PROGRAM


def test_more_bytes_than_announced(tmp_path: Path) -> None:
    file = archive(tmp_path / "stick", bytes=10)
    (tmp_path / "engines").mkdir()
    assert refused(file, tmp_path / "engines").message.id == "engines.reaches-out"


@pytest.mark.parametrize(
    "changed",
    [
        {"engine": "../escaped"},
        {"version": "17/../../x"},
        {"version": ".."},
        {"version": 17},
        {"format": "backupguard-engine-9"},
        {"bytes": "many"},
        {"more": 1},
        {"packages": None},
    ],
    ids=lambda changed: "-".join(f"{k}-{v}" for k, v in changed.items()).replace("/", "_"),
)
def test_a_description_that_is_none(tmp_path: Path, changed: dict[str, object]) -> None:
    (tmp_path / "engines").mkdir()
    error = refused(archive(tmp_path / "stick", **changed), tmp_path / "engines")  # type: ignore[arg-type]
    assert error.message.id == "engines.no-archive"


def test_what_is_no_archive_at_all(tmp_path: Path) -> None:
    file = tmp_path / "stick"
    file.write_bytes(b"no archive")
    listed(file)
    (tmp_path / "engines").mkdir()
    assert refused(file, tmp_path / "engines").message.id == "engines.no-archive"


def test_an_archive_that_ends_early_although_it_was_signed(tmp_path: Path) -> None:
    file = archive(tmp_path / "stick", [directory("a"), member("a/b", bytes(range(256)) * 4000)])
    file.write_bytes(file.read_bytes()[:-200])
    listed(file)
    (tmp_path / "engines").mkdir()
    assert refused(file, tmp_path / "engines").message.id == "engines.no-archive"


def test_another_processor(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    error = refused(archive(tmp_path / "stick", architecture="s390x"), tmp_path / "engines")
    assert (error.code, error.message.values["found"]) == ("version_unsupported", "s390x")


def test_no_room(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    error = refused(archive(tmp_path / "stick", bytes=1 << 60), tmp_path / "engines")
    assert (error.code, error.message.id) == ("no_disk", "engines.no-room")


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpacking, "_write", full)
    (tmp_path / "engines").mkdir()
    error = refused(archive(tmp_path / "stick"), tmp_path / "engines")
    assert (error.code, error.message.id) == ("no_disk", "engines.full")


def test_two_at_once(tmp_path: Path) -> None:
    root = tmp_path / "engines"
    root.mkdir()
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refused(archive(tmp_path / "stick"), root).code == "already_running"
    engines.add(archive(tmp_path / "stick"), PUBLIC, root)


def test_only_who_may_write_there(tmp_path: Path) -> None:
    root = tmp_path / "engines"
    root.mkdir(mode=0o555)
    assert refused(archive(tmp_path / "stick"), root).message.id == "engines.not-root"


def test_what_a_killed_call_left_is_swept(tmp_path: Path) -> None:
    root = tmp_path / "engines"
    engines.add(archive(tmp_path / "stick"), PUBLIC, root)
    (root / ".unfinished-abc" / "tree").mkdir(parents=True)
    # killed between the two renames of a replacement: the old one comes back
    (root / "postgresql" / "17").rename(root / ".replaced.postgresql.17")
    assert engines.add(archive(tmp_path / "stick"), PUBLIC, root)[1] is False
    assert (root / "postgresql" / "17" / "bin" / "postgres").exists()
    assert not list(root.glob(".[!l]*"))
    # killed after them: it goes
    (root / ".replaced.postgresql.17").mkdir()
    engines.add(archive(tmp_path / "stick"), PUBLIC, root)
    assert not list(root.glob(".[!l]*"))


def test_an_engine_is_removed_and_what_was_not_added_stays(tmp_path: Path) -> None:
    root = tmp_path / "engines"
    engines.add(archive(tmp_path / "stick"), PUBLIC, root)
    (root / "postgresql" / "16").mkdir()
    for engine, version in (("postgresql", "16"), ("mariadb", "11.8"), ("..", "engines"), ("", "")):
        with pytest.raises(BackupGuardError) as caught:
            engines.remove(engine, version, root)
        assert caught.value.code == "unknown_subject"
    engines.remove("postgresql", "17", root)
    assert files(root) == ["postgresql", "postgresql/16"]
    (root / "postgresql" / "16").rmdir()
    engines.add(archive(tmp_path / "stick"), PUBLIC, root)
    engines.remove("postgresql", "17", root)
    assert files(root) == []


def test_a_key_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BackupGuardError) as caught:
        engines.public_key(tmp_path / "none")
    assert caught.value.message.id == "engines.no-key"
    (tmp_path / "bad").write_bytes(io.BytesIO(b"-----BEGIN").getvalue())
    with pytest.raises(BackupGuardError) as caught:
        engines.public_key(tmp_path / "bad")
    assert caught.value.message.id == "engines.bad-key"
