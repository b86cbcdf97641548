"""PostgreSQL 13 to 18: each is recognised, its own programs are taken, a missing one is named."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from backupguard.contracts import Match, Sample, SampledFile
from backupguard.errors import BackupGuardError, MissingMeans
from backupguard.testing.engines import sample_of
from restore_tests import outcome, postgresql_server
from restore_tests.postgresql import POSTGRESQL
from restore_tests.postgresql_physical import POSTGRESQL_PHYSICAL
from tests.postgres import BINARIES
from tests.unit.restore_tests.test_recognise import archive, tar

MAJORS = tuple(range(postgresql_server.OLDEST, postgresql_server.NEWEST + 1))
#: The version of the archives that each pg_dump writes (pg_backup_archiver.h).
WRITES = {13: 14, 14: 14, 15: 14, 16: 15, 17: 16, 18: 16}


def plain(major: int, kind: str = "database") -> Sample:
    return sample_of(
        f"--\n-- PostgreSQL {kind} dump\n--\n\n-- Dumped from database version {major}.1\n"
        f"-- Dumped by pg_dump version {major}.1\n".encode()
    )


def directory(major: int) -> Sample:
    heads = {"PG_VERSION": f"{major}\n".encode(), "pg_hba.conf": b"", "global/pg_control": b"x"}
    files = tuple(
        SampledFile(path=PurePosixPath(name), size=len(head), head=head, tail=head)
        for name, head in heads.items()
    )
    return Sample(artifact=PurePosixPath("b"), is_directory=True, files=files, total_bytes=9)


def found(major: int) -> dict[str, Match | None]:
    said = {"version": WRITES.get(major, 16), "server": f"{major}.2", "tool": f"{major}.2"}
    return {
        "custom": POSTGRESQL.recognise(sample_of(archive(**said))),  # type: ignore[arg-type]
        "tar": POSTGRESQL.recognise(sample_of(tar(archive(3, **said)))),  # type: ignore[arg-type]
        "plain": POSTGRESQL.recognise(plain(major)),
        "cluster": POSTGRESQL.recognise(plain(major, "database cluster")),
        "directory": POSTGRESQL_PHYSICAL.recognise(directory(major)),
    }


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two roots: Debian's with the real 15, a site's own with 13 and 17 that only have the name."""
    roots = tmp_path / "debian", tmp_path / "own"
    (roots[0] / "15").mkdir(parents=True)
    (roots[0] / "15" / "bin").symlink_to(BINARIES)
    for major in (13, 17):
        (roots[1] / str(major) / "bin").mkdir(parents=True)
        (roots[1] / str(major) / "bin" / "postgres").touch(mode=0o755)
    monkeypatch.setattr(postgresql_server, "_ROOTS", tuple(map(str, roots)))
    return tmp_path


@pytest.mark.parametrize("major", MAJORS)
def test_every_major_is_recognised_in_every_form(major: int) -> None:
    assert {form: match and match.version for form, match in found(major).items()} == dict.fromkeys(
        ("custom", "tar", "plain", "cluster", "directory"), str(major)
    )


@pytest.mark.parametrize(("major", "root"), [(13, "own"), (15, "debian"), (17, "own")])
def test_the_programs_are_of_its_own_major(installed: Path, major: int, root: str) -> None:
    where = postgresql_server.programs_directory(str(major))
    assert where == installed / root / str(major) / "bin"
    assert (where / "postgres").exists()


def test_of_a_tar_the_newest_installed_stands_for_all_until_it_is_unpacked(installed: Path) -> None:
    assert postgresql_server.programs_directory(None) == installed / "own" / "17" / "bin"


def error_of(match: Match) -> BackupGuardError:
    with pytest.raises(MissingMeans) as caught:
        postgresql_server.programs_directory(match.version)
    return caught.value


@pytest.mark.parametrize("major", [14, 16, 18])
@pytest.mark.usefixtures("installed")
def test_what_is_not_installed_is_named_with_its_package(major: int) -> None:
    for match in found(major).values():
        assert match is not None
        error = error_of(match)
        assert (error.code, outcome.lacked(error)) == ("program_missing", f"postgresql-{major}")


@pytest.mark.parametrize("major", [12, 19])
@pytest.mark.usefixtures("installed")
def test_what_is_older_or_newer_is_no_supported_version(major: int) -> None:
    for match in found(major).values():
        assert match is not None
        error = error_of(match)
        said = (error.code, outcome.lacked(error))
        assert said == ("version_unsupported", f"postgresql ({major})")
