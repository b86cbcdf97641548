"""Of an over-size tree each test brings another part, and in the end everything was brought."""

from __future__ import annotations

from dataclasses import replace

from backupguard.contracts import Part
from backupguard.repositories.sharing import Chosen, Tree

KEY = bytes(32)
PART = Part(max_bytes=1000, always=("canary.txt", "index"), read_at={}, key=KEY)


def tree(part: Part, files: dict[str, int]) -> Tree:
    found = Tree(part)
    for path, size in files.items():
        found.take(path.rpartition("/")[0], is_file=False, size=0)
        found.take(path, is_file=True, size=size)
    return found


def years(root: str = "/srv/ged") -> dict[str, int]:
    files = {
        f"{root}/{y}/{m:02}/{n}.dcm": 20 for y in (2024, 2025) for m in range(12) for n in range(9)
    }
    return {**files, f"{root}/canary.txt": 5, f"{root}/index/all.csv": 30}


def brought(chosen: Chosen, files: dict[str, int]) -> dict[str, int]:
    return {
        path: size
        for path, size in files.items()
        if any(path == one or path.startswith(f"{one}/") for one in chosen.paths)
    }


def test_what_is_named_to_the_tool_is_what_is_counted() -> None:
    files = years()
    chosen = tree(PART, files).choose(["/srv/ged"])
    found = brought(chosen, files)
    assert (len(found), sum(found.values())) == (chosen.files, chosen.bytes)
    assert chosen.part.bytes == chosen.bytes <= PART.max_bytes + 35
    assert chosen.part.total_bytes == sum(files.values())
    assert {"/srv/ged/canary.txt", "/srv/ged/index/all.csv"} <= found.keys()


def test_in_the_end_everything_was_brought_and_the_oldest_comes_first() -> None:
    files = years()
    read_at: dict[str, int] = {}
    seen: dict[str, int] = {}
    for turn in range(1, 30):
        chosen = tree(replace(PART, read_at=read_at), files).choose(["/srv/ged"])
        seen |= brought(chosen, files)
        read_at = {**read_at, **dict.fromkeys(chosen.part.chosen, turn)}
        if set(read_at) == set(chosen.part.shares):
            break
    assert seen == files
    assert turn <= 6
    again = tree(replace(PART, read_at=read_at), files).choose(["/srv/ged"])
    assert {name for name, at in read_at.items() if at == 1} <= set(again.part.chosen)


def test_a_directory_of_many_files_is_one_share_whatever_its_size() -> None:
    files = {f"/srv/ged/{n}.pdf": 50 for n in range(500)}
    chosen = tree(PART, files).choose(["/srv/ged"])
    assert chosen.paths == ("/srv/ged",)
    assert chosen.bytes == 25_000


def test_a_new_directory_comes_before_those_that_were_read() -> None:
    files = years()
    chosen = tree(PART, files).choose(["/srv/ged"])
    read_at = dict.fromkeys(chosen.part.shares, 7)
    files["/srv/ged/2026/01/a.dcm"] = 20
    later = tree(replace(PART, read_at=read_at), files).choose(["/srv/ged"])
    assert "/srv/ged/2026/01/a.dcm" in brought(later, files)


def test_several_roots_and_the_whole_of_a_copy() -> None:
    files = {**years("/a"), **years("/b")}
    for roots in (["/a", "/b"], ["/"]):
        chosen = tree(PART, files).choose(roots)
        found = brought(chosen, files)
        assert (len(found), sum(found.values())) == (chosen.files, chosen.bytes)


def test_no_name_is_in_what_is_remembered() -> None:
    chosen = tree(PART, years()).choose(["/srv/ged"])
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in chosen.part.shares)
    other = tree(replace(PART, key=b"\1" * 32), years()).choose(["/srv/ged"])
    assert not set(other.part.shares) & set(chosen.part.shares)
