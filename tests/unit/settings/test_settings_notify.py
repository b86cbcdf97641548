"""Who is told: addresses, logins in clear text, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from backupguard.model import Severity
from backupguard.settings.notify import DeadMan, Mail

GIVEN = {"host": "relay", "from": "BackupGuard <b@ch.example>", "to": ["dsi@ch.example"]}
SECRET = {"file": "/secret"}


def mail(**more: Any) -> Mail:
    return Mail.model_validate(GIVEN | more)


@pytest.mark.parametrize(
    ("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)], ids=str
)
def test_ports_follow_the_security(security: str, port: int) -> None:
    assert mail(security=security).relay == ("relay", port)
    assert mail(security=security, port=2525).relay == ("relay", 2525)


def test_a_severity_may_have_its_own_readers() -> None:
    given = mail(**{"to-by-severity": {"critical": ["garde@ch.example"]}})
    assert given.recipients(Severity.CRITICAL) == ("garde@ch.example",)
    assert given.recipients(Severity.HIGH) == ("dsi@ch.example",)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"to": ["nobody"]}, "mail-address"),
        ({"from": "x@y.example\nBcc: z@y.example"}, "mail-address"),
        ({"to": []}, "too_short"),
        ({"user": "x"}, "mail-login"),
        ({"user": "x", "password": SECRET, "security": "none"}, "mail-clear-password"),
        ({"url": "javascript:alert(1)"}, "web-address"),
        ({"alive": "every morning"}, "five fields"),
        ({"remind-every": "1m"}, "greater_than"),
    ],
    ids=["address", "line end", "nobody", "half a login", "clear text", "url", "cron", "often"],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        mail(**changes)
    assert sentence in str(caught.value)


def test_the_dead_mans_url_stands_in_one_place() -> None:
    assert DeadMan.model_validate({"url": "https://hc.example/x/"}).url == "https://hc.example/x"
    for given in ({}, {"url": "https://hc.example", "url-from": SECRET}):
        with pytest.raises(ValidationError):
            DeadMan.model_validate(given)
