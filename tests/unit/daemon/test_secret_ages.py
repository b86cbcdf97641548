"""What is seen of secrets: when their files were written and which are one, never what is in them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.daemon.secret_ages import seen
from backupguard.evidence.kinds import check_payload
from backupguard.model import to_us
from backupguard.settings import Settings, load

WRITTEN = datetime(2025, 3, 1, tzinfo=UTC)


def write(place: Path, text: str, written: datetime = WRITTEN) -> None:
    place.write_text(text, encoding="utf-8")
    place.chmod(0o600)
    os.utime(place, (written.timestamp(), written.timestamp()))


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    for name in ("reader", "writer", "backend"):
        write(tmp_path / name, f"secret-{name}\n", WRITTEN + timedelta(days=len(name)))
    (tmp_path / "backupguard.toml").write_text(
        """
[site]
name = "CH"
[repositories.nas]
type = "restic"
url = "rest:https://nas.example/dpi"
credentials.reader.file = "reader"
credentials.backend.file = "backend"
credentials.writer-for-probe.file = "writer"
[repositories.other]
type = "restic"
url = "/srv/other"
credentials.reader.credential = "restic-other"
""",
        encoding="utf-8",
    )
    return load(tmp_path / "backupguard.toml", environ={}, check_secrets=False)


def test_times_of_files_are_seen_and_copies_of_systemd_are_not(
    site: Settings, tmp_path: Path
) -> None:
    data = seen(site, {})
    check_payload("secrets.seen", 1, data)
    found = {(one["repository"], one["use"]): one for one in data["secrets"]}
    for use, file in (
        ("reader", "reader"), ("backend", "backend"), ("writer-for-probe", "writer"),
    ):  # fmt: skip
        assert found["nas", use]["written_at"] == to_us(WRITTEN + timedelta(days=len(file)))
    assert found["other", "reader"] | {"repository": ""} == {
        "repository": "", "use": "reader", "written_at": None, "code": "secret_missing",
    }  # fmt: skip
    write(tmp_path / "restic-other", "x")
    (credential,) = (
        one
        for one in seen(site, {"CREDENTIALS_DIRECTORY": str(tmp_path)})["secrets"]
        if one["repository"] == "other"
    )
    assert (credential["written_at"], credential["code"]) == (None, None)


@pytest.mark.parametrize("use", ["reader", "backend"])
def test_a_secret_that_reads_and_writes_is_named_and_two_are_not(
    site: Settings, tmp_path: Path, use: str
) -> None:
    assert seen(site, {})["shared"] == []
    write(tmp_path / "writer", f"secret-{use}")  # another file, the same secret
    data = seen(site, {})
    assert data["shared"] == ["nas"]
    assert "secret-" not in json.dumps(data)


def test_a_file_that_is_gone_or_open_to_others_has_a_code(site: Settings, tmp_path: Path) -> None:
    (tmp_path / "reader").unlink()
    (tmp_path / "writer").chmod(0o644)
    codes = {one["use"]: one["code"] for one in seen(site, {})["secrets"][:3]}
    assert codes == {"reader": "secret_missing", "backend": None, "writer-for-probe": "permission"}
