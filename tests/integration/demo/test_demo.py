from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backupguard import settings
from backupguard.demo import story
from backupguard.language import Words, catalogue
from backupguard.model import Message, Verdict

BACKUPGUARD = Path(sys.executable).parent / "backupguard"


def _command(configuration: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BACKUPGUARD), "--config", str(configuration), "--language", "fr", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
def test_the_demonstration_proves_and_one_byte_turns_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Path(__file__).resolve().parents[3] / ".tools" / "bin"
    monkeypatch.setenv("BACKUPGUARD_TOOLS", os.environ.get("BACKUPGUARD_TOOLS", str(tools)))
    said: list[Message] = []
    told = story.play(
        tmp_path / "demo", language="fr", tell=said.append, observations=24_000, results=3_000
    )
    assert {run.verdict for run in told.runs} == {Verdict.PASSED}
    assert told.coffre
    levels = [fact.observation.data["level"] for fact in told.tests]
    assert levels == [2, 2, 3, 3, 3, 3]
    assert told.bundle_verified
    assert [path.name[-7:] for path in told.reports] == ["en.html", "fr.html"]
    assert "Sur 1 application vitale" in told.reports[1].read_text(encoding="utf-8")
    assert "backupguard_control_status" in (tmp_path / "demo" / "metrics.prom").read_text()
    assert all(message.id in catalogue("fr") for message in said), Words("fr")

    configuration = told.layout.configuration
    assert settings.load(configuration, environ={}).sha256 == told.settings.sha256
    clean = _command(configuration, "status")
    assert clean.returncode in (0, 3), clean.stdout
    assert "INT-01  repository/nas" in clean.stdout
    packs = [path for path in (told.layout.nas / "data").rglob("*") if path.is_file()]
    pack = max(packs, key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    assert _command(configuration, "probe", "integrity", "--repository", "nas").returncode == 1
    broken = _command(configuration, "status")
    assert broken.returncode == 2, broken.stdout
    assert "non conforme   INT-01  repository/nas" in broken.stdout
    why = _command(configuration, "why", "INT-01", "repository/nas")
    assert "Données abîmées dans le dépôt" in why.stdout
