"""Repositories made once for all tests that only read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from backupguard.demo.s3_server import RIGHTS, S3Server, running
from backupguard.testing import TestContext, context
from tests.integration.repositories.barman_maker import Barman
from tests.integration.repositories.barman_maker import make as make_barman
from tests.integration.repositories.borg_maker import VERSIONS as BORG_VERSIONS
from tests.integration.repositories.borg_maker import Borg
from tests.integration.repositories.borg_maker import fill as fill_borg
from tests.integration.repositories.borg_maker import make as make_borg
from tests.integration.repositories.pgbackrest_maker import Archived
from tests.integration.repositories.pgbackrest_maker import make as make_pgbackrest
from tests.integration.repositories.restic_maker import VERSIONS, Restic, fill, make
from tests.integration.repositories.servers import sshd_in


@pytest.fixture(scope="session")
def restics(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Restic]:
    """Return the healthy repository that a version of restic wrote: two snapshots, one tagged."""

    @cache
    def made(version: str) -> Restic:
        restic = make(tmp_path_factory.mktemp("restic") / version, version)
        fill(restic)
        restic.backup(restic.source)
        (restic.source / "etc" / "more.sql").write_text("two")
        restic.backup(restic.source, "--tag", "nightly")
        return restic

    return made


@pytest.fixture(params=VERSIONS)
def restic(request: pytest.FixtureRequest, restics: Callable[[str], Restic]) -> Restic:
    return restics(request.param)


@pytest.fixture
def restic_018(restics: Callable[[str], Restic]) -> Restic:
    return restics("0.18")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that enforces Object Lock, with writers that may do more than others."""
    locks = ("PutObjectRetention", "GetObjectRetention", "PutObjectLegalHold", "GetObjectLegalHold")
    locker = (*RIGHTS["writer"], *locks)
    rights = {**RIGHTS, "locker": locker, "bypasser": (*locker, "BypassGovernanceRetention")}
    with running(tmp_path_factory.mktemp("s3") / "server", rights=rights) as made:
        yield made


@pytest.fixture(scope="session")
def barman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Barman]:
    """Return a cluster and what Barman keeps of it, see `barman_maker.make`."""
    made = make_barman(tmp_path_factory.mktemp("barman"))
    yield made
    made.cluster.stop()


@pytest.fixture(scope="session")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archived]:
    """A PostgreSQL cluster and its pgBackRest repository: a full, a differential, an incremental."""
    made = make_pgbackrest(tmp_path_factory.mktemp("pgbr"))
    yield made
    made.cluster.stop()


@pytest.fixture
def here(tmp_path: Path) -> TestContext:
    return context(tmp_path / "context")


@pytest.fixture(scope="session")
def borgs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Borg]:
    """Return the healthy repository that a version of borg wrote: three archives of two jobs."""

    @cache
    def made(version: str) -> Borg:
        borg = make_borg(tmp_path_factory.mktemp("borg") / version, version)
        fill_borg(borg)
        borg.create("dpi-1", borg.source)
        (borg.source / "etc" / "more.sql").write_text("two")
        borg.create("dpi-2", ".", options=("--comment", "relative"), cwd=borg.source)
        borg.create("labo-{{1}}", "-", input=b"-- PostgreSQL database dump\n")
        return borg

    return made


@pytest.fixture(params=BORG_VERSIONS)
def borg(request: pytest.FixtureRequest, borgs: Callable[[str], Borg]) -> Borg:
    return borgs(request.param)


@pytest.fixture
def borg_12(borgs: Callable[[str], Borg]) -> Borg:
    return borgs("1.2")


@pytest.fixture
def borg_14(borgs: Callable[[str], Borg]) -> Borg:
    return borgs("1.4")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """Port, private key and known hosts of an sshd that lets this user in."""
    with sshd_in(tmp_path) as found:
        yield found
