"""An attacker against borg behind a real sshd: what it proves, refutes, and leaves behind."""

import getpass
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backupguard.contracts import Credentials, SecretReference
from backupguard.errors import AccessRefused, MissingMeans, Unreachable
from backupguard.repositories.borg import BORG
from backupguard.repositories.borg_settings import BorgSettings
from backupguard.testing import TestContext, listing
from tests.integration.repositories.attacks import apart_from_canaries, attack
from tests.integration.repositories.borg_maker import Borg, executable
from tests.integration.repositories.servers import free_port

Sshd = tuple[int, Path, Path]


@pytest.fixture
def place(request: pytest.FixtureRequest, borgs: Callable[[str], Borg], tmp_path: Path) -> Borg:
    """A copy of a repository, in a directory of its own: canaries may lie beside it."""
    (tmp_path / "srv").mkdir()
    return borgs(getattr(request, "param", "1.4")).copied(tmp_path / "srv" / "dpi")


def settings(borg: Borg, sshd: Sshd, **more) -> BorgSettings:
    port, key, known = sshd
    reference = SecretReference(file=key)
    given = {
        "url": f"ssh://{getpass.getuser()}@127.0.0.1:{port}{borg.root}",
        "known_hosts": known,
        "remote_program": executable(borg.version),
        "credentials": Credentials(
            reader=SecretReference(file=borg.passphrase),
            backend=reference,
            writer_for_probe=reference,
        ),
    }
    return borg.settings(**{**given, **more})


def force(borg: Borg, key: Path, *options: str) -> None:
    """Let the key run nothing but `borg serve` with these options."""
    command = " ".join([str(executable(borg.version)), "serve", *options])
    public = key.with_suffix(".pub").read_text()
    (key.parent / "authorized").write_text(f'restrict,command="{command}" {public}')


@pytest.mark.parametrize("place", ["1.2"], indirect=True)
def test_a_forced_command_that_only_appends_is_proved(place: Borg, sshd: Sshd, here: TestContext):
    force(place, sshd[1], "--append-only", f"--restrict-to-path={place.root.parent}")
    before = apart_from_canaries(place.root.parent)
    seen = attack(BORG, settings(place, sshd), here)
    assert seen.proved, seen.outcomes
    assert seen.refused == {"shell", "delete-repository"}
    assert seen.outcomes["delete-repository"] == ("refused", "append-only")
    assert apart_from_canaries(place.root.parent) == before
    assert sorted(entry.name for entry in place.root.parent.iterdir()) == [
        "backupguard-canary-nas",
        "dpi",
    ]


@pytest.mark.parametrize("place", ["1.2"], indirect=True)
def test_borg_without_forced_command_is_refuted(place: Borg, sshd: Sshd, here: TestContext):
    before = apart_from_canaries(place.root.parent)
    seen = attack(BORG, settings(place, sshd), here)
    assert seen.worked == {"shell", "delete-repository"}
    assert apart_from_canaries(place.root.parent) == before
    assert not (place.root.parent / "backupguard-canary-nas").exists()


def test_a_forced_command_that_may_delete_is_refuted(place: Borg, sshd: Sshd, here: TestContext):
    force(place, sshd[1], f"--restrict-to-path={place.root.parent}")
    before = apart_from_canaries(place.root.parent)
    seen = attack(BORG, settings(place, sshd), here)
    assert seen.worked == {"delete-repository"}
    assert seen.refused == {"shell"}
    assert apart_from_canaries(place.root.parent) == before


def test_a_key_for_one_repository_only_proves_nothing_until_the_canary_is_allowed(
    place: Borg, sshd: Sshd, here: TestContext
):
    only = ("--append-only", f"--restrict-to-repository={place.root}")
    force(place, sshd[1], *only)
    before = listing(place.root.parent)
    seen = attack(BORG, settings(place, sshd), here)
    assert seen.outcomes["put-canary"] == ("refused", "PathNotAllowed")
    assert seen.untried == {"delete-repository"}
    assert seen.bearing.code == "canary_refused"
    assert not seen.proved
    assert listing(place.root.parent) == before
    canary = place.root.parent / "backupguard-canary-nas"
    force(place, sshd[1], *only, f"--restrict-to-repository={canary}")
    for token in ("0" * 16, "1" * 16):  # one week, and the next
        assert attack(BORG, settings(place, sshd), here, token).proved
    assert sorted(entry.name for entry in place.root.parent.iterdir()) == [canary.name, "dpi"]


def test_what_lies_there_under_a_canarys_name_is_not_deleted(
    borg_14: Borg, sshd: Sshd, here: TestContext, tmp_path: Path
):
    place = borg_14.copied(tmp_path / "srv")
    other = Borg(place.version, tmp_path / "backupguard-canary-nas", place.passphrase, place.source)
    other.run("init", "--encryption", "none", str(other.root))
    other.create("precious", "-", input=b"not ours")
    seen = attack(BORG, settings(place, sshd), here)
    assert seen.bearing.code == "canary_not_ours"
    assert seen.untried == {"delete-repository"}
    names = other.run("list", "--short", str(other.root)).stdout.split()
    assert b"precious" in names


def test_a_key_that_nobody_knows_proves_nothing(
    borg_14: Borg, sshd: Sshd, here: TestContext, tmp_path: Path
):
    place = borg_14.copied(tmp_path / "dpi")
    before = listing(place.root)
    shutil.copy(sshd[1].with_name("other"), sshd[1])
    with pytest.raises(AccessRefused) as caught:
        attack(BORG, settings(place, sshd), here)
    assert caught.value.code == "authentication"
    assert listing(place.root) == before


def test_a_server_that_is_down_proves_nothing(borg_14: Borg, sshd: Sshd, here: TestContext):
    with pytest.raises(Unreachable) as caught:
        attack(BORG, settings(borg_14, (free_port(), *sshd[1:])), here)
    assert caught.value.code == "refused"


def test_without_the_writers_key_nothing_is_tried(borg_14: Borg, sshd: Sshd, here: TestContext):
    alone = settings(borg_14, sshd)
    credentials = alone.credentials.model_copy(update={"writer_for_probe": None})
    alone = alone.model_copy(update={"credentials": credentials})
    with pytest.raises(MissingMeans) as caught:
        BORG.attack("nas", alone, here)
    assert caught.value.code == "writer_missing"
