"""BackupGuard's own state: taken to a file, brought back, refused where a byte of it is another."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import sqlite3
import stat
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from backupguard.cli.main import main
from backupguard.errors import StoreError
from backupguard.model import SITE, Observation
from backupguard.state import archive
from backupguard.store import open_store

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site that has recorded, sealed and reported something; returns its configuration."""
    return made_site(tmp_path / "site", records=5)


def made_site(place: Path, *, records: int = 0) -> Path:
    place.mkdir()
    configuration = place / "backupguard.toml"
    configuration.write_text(
        '[site]\nname = "CH"\nlanguage = "en"\n[store]\ndirectory = "state"\n'
        '[daemon]\nruntime-directory = "run"\n'
    )
    if records:
        (place / "run").mkdir()
        with closing(open_store(place / "state", site="CH", now=lambda: NOW)) as store:
            for number in range(records):
                observation = Observation(
                    kind="daemon.stopped",
                    subject=SITE,
                    observed_at=NOW,
                    key=f"stopped/{number}",
                    data={"host": "srv", "reason": "stop"},
                )
                store.append([observation])
            store.seal()
        (place / "state/reports/2026-03").mkdir(parents=True)
        (place / "state/reports/2026-03/report.html").write_text("<p>signed</p>")
        (place / "state/runs/01H").mkdir(parents=True)
        (place / "state/runs/01H/restored").write_text("a patient")
    return configuration


def state(configuration: Path, *arguments: str | Path) -> int:
    return main(["--config", str(configuration), "state", *map(str, arguments)])


def records(configuration: Path) -> list[bytes]:
    with closing(open_store(configuration.parent / "state", replace_corrupt=False)) as store:
        return [record.hash for record in store.records()]


def test_what_was_exported_is_brought_back_elsewhere(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    said = capsys.readouterr().out
    assert "6 records whose chain is coherent" in said
    assert "signing key" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        assert "state/runs/01H/restored" not in archive.getnames(), "scratch stays here"
    other = made_site(tmp_path / "other")
    assert state(other, "import", file) == 0
    assert "6 records" in capsys.readouterr().out
    assert records(other) == records(site)
    there, here = other.parent / "state", site.parent / "state"
    for name in ("keys/signing.pem", "keys/signing.pub", "reports/2026-03/report.html"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
        assert stat.S_IMODE((there / name).stat().st_mode) == 0o600
    assert not list(there.glob(".import-*"))
    assert main(["--config", str(other), "evidence", "verify"]) == 2, "coherent, as before"


def test_an_export_changes_nothing_and_never_overwrites(site: Path, tmp_path: Path) -> None:
    def listing() -> dict[str, str]:
        files = (one for one in site.parent.rglob("*") if one.is_file() and "lock" not in str(one))
        return {str(one): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}

    before = listing()
    assert state(site, "export", tmp_path / "first") == 0
    assert listing() == before
    content = (tmp_path / "first").read_bytes()
    assert state(site, "export", tmp_path / "first") == 64
    assert (tmp_path / "first").read_bytes() == content


def test_an_export_that_fails_late_leaves_nothing_of_the_key(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "of-root"
    place.mkdir()
    file = place / "state.tar.gz"

    def fails(target: BinaryIO, *_rest: object) -> None:
        target.write(b"k" * 100_000 + b"still in the buffer")
        place.chmod(0)  # as after root was given up: nothing in there is reached by its name
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(archive, "write", fails)
        assert state(site, "export", file) == 2
    place.chmod(0o700)
    assert file.read_bytes() == b""
    assert state(site, "export", file) == 0, "what it left behind is no obstacle"
    assert state(made_site(tmp_path / "other"), "import", file) == 0


def _open_to_others(file: Path) -> None:
    file.touch()
    file.chmod(0o644)


def _linked(file: Path) -> None:
    file.with_suffix(".other").touch(0o600)
    file.symlink_to(file.with_suffix(".other"))


def _twice(file: Path) -> None:
    file.touch(0o600)
    file.with_suffix(".other").hardlink_to(file)


@pytest.mark.parametrize("made", [_open_to_others, _linked, _twice, os.mkfifo])
def test_an_export_goes_to_no_file_that_others_reach(
    site: Path, tmp_path: Path, made: Callable[[Path], None]
) -> None:
    file = tmp_path / "state.tar.gz"
    made(file)
    assert state(site, "export", file) == 64
    assert file.is_fifo() or file.read_bytes() == b""


def test_an_export_leaves_the_file_of_another_alone(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.tar.gz"
    with file.open("wb") as other:
        file.chmod(0o600)
        fcntl.flock(other, fcntl.LOCK_EX)
        assert state(site, "export", file) == 64
    assert "cannot be opened" in capsys.readouterr().err
    assert file.exists()


@pytest.mark.parametrize("command", ["export", "import"])
def test_refused_while_a_daemon_is_alive(
    site: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.tar.gz"
    if command == "import":
        assert state(site, "export", file) == 0
    arguments = [file] if command == "export" else [file, "--replace"]
    before = records(site)
    with closing(open_store(site.parent / "state")) as store, store.lock("daemon"):
        assert state(site, command, *arguments) == 2
    assert "systemctl stop backupguard" in capsys.readouterr().err
    with closing(open_store(site.parent / "state")):  # any command that has it open
        assert state(site, command, *arguments) == 2
    assert records(site) == before
    assert file.exists() is (command == "import"), "a refused export leaves no file"
    assert state(site, command, *arguments) == 0


def test_an_import_over_a_state_needs_replace_and_sets_the_old_one_aside(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    other = made_site(tmp_path / "other", records=2)
    old = records(other)
    with closing(open_store(other.parent / "state")) as store:
        copy = store.daily_copy()
    assert copy is not None
    assert state(other, "import", file) == 64
    assert "--replace" in capsys.readouterr().err
    assert records(other) == old
    assert state(other, "import", file, "--replace") == 0
    assert records(other) == records(site)
    [aside] = (other.parent / "state").glob("replaced-*")
    with closing(open_store(aside, replace_corrupt=False)) as store:
        assert [record.hash for record in store.records()] == old
    assert (aside / "reports/2026-03/report.html").exists()
    assert (aside / "copies" / copy.name).exists(), "the old state's last resort goes with it"
    assert not copy.exists()
    assert state(other, "export", tmp_path / "again") == 0
    with tarfile.open(tmp_path / "again") as archive:
        assert not [name for name in archive.getnames() if "replaced" in name]


def test_a_file_system_of_its_own_is_imported_into(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    other = made_site(tmp_path / "other")
    found = other.parent / "state/lost+found"
    found.mkdir(parents=True)
    found.chmod(0o500)  # root's: it cannot be moved
    assert state(other, "import", file) == 0, "nothing stands there yet"
    assert state(other, "import", file, "--replace") == 0
    assert found.is_dir()
    assert records(other) == records(site)


@pytest.mark.parametrize("fails", ["aside", "in-place"])
def test_an_import_that_fails_half_way_leaves_the_old_state_whole(
    site: Path, tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    other = made_site(tmp_path / "other", records=2)
    directory = other.parent / "state"
    old, key = records(other), (directory / "keys/signing.pem").read_bytes()
    names = {one.name for one in directory.iterdir()} - {"locks"}
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if target == directory / "store.sqlite3" and ".import-" in str(self):
            raise OSError(errno.EIO, "the disk")
        return rename(self, target)

    if fails == "aside":
        (directory / "reports").chmod(0o500)  # keys/ goes first, this does not move
    else:
        monkeypatch.setattr(Path, "rename", refused)
    assert state(other, "import", file, "--replace") == 2
    assert (directory / "keys/signing.pem").read_bytes() == key
    assert {one.name for one in directory.iterdir()} - {"locks"} == names
    assert records(other) == old
    monkeypatch.undo()
    (directory / "reports").chmod(0o700)
    assert state(other, "import", file, "--replace") == 0
    assert records(other) == records(site)


def hashes(file: Path) -> list[bytes]:
    with closing(sqlite3.connect(file)) as database:
        return [row[0] for row in database.execute("SELECT hash FROM facts ORDER BY seq")]


def killed_at_move(number: int, configuration: Path, file: Path) -> int:
    """Import with `--replace` in a process that is killed before its so-many-th move."""
    child = os.fork()
    if child == 0:
        rename, moves = Path.rename, [0]

        def counted(self: Path, target: Path) -> Path:
            moves[0] += 1
            if moves[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        code = 1
        try:
            Path.rename = counted  # type: ignore[method-assign]
            code = state(configuration, "import", file, "--replace")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_among_its_moves_an_import_leaves_nothing_that_looks_whole(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    number, killed = 1, 0
    while True:
        other = made_site(tmp_path / f"other-{number}", records=2)
        directory, old = other.parent / "state", records(other)
        key = (directory / "keys/signing.pem").read_bytes()
        code = killed_at_move(number, other, file)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        with pytest.raises(StoreError) as caught:
            open_store(directory)
        assert caught.value.message.id == "state.half-imported"
        if killed == 1:
            assert state(other, "export", tmp_path / "half") == 2
            assert "--replace" in capsys.readouterr().err
        assert state(other, "import", file, "--replace") == 0
        assert records(other) == records(site)
        assert not list(directory.glob(".import-*")), "nor a second copy of the key"
        # Whatever was moved before the kill and after it: nothing of the old state is gone.
        assert old in [hashes(path) for path in directory.glob("replaced-*/store.sqlite3")]
        assert key in [path.read_bytes() for path in directory.glob("replaced-*/keys/signing.pem")]
        number += 1
    assert killed >= 6, "three things of the old state, three of the new"


@pytest.mark.parametrize("before", [True, False], ids=["after a kill", "the first"])
def test_an_import_that_fails_takes_away_no_mark_but_its_own(
    site: Path, tmp_path: Path, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    other = made_site(tmp_path / "other", records=2)
    mark = other.parent / "state/import-unfinished"
    if before:
        mark.touch()
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if ".import-" in str(self):
            raise OSError(errno.EIO, "the disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert state(other, "import", file, "--replace") == 2
    assert mark.exists() is before
    monkeypatch.undo()
    assert state(other, "import", file, "--replace") == 0
    assert not mark.exists()


def rewritten(file: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """Return a copy of an export whose members went through `change`."""
    target = file.with_suffix(".changed")
    with tarfile.open(file) as read, tarfile.open(target, "w:gz") as written:
        for member in read:
            content = read.extractfile(member)
            assert content is not None
            made = change(member.name, content.read())
            if made is not None:
                member.name, data = made
                member.size = len(data)
                written.addfile(member, io.BytesIO(data))
    return target


def _flipped(name: str, data: bytes) -> tuple[str, bytes]:
    if name.endswith("report.html"):
        data = data.replace(b"signed", b"Signed")
    return name, data


def _without_key(name: str, data: bytes) -> tuple[str, bytes] | None:
    return None if name.endswith("signing.pub") else (name, data)


def _outside(name: str, data: bytes) -> tuple[str, bytes]:
    return name, data.replace(b'"reports/2026-03/', b'"../../2026-03/') if "mani" in name else data


def _other_head(name: str, data: bytes) -> tuple[str, bytes]:
    if name == "manifest.json":
        data = json.dumps({**json.loads(data), "head_seq": 7}).encode()
    return name, data


def _newer(name: str, data: bytes) -> tuple[str, bytes]:
    if name == "manifest.json":
        data = json.dumps({**json.loads(data), "schema": "9999"}).encode()
    return name, data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_flipped, "not as it was exported"),
        (_without_key, "not the ones that the export lists"),
        (_outside, "outside the state"),
        (_other_head, "does not end where"),
        (_newer, "an older program does not read it"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(
    site: Path,
    tmp_path: Path,
    change: Callable[[str, bytes], tuple[str, bytes] | None],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    other = made_site(tmp_path / "other")
    assert state(other, "import", rewritten(file, change)) == 2
    assert says in capsys.readouterr().err
    left = {one.name for one in (other.parent / "state").iterdir()}
    assert left <= {"locks", "store.sqlite3.users"}, "nothing was put in place"
    assert state(other, "import", rewritten(file, lambda name, data: (name, data))) == 0


@pytest.mark.parametrize("size", [0, 100, -40])
def test_a_file_that_is_cut_off_is_refused(site: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 0
    os.truncate(file, size if size >= 0 else file.stat().st_size + size)
    other = made_site(tmp_path / "other")
    assert state(other, "import", file) == 2
    assert not (other.parent / "state/keys").exists()


def test_a_broken_chain_is_not_exported(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(site.parent / "state/store.sqlite3")) as database:
        database.execute("UPDATE facts SET body = replace(body, 'stop', 'stay') WHERE seq = 3")
        database.commit()
    file = tmp_path / "state.tar.gz"
    assert state(site, "export", file) == 2
    assert "3" in capsys.readouterr().err
    assert not file.exists()


def test_nothing_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert state(made_site(tmp_path / "new"), "export", tmp_path / "file") == 2
    assert "no store" in capsys.readouterr().err
    assert not (tmp_path / "file").exists()
