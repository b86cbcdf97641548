"""Who is told when nobody looks: mail, and the ping that stops when judging does.

For sites without Prometheus and Alertmanager. A relay that takes mail without encryption gets no
password.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from backupguard.contracts import Duration, SecretReference, SettingsModel, refused_setting
from backupguard.model import Severity
from backupguard.settings.schedule import parse_cron

#: Ports by convention: submission with STARTTLS, submission over TLS (RFC 8314), a relay.
PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _address(text: str) -> str:
    """Return "name@host" or "Name <name@host>" as it is; raise ValueError for anything else."""
    _, address = parseaddr(text)
    local, at, host = address.rpartition("@")
    if not (text.isprintable() and local and at and host and " " not in address):
        raise refused_setting("mail-address")
    return text


def _web(text: str) -> str:
    """Return an address of the web without its last slash; raise ValueError for anything else."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable():
        raise refused_setting("web-address")
    return text.rstrip("/")


def _cron(text: str) -> str:
    """Return a cron expression as it is; raise ValueError for anything else."""
    parse_cron(text)
    return text


Address = Annotated[str, AfterValidator(_address)]
WebAddress = Annotated[str, AfterValidator(_web)]
Addresses = Annotated[tuple[Address, ...], Field(min_length=1)]


class Mail(SettingsModel):
    """Mail about what is not compliant: one when it begins, one when it ends, reminders between.

    `ca` is the only authority believed, the system's where it is left out; `to_by_severity` takes the
    place of `to` for a severity; `url` is where people reach the pages of this daemon; `alive` is when
    a daily mail says that judging works (cron).
    """

    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: Path | None = None
    user: str | None = None
    password: SecretReference | None = None
    sender: Address = Field(alias="from")
    to: Addresses
    to_by_severity: Mapping[Severity, Addresses] = Field(default_factory=dict)
    minimum_severity: Severity = Severity.HIGH
    language: Literal["fr", "en"] | None = None  # left out: the site's
    remind_every: Annotated[Duration, Field(ge=timedelta(hours=1))] = timedelta(days=7)
    per_hour: int = Field(default=20, ge=2, le=1000)
    alive: Annotated[str, AfterValidator(_cron)] | None = None
    url: WebAddress | None = None

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise refused_setting("mail-login", "user, password")
        if self.security == "none" and self.password is not None:
            raise refused_setting("mail-clear-password", "security")
        return self

    @property
    def relay(self) -> tuple[str, int]:
        """Return host and port."""
        return self.host, self.port or PORTS[self.security]

    def recipients(self, severity: Severity) -> tuple[str, ...]:
        """Return who is told of something of that severity."""
        return self.to_by_severity.get(severity, self.to)


class DeadMan(SettingsModel):
    """A URL asked for as long as judging works: whoever keeps it tells people when that stops.

    `url` may be a secret (healthchecks and the like put the key into it): then it is `url_from`.
    """

    url: WebAddress | None = None
    url_from: SecretReference | None = None
    every: Annotated[Duration, Field(ge=timedelta(minutes=1))] = timedelta(minutes=5)
    ca: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise refused_setting("dead-man-url", "url, url-from")
        return self


class Notify(SettingsModel):
    """Who is told by BackupGuard itself."""

    mail: Mail | None = None
    dead_man: DeadMan | None = None
