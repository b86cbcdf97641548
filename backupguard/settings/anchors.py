"""Where the chain's head is put down off this host, so that nobody here can rewrite the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from backupguard.contracts import Duration, SecretReference, SettingsModel, refused_setting
from backupguard.model import Message, is_id
from backupguard.settings.files import Trouble
from backupguard.settings.notify import Addresses, WebAddress
from backupguard.settings.soc import Syslog

#: How long an object is locked: as long as evidence is kept.
RETENTION = timedelta(days=5 * 366)


class SyslogAnchor(SettingsModel):
    """A line in a collector's journal; `collector` left out is that of `[soc.syslog]`."""

    type: Literal["syslog"]
    collector: Syslog | None = None


class MailAnchor(SettingsModel):
    """A mail to people outside, through the relay of `[notify.mail]`."""

    type: Literal["mail"]
    to: Addresses


class ObjectLockAnchor(SettingsModel):
    """An object in a bucket with Object Lock, in compliance mode: nobody can delete it before its time.

    `credentials` is a shared credentials file with the profile `default`; it needs PutObject,
    PutObjectRetention and GetObjectRetention on the prefix, and nothing else.
    """

    type: Literal["s3-lock"]
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    credentials: SecretReference
    prefix: str = "backupguard-anchors/"
    endpoint: str | None = None  # left out: AWS itself
    region: str = "us-east-1"
    path_style: bool = True
    ca_certificate: Path | None = None
    retention: Annotated[Duration, Field(ge=timedelta(days=1), le=timedelta(days=36600))] = (
        RETENTION
    )
    timeout: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = (
        timedelta(seconds=30)
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise refused_setting("example", "endpoint", example="https://s3.example.org")
        if self.prefix.startswith("/"):
            raise refused_setting("slash", "prefix")
        return self


class TimestampAnchor(SettingsModel):
    """A time-stamp authority (RFC 3161): it signs when the head was what it is.

    `certificates` (PEM) are the authorities its answers must be signed under; `chain` what lies between
    them and the authority's own certificate, where the answers do not hold it. Tokens are also put into
    `directory`, which should outlive this host.
    """

    type: Literal["rfc3161"]
    url: WebAddress
    certificates: Path
    chain: Path | None = None
    ca: Path | None = None  # believed for TLS, where `url` is https
    directory: Path | None = None
    timeout: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = (
        timedelta(seconds=30)
    )


AnchorPlace = Annotated[
    SyslogAnchor | MailAnchor | ObjectLockAnchor | TimestampAnchor, Field(discriminator="type")
]


class Evidence(SettingsModel):
    """What keeps the evidence honest: heads of its chain put down elsewhere, `every` so often.

    After each report they are put down as well.
    """

    anchors: Mapping[str, AnchorPlace] = Field(default_factory=dict)
    every: Annotated[Duration, Field(ge=timedelta(hours=1), le=timedelta(days=1))] = timedelta(
        days=1
    )


def _table(data: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def rules(data: Mapping[str, Any]) -> Iterator[Trouble]:
    """Report ids that are none, and anchors that need a collector or a relay that nobody configured."""
    for name, anchor in _table(data, "evidence", "anchors").items():
        path = ("evidence", "anchors", name)
        if not is_id(str(name)):
            yield Trouble(
                path=path,
                message=Message(id="settings.bad-id", values={"id": str(name)[:80]}),
                remedy=Message(id="remedy.bad-id"),
            )
        if not isinstance(anchor, Mapping):
            continue
        kind, missing = anchor.get("type"), None
        if kind == "syslog" and "collector" not in anchor and not _table(data, "soc", "syslog"):
            missing = "soc.syslog"
        if kind == "mail" and not _table(data, "notify", "mail"):
            missing = "notify.mail"
        if missing is not None:
            yield Trouble(
                path=(*path, "type"),
                message=Message(id="settings.anchor-needs", values={"key": missing}),
            )
