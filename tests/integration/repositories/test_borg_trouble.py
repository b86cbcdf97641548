"""Everything that can stand between us and a healthy borg repository: never `failed`, never empty."""

import getpass
import json
import os
import socket
import subprocess
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.contracts import Credentials, FetchRequest, SecretReference, VerifyPlan
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    MissingMeans,
    Unreachable,
)
from backupguard.model import Verdict
from backupguard.repositories.borg import BORG
from backupguard.testing import TestContext, listing
from tests.integration.repositories.borg_maker import Borg, executable, job
from tests.integration.repositories.restic_maker import damage
from tests.integration.repositories.servers import free_port
from tests.integration.repositories.test_restic_reading import script


def refusals(borg: Borg, here: TestContext, into: Path, **settings) -> set[tuple[type, str]]:
    """Return what listing, inspecting, verifying and fetching raise."""
    with BORG.open("healthy", borg.settings(), here) as healthy:
        point = next(healthy.points([job()]))
    into.mkdir(exist_ok=True)
    acts = (
        lambda one: list(one.points([job()])),
        lambda one: one.inspect(),
        lambda one: list(one.verify(VerifyPlan())),
        lambda one: one.fetch(FetchRequest(point=point, selector=job()), into),
    )
    seen = set()
    for act in acts:
        with (
            pytest.raises(BackupGuardError) as caught,
            BORG.open("nas", borg.settings(**settings), here) as repository,
        ):
            act(repository)
        assert caught.value.verdict is Verdict.COULD_NOT_VERIFY
        seen.add((type(caught.value), caught.value.code))
    return seen


def test_a_wrong_passphrase(borg_14: Borg, here: TestContext, tmp_path: Path):
    wrong = tmp_path / "wrong"
    wrong.write_text("battery staple")
    credentials = Credentials(reader=SecretReference(file=wrong))
    seen = refusals(borg_14, here, tmp_path / "into", credentials=credentials)
    assert seen == {(AccessRefused, "wrong_key")}


def test_a_repository_that_is_gone_or_none(borg_12: Borg, here: TestContext, tmp_path: Path):
    seen = refusals(borg_12, here, tmp_path / "into", url=str(tmp_path / "gone"))
    assert seen == {(Unreachable, "not_found")}


def test_a_repository_of_borg_2(borg_12: Borg, here: TestContext, tmp_path: Path):
    newer = borg_12.copied(tmp_path / "newer")
    config = newer.root / "config"
    config.write_text(config.read_text().replace("version = 1", "version = 2"))
    seen = refusals(borg_12, here, tmp_path / "into", url=str(newer.root))
    assert seen == {(MissingMeans, "version_unsupported")}


def test_borg_is_missing(borg_12: Borg, here: TestContext, tmp_path: Path):
    seen = refusals(borg_12, here, tmp_path / "into", program=tmp_path / "no-borg")
    assert seen == {(MissingMeans, "program_missing")}


@pytest.mark.parametrize("says", ["borg 0.30.0", "borg 1.1.18", "borg2 2.0.0b14", "hello"])
def test_a_version_that_is_not_known(borg_12: Borg, here: TestContext, tmp_path: Path, says: str):
    odd = script(tmp_path, f"echo '{says}'\n")
    seen = refusals(borg_12, here, tmp_path / "into", program=odd)
    assert seen == {(MissingMeans, "version_unsupported")}


def test_an_index_that_borg_would_have_to_rebuild(borg_12: Borg, here: TestContext, tmp_path: Path):
    broken = borg_12.copied(tmp_path / "broken")
    (index,) = broken.root.glob("index.*")
    damage(index, "flipped")
    before = listing(broken.root)
    with pytest.raises(BackupGuardError) as caught:
        refusals(broken, here, tmp_path / "into")
    assert caught.value.verdict is Verdict.COULD_NOT_VERIFY
    assert listing(broken.root) == before


# ---- locks


def test_locks_are_told_and_stay(borg: Borg, here: TestContext, tmp_path: Path):
    locked = borg.copied(tmp_path / "locked")
    ready = tmp_path / "ready"
    with subprocess.Popen(
        [executable(borg.version), "with-lock", locked.root, "sh", "-c", f"touch {ready}; cat"],
        stdin=subprocess.PIPE,
        env={
            "PATH": "/usr/bin:/bin",
            "BORG_BASE_DIR": str(tmp_path / "other"),
            "BORG_PASSCOMMAND": f"cat {borg.passphrase}",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        },
    ) as holder:
        deadline = time.monotonic() + 20
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        before = listing(locked.root)
        with BORG.open("nas", locked.settings(), here) as repository:
            assert len(list(repository.points([job()]))) == 2
            (lock,) = repository.inspect().locks
        assert listing(locked.root) == before
        assert holder.stdin is not None
        holder.stdin.close()
    assert (lock.holder_pid, lock.exclusive, lock.alive) == (holder.pid, True, True)
    assert lock.holder_host == socket.getfqdn() or lock.holder_host == os.uname().nodename
    assert lock.since is not None
    assert abs(here.now() - lock.since) < timedelta(minutes=2)


def test_a_dead_holder_and_one_elsewhere(borg_12: Borg, here: TestContext, tmp_path: Path):
    locked = borg_12.copied(tmp_path / "locked")
    me = f"{os.uname().nodename}@{uuid.getnode()}"
    (locked.root / "lock.exclusive").mkdir()
    (locked.root / "lock.exclusive" / f"{me}.4194303-0").touch()
    roster = {"exclusive": [[me, 4194303, 0]], "shared": [["nas2@12345", 77, 0]]}
    (locked.root / "lock.roster").write_text(json.dumps(roster))
    with BORG.open("nas", locked.settings(), here) as repository:
        dead, elsewhere = repository.inspect().locks
    assert (dead.holder_pid, dead.exclusive, dead.alive) == (4194303, True, False)
    assert (elsewhere.holder_host, elsewhere.exclusive, elsewhere.alive) == ("nas2", False, None)
    assert (locked.root / "lock.roster").exists()


# ---- ssh


def remote(borg: Borg, port: int, key: Path, known: Path, **more):
    return borg.settings(
        url=f"ssh://{getpass.getuser()}@127.0.0.1:{port}{borg.root}",
        remote_program=executable(borg.version),
        known_hosts=known,
        credentials=Credentials(
            reader=SecretReference(file=borg.passphrase), backend=SecretReference(file=key)
        ),
        **more,
    )


def test_everything_over_ssh(
    borg_14: Borg, here: TestContext, tmp_path: Path, sshd: tuple[int, Path, Path]
):
    into = tmp_path / "into"
    into.mkdir()
    selector = job(borg_14.source)
    before = listing(borg_14.root)
    with BORG.open("nas", remote(borg_14, *sshd), here) as repository:
        found = list(repository.points([selector]))
        state = repository.inspect()
        point = next(one for one in found if one.extra == {"name": "dpi-1"})
        fetched = repository.fetch(FetchRequest(point=point, selector=selector), into)
        units = list(repository.verify(VerifyPlan(data_percent=1)))
    assert listing(borg_14.root) == before
    assert (len(found), fetched.files) == (2, 4)
    assert {unit.verdict for unit in units} == {Verdict.PASSED}
    assert (state.locks, state.free_bytes) == ((), None)
    assert state.device == f"host:{socket.gethostname().lower()}"


@pytest.mark.parametrize(("how", "code"), [("flipped", "corrupt"), ("deleted", "missing_object")])
def test_damage_behind_ssh(
    borg_12: Borg,
    here: TestContext,
    tmp_path: Path,
    sshd: tuple[int, Path, Path],
    how: str,
    code: str,
):
    broken = borg_12.copied(tmp_path / "broken")
    into = tmp_path / "into"
    into.mkdir()
    selector = job(borg_12.source)
    with BORG.open("nas", remote(broken, *sshd), here) as repository:
        point = next(repository.points([selector]))
        damage(broken.largest_segment(), how)
        with pytest.raises(BackupDefect) as caught:
            repository.fetch(FetchRequest(point=point, selector=selector), into)
    assert caught.value.code == code


def test_what_ssh_says_is_told(
    borg_12: Borg, here: TestContext, tmp_path: Path, sshd: tuple[int, Path, Path]
):
    port, key, known = sshd
    right = remote(borg_12, *sshd)
    # borg may give up before it has read what ssh had to say: then only the lost session is known
    for settings, codes in (
        (remote(borg_12, port, tmp_path / "other", known), {"authentication", "refused"}),
        (remote(borg_12, free_port(), key, known), {"refused", "authentication"}),
        (
            right.model_copy(update={"remote_program": Path("/usr/bin/no-borg")}),
            {"program_missing", "refused"},
        ),
        (right.model_copy(update={"url": f"{right.url}-gone"}), {"not_found"}),
    ):
        with (
            BORG.open("nas", settings, here) as repository,
            pytest.raises((Unreachable, AccessRefused, MissingMeans)) as caught,
        ):
            list(repository.points([job()]))
        assert caught.value.code in codes


def test_an_ssh_server_that_never_answers(borg_12: Borg, here: TestContext, tmp_path: Path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = remote(
            borg_12, port, key, tmp_path / "known", refresh_timeout=timedelta(seconds=3)
        )
        with BORG.open("nas", settings, here) as repository, pytest.raises(Unreachable) as caught:
            list(repository.points([job()]))
    assert caught.value.code == "timeout"
