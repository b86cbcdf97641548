from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from backupguard import settings
from backupguard.demo import story, summary
from backupguard.language import Words, catalogue
from backupguard.model import Message
from tests.integration.soc.asking import PANELS, RULES, interpolated, serving
from tests.prometheus import prometheus

BACKUPGUARD = Path(sys.executable).parent / "backupguard"


def _command(configuration: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BACKUPGUARD), "--config", str(configuration), "--language", "fr", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
    )


KINDS = {"restic", "borg", "pgbackrest", "barman", "directory", "s3", "reported"}


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
    assert told.proved, [(run.request.task, run.request.subject, run.verdict) for run in told.runs]
    assert told.coffre
    tested = [(fact.observation.data["repository"], fact.observation.data["level"])
              for fact in told.tests]  # fmt: skip
    first = [
        *(("nas", 2), ("exports", 2), ("borg", 2), ("borg", 2)),
        *(("nas", 2), ("nas", 2), ("exports", 2), ("nas", 2)),
    ]
    second = [
        *(("nas", 3), ("coffre", 3), ("verrou", 3), ("exports", 3), ("cloud", 3), ("borg", 3)),
        ("pgbackrest", 3),
        *(("borg", 3), ("nas", 3), ("coffre", 3), ("nas", 3), ("exports", 3), ("cloud", 3)),
        ("nas", 3),
    ]
    assert tested == [*first, *second]
    engines = {fact.observation.data["engine"] for fact in told.tests}
    assert engines == {
        "postgresql",
        "postgresql-physical",
        "mariadb",
        "sqlite",
        "openldap",
        "files",
    }
    assert [path.name[-7:] for path in told.reports] == ["en.html", "fr.html", "-fr.pdf"]
    assert told.reports[2].read_bytes().startswith(b"%PDF-")
    assert told.replayed >= 11 * 3
    assert "rejoués pour la démonstration" in told.reports[1].read_text(encoding="utf-8")
    assert "Sur 3 applications vitales" in told.reports[1].read_text(encoding="utf-8")
    assert "backupguard_control_status" in (tmp_path / "demo" / "metrics.prom").read_text()
    assert all(message.id in catalogue("fr") for message in said), Words("fr")
    configuration = told.layout.configuration
    assert settings.load(configuration, environ={}).sha256 == told.settings.sha256
    _check_panels(tmp_path)
    _check_attacks(told)
    _check_disk(told, configuration)
    _check_inventory(configuration)
    _check_uncovered(told, configuration)
    _check_one_byte(told, configuration)


def _check_panels(place: Path) -> None:
    """Every query of every dashboard shows something of the demonstration's metrics."""
    metrics = (place / "demo" / "metrics.prom").read_bytes()
    found = re.search(rb'backupguard_build_info\{site="([^"]+)"', metrics)
    assert found is not None
    site = found[1].decode()
    with (
        serving({0: metrics}) as sites,
        prometheus(place / "prometheus", sites.scrapes(1), rules=RULES) as asked,
    ):
        asked.until("backupguard_build_info", bool)
        asked.judged()
        silent = [
            (where, target["expr"])
            for where, panel in PANELS.items()
            for target in panel["targets"]
            if not asked.query(interpolated(target["expr"], site, ".*"))
        ]
    assert silent == []


def _check_attacks(told: story.Told) -> None:
    """One copy is proved to be immutable, one is refuted, of one nobody can tell."""
    tried = {
        run.request.subject.removeprefix("repository/"): run.verdict.value
        for run in told.runs
        if run.request.task == "immutability" and run.verdict
    }
    assert (tried["coffre"], tried["verrou"]) == ("passed", "passed")
    assert tried["cloud"] == "failed"
    assert tried["nas"] == "could_not_verify"
    printed = io.StringIO()
    summary.show(told, Words("fr"), Console(file=printed, width=200))
    assert "IMM-02  repository/cloud" in printed.getvalue()


def _check_disk(told: story.Told, configuration: Path) -> None:
    """The disk was read, taken away, and somebody says where it is."""
    (disk,) = json.loads(_command(configuration, "media", "--json").stdout)
    assert disk["medium"] == "disque-rouge"
    assert disk["where"] == "away", disk
    assert told.layout.medium_away.exists()
    assert not told.layout.medium.exists()


def _check_inventory(configuration: Path) -> None:
    listed = _command(configuration, "inventory", "--no-refresh", "--json")
    found = json.loads(listed.stdout)
    repositories = {one["id"]: one for one in found["repositories"]}
    assert {one["type"] for one in repositories.values()} == KINDS
    assert all(one["inspected"]["reachable"] for one in repositories.values())
    assert len(found["applications"]) == 8
    for application in found["applications"]:
        assert application["jobs"]
        assert all(job["points"] == 1 for job in application["jobs"]), application
    (pharmacie,) = next(one["copies"] for one in found["applications"] if one["id"] == "pharmacie")
    assert set(pharmacie["in_one_place"]) == {"pgbackrest", "barman", "borg"}


def _check_uncovered(told: story.Told, configuration: Path) -> None:
    """The database that no job saves, and nothing else, is named wherever somebody looks."""
    (uncovered,) = told.uncovered
    assert uncovered.endswith("/bloc_operatoire")
    printed = io.StringIO()
    summary.show(told, Words("fr"), Console(file=printed, width=200))
    assert f"Aucun travail ne sauvegarde la base {uncovered}." in printed.getvalue()
    for copy in ("dpi (disque)", "imagerie (cloud)", "ged (scripts)"):
        assert copy in printed.getvalue()
    why = _command(configuration, "why", "INV-01", "site")
    assert "(bloc_operatoire (postgresql" in why.stdout, why.stdout


def _check_one_byte(told: story.Told, configuration: Path) -> None:
    clean = _command(configuration, "status")
    assert "conforme       INT-01  repository/nas" in clean.stdout
    assert "non conforme   INT-01" not in clean.stdout
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
