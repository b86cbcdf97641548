"""What BackupGuard breaks on purpose goes red; untouched it passes; the backup keeps every byte."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Fetched, FetchRequest
from backupguard.daemon.self_test import noticed
from backupguard.errors import MissingMeans
from backupguard.model import Verdict
from restore_tests.breaking import Breaking, Harm, break_artifact, harms_of
from restore_tests.settings import SqliteSettings
from restore_tests.sqlite import SQLITE
from tests.integration.restore_tests.harness import FilesRepository, Trials, point
from tests.integration.restore_tests.harness import OneRepository as One
from tests.integration.restore_tests.test_sqlite import make


class Linked(FilesRepository):
    """A repository whose fetched files share their blocks with the backup."""

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        fetched = super().fetch(request, into)
        (into / fetched.artifact).unlink()
        os.link(self.files[request.point.native_id], into / fetched.artifact)
        return fetched


@pytest.mark.parametrize("turn", [0, 1])
def test_a_broken_copy_goes_red_and_its_backup_keeps_every_byte(tmp_path: Path, turn: int) -> None:
    clinic = make(tmp_path / "clinic.db")
    packed = tmp_path / "clinic.db.gz"
    packed.write_bytes(gzip.compress(clinic.read_bytes()))
    before = packed.read_bytes(), packed.stat().st_mtime_ns
    trials = Trials(tmp_path, engines={"sqlite": SQLITE})
    settings = SqliteSettings(engine="sqlite")
    repository = Linked({"p1": packed}, [point()])
    clean = trials.perform(repository, settings=settings)
    assert clean.verdict is Verdict.PASSED, clean
    assert noticed(clean, None) is None
    breaking = Breaking(One(repository), "sqlite", turn)  # type: ignore[arg-type]
    with breaking.open("nas") as broken:
        red = trials.perform(broken, settings=settings)
    assert breaking.done == [[Harm.TRUNCATED, Harm.FLIPPED][turn]]
    assert red.verdict is Verdict.FAILED, red
    assert noticed(red, breaking.done[-1]) is True
    assert noticed(clean, breaking.done[-1]) is False
    assert (packed.read_bytes(), packed.stat().st_mtime_ns) == before


def test_a_plain_file_cut_in_half_goes_red(tmp_path: Path) -> None:
    clinic = make(tmp_path / "clinic.db")
    trials = Trials(tmp_path, engines={"sqlite": SQLITE})
    breaking = Breaking(One(FilesRepository({"p1": clinic}, [point()])), "sqlite")  # type: ignore[arg-type]
    with breaking.open("nas") as broken:
        red = trials.perform(broken, settings=SqliteSettings(engine="sqlite"))
    assert (red.verdict, breaking.done) == (Verdict.FAILED, [Harm.TRUNCATED])


DUMP = b"-- PostgreSQL database dump\n" + b"x" * 5000 + b"\n-- PostgreSQL database dump complete\n"


@pytest.mark.parametrize(
    ("engine", "content", "harms"),
    [
        ("postgresql", DUMP, (Harm.TRUNCATED, Harm.TRAILER)),
        ("postgresql", b"PGDMP....", (Harm.TRUNCATED,)),
        ("mariadb", b"/*M!999999\\- enable the sandbox mode */", (Harm.TRUNCATED, Harm.TRAILER)),
        ("mariadb", gzip.compress(DUMP), (Harm.TRUNCATED, Harm.FLIPPED)),
        ("openldap", b"dn: dc=hopital", (Harm.TRUNCATED,)),
        ("files", b"x", (Harm.OVERWRITTEN,)),
    ],
    ids=["dump", "archive", "mariadb", "compressed", "ldif", "tree"],
)
def test_only_what_nobody_could_overlook_is_done(
    tmp_path: Path, engine: str, content: bytes, harms: tuple[Harm, ...]
) -> None:
    artifact = tmp_path / "artifact"
    artifact.write_bytes(content)
    assert harms_of(engine, artifact) == harms


def test_each_harm_does_what_its_name_says(tmp_path: Path) -> None:
    def broken(harm: Harm, content: Any = DUMP) -> bytes:
        artifact = tmp_path / harm.value
        artifact.write_bytes(content)
        break_artifact(artifact, harm)
        assert sorted(one.name for one in tmp_path.iterdir()) == [harm.value]
        found = artifact.read_bytes()
        artifact.unlink()
        return found

    assert broken(Harm.TRUNCATED) == DUMP[: len(DUMP) // 2]
    assert b"complete" not in broken(Harm.TRAILER)
    flipped = broken(Harm.FLIPPED)
    assert [n for n, byte in enumerate(flipped) if byte != DUMP[n]] == [len(DUMP) // 2]
    noise = broken(Harm.OVERWRITTEN, b"a" * 10_000)
    assert len(noise) == 10_000
    assert noise[4096:] == b"a" * (10_000 - 4096)
    assert len(set(noise[:4096])) > 200


def test_of_a_tree_the_largest_file_is_broken_and_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"o" * 9000)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "small").write_bytes(b"s" * 10)
    (tree / "sub" / "large").write_bytes(b"l" * 1000)
    (tree / "link").symlink_to(outside)
    break_artifact(tree, Harm.TRUNCATED)
    sizes = (tree / "small").stat().st_size, (tree / "sub" / "large").stat().st_size
    assert sizes == (10, 500)
    assert outside.stat().st_size == 9000
    shutil.rmtree(tree)
    (tree / "empty").mkdir(parents=True)
    with pytest.raises(MissingMeans) as caught:
        break_artifact(tree, Harm.TRUNCATED)
    assert caught.value.code == "nothing_to_break"
