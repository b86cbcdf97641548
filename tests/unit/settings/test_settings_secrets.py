from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import SecretReference
from backupguard.errors import AccessRefused, BackupGuardError, MissingMeans
from backupguard.settings import loading, rules
from backupguard.settings.secrets import read_secret
from tests.secret_places import every_place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"correct horse\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"x\n", b"x"), (b"x\r\n", b"x"), (b"x", b"x"), (b" x \n\n", b" x \n"), (b"\x00\n", b"\x00")],
)
def test_one_trailing_newline_is_dropped(file: Path, content: bytes, value: bytes) -> None:
    file.write_bytes(content)

    assert read_secret(SecretReference(file=file)).reveal() == value


def test_a_secret_shows_itself_to_nobody(file: Path) -> None:
    secret = read_secret(SecretReference(file=file))

    assert "horse" not in f"{secret} {secret!r} {secret!s:>40}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_reach_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)

    with pytest.raises(AccessRefused) as caught:
        read_secret(SecretReference(file=file))

    assert caught.value.code == "permission"
    assert caught.value.remedy is not None


def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    with pytest.raises(AccessRefused) as caught:
        read_secret(SecretReference(file=file), owners={os.geteuid() + 1})

    assert caught.value.message.id == "settings.secret-owner"


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 70_000])
def test_nothing_or_far_too_much_is_no_secret(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    with pytest.raises(MissingMeans):
        read_secret(SecretReference(file=file))


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for place in (pipe, tmp_path, tmp_path / "none", tmp_path / "secret" / "below"):
        with pytest.raises(BackupGuardError):
            read_secret(SecretReference(file=place))


def test_a_credential_is_a_file_of_its_service(tmp_path: Path) -> None:
    (tmp_path / "nas").write_bytes(b"x\n")
    (tmp_path / "nas").chmod(0o440)
    reference = SecretReference(credential="nas")

    secret = read_secret(reference, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert (secret.reveal(), secret.name) == (b"x", "credential nas")
    with pytest.raises(MissingMeans) as caught:
        read_secret(reference, {})
    assert caught.value.remedy is not None
    (tmp_path / "nas").chmod(0o444)
    with pytest.raises(AccessRefused):
        read_secret(reference, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_rotated_file_is_read_anew(file: Path) -> None:
    reference = SecretReference(file=file)
    assert read_secret(reference).reveal() == b"correct horse"
    file.write_bytes(b"new\n")
    assert read_secret(reference).reveal() == b"new"


def _table(path: str, secret: dict[str, str]) -> dict[str, Any]:
    """Return the tables of a file in which one setting names a secret."""
    data: Any = secret
    for key in reversed(path.split(".")):
        data = {"one" if key == "*" else key: data}
    return data


def test_every_setting_that_names_a_secret_is_checked_and_may_be_relative(tmp_path: Path) -> None:
    """Also those of plug-ins, and those that nobody thought of when the check was written."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o644)
    for place in every_place():
        data = _table(place, {"file": "secret"})
        loading._absolute(data, tmp_path)
        (trouble,) = rules.secret_files(data, {}, frozenset({os.geteuid()}))
        assert trouble.message.id == "settings.secret-readable", place
        assert ".".join(map(str, trouble.path)) == place.replace("*", "one")
        data = _table(place, {"credential": "../secret"})
        (trouble,) = rules.secret_files(data, {}, frozenset({os.geteuid()}))
        assert trouble.message.id == "settings.bad-credential-name", place


@pytest.mark.parametrize(
    "data",
    [
        {"reference": {"file": "/srv/export.csv"}},
        {"repositories": {"tina": {"type": "import", "file": "/srv/export.csv"}}},
        {"applications": {"dpi": {"file": {"file": 1}}}},
    ],
    ids=["reference", "import", "nonsense"],
)
def test_a_file_that_is_no_secret_is_left_alone(data: dict[str, Any]) -> None:
    assert list(rules.references_to_secrets(data)) == []
