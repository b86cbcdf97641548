from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from backupguard.contracts import Sample, SampledFile
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.sqlite import MAGIC, SQLITE

SCRIPT = b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t (a);\nCOMMIT;\n"


def directory(**files: bytes) -> Sample:
    sampled = tuple(
        SampledFile(path=PurePosixPath(name.replace("_", ".")), size=len(head), head=head, tail=b"")
        for name, head in files.items()
    )
    return Sample(artifact=PurePosixPath("app"), is_directory=True, files=sampled, total_bytes=9)


class TestSqlite(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=SQLITE,
            own={
                "file": sample_of(MAGIC + bytes(200)),
                "script": sample_of(SCRIPT),
                "several": directory(a_db=MAGIC, b_db=MAGIC),
            },
            others={
                "postgresql": sample_of(b"--\n-- PostgreSQL database dump\n--\n"),
                "text": sample_of(b"SQLite format 2"),
                "a tree with one in it": directory(
                    a_db=MAGIC, letter_txt=b"Bonjour", x_pdf=b"%PDF"
                ),
            },
        )


def test_a_log_belongs_to_its_file() -> None:
    files = {"clinic.db": MAGIC, "clinic.db-wal": b"7\x7f\x06\x82", "clinic.db-shm": bytes(9)}
    sampled = tuple(
        SampledFile(path=PurePosixPath(name), size=len(head), head=head, tail=b"")
        for name, head in files.items()
    )
    sample = Sample(artifact=PurePosixPath(), is_directory=True, files=sampled, total_bytes=9)
    match = SQLITE.recognise(sample)
    assert match is not None
    assert match.certainty == 100
    assert match.extra["logs"] == {"clinic.db": {"-wal": "clinic.db-wal"}}
