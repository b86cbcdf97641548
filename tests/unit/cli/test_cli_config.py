from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.cli.main import main
from backupguard.model import Listing, RecoveryPoint
from backupguard.store import open_store

GOOD = """\
[site]
name = "CH"
language = "en"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "/srv/exports"
[repositories.s3]
type = "restic"
url = "/srv/restic"
credentials.reader.credential = "restic-key"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
[applications.dpi.restore-test]
schedule = "0 21 * * 1"
[daemon]
windows = ["Mon 22:00-24:00"]
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    place = tmp_path / "backupguard.toml"
    place.write_text(GOOD)
    return place


def call(path: Path, *arguments: str) -> int:
    return main(["--config", str(path), *arguments])


def test_check_says_that_it_is_right_and_shows_the_plan(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(path, "config", "check") == 0

    text = capsys.readouterr().out
    assert "The configuration is right: 1 application(s)" in text
    assert "1 systemd credential(s)" in text
    assert "Plan for 28 days: 4 restore test(s)" in text
    assert "Size unknown until the first inventory" in text
    assert not (path.parent / "state").exists(), "a check leaves nothing behind"


def test_check_reports_everything_and_exits_78(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(GOOD.replace('"nas"\nevery', '"nass"\nevry').replace('"C1"', '"C9"'))

    assert call(path, "config", "check") == 78

    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert f"{path}:15:1: applications.dpi.criticality: " in lines[0]
    assert any(f"{path}:17:1: applications.dpi.backups.nightly.repository: " in x for x in lines)
    assert any(f"{path}:18:1: applications.dpi.backups.nightly.evry: " in x for x in lines)
    assert "  → Did you mean nas?" in lines
    assert "  → Did you mean every?" in lines


def test_check_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(path, "config", "check", "--json") == 0
    good = json.loads(capsys.readouterr().out)
    assert (good["valid"], good["plan"]["fits"], good["problems"]) == (True, True, [])

    path.write_text(GOOD.replace("C1", "C9"))
    assert call(path, "--language", "fr") == 64
    capsys.readouterr()
    assert main(["--config", str(path), "--language", "fr", "config", "check", "--json"]) == 78
    bad = json.loads(capsys.readouterr().out)
    [problem] = bad["problems"]
    assert (problem["line"], problem["column"]) == (15, 1)
    assert problem["message"] == 'Trouvé "C9", attendu parmi : "C1", "C2", "C3".'


def test_check_measures_the_plan_against_the_store(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    store = open_store(path.parent / "state")
    point = RecoveryPoint(
        repository="nas",
        job="dpi.nightly",
        native_id="1",
        at=now - timedelta(hours=3),
        covers_until=now - timedelta(hours=3),
        bytes=2 * 10**12,
    )
    listing = Listing(repository="nas", jobs=("dpi.nightly",), points=(point,), observed_at=now)
    store.merge_listing(listing, run=None)
    store.close()

    assert call(path, "config", "check") == 78

    captured = capsys.readouterr()
    line = GOOD.splitlines().index('windows = ["Mon 22:00-24:00"]') + 1
    assert (
        f"{path}:{line}:1: daemon.windows: 45 h of restore tests for 8 h of windows" in captured.err
    )
    assert "Assumed, not measured: 100 MB/s to fetch from nas" in captured.out


def test_show_is_toml_that_says_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(path, "config", "show") == 0

    shown = capsys.readouterr().out
    assert 'repositories.s3.credentials.reader.credential = "restic-key"' in shown
    again = path.with_name("again.toml")
    again.write_text(shown)
    assert tomllib.loads(shown)["daemon"]["parallel-probes"] == 4
    assert call(again, "config", "show", "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert call(path, "config", "show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == one["sha256"]


def test_schema(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(path, "config", "schema") == 0

    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) >= {"site", "repositories", "applications", "daemon"}
    assert schema["additionalProperties"] is False


def test_doctor_says_what_to_do(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "state").mkdir(mode=0o755)
    (path.parent / "state").chmod(0o755)

    assert call(path, "doctor", "--json") == 2

    found = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["state"]["state"] == "bad"
    assert "0700" in found["state"]["remedy"]
    assert found["bwrap"]["state"] == "ok"
    assert found["restic"]["found"].startswith("restic 0.")
    assert "15" in found["postgresql"]["found"]

    (path.parent / "state").chmod(0o700)
    call(path, "doctor", "--json")
    found = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["state"]["state"] == "ok"
    assert found["sandbox"]["state"] == "ok"


def test_doctor_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path / "none.toml", "doctor") == 2

    assert "none.toml" in capsys.readouterr().out


def test_doctor_names_each_mistake_with_its_line_and_remedy(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(GOOD.replace('every = "24h"', 'evry = "24h"\nrepozitory = "nas"'))
    assert call(path, "doctor", "--json") == 2
    checks = json.loads(capsys.readouterr().out)["checks"]
    wrong = [check for check in checks if check["check"] == "configuration"]
    line = path.read_text().splitlines().index('evry = "24h"') + 1
    assert any(f"{path}:{line}: " in one["found"] and "evry" in one["found"] for one in wrong)
    assert any(f"{path}:{line + 1}: " in one["found"] for one in wrong)
    assert all(one["state"] == "bad" and one["remedy"] for one in wrong)


def test_doctor_asks_who_accepted_clear_text(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state(text: str) -> tuple[str, str]:
        path.write_text(text)
        call(path, "doctor", "--json")
        checks = json.loads(capsys.readouterr().out)["checks"]
        [found] = [check for check in checks if check["check"] == "clear-text"]
        return found["state"], found["found"]

    assert state(GOOD + '[scratch]\ndirectory = "/dev/shm"\n')[0] in {"ok", "bad"}  # by swap
    assert state(GOOD + '[scratch]\nclear-text-accepted-by = "RSSI"\n')[0] == "ok"
    assert state(GOOD)[0] in {"bad", "ok"}  # by the disk this runs on
