from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest

from backupguard import settings
from backupguard.demo import configuration, hospital, layout, story
from backupguard.errors import MissingMeans, UsageError

TODAY = date(2026, 11, 22)


def _configuration(place: layout.Layout, coffre_port: int | None) -> settings.Settings:
    secrets = ("nas", "coffre", "cloud", "borg", "pgbackrest", "verrou", "disque")
    for name in (*secrets, "verrou-reader", "writer"):
        layout.write_secret(place, name)
    parts = configuration.Parts(
        language="fr",
        restic=Path("/usr/bin/restic"),
        borg=Path("/usr/bin/borg"),
        http_port=9789,
        coffre_port=coffre_port,
        cloud_endpoint="http://127.0.0.1:8333",
        bucket="belle-rive",
        locked_bucket="belle-rive-verrou",
        medium_uuid=UUID("6f1d2b3c-0000-4000-8000-000000000001"),
        closed_port=9,
        server_port=5433,
        pharma_port=5434,
        observations=1000,
    )
    configuration.write_configuration(place, parts, TODAY)
    return settings.load(place.configuration, environ={})


def test_the_configuration_loads_with_and_without_the_vault(tmp_path: Path) -> None:
    place = layout.prepare(tmp_path / "demo")
    whole = _configuration(place, 8000)
    assert {one.type for one in whole.repositories.values()} == {
        *("restic", "borg", "pgbackrest", "barman", "directory", "s3", "reported"),
    }
    assert len(whole.applications) == 8
    alone = _configuration(place, None)
    assert set(whole.repositories) - set(alone.repositories) == {"coffre"}
    assert list(alone.applications["dpi"].backups) == ["nuit", "verrou", "disque"]


def test_only_the_reference_knows_what_nobody_saves(tmp_path: Path) -> None:
    place = layout.prepare(tmp_path / "demo")
    chosen = _configuration(place, None)
    configuration.write_reference(place, TODAY)
    (listed,) = place.reference.iterdir()
    assert hospital.UNCOVERED in listed.read_text(encoding="utf-8")
    covers = [text for one in chosen.applications.values() for job in one.backups.values()
              for text in job.covers]  # fmt: skip
    assert "postgresql://localhost:5433/dpi" in covers
    assert not any(hospital.UNCOVERED in text or text.endswith("/*") for text in covers)


def test_a_script_starts_a_server_again_whatever_its_path_holds(tmp_path: Path) -> None:
    place = layout.prepare(tmp_path / "it's a demo")
    layout.write_script(place.cloud_script, ("echo", str(place.cloud)), {"A": "b c"})
    done = subprocess.run([place.cloud_script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{place.cloud}\n"


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


def test_a_missing_tool_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BACKUPGUARD_TOOLS", str(tmp_path))
    for name in ("restic", "pgbackrest", "barman", "mariadbd", "slapd", "ldapsearch"):
        (tmp_path / name).touch(mode=0o700)
    with pytest.raises(MissingMeans) as raised:
        story.play(tmp_path / "demo", language="fr", tell=lambda message: None)
    assert raised.value.message.values["package"] == "borgbackup"
    assert not (tmp_path / "demo").exists()
