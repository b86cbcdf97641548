"""Mail through a real SMTP server: taken once, whatever happens to the relay or to us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import structlog

from tests.integration.notify.relay import PASSWORD, USER, Relay, serving
from tests.integration.notify.site import Site

pytestmark = pytest.mark.usefixtures("heard")

RELAY = """
[notify.mail]
host = "localhost"
port = PORT
security = "SECURITY"
from = "BackupGuard <backupguard@ch.example>"
to = ["dsi@ch.example"]
minimum-severity = "high"
"""
LOGIN = f'ca = "CA"\nuser = "{USER}"\npassword.file = "password"\n'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[Relay, str], Site]]:
    made: list[Site] = []
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)

    def make(relay: Relay, security: str = "none", more: str = "") -> Site:
        text = RELAY.replace("PORT", str(relay.port)).replace("SECURITY", security)
        text += LOGIN.replace("CA", str(relay.ca)) if security != "none" else ""
        made.append(Site(tmp_path, text + more))
        return made[0]

    yield make
    for one in made:
        one.store.close()


Make = Callable[..., Site]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_is_taken_over_tls_with_a_login(site: Make, tmp_path: Path, security: str) -> None:
    with serving(tmp_path, security) as relay:
        here = site(relay, security)
        here.turn()
    (mail,) = relay.mails
    assert relay.readers == [["dsi@ch.example"]]
    assert "NAS du bâtiment A" in mail["Subject"]
    assert "à traiter immédiatement" in mail["Subject"]
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_content()
    assert "backupguard why INT-01 repository/nas" in body
    assert "BackupGuardIntegrityNotProven" in body  # its runbook
    assert PASSWORD not in body
    assert relay.logins == [True]
    assert here.owed() == 0


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_relay_that_others_vouch_for_gets_no_password(
    site: Make, tmp_path: Path, security: str
) -> None:
    with serving(tmp_path, security) as relay:
        relay.ca = next(Path("/etc/ssl/certs").glob("ISRG_Root_X1.pem"))
        here = site(relay, security)
        with structlog.testing.capture_logs() as logged:
            here.turn()
    assert relay.mails == []
    assert [entry.get("code") for entry in logged if entry["event"] == "mail.failed"] == ["tls"]
    assert here.owed() == 1


def test_a_wrong_password_is_ours_and_nothing_is_lost(site: Make, tmp_path: Path) -> None:
    with serving(tmp_path, "starttls") as relay:
        here = site(relay, "starttls")
        (tmp_path / "password").write_text("wrong")
        with structlog.testing.capture_logs() as logged:
            here.turn()
        (failed,) = [entry for entry in logged if entry["event"] == "mail.failed"]
        assert failed["code"] == "authentication"
        assert "wrong" not in str(logged)
        (tmp_path / "password").write_text(PASSWORD)
        here.turn(minutes=2)
    assert len(relay.mails) == 1


def test_a_cause_is_told_once_reminded_of_and_ended(site: Make, tmp_path: Path) -> None:
    with serving(tmp_path, "none") as relay:
        here = site(relay)
        for hours in (0, 1, 24):
            here.turn(hours=hours)
            here.restart()
        assert len(relay.mails) == 1
        here.turn(days=7)
        here.turn(hours=1)
        assert len(relay.mails) == 2
        here.wrong = False
        here.turn(hours=1)
        here.turn(hours=1)
    opened, reminder, *_ = relay.mails
    (ended,) = [mail for mail in relay.mails if "terminé" in mail["Subject"]]
    assert "toujours en cours" in reminder["Subject"]
    assert reminder["In-Reply-To"] == ended["In-Reply-To"] == opened["Message-ID"]


def test_a_relay_that_is_down_for_a_day_loses_and_doubles_nothing(
    site: Make, tmp_path: Path
) -> None:
    with serving(tmp_path, "none") as relay:
        here = site(relay)
    here.turn()
    for _ in range(6):
        here.turn(hours=4)
    here.wrong = False
    here.turn(hours=1)
    owed = here.owed()
    assert owed >= 2
    here.restart()
    with serving(tmp_path, "none", relay=relay):
        here.turn(hours=1)
        here.turn(hours=1)
    assert len(relay.mails) == owed
    assert len({mail["Message-ID"] for mail in relay.mails}) == owed
    assert "terminé" in relay.mails[1]["Subject"]
    assert here.owed() == 0


def test_a_mail_that_the_relay_refuses_waits_and_is_told_of(site: Make, tmp_path: Path) -> None:
    with serving(tmp_path, "none") as relay:
        relay.answer = "550 no such user"
        here = site(relay)
        with structlog.testing.capture_logs() as logged:
            here.turn()
        assert "no such user" not in str(logged)
        relay.answer = "250 taken"
        here.turn(minutes=2)
    assert len(relay.mails) == 1


CHILD = """
import sys
from pathlib import Path
from tests.integration.notify.site import Site
Site(Path(sys.argv[1]), "").turn()
"""


def test_a_kill_between_the_relays_answer_and_our_note_sends_the_same_mail(
    site: Make, tmp_path: Path
) -> None:
    """The reader's box shows one: both have the same Message-ID and the same bytes."""
    with serving(tmp_path, "none") as relay:
        here = site(relay)
        here.store.close()
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            cwd=Path(__file__).resolve().parents[3],
        )
        relay.accepted = lambda: os.kill(child.pid, signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
        relay.accepted = lambda: None
        here.open()
        assert here.owed() == 1
        here.turn(minutes=1)
        here.turn(minutes=1)
    first, second = relay.mails
    assert bytes(first) == bytes(second)
    assert first["Message-ID"] == second["Message-ID"]
    assert here.owed() == 0


def test_no_more_mails_than_allowed_and_none_is_lost(site: Make, tmp_path: Path) -> None:
    """What comes and goes: two mails an hour, and what was held back is in the next one."""
    with serving(tmp_path, "none") as relay:
        here = site(relay, more="per-hour = 2\n")
        for wrong in (True, False, True, False):
            here.wrong = wrong
            here.turn(minutes=5)
        assert [("terminé" in mail["Subject"]) for mail in relay.mails] == [False, True]
        here.turn(minutes=60)
    *_, last = relay.mails
    assert len(relay.mails) == 3
    assert "commencé et déjà terminé" in last["Subject"]


def test_the_daily_mail_comes_once_a_day_while_judging_works(site: Make, tmp_path: Path) -> None:
    with serving(tmp_path, "none") as relay:
        here = site(relay, more='alive = "0 7 * * *"\n')
        for hours in (0, 1, 23, 1):
            here.turn(hours=hours)
            here.restart()
        here.working = False
        here.turn(hours=24)
    alive = [mail for mail in relay.mails if "la surveillance fonctionne" in mail["Subject"]]
    assert len(alive) == 2


class Asked(BaseHTTPRequestHandler):
    """Remembers what was asked for."""

    paths: ClassVar[list[str]] = []
    status = 200

    def do_GET(self) -> None:
        """Answer as told."""
        self.paths.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_the_dead_mans_url_is_asked_for_while_judging_works(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret = tmp_path / "url"
    secret.write_text(f"http://127.0.0.1:{server.server_port}/ping/7f3a\n")
    secret.chmod(0o600)
    site = Site(tmp_path, '[notify.dead-man]\nurl-from.file = "url"\n')
    try:
        site.turn()
        site.turn()  # not every time: every five minutes
        site.restart()
        site.working = False
        site.turn()
        assert Asked.paths == ["/ping/7f3a"]
        site.working = True
        Asked.status = 500
        with structlog.testing.capture_logs() as logged:
            site.turn()
        assert Asked.paths == ["/ping/7f3a"] * 2
        assert [entry["code"] for entry in logged if entry["event"] == "dead-man.failed"]
        assert "7f3a" not in str(logged)
    finally:
        site.store.close()
        server.shutdown()
        server.server_close()
