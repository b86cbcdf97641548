"""The sandbox's parts that need no program: delegated groups, encrypted devices, paths, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backupguard import sandbox
from backupguard.contracts import Completed
from backupguard.errors import MissingMeans, Misunderstood
from backupguard.sandbox import SandboxLimits, cgroups
from backupguard.sandbox.memory import available
from backupguard.sandbox.paths import move, parent_of

V1 = "8:pids:/svc\n4:memory:/svc\n1:cpu:/\n0::/\n"


def test_version_1_groups_are_used_where_we_may_write(tmp_path):
    for name in ("pids/svc", "memory/svc", "cpu"):
        (tmp_path / name).mkdir(parents=True)
    assert cgroups.places(V1, tmp_path) == [
        cgroups.Place(directory=tmp_path / "pids/svc", processes="pids.max"),
        cgroups.Place(directory=tmp_path / "memory/svc", memory="memory.limit_in_bytes"),
    ]
    (tmp_path / "memory/svc").chmod(0o500)
    if os.geteuid() != 0:
        assert [place.memory for place in cgroups.places(V1, tmp_path)] == [None]


def test_version_2_needs_controllers_passed_on(tmp_path):
    own = tmp_path / "system.slice/backupguard.service/run"
    own.mkdir(parents=True)
    text = "0::/system.slice/backupguard.service/run\n"
    for directory, passed_on in ((own, ""), (own.parent, "memory pids\n")):
        (directory / "cgroup.subtree_control").write_text(passed_on)
        (directory / "cgroup.procs").write_text("")
    where = cgroups.places(text, tmp_path)
    assert where == [cgroups.Place(directory=own.parent, memory="memory.max", processes="pids.max")]
    (own.parent / "cgroup.subtree_control").write_text("cpu\n")
    assert cgroups.places(text, tmp_path) == []


def test_a_group_is_limited_entered_and_counts_kills(tmp_path):
    limits = SandboxLimits(memory_bytes=5000, processes=7)
    where = [cgroups.Place(directory=tmp_path, memory="memory.max", processes="pids.max")]
    group = cgroups.Group.make(limits, where)
    (made,) = group.directories
    assert (made / "memory.max").read_text() == "5000"
    assert (made / "memory.swap.max").read_text() == "0"
    assert (made / "pids.max").read_text() == "28"
    group.enter(42)
    assert (made / "cgroup.procs").read_text() == "42"
    assert group.killed() == 0
    (made / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.killed() == 2
    for file in made.iterdir():
        file.unlink()
    group.remove()
    assert not made.exists()


def test_without_delegation_there_is_no_group():
    group = cgroups.Group.make(SandboxLimits(), [])
    group.enter(1)
    assert group.killed() == 0
    group.remove()


@pytest.mark.parametrize("parts", [[], [""], [".."], ["a", "..", "b"], ["a/b"], ["."]])
def test_paths_that_climb_are_refused(tmp_path, parts):
    with pytest.raises(ValueError, match="path"), parent_of(tmp_path, parts):
        pass


def test_the_host_says_how_much_memory_it_has():
    assert 0 < available() < 1 << 50


@pytest.mark.parametrize("status", [1, 127, 159])
def test_a_sandbox_in_which_nothing_runs_is_unavailable(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Completed(returncode=status, stdout=b"", stderr=b"")
    monkeypatch.setattr(sandbox.Box, "run", lambda *_arguments, **_more: ended)
    with pytest.raises(MissingMeans, match="sandbox_unavailable"):
        sandbox.check()


def test_what_is_moved_is_reached_without_a_link(tmp_path: Path) -> None:
    artifact, scratch = tmp_path / "in", tmp_path / "scratch"
    (artifact / "copy" / "data").mkdir(parents=True)
    (artifact / "link").symlink_to(tmp_path)
    scratch.mkdir()
    assert move(artifact, ["copy", "data"], scratch, ["data"])
    assert (scratch / "data").is_dir()
    assert not (artifact / "copy" / "data").exists()
    assert not move(artifact, [], scratch, ["all"])  # it is shown in every sandbox
    with pytest.raises(Misunderstood):
        move(artifact, ["link", "scratch"], scratch, ["outside"])
    with pytest.raises(ValueError, match="no path below"):
        move(artifact, ["..", "scratch"], scratch, ["outside"])
