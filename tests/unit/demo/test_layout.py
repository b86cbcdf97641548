from __future__ import annotations

from pathlib import Path

import pytest

from backupguard import settings
from backupguard.demo import layout
from backupguard.errors import UsageError


def _configuration(place: layout.Layout, coffre_port: int | None) -> settings.Settings:
    for name in ("nas", "coffre"):
        layout.write_secret(place, name)
    layout.write_configuration(
        place,
        language="fr",
        restic=Path("/usr/bin/restic"),
        http_port=9789,
        coffre_port=coffre_port,
        observations=1000,
    )
    return settings.load(place.configuration, environ={})


def test_the_configuration_loads_with_and_without_the_vault(tmp_path: Path) -> None:
    place = layout.prepare(tmp_path / "demo")
    assert set(_configuration(place, 8000).repositories) == {"nas", "coffre"}
    alone = _configuration(place, None)
    assert set(alone.repositories) == {"nas"}
    assert all(len(application.backups) == 1 for application in alone.applications.values())


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    place = layout.prepare(tmp_path / "demo")
    secret = layout.write_secret(place, "nas")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert _configuration(place, None).dump().__repr__().count(secret.read_text().strip()) == 0


def test_a_directory_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(UsageError) as raised:
        layout.prepare(tmp_path)
    assert raised.value.message.id == "demo.not_empty"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


def test_an_earlier_demonstration_is_made_again(tmp_path: Path) -> None:
    place = layout.prepare(tmp_path / "demo")
    (place.state / "old").touch()
    (place.root / "notes.txt").touch()
    again = layout.prepare(tmp_path / "demo")
    assert list(again.state.iterdir()) == []
    assert (place.root / "notes.txt").exists()
