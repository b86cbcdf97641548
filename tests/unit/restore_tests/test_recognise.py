from __future__ import annotations

import gzip
import lzma
import os
import struct
from pathlib import Path, PurePosixPath

import pytest

from backupguard.contracts import Match, Sample
from backupguard.errors import AccessRefused, BackupDefect, MissingMeans
from backupguard.testing.contexts import context
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests import recognise
from restore_tests.postgresql import POSTGRESQL
from restore_tests.postgresql_archive import read_head

PLAIN = (
    b"--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped from database version 15.20\n"
    b"-- Dumped by pg_dump version 16.3\n\nSET client_encoding = 'LATIN1';\n"
)


def number(value: int) -> bytes:
    return bytes([value < 0]) + struct.pack("<I", abs(value))


def text(value: str) -> bytes:
    return number(len(value)) + value.encode()


def archive(form: int = 1, version: int = 14, server: str = "15.20", tool: str = "15.20") -> bytes:
    compression = number(-1) if version < 15 else b"\x01"
    when = b"".join(map(number, (36, 16, 8, 22, 10, 126, 0)))
    return (
        b"PGDMP"
        + bytes([1, version, 0, 4, 8, form])
        + compression
        + when
        + text("dpi")
        + text(server)
        + text(tool)
        + b"\x00" * 200
    )


def tar(content: bytes) -> bytes:
    header = bytearray(512)
    header[:7] = b"toc.dat"
    header[257:262] = b"ustar"
    return bytes(header) + content


class TestPostgresql(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=POSTGRESQL,
            own={
                "custom": sample_of(archive()),
                "custom of 17": sample_of(archive(version=16, server="17.2", tool="17.2")),
                "tar": sample_of(tar(archive(3))),
                "plain": sample_of(PLAIN),
            },
            others={
                "mariadb": sample_of(b"-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB\n"),
                "sqlite": sample_of(b"SQLite format 3\x00" + bytes(100)),
                "message": sample_of(b"pg_dump: error: connection to server failed\n"),
            },
        )


@pytest.mark.parametrize(
    ("content", "form", "version"),
    [
        (archive(), "custom", "15"),
        (archive(server="13.4", tool="15.1"), "custom", "15"),
        (archive(version=16, server="17.2 (Debian 17.2-1)", tool="17.2"), "custom", "17"),
        (tar(archive(3)), "tar", "15"),
        (PLAIN, "plain", "16"),
        (b"--\n-- PostgreSQL database cluster dump\n--\n", "cluster", None),
    ],
)
def test_format_and_version_come_from_the_bytes(
    content: bytes, form: str, version: str | None
) -> None:
    match = POSTGRESQL.recognise(sample_of(content))
    assert match is not None
    assert (match.format, match.version) == (form, version)


def test_the_head_of_an_archive_says_when_it_was_made() -> None:
    head = read_head(archive())
    assert head is not None
    assert str(head.made_at) == "2026-11-22 08:16:36"
    assert read_head(archive()[:60]) is None


def test_a_plain_dump_says_its_encoding() -> None:
    match = POSTGRESQL.recognise(sample_of(PLAIN))
    assert match is not None
    assert match.extra["encoding"] == "LATIN1"


def sampled(directory: Path, name: str) -> Sample:
    return recognise.take_sample(directory, PurePosixPath(name), context(directory / "run"))


@pytest.mark.parametrize("how", ["gzip", "xz", "zstd"])
def test_compressed_dumps_are_looked_into(tmp_path: Path, how: str) -> None:
    content = PLAIN + os.urandom(300_000).hex().encode()
    packed = tmp_path / "dump"
    if how == "gzip":
        packed.write_bytes(gzip.compress(content))
    elif how == "xz":
        packed.write_bytes(lzma.compress(content))
    else:
        from backupguard.contracts import Command
        from backupguard.processes import Cancellation, Jail

        (tmp_path / "raw").write_bytes(content)
        jail = Jail(tmp_path, Cancellation())
        argv = ("zstd", "-q", str(tmp_path / "raw"), "-o", str(packed))
        assert jail.run(Command(argv=argv, write=(tmp_path,))).returncode == 0
    sample = sampled(tmp_path, "dump")
    assert sample.files[0].compression == how
    assert len(sample.files[0].head) == recognise.HEAD_BYTES
    match = recognise.recognise(sample, {"postgresql": POSTGRESQL})
    assert (match.format, match.compression) == ("plain", how)


def test_a_bomb_is_opened_a_little(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(200_000_000), 9))
    sample = sampled(tmp_path, "bomb")
    assert len(sample.files[0].head) == recognise.HEAD_BYTES


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(PLAIN)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BackupDefect, match="not_a_dump"):
        sampled(tmp_path, "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BackupDefect, match="not_a_dump"):
        sampled(tmp_path, "pipe")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    assert sampled(tmp_path, "folder").files == ()
    with pytest.raises(BackupDefect, match="selection_absent"):
        sampled(tmp_path, "nothing")


def test_a_large_directory_is_sampled_within_bounds(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number_ in range(500):
        (folder / f"{number_}.dat").write_bytes(b"x" * 10)
    sample = sampled(tmp_path, "many")
    assert (len(sample.files), sample.total_bytes) == (recognise.MAX_FILES, 5000)


@pytest.mark.parametrize(
    "content",
    [b"", gzip.compress(b"", mtime=0), lzma.compress(b"")],
    ids=["plain", "gzip", "xz"],
)
def test_nothing_at_all_is_an_empty_backup(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dump").write_bytes(content)
    with pytest.raises(BackupDefect, match="empty"):
        recognise.recognise(sampled(tmp_path, "dump"), {"postgresql": POSTGRESQL})


@pytest.mark.parametrize("opener", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
@pytest.mark.parametrize("at", [0.01, 0.5], ids=["early", "late"])
def test_a_damaged_stream_is_no_empty_one(tmp_path: Path, opener, at: float) -> None:
    packed = bytearray(opener(PLAIN + os.urandom(30_000).hex().encode()))
    place = int(len(packed) * at)
    packed[place : place + 200] = bytes(200)
    (tmp_path / "dump").write_bytes(packed)
    sample = sampled(tmp_path, "dump")
    if at == 0.5:  # what came before the damage is still looked at
        assert recognise.recognise(sample, {"postgresql": POSTGRESQL}).format == "plain"
        return
    with pytest.raises((MissingMeans, BackupDefect)) as raised:
        recognise.recognise(sample, {"postgresql": POSTGRESQL})
    assert raised.value.code == "unrecognised_artifact"


class Sure:
    def __init__(self, name: str, certainty: int) -> None:
        self.name, self.certainty = name, certainty

    def recognise(self, sample: Sample) -> Match | None:
        return Match(engine=self.name, certainty=self.certainty, format="f", version=None)


def test_the_surest_engine_wins_and_a_tie_is_nobody_s() -> None:
    sample = sample_of(b"something")
    engines = {"a": Sure("a", 60), "b": Sure("b", 90)}
    assert recognise.recognise(sample, engines).engine == "b"  # type: ignore[arg-type]
    engines["c"] = Sure("c", 90)
    with pytest.raises(MissingMeans, match="ambiguous_artifact"):
        recognise.recognise(sample, engines)  # type: ignore[arg-type]
    with pytest.raises(MissingMeans, match="unrecognised_artifact"):
        recognise.recognise(sample, {})


@pytest.mark.parametrize(
    "head",
    [
        b"BZh91AY&SY",
        b"\x04\x22\x4d\x18\x64",
        b"PK\x03\x04\x14",
        b"-----BEGIN PGP MESSAGE-----",
        b"\x85\x02\x0c\x03\xde\xad",
        b"\x8c\x0d\x04\x09",
        b"Salted__12345678",
        b"age-encryption.org/v1\n",
    ],
)
def test_what_is_wrapped_in_something_unknown_accuses_nobody(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "dump").write_bytes(head + os.urandom(600))
    sample = recognise.take_sample(tmp_path, PurePosixPath("dump"), context(tmp_path / "c"))
    assert recognise.wrapped(sample)


@pytest.mark.parametrize("head", [b"pg_dump: error: connection refused", PLAIN, b"\x00" * 400])
def test_what_is_no_dump_is_not_taken_for_a_wrapping(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "dump").write_bytes(head)
    sample = recognise.take_sample(tmp_path, PurePosixPath("dump"), context(tmp_path / "c"))
    assert not recognise.wrapped(sample)


def test_a_fetched_file_that_may_not_be_read_accuses_nobody(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(PLAIN)
    (tmp_path / "dump").chmod(0)
    with pytest.raises(AccessRefused):
        recognise.take_sample(tmp_path, PurePosixPath("dump"), context(tmp_path / "c"))


def test_a_window_beyond_our_memory_accuses_nobody(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    (tmp_path / "dump").write_bytes(lzma.compress(PLAIN * 9, filters=filters))
    with pytest.raises(MissingMeans, match="no_memory"):
        recognise.take_sample(tmp_path, PurePosixPath("dump"), context(tmp_path / "c"))
