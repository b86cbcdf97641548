from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from backupguard.contracts import Sample, SampledFile
from backupguard.errors import BackupDefect, MissingMeans
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.postgresql_physical import POSTGRESQL_PHYSICAL
from restore_tests.postgresql_physical_place import Placed
from restore_tests.postgresql_physical_recovery import Control, needed_log, number_of

MIB = 1 << 20
TAR = b"backup_label".ljust(257, b"\0") + b"ustar\x0000" + bytes(200)
CONTROL = Control(
    state="in production", timeline=1, segment_bytes=16 * MIB, prepared=0, checksums=True
)


def tree(**files: bytes) -> Sample:
    found = tuple(
        SampledFile(path=PurePosixPath(name), size=len(head), head=head, tail=head)
        for name, head in files.items()
    )
    return Sample(artifact=PurePosixPath("b"), is_directory=True, files=found, total_bytes=9)


def data(top: str, version: bytes = b"15\n") -> dict[str, bytes]:
    return {
        f"{top}PG_VERSION": version,
        f"{top}base/1/PG_VERSION": version,
        f"{top}pg_hba.conf": b"",
    }


class TestPostgresqlPhysical(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        packed = SampledFile(
            path=PurePosixPath("base.tar.gz"), size=9, head=TAR, tail=b"", compression="gzip"
        )
        return EngineCase(
            engine=POSTGRESQL_PHYSICAL,
            own={
                "directory": tree(**data("")),
                "below": tree(**data("cluster/data/")),
                "tar": tree(**{"base.tar": TAR, "backup_manifest": b"{"}),
                "packed": Sample(
                    artifact=PurePosixPath("b"), is_directory=True, files=(packed,), total_bytes=9
                ),
                "lz4": tree(**{"base.tar.lz4": b"\x04\x22\x4d\x18" + bytes(50)}),
            },
            others={
                "dump": sample_of(b"--\n-- PostgreSQL database dump\n--\n"),
                "one file": sample_of(b"15\n", "PG_VERSION"),
                "a database alone": tree(**{"base/1/PG_VERSION": b"15\n", "base/1/1259": b"x"}),
                "an old version": tree(**data("", b"9.6\n")),
                "another tar": tree(**{"base.tar": b"x" * 300}),
            },
        )


def test_two_servers_are_not_guessed_between() -> None:
    with pytest.raises(MissingMeans) as caught:
        POSTGRESQL_PHYSICAL.recognise(tree(**data("a/"), **data("b/")))
    assert caught.value.code == "ambiguous_artifact"


def test_the_version_is_the_directorys() -> None:
    match = POSTGRESQL_PHYSICAL.recognise(tree(**data("x/", b"17\n")))
    assert match is not None
    assert (match.version, match.format, match.extra["path"]) == ("17", "directory", "x")


# ---- the log, by its names


def segments(timeline: int, first: int, last: int) -> set[str]:
    return {f"{timeline:08X}{n // 256:08X}{n % 256:08X}" for n in range(first, last + 1)}


def needed(log: set[str], start: str) -> tuple[int, int]:
    label = f"START WAL LOCATION: 0/FE000028 (file {start})\n".encode()
    placed = Placed(version="15", label=label, manifest=False, archive=True, log=frozenset(log))
    numbers, timeline = needed_log(placed, CONTROL)
    return len(numbers), timeline


START = "0000000100000000000000FE"


def test_log_is_counted_across_its_ends() -> None:
    assert needed(segments(1, 254, 258), START) == (5, 1)
    assert number_of("000000010000000100000000", 16 * MIB) == 256
    assert number_of("000000010000000100000000", 64 * MIB) == 64
    history = {"00000002.history"}
    assert needed(segments(1, 250, 256) | segments(2, 256, 258) | history, START) == (5, 2)


@pytest.mark.parametrize(
    ("log", "code"),
    [
        (set(), "wal_gap"),
        (segments(1, 255, 258), "wal_gap"),
        (segments(1, 254, 255) | segments(1, 257, 258), "wal_gap"),
        (segments(2, 254, 258), "wrong_timeline"),
        (segments(1, 254, 256) | segments(2, 256, 258), "wrong_timeline"),
    ],
    ids=["none", "no beginning", "a hole", "another's", "no history"],
)
def test_what_the_log_lacks(log: set[str], code: str) -> None:
    with pytest.raises(BackupDefect) as caught:
        needed(log, START)
    assert caught.value.code == code
