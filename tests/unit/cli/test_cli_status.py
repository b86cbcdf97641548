"""`status` and `why`: exit codes, quick when somebody has judged, right when nobody has."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import structlog

from backupguard.assess import Assessor
from backupguard.cli import explain, status_file
from backupguard.cli.main import main
from backupguard.controls import BUILT, load_catalogue
from backupguard.errors import StoreError
from backupguard.language import Words, catalogue
from backupguard.model import Observation, to_us
from backupguard.notify.standing import exit_code
from backupguard.settings import load
from backupguard.store import open_store

CONFIGURATION = """
[site]
name = "CH de Belle-Rive"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE/nas"
[repositories.other]
type = "directory"
path = "HERE/nas"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rto = "4h"
[applications.dpi.backups.nightly]
repository = "nas"
select.pattern = "dpi-%Y%m%d.dump"
every = "24h"
[applications.labo]
name = "Laboratoire"
criticality = "C2"
[applications.labo.backups.nightly]
repository = "other"
select.pattern = "labo-%Y%m%d.dump"
every = "24h"
"""


class Site:
    def __init__(self, directory: Path) -> None:
        (directory / "nas").mkdir()
        (directory / "state").mkdir(mode=0o700)
        self.file = directory / "backupguard.toml"
        self.file.write_text(CONFIGURATION.replace("HERE", str(directory)), encoding="utf-8")
        self.state = directory / "state"

    def record(self, *observations: tuple[str, str, dict[str, Any]], judge: bool = False) -> None:
        now = datetime.now(UTC)
        settings = load(self.file, environ={})
        with closing(open_store(self.state)) as store:
            store.append(
                [
                    Observation(
                        kind=kind, subject=subject, observed_at=now, data=data, key=f"{number}{now}"
                    )
                    for number, (kind, subject, data) in enumerate(observations)
                ]
            )
            if judge:
                with structlog.testing.capture_logs():
                    Assessor(store, settings, load_catalogue()).assess(now)

    def run(self, *arguments: str) -> int:
        return main(["--config", str(self.file), *arguments])


def result(verdict: str, code: str | None = None, **changed: Any) -> tuple[str, str, Any]:
    data = {
        "application": "dpi",
        "engine": "postgresql",
        "repository": "nas",
        "point": "p",
        "point_at": to_us(datetime.now(UTC)),
        "target_at": None,
        "verdict": verdict,
        "code": code,
        "level": 3,
        "phases": [],
        "checks": [],
        "checks_configured": 1,
        "baseline_accepted": True,
        "data_loss_ms": None,
        "freshness_heuristic_at": None,
        "bytes": 1,
        "duration_ms": 2500,
        "fingerprint": None,
        "tools": {},
    }
    return "restore-test.result", "application/dpi", data | changed


DAMAGED = (
    "repository.verified",
    "repository/nas",
    {
        "units": [{"unit": "b/1", "verdict": "failed", "bytes": 1, "code": "corrupt"}],
        "units_total": 1,
        "verdict": "failed",
        "code": "corrupt",
        "complete_at": None,
    },
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in list(os.environ):
        if name.startswith(("BACKUPGUARD_STORE", "BACKUPGUARD_DAEMON")):
            monkeypatch.delenv(name)
    yield Site(tmp_path)
    structlog.reset_defaults()  # a command silences the log of its process


Said = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["compliant", "not_applicable", "waived"], 0),
        (["compliant", "warning"], 1),
        (["not_measurable", "warning"], 3),
        (["not_measurable", "warning", "non_compliant"], 2),
        ([], 3),
    ],
)
def test_worst_first(states: list[str], code: int) -> None:
    assert exit_code([{"status": state} for state in states]) == code


def test_a_fresh_store_measures_nothing_and_says_so(site: Site, capsys: Said) -> None:
    assert site.run("status") == 3
    said = capsys.readouterr().out
    assert said.startswith("CH de Belle-Rive — jugé le ")
    assert "RST-01  application/dpi" in said
    assert "Jamais restaurée par BackupGuard" in said
    assert site.run("status", "--json") == 3
    silent = json.loads(capsys.readouterr().out)["counts"]["not_applicable"]
    assert silent >= 20 - len(BUILT)
    assert f"{silent} contrôle(s) non applicable(s) ou absent(s) de cette version." in said


def test_one_application_or_one_control(site: Site, capsys: Said) -> None:
    site.record(result("passed"))
    assert site.run("status", "--control", "D4-RST-01", "--application", "dpi") == 0
    assert "Restauré avec succès" in capsys.readouterr().out
    assert site.run("status", "--control", "RST-01") == 3  # labo never was
    capsys.readouterr()
    site.record(DAMAGED)
    assert site.run("status", "--application", "dpi") == 2
    assert "INT-01" in capsys.readouterr().out
    assert site.run("status", "--application", "labo") == 3
    assert "repository/nas" not in capsys.readouterr().out


def test_unknown_names_are_usage_errors(site: Site, capsys: Said) -> None:
    assert site.run("status", "--application", "dip") == 64
    assert site.run("status", "--control", "RST-99") == 64
    assert site.run("why", "RST-01", "nothing") == 64
    assert site.run("why", "RST-99", "dpi") == 64
    assert "dip" in capsys.readouterr().err


def test_a_damaged_repository_is_named_and_explained(site: Site, capsys: Said) -> None:
    site.record(result("failed", "corrupt", level=0), DAMAGED)
    assert site.run("status") == 2
    first = capsys.readouterr().out.splitlines()[3]
    assert first.split()[:4] == ["non", "conforme", "INT-01", "repository/nas"]
    assert site.run("why", "INT-01", "nas") == 2
    said = capsys.readouterr().out
    assert "données corrompues" in said
    assert "repository.verified" in said
    assert "backupguard probe integrity" in said
    assert site.run("--language", "en", "why", "RST-01", "dpi") == 2
    said = capsys.readouterr().out
    assert "corrupt data" in said
    assert "backupguard restore-test dpi --repository nas" in said
    assert len(said.splitlines()) < 25


def test_why_stays_short_and_knows_the_last_good_state(site: Site, capsys: Said) -> None:
    site.record(result("passed"), judge=True)
    site.record(result("failed", "rows_lost", level=2), judge=True)
    assert site.run("why", "D4-RST-01", "application/dpi", "--json") == 2
    explained = json.loads(capsys.readouterr().out)
    assert explained["last_compliant"] is not None
    assert explained["reason"]["text"].endswith("lignes perdues.")
    assert explained["facts_in_words"]
    for control, subject in (("RST-02", "dpi"), ("PDM-01", "labo"), ("PRV-01", "site")):
        site.run("why", control, subject)
        lines = capsys.readouterr().out.splitlines()
        assert 8 < len(lines) < 25


def test_nagios(site: Site, capsys: Said) -> None:
    site.record(result("failed", "corrupt", level=0))
    assert site.run("status", "--nagios") == 2
    said = capsys.readouterr().out
    assert said.startswith("BACKUPGUARD CRITICAL - ")
    first, *more = said.splitlines()
    assert first.split(" | ")[1].startswith("non_compliant=1;;0;0;")
    assert "RST-01 application/dpi" in more[0], "the worst first"
    assert not any("|" in line for line in more)
    assert site.run("status", "--nagios", "--application", "labo") == 3
    assert capsys.readouterr().out.startswith("BACKUPGUARD UNKNOWN - ")


def test_nagios_is_told_of_an_application_that_does_not_exist(site: Site, capsys: Said) -> None:
    """A plugin has four answers; 64 would be none of them."""
    site.record(result("passed"))
    assert site.run("status", "--nagios", "--application", "nobody") == 3
    said = capsys.readouterr().out
    assert said.startswith("BACKUPGUARD UNKNOWN - ")
    assert "nobody" in said
    assert site.run("status", "--application", "nobody") == 64


def test_json(site: Site, capsys: Said) -> None:
    site.record(result("passed"))
    assert site.run("status", "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 3
    (finding,) = [
        f for f in said["findings"] if (f["control"], f["subject"]) == ("RST-01", "application/dpi")
    ]
    assert finding["status"] == "compliant"
    assert finding["title"] == "Test de restauration périodique"
    assert finding["since"].endswith("+00:00")
    assert finding["reason"]["text"].startswith("Restauré avec succès")


def test_what_was_published_is_believed_while_it_is_fresh(site: Site, capsys: Said) -> None:
    site.record(result("passed"), judge=True)
    document = json.loads((site.state / "status.json").read_text(encoding="utf-8"))
    document["site"] = "published"
    path = site.state / "status.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    site.run("status")
    assert capsys.readouterr().out.startswith("published")
    document["stale_after"] = to_us(datetime.now(UTC) - timedelta(minutes=1))
    path.write_text(json.dumps(document), encoding="utf-8")
    site.run("status")
    assert capsys.readouterr().out.startswith("CH de Belle-Rive")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 99}'])
def test_what_cannot_be_read_is_not_believed(site: Site, capsys: Said, content: str) -> None:
    (site.state / "status.json").write_text(content, encoding="utf-8")
    assert site.run("status") == 3
    assert capsys.readouterr().out.startswith("CH de Belle-Rive")


def test_a_store_written_to_since_is_judged_again(site: Site, capsys: Said) -> None:
    site.record(result("passed"), judge=True)
    site.record(result("failed", "corrupt", level=0))
    assert site.run("status", "--application", "dpi") == 2
    assert "RST-01" in capsys.readouterr().out


def test_with_a_daemon_its_status_is_believed_whatever_the_store_does(
    site: Site, capsys: Said
) -> None:
    (site.state / "run").mkdir()
    site.record(result("passed"), judge=True)
    (site.state / "run" / "control.sock").touch()
    site.record(result("failed", "corrupt", level=0))
    assert site.run("status", "--application", "dpi", "--control", "RST-01") == 0


def test_a_store_that_cannot_be_used_exits_3_and_says_since_when(site: Site, capsys: Said) -> None:
    site.record(result("passed"), judge=True)
    (site.state / "store.sqlite3").write_bytes(b"no database at all" * 1000)
    path = site.state / "status.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["stale_after"] = document["judged_at"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert site.run("status") == 3
    said = capsys.readouterr()
    assert "le service est muet depuis le" in said.out
    assert said.err
    assert site.run("status", "--nagios") == 3
    assert capsys.readouterr().out.startswith("BACKUPGUARD UNKNOWN - ")


def test_whoever_may_not_look_into_the_state_is_told_so(site: Site, capsys: Said) -> None:
    """A plugin's account that is no operator: an answer of a plugin, and no defect of ours."""
    site.record(result("passed"), STARTED, judge=True)
    site.state.chmod(0)
    try:
        with pytest.raises(StoreError) as caught:
            open_store(site.state)
        assert caught.value.code == "unreadable"
        assert site.run("status", "--nagios") == 3
        said = capsys.readouterr()
        assert said.out.startswith("BACKUPGUARD UNKNOWN - ")
        assert str(site.state) in said.err
    finally:
        site.state.chmod(0o700)
    site.run("status", "--nagios")
    assert capsys.readouterr().err == ""


STARTED = (
    "daemon.started",
    "site",
    {"program_version": "1", "host": "srv", "recovered": [], "clean": True},
)
ONE = ("status", "--application", "dpi", "--control", "RST-01")


def test_a_daemon_that_is_gone_is_noticed(site: Site, capsys: Said) -> None:
    """Whoever asks judges from the store: without a word, a dead daemon would look like health."""
    site.record(result("passed"), STARTED, judge=True)
    assert site.run(*ONE) == 3
    assert capsys.readouterr().out.startswith("Aucun service ne tourne ici, le dernier a été lancé")
    assert site.run(*ONE, "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["exit_code"], said["daemon_absent"]) == (3, True)
    assert site.run(*ONE, "--nagios") == 3
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("BACKUPGUARD UNKNOWN - Aucun service ne tourne ici")
    assert "compliant=1;" in first
    site.record(result("failed", "corrupt", level=0))
    assert site.run(*ONE, "--nagios") == 2, "what is known to be wrong is worse"
    assert capsys.readouterr().out.startswith("BACKUPGUARD CRITICAL - Aucun service ne tourne")


@contextmanager
def daemon_in(runtime: Path, answer: bytes) -> Iterator[None]:
    """A control socket that takes connections, and answers where there is anything to say."""
    runtime.mkdir()
    with socket.socket(socket.AF_UNIX) as daemon:
        # Bound by a short name: the path of a test's directory may be longer than a socket's.
        before = Path.cwd()
        os.chdir(runtime)
        try:
            daemon.bind("control.sock")
        finally:
            os.chdir(before)
        daemon.listen()

        def serve() -> None:
            with suppress(OSError):
                while answer:
                    asked, _ = daemon.accept()
                    with asked:
                        assert asked.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
                        asked.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        yield
        daemon.shutdown(socket.SHUT_RDWR)
        serving.join()


ANSWER = b"HTTP/1.1 200 OK\r\n\r\n{}"


@pytest.mark.parametrize("name", ["run", "r" * 120], ids=["short", "longer than an address"])
def test_a_daemon_that_answers_and_one_that_never_was_are_no_absence(
    site: Site, capsys: Said, name: str
) -> None:
    text = site.file.read_text(encoding="utf-8")
    site.file.write_text(f'{text}[daemon]\nruntime-directory = "state/{name}"\n', encoding="utf-8")
    site.record(result("passed"), judge=True)
    assert site.run(*ONE) == 0, "a site that starts everything by hand"
    site.record(STARTED, judge=True)
    with daemon_in(site.state / name, ANSWER):
        assert site.run(*ONE) == 0
        assert site.run(*ONE, "--nagios") == 0
    assert "Aucun service" not in capsys.readouterr().out
    assert site.run(*ONE) == 3, "its socket is there, and nobody behind it"


def test_a_daemon_that_was_stopped_takes_connections_and_is_noticed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_file, "PATIENCE_S", 0.1)
    site.record(result("passed"), STARTED, judge=True)
    with daemon_in(site.state / "run", b""):
        assert site.run(*ONE) == 3


def test_a_daemon_is_missed_wherever_the_environment_puts_its_store(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUPGUARD_STORE_DIRECTORY", str(site.state))
    site.record(result("passed"), judge=True)
    assert site.run(*ONE) == 0
    site.record(STARTED, judge=True)
    assert site.run(*ONE) == 3
    with daemon_in(site.state / "run", ANSWER):
        assert site.run(*ONE) == 0


def test_broken_evidence_is_a_finding_and_no_noise(site: Site, capsys: Said) -> None:
    site.record(result("passed"))
    with closing(sqlite3.connect(site.state / "store.sqlite3")) as connection, connection:
        connection.execute("UPDATE facts SET subject = 'application/xxx' WHERE seq = 2")
    assert site.run("status", "--control", "PRV-01", "--json") == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["findings"][0]["reason"]["id"] == "reason.PRV-01.broken"
    assert said.err == ""


def test_a_wrong_configuration_is_no_status(site: Site, capsys: Said) -> None:
    site.file.write_text("[sitte]\n", encoding="utf-8")
    assert site.run("status") == 78
    assert capsys.readouterr().err
    assert site.run("status", "--nagios") == 3, "78 is none of a plugin's four answers"
    assert capsys.readouterr().out.startswith("BACKUPGUARD UNKNOWN - ")


#: What stands well, or is nobody's to mend: the only reasons after which there is nothing to do.
SETTLED = frozenset(
    {
        *("kept", "good", "on_site_clear", "on_site_unknown", "locked", "tried", "proved", "away"),
        *("closed", "covered", "saved", "done", "not_due", "clock_change", "met", "young", "usual"),
        *("no_point_yet", "uncounted", "none", "no_numbers", "complete", "passed", "within"),
        *("within_default", "not_built", "passed_declared", "declared", "rebuilt", "without"),
    }
)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_reason_has_a_next_step(language: str) -> None:
    words = Words(language)
    for reason, sentence in catalogue(language).items():
        if not reason.startswith("reason."):
            continue
        assert any(reason.startswith(step) for step in explain._NEXT), reason
        names = {name for _, name, _, _ in Formatter().parse(sentence) if name}
        finding = {
            "subject": "repository/nas",
            "reason": {"id": reason, "values": dict.fromkeys(sorted(names), "here")},
        }
        said = explain.next_step(finding, words)
        assert not re.search(r"[{}@]|next\.|…\]", said), (reason, said)
        if said == words.text("next.nothing"):
            assert reason.rpartition(".")[2] in SETTLED, f"nothing to do? {reason}"


def test_status_is_quick_because_it_imports_little(site: Site) -> None:
    site.record(result("passed"), judge=True)
    code = (
        "import sys; from backupguard.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "heavy = ('sqlalchemy', 'backupguard.settings', 'structlog', 'rich', 'cryptography')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", str(site.file), "status"],
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == "[]"
    assert "RST-01" in done.stdout
