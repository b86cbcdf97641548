from __future__ import annotations

import bz2
import io
import tarfile
from pathlib import PurePosixPath

import pytest

from backupguard.contracts import Sample, SampledFile
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.samba_ad import SAMBA_AD

_LOG = b"Backup created 2026-Nov-22 18:06:37\nUsing samba-tool version: Samba 4.17.12-Debian\n"


def archive(*members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


BACKUP = archive(
    ("backup.txt", _LOG), ("private/share.ldb", b"TDB file\n"), ("private/sam.ldb", b"TDB file\n")
)


def tree(*paths: str) -> Sample:
    head = b"TDB file\n" + bytes(100)
    files = tuple(
        SampledFile(path=PurePosixPath(path), size=len(head), head=head, tail=head)
        for path in paths
    )
    return Sample(
        artifact=PurePosixPath("x"), is_directory=True, files=files, total_bytes=len(head)
    )


class TestSambaAd(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=SAMBA_AD,
            own={
                "tar": sample_of(BACKUP),
                "bzip2": sample_of(bz2.compress(BACKUP)),
                "its first members only": sample_of(archive(("backup.txt", _LOG))),
                "sysvol first": sample_of(archive(("sysvol.tar.gz", b"x" * 900))[:1024]),
                "a tree": tree("private/sam.ldb", "private/secrets.ldb"),
                "below a directory": tree("var/lib/samba/private/sam.ldb"),
            },
            others={
                "another tar": sample_of(archive(("backup.txt", b"notes"), ("x/sam.ldb", b""))),
                "another bzip2": sample_of(bz2.compress(b"-- PostgreSQL database dump")),
                "a store elsewhere": tree("wins.ldb"),
            },
        )


def test_a_block_longer_than_the_sample_is_told_by_its_name() -> None:
    cut = bz2.compress(bytes(range(256)) * 8000)[:100]
    assert SAMBA_AD.recognise(sample_of(cut)) is None
    match = SAMBA_AD.recognise(sample_of(cut, "samba-backup-2026-11-22.tar.bz2"))
    assert match is not None
    assert (match.certainty < 50, match.extra["by_name"]) == (True, True)


def test_two_domains_in_one_tree_are_ambiguous() -> None:
    assert SAMBA_AD.recognise(tree("a/private/sam.ldb")) is not None
    with pytest.raises(Exception, match="ambiguous_artifact"):
        SAMBA_AD.recognise(tree("a/private/sam.ldb", "b/private/sam.ldb"))
