"""`doctor` asks those who are sent events and mails whether they answer: real servers, nothing sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backupguard.cli.doctor_channels import channels
from backupguard.cli.doctor_needs import Result
from backupguard.settings import load
from tests.integration.notify.collector import Authority, Collector
from tests.integration.notify.relay import PASSWORD, USER, free_port, serving

SITE = """
[site]
name = "CH d'essai"
[store]
directory = "state"
"""
SYSLOG = """
[soc.syslog]
host = "127.0.0.1"
port = {port}
ca = "{ca}"
patience = "5s"
"""
MAIL = """
[notify.mail]
host = "localhost"
port = {port}
security = "starttls"
ca = "{ca}"
user = "{user}"
password.file = "{password}"
from = "backupguard@ch.example"
to = ["dsi@ch.example"]
"""


def told(place: Path, text: str) -> dict[str, Result]:
    """Return what is told of the channels of a configuration, by what was looked at."""
    file = place / "backupguard.toml"
    file.write_text(SITE + text, encoding="utf-8")
    return {one.check: one for one in channels(load(file, environ={}))}


def mailed(place: Path, password: str = PASSWORD, **values: Any) -> str:
    file = place / "password"
    file.write_text(password)
    file.chmod(0o600)
    return MAIL.format(password=file, user=USER, **values)


def test_nothing_is_asked_where_nothing_is_configured(tmp_path: Path) -> None:
    assert told(tmp_path, "") == {}


def test_a_mail_server_that_answers_is_well_and_gets_no_mail(tmp_path: Path) -> None:
    with serving(tmp_path, "starttls") as relay:
        found = told(tmp_path, mailed(tmp_path, port=relay.port, ca=relay.ca))["mail"]
        refused = told(tmp_path, mailed(tmp_path, "wrong", port=relay.port, ca=relay.ca))["mail"]
    assert (found.state, found.found) == ("ok", f"localhost:{relay.port}")
    assert (refused.state, refused.found) == ("bad", f"localhost:{relay.port}: authentication")
    assert relay.mails == []


def test_a_mail_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, "starttls") as relay:
        found = told(tmp_path, mailed(tmp_path, port=port, ca=relay.ca))["mail"]
    assert (found.state, found.found) == ("bad", f"localhost:{port}: refused")
    assert found.remedy is not None


def test_a_collector_that_answers_is_well_and_gets_no_event(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    collector = Collector(tmp_path, authority)
    try:
        collector.start()
        text = SYSLOG.format(port=collector.port, ca=authority.file)
        assert told(tmp_path, text)["syslog"].state == "ok"
    finally:
        collector.stop()
    assert told(tmp_path, text)["syslog"].found == f"127.0.0.1:{collector.port}: refused"
    assert collector.lines() == []


def test_a_collector_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "other")
    collector = Collector(tmp_path, authority)
    try:
        collector.start()
        text = SYSLOG.format(port=collector.port, ca=stranger.file)
        assert told(tmp_path, text)["syslog"].found == f"127.0.0.1:{collector.port}: tls"
    finally:
        collector.stop()
