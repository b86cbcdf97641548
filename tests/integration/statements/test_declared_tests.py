"""Restore tests done elsewhere: handed in, signed, dropped into a directory; and what they change."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from backupguard.assess import Assessor
from backupguard.cli.main import main
from backupguard.controls import load_catalogue
from backupguard.daemon import declared_tests
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.errors import Misunderstood, UsageError
from backupguard.model import Fact, Observation, Origin, Verdict
from backupguard.processes import Cancellation
from backupguard.runs import perform
from backupguard.settings import load
from backupguard.store import open_store
from restore_tests import imported, imported_statement
from restore_tests.imported_record import Reading
from tests.integration.statements.test_statements import NOW, Office, keys, office, sign

pytestmark = pytest.mark.usefixtures("heard")

__all__ = ["keys", "office"]  # fixtures
BY_HAND = """\
application = "dpi"
tested-at = 2026-05-30T14:00:00+02:00
verdict = "passed"
level = 2
who = "Claire Martin"
checked = ["dcdiag sans erreur"]
"""
ROW = {
    "Database": "DPI", "RestoreResult": "Success", "DbccResult": "Success",
    "RestoreStart": "2026-05-30T14:00:00", "RestoreEnd": "2026-05-30T14:10:00",
    "DbccEnd": "2026-05-30T14:20:00",
}  # fmt: skip


def by_hand(text: str = BY_HAND) -> dict[str, Any]:
    return imported_statement.read(text.encode(), "Europe/Paris")


def record(**changed: str) -> dict[str, Any]:
    content = json.dumps([{**ROW, **changed}]).encode()
    body = imported.read(
        content, "dbatools", Reading(timezone="Europe/Paris"), (), application="dpi"
    )
    return {**body, "repository": None}


def hand_in(
    office: Office, body: dict[str, Any], signature: str | None = None, uid: int = 0
) -> tuple[int, bool]:
    return declared_tests.take(
        office.store, office.settings, body, signature, uid=uid, now=NOW, tools=office.tools
    )


def judged(office: Office) -> dict[str, tuple[str, str]]:
    with structlog.testing.capture_logs():
        Assessor(office.store, office.settings, load_catalogue()).assess(NOW)
    return {
        one.control: (one.status.value, one.reason.id.rpartition(".")[2])
        for one in office.store.findings()
        if one.subject == "application/dpi"
    }


def test_a_record_counts_as_what_it_is_and_only_once(office: Office) -> None:
    seq, new = hand_in(office, record())
    assert new
    assert hand_in(office, record()) == (seq, False)
    fact = office.fact(seq)
    assert fact.observation.origin is Origin.IMPORTED
    assert fact.author == "uid/0 (root)"
    assert fact.observation.observed_at == datetime(2026, 5, 30, 12, 20, tzinfo=UTC)
    found = judged(office)
    assert found["RST-01"] == ("compliant", "passed_declared")
    assert found["RST-02"] == ("compliant", "declared")
    assert found["RST-03"][0] == "not_measurable"  # what took long elsewhere says nothing here


def test_a_failed_record_fails_and_a_later_one_that_passes_clears_it(office: Office) -> None:
    hand_in(office, record(RestoreResult="Failure", DbccResult="Skipped"))
    assert judged(office)["RST-01"] == ("non_compliant", "failed_declared")
    # one that is older, told afterwards, is kept and changes nothing
    old = dict.fromkeys(("RestoreStart", "RestoreEnd", "DbccEnd"), "2026-05-01T14:00:00")
    seq, new = hand_in(office, record(**old))
    assert new
    assert office.fact(seq)
    assert judged(office)["RST-01"] == ("non_compliant", "failed_declared")
    later = dict.fromkeys(("RestoreStart", "RestoreEnd", "DbccEnd"), "2026-05-31T14:00:00")
    hand_in(office, record(**later))
    assert judged(office)["RST-01"] == ("compliant", "passed_declared")


def test_what_is_told_never_stands_for_the_latest_observed_test(office: Office) -> None:
    told = hand_in(office, record())[0]
    data = {**office.fact(told).observation.data, "verdict": "could_not_verify", "code": "timeout"}
    observed = Observation(kind="restore-test.result", subject="application/dpi", key="seen",
                           observed_at=NOW - timedelta(days=3), data=data)  # fmt: skip
    (fact,) = office.store.append([observed])
    hand_in(office, record(DbccEnd="2026-05-31T14:00:00"))
    latest = office.store.latest(["application/dpi"], ["restore-test.result"])
    assert latest["application/dpi"]["restore-test.result"].seq == fact.seq


def test_a_signed_statement_counts_and_an_unsigned_one_warns(office: Office, keys: Path) -> None:
    hand_in(office, by_hand())
    assert judged(office)["RST-01"] == ("warning", "unsigned")
    text = declared_tests.text(office.settings, by_hand(), 0, NOW)
    assert "checked: dcdiag sans erreur\n" in text
    seq, new = hand_in(office, by_hand(), sign(keys, "claire", text))
    assert new
    data = office.fact(seq).observation.data
    assert (data["declared"]["person"], data["level"]) == ("claire", 2)
    assert data["declared"]["signature"]["statement"] == text
    found = judged(office)
    assert found["RST-01"] == ("compliant", "passed_declared")
    assert found["RST-02"] == ("warning", "level_declared")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ('verdict = "failed"', "statements.refused"),
        ("level = 3", "statements.refused"),
    ],
    ids=["verdict", "level"],
)
def test_a_signature_of_another_test_is_refused(
    office: Office, keys: Path, change: str, why: str
) -> None:
    key = change.partition(" ")[0]
    lines = [change if one.startswith(key) else one for one in BY_HAND.splitlines()]
    text = declared_tests.text(office.settings, by_hand(), 0, NOW)
    with pytest.raises(UsageError) as caught:
        hand_in(office, by_hand("\n".join(lines)), sign(keys, "claire", text))
    assert caught.value.message.id == why
    assert not list(office.store.facts(kinds=["restore-test.result"]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tested_at": int((NOW + timedelta(hours=1)).timestamp()) * 1_000_000}, "future"),
        ({"application": "nobody"}, "no-application"),
        ({"repository": "bande"}, "no-repository"),
        ({"level": 5}, "no-test"),
        ({"who": "a\nb"}, "no-test"),
        ({"verdict": "skipped"}, "no-test"),
        ({"extra": 1}, "no-test"),
    ],
    ids=["future", "application", "repository", "level", "lines", "verdict", "extra"],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    office: Office, change: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        hand_in(office, {**by_hand(), **change})
    assert caught.value.message.id == f"statements.{why}"
    assert not list(office.store.facts(kinds=["restore-test.result"]))


# --------------------------------------------------------------------------- the places of settings


class Drop:
    """A site with a drop directory, and its task."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "drop"
        self.place.mkdir()
        (directory / "nas").mkdir()
        (directory / "state").mkdir(mode=0o700)
        self.file = directory / "backupguard.toml"
        self.file.write_text(
            f'[site]\nname = "CH"\n[store]\ndirectory = "state"\n[repositories.nas]\n'
            f'type = "directory"\npath = "{directory}/nas"\n[applications.dpi]\nname = "DPI"\n'
            'criticality = "C1"\n[applications.dpi.backups.nightly]\nrepository = "nas"\n'
            'every = "24h"\n[applications.dpi.restore-test.imports]\n'
            f'directory = "{self.place}"\nformat = "dbatools"\npattern = "*.json"\n',
            encoding="utf-8",
        )
        self.settings = load(self.file, environ={})

    def run(self) -> tuple[Verdict, list[Fact]]:
        store = open_store(self.settings.state_directory)
        try:
            asked = request("imports", "site", requested_by="schedule")
            run = store.enqueue(asked)
            with structlog.testing.capture_logs():
                verdict = perform(run, self.settings, store, Cancellation(), TASKS)
            return verdict, list(store.facts(kinds=["restore-test.result"]))
        finally:
            store.close()


def test_a_drop_directory_is_read_and_a_bad_file_delays_no_other(tmp_path: Path) -> None:
    drop = Drop(tmp_path)
    assert drop.run() == (Verdict.PASSED, [])
    good = json.dumps([ROW])
    (drop.place / "b.json").write_text(good)
    (drop.place / "a.json").write_text(good[:-20])
    (drop.place / "c.json.part").write_text(good[:-20])
    (drop.place / "notes.txt").write_text("x")
    (drop.place / "link.json").symlink_to("/etc/passwd")
    before = {path.name: path.lstat() for path in drop.place.iterdir()}
    verdict, facts = drop.run()
    assert verdict is Verdict.COULD_NOT_VERIFY
    assert [fact.observation.origin for fact in facts] == [Origin.IMPORTED]
    after = {path.name: path.lstat() for path in drop.place.iterdir()}
    assert [(n, s.st_size, s.st_mtime_ns) for n, s in sorted(after.items())] == [
        (n, s.st_size, s.st_mtime_ns) for n, s in sorted(before.items())
    ]
    (drop.place / "a.json").write_text(good.replace("05-30", "05-29"))
    verdict, facts = drop.run()
    assert (verdict, len(facts)) == (Verdict.PASSED, 2)
    assert len(drop.run()[1]) == 2


def test_a_drop_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    drop = Drop(tmp_path)
    drop.place.rmdir()
    assert drop.run() == (Verdict.COULD_NOT_VERIFY, [])


def test_the_command_line_takes_records_and_statements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop = Drop(tmp_path)
    path = tmp_path / "record.json"
    path.write_text(json.dumps([ROW]), encoding="utf-8")
    config = ["--config", str(drop.file), "--language", "fr"]
    wanted = ["restore-test", "dpi", "--import", str(path), "--format", "dbatools"]
    assert main([*config, *wanted]) == 0
    assert "Enregistré sous le numéro" in capsys.readouterr().out
    assert main([*config, *wanted]) == 0
    assert "Déjà connu sous le numéro" in capsys.readouterr().out
    path.write_text(json.dumps([ROW])[:-9], encoding="utf-8")
    assert main([*config, *wanted]) == 2
    assert "ligne 1" in capsys.readouterr().err
    assert main([*config, "restore-test", "--import", str(path)]) == 64
    capsys.readouterr()
    hand = tmp_path / "test.toml"
    hand.write_text(BY_HAND.replace("passed", "failed"), encoding="utf-8")
    assert main([*config, "attest", "restore-test", str(hand)]) == 1
    assert "authentifiée" in capsys.readouterr().out
    assert main([*config, "why", "RST-01", "dpi"]) == 2
    said = capsys.readouterr().out
    assert "attesté" in said
    assert main([*config, "attest", "restore-test", str(tmp_path / "none.toml")]) == 2


def test_a_record_of_a_whole_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(Misunderstood):
        imported.read(
            declared_tests.content_of(path), "rman", Reading(timezone="UTC"), (), application="dpi"
        )
