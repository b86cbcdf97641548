"""What a restore leaves is thrown away whatever it is; what a killed run leaves is swept."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from backupguard.contracts import Tools
from backupguard.errors import AccessRefused
from backupguard.sandbox import discard, disposal, scratch_protection, sweep
from tests.integration.looking import eventually, running


def nest(directory: Path, depth: int) -> None:
    """Make `depth` directories, each in the one before; only relative names can reach them."""
    descriptor = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_three_thousand_nested_directories_are_removed(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    nest(tree, 3000)
    discard(tree)
    assert not tree.exists()


def test_directories_without_permissions_are_removed(tmp_path):
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/c/file").write_text("x")
    nest(tree / "a", 600)
    for path in ("a/b/c", "a/b", "a/d/d/d", "a", ""):
        (tree / path).chmod(0)
    discard(tree)
    assert not tree.exists()


def test_links_are_removed_and_what_they_name_is_not(tmp_path):
    host = tmp_path / "host"
    host.mkdir()
    (host / "kept").write_text("x")
    host.chmod(0o500)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").symlink_to(host / "kept")
    (tree / "directory").symlink_to(host)
    discard(tree)
    assert not tree.exists()
    link = tmp_path / "link"
    link.symlink_to(host)
    discard(link)
    assert not link.is_symlink()
    assert (host / "kept").read_text() == "x"
    assert host.stat().st_mode & 0o777 == 0o500


def test_strange_names_and_absent_directories_are_no_trouble(tmp_path):
    tree = tmp_path / "-rf *\n"
    tree.mkdir()
    (tree / "--no-preserve-root").touch()
    (tree / os.fsdecode(b"\xff\xfe")).touch()
    os.mkfifo(tree / "pipe")
    discard(tree)
    discard(tree)
    assert not tree.exists()


def test_what_cannot_be_removed_is_said(tmp_path):
    parent = tmp_path / "parent"
    (parent / "tree").mkdir(parents=True)
    parent.chmod(0o500)
    try:
        with pytest.raises(AccessRefused):
            discard(parent / "tree")
    finally:
        parent.chmod(0o700)


def run_directory(runs: Path, name: str, *, lock: bool = True) -> Path:
    directory = runs / name
    (directory / "sandbox/scratch").mkdir(parents=True)
    (directory / "sandbox/scratch/patients").write_text("x")
    if lock:
        (directory / "lock").touch()
    return directory


def test_the_sweep_removes_dead_runs_and_no_living_one(tmp_path):
    for name in ("01DEAD", "01HELD", "01ALIVE"):
        run_directory(tmp_path, name)
    run_directory(tmp_path, "01NOLOCK", lock=False)
    (tmp_path / "a-file").touch()
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tmp_path / "01LINK").symlink_to(outside)
    with (tmp_path / "01HELD/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        removed = sweep(tmp_path, lambda run: run == "01ALIVE")
    assert set(removed) == {"01DEAD", "01NOLOCK"}
    assert {path.name for path in tmp_path.iterdir()} == {"01HELD", "01ALIVE", "01LINK", "a-file"}
    assert (outside / "kept").exists()
    assert sweep(tmp_path / "absent", lambda run: False) == ()


def test_a_lock_that_is_a_link_is_not_opened(tmp_path):
    run_directory(tmp_path, "01DEAD", lock=False)
    (tmp_path / "01DEAD/lock").symlink_to("/dev/zero")
    assert sweep(tmp_path, lambda run: False) == ("01DEAD",)


def test_a_directory_that_resists_does_not_stop_the_sweep(tmp_path, monkeypatch):
    for name in ("01A", "01B"):
        run_directory(tmp_path, name)

    def resist(directory: Path, tools: Tools | None) -> None:
        if directory.name == "01A":
            raise AccessRefused("permission")
        discard(directory, tools)

    monkeypatch.setattr(disposal, "discard", resist)
    assert sweep(tmp_path, lambda run: False) == ("01B",)


KILLED = textwrap.dedent("""
    import fcntl, sys
    from pathlib import Path
    from backupguard.processes import Cancellation
    from backupguard.sandbox import SandboxLimits, open_sandbox
    run, marker = Path(sys.argv[1]), sys.argv[2]
    lock = (run / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (run / "in").mkdir()
    with open_sandbox(run / "box", run / "in", limits=SandboxLimits(), cancel=Cancellation()) as box:
        script = 'echo patients > /scratch/x; sleep "$1"'
        box.run(("sh", "-c", script, "sh", marker), scratch=True, timeout_s=100)
""")


def test_a_run_killed_in_its_sandbox_leaves_nothing_after_the_sweep(tmp_path):
    marker = f"3690{os.getpid()}"
    run = tmp_path / "01KILLED"
    run.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(run), marker])
    try:
        assert eventually(lambda: running(f"sleep\0{marker}"))
        assert sweep(tmp_path, lambda run: False) == ()  # its lock is held
    finally:
        parent.kill()
        parent.wait()
    assert sweep(tmp_path, lambda run: False) == ("01KILLED",)
    assert not run.exists()
    assert eventually(lambda: not running(f"sleep\0{marker}"), 5)


@pytest.mark.parametrize("bound", ["sandbox/scratch", ""])
def test_a_process_that_outlived_its_run_is_killed_by_the_sweep(tmp_path, bound):
    marker = f"2580{os.getpid()}"
    run = run_directory(tmp_path, "01ORPHAN")
    # what the promise of dying with the parent did not reach: no --die-with-parent
    bind = ("bwrap", "--bind", "/", "/", "--bind", str(run / bound), "/mnt")
    orphan = subprocess.Popen([*bind, "sleep", marker])
    bystander = subprocess.Popen(["sleep", f"1{marker}"])
    try:
        assert eventually(lambda: running(f"sleep\0{marker}"))
        assert sweep(tmp_path, lambda run: False) == ("01ORPHAN",)
        orphan.wait(10)
        assert bystander.poll() is None
    finally:
        orphan.kill()
        bystander.kill()
        orphan.wait()
        bystander.wait()
    assert not running(f"sleep\0{marker}")


def test_the_protection_of_scratch_is_told(tmp_path):
    assert scratch_protection(Path("/dev/shm")) in (
        "clear",
        "tmpfs",
    )  # by where it may be swapped to
    assert scratch_protection(tmp_path) in ("clear", "encrypted", "tmpfs")
    with pytest.raises(FileNotFoundError):
        scratch_protection(tmp_path / "absent")
