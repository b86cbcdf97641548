"""The monthly report by mail: once, with its PDF or where it lies; reminders until it is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from backupguard.errors import ConfigurationError, StoreError
from backupguard.model import SITE, Observation, Origin
from backupguard.notify import report_mail
from backupguard.settings import load
from tests.integration.notify.relay import Relay, serving
from tests.integration.notify.site import CONFIGURATION, Site

PDF = b"%PDF-1.7 the report of February\n" * 40
SETTINGS = """
[notify.mail]
host = "localhost"
port = PORT
security = "none"
from = "BackupGuard <backupguard@ch.example>"
to = ["dsi@ch.example"]
url = "https://backupguard.ch.example"
[report]
mail-to = ["rssi@ch.example", "direction@ch.example"]
"""
RUN = "01M80000000000000000000001"


class Reporting(Site):
    """A site where nothing is wrong and reports are written."""

    def issue(
        self, name: str = "backupguard-2026-02-fr.pdf", content: bytes = PDF, **more: Any
    ) -> None:
        directory = self.settings.state_directory / "reports"
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        data = {"month": "2026-02", "format": name.rpartition(".")[2], "language": "fr"}
        self.record(
            "report.issued",
            {**data, "sha256": digest, "bytes": len(content), "file": name, **more},
            f"report/{name}/{self.now}",
        )

    def close(self, author: str = "schedule", verdict: str = "passed") -> None:
        closed = {
            "task": "report", "state": "finished", "verdict": verdict, "code": None,
            "started_at": None, "ended_at": 1, "attempt": 1, "due_at": None,
            "requested_by": author, "tools": {},
        }  # fmt: skip
        self.record("report.closed", closed, f"run/{author}/{self.now}/closed", author)

    def record(self, kind: str, data: Any, key: str, author: str = "schedule") -> None:
        origin = Origin.ATTESTED if kind == "report.acknowledged" else Origin.OBSERVED
        seen = Observation(
            kind=kind, subject=SITE, observed_at=self.now, data=data, key=key, origin=origin
        )
        self.store.append([seen], run=RUN, author=author)

    def acknowledge(self) -> None:
        digest = hashlib.sha256(PDF).hexdigest()
        self.record(
            "report.acknowledged",
            {
                "month": "2026-02", "language": "fr", "report": 1, "report_sha256": digest,
                "provisional": False, "sha256": digest, "bytes": 1, "file": "x.png",
                "method": "scan", "person": None, "signer": None, "certificate": None,
                "signed_at": None, "issuer_checked": False, "text": "signé",
            },
            "report.acknowledged/1",
        )  # fmt: skip


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with serving(tmp_path, "none") as made:
        yield made


@pytest.fixture
def site(relay: Relay, tmp_path: Path) -> Iterator[Reporting]:
    made = Reporting(tmp_path, SETTINGS.replace("PORT", str(relay.port)), wrong=False)
    yield made
    made.store.close()


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body()
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


def attached(mail: EmailMessage) -> dict[str, bytes]:
    return {str(one.get_filename()): one.get_content() for one in mail.iter_attachments()}


def test_the_report_is_mailed_once_with_its_pdf(site: Reporting, relay: Relay) -> None:
    site.turn()
    site.issue("backupguard-2026-02-controls-fr.pdf", annex="controls")
    site.issue("backupguard-2026-02-fr.html")
    site.issue()
    site.turn()
    assert relay.mails == [], "not before the run is over"
    site.close()
    site.turn(minutes=1)
    for _ in range(2):
        site.restart()
        site.turn(hours=1)
    site.issue()
    site.close()
    site.turn(hours=1)
    (mail,) = relay.mails
    assert relay.readers == [["rssi@ch.example", "direction@ch.example"]]
    assert "février 2026" in mail["Subject"]
    assert attached(mail) == {"backupguard-2026-02-fr.pdf": PDF}
    body = text_of(mail)
    assert hashlib.sha256(PDF).hexdigest() in body
    assert "report file-signed" in body
    assert "https://backupguard.ch.example/reports/" in body
    assert "controls" not in body
    assert site.owed() == 0


@pytest.mark.parametrize(
    ("more", "changed", "said"),
    [
        ("attach-at-most = 1000\n", False, "trop volumineux"),
        ("", True, "a changé depuis"),
    ],
    ids=["large", "changed"],
)
def test_what_is_too_large_or_no_longer_the_issued_file_is_told_of(
    relay: Relay, tmp_path: Path, more: str, changed: bool, said: str
) -> None:
    site = Reporting(tmp_path, SETTINGS.replace("PORT", str(relay.port)) + more, wrong=False)
    site.issue()
    if changed:
        file = site.settings.state_directory / "reports" / "backupguard-2026-02-fr.pdf"
        file.write_bytes(b"another")
    site.close()
    site.turn()
    (mail,) = relay.mails
    assert attached(mail) == {}
    body = text_of(mail)
    assert said in " ".join(body.split())
    assert str(site.settings.state_directory / "reports") in body
    assert hashlib.sha256(PDF).hexdigest() in body
    site.store.close()


@pytest.mark.parametrize("larger", [0, 57])
def test_by_default_the_whole_mail_is_one_that_a_relay_takes(tmp_path: Path, larger: int) -> None:
    default = 10_240_000  # of postconf(5), message_size_limit
    most = 10**7 // 78 * 57
    with serving(tmp_path, "none", relay=Relay(largest=default)) as relay:
        site = Reporting(tmp_path, SETTINGS.replace("PORT", str(relay.port)), wrong=False)
        site.issue(content=b"%PDF-".ljust(most + larger, b"x"))
        site.close()
        site.turn()
        (mail,) = relay.mails
        assert [len(one) for one in attached(mail).values()] == ([] if larger else [most])
        assert ("trop volumineux" in " ".join(text_of(mail).split())) == bool(larger)
        site.store.close()


def test_what_a_relay_refuses_for_good_is_mailed_once_without_attachments(tmp_path: Path) -> None:
    with serving(tmp_path, "none", relay=Relay(largest=20_000)) as relay:
        site = Reporting(tmp_path, SETTINGS.replace("PORT", str(relay.port)), wrong=False)
        site.issue(content=PDF * 40)
        site.close()
        site.turn()
        (mail,) = relay.mails
        assert attached(mail) == {}
        body = " ".join(text_of(mail).split())
        assert "refuse ce courriel avec le rapport joint" in body
        assert hashlib.sha256(PDF * 40).hexdigest() in body
        assert site.owed() == 0
        site.turn(hours=1)
        assert len(relay.mails) == 1
        site.store.close()


@pytest.mark.parametrize("fails", ["mailings", "append"])
def test_a_report_that_could_not_be_recorded_as_due_is_mailed_later(
    site: Reporting, relay: Relay, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("full")

    site.turn()
    site.issue()
    site.close()
    with monkeypatch.context() as sabotaged:
        sabotaged.setattr(site.store if fails == "append" else report_mail, fails, full)
        site.turn()
    assert relay.mails == []
    for _ in range(3):
        site.turn(minutes=1)
    assert [attached(mail) for mail in relay.mails] == [{"backupguard-2026-02-fr.pdf": PDF}]
    assert len(list(site.store.facts(kinds=("report.mailed",)))) == 1


def test_a_relay_that_is_down_gets_it_later_and_byte_for_byte(
    site: Reporting, relay: Relay
) -> None:
    relay.answer = "451 later"
    site.issue()
    site.close()
    site.turn()
    site.restart()
    taken: list[bytes] = []
    relay.accepted = lambda: taken.append(relay.mails[-1].as_bytes())
    relay.answer = "250 taken"
    site.turn(hours=1)
    site.turn(hours=1)
    assert len(taken) == 1
    assert attached(relay.mails[0]) == {"backupguard-2026-02-fr.pdf": PDF}


@pytest.mark.parametrize(
    ("author", "verdict"), [("uid/1 (daemon)", "passed"), ("schedule", "could_not_verify")]
)
def test_what_somebody_asked_for_and_what_failed_is_not_mailed(
    site: Reporting, relay: Relay, author: str, verdict: str
) -> None:
    site.issue()
    site.close(author, verdict)
    site.turn()
    assert relay.mails == []


def test_an_old_report_is_not_mailed_when_mail_is_set_up(site: Reporting, relay: Relay) -> None:
    site.issue()
    site.close()
    site.now += timedelta(days=8)
    site.turn()
    assert relay.mails == []


def test_people_are_reminded_once_a_week_until_it_comes_back(site: Reporting, relay: Relay) -> None:
    site.issue()
    site.turn(days=9)
    assert relay.mails == []
    for _ in range(16):
        site.turn(days=1)
        site.restart()
    assert [mail["Subject"] for mail in relay.mails] == [
        "CH de Belle-Rive : le rapport de février 2026 n’est pas revenu signé"
    ] * 3
    assert [f"rappel {number}," in text_of(mail) for number, mail in enumerate(relay.mails, 1)] == [
        True
    ] * 3
    told = site.store.facts(kinds=("report.reminded",))
    assert [fact.observation.data["time"] for fact in told] == [1, 2, 3]
    site.acknowledge()
    site.turn(days=30)
    site.restart()
    site.turn(days=30)
    assert len(relay.mails) == 3


def test_mail_to_needs_a_relay(tmp_path: Path) -> None:
    path = tmp_path / "backupguard.toml"
    text = CONFIGURATION.replace("HERE", str(tmp_path))
    path.write_text(text.replace("MAIL", '[report]\nmail-to = ["rssi@ch.example"]\n'))
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ={})
    (problem,) = caught.value.problems
    assert (problem.key, problem.message.id) == ("report.mail-to", "settings.report-mail")
