"""What a SOC's collector is told, and how it is reached."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, SecretReference, SettingsModel, refused_setting

#: Numbers of RFC 5424, 6.2.1, table 1.
FACILITIES = {
    "user": 1,
    "daemon": 3,
    "auth": 4,
    "authpriv": 10,
    "audit": 13,
    **{f"local{number}": 16 + number for number in range(8)},
}
Facility = Literal[
    "user", "daemon", "auth", "authpriv", "audit", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
]  # fmt: skip


class Syslog(SettingsModel):
    """A collector of syslog over TLS (RFC 5424, RFC 5425). There is no way to do it in clear text.

    `ca` is the only authority believed, the system's where it is left out; `server_name` the name that
    its certificate must have, where that is another one than `host`. `certificate` (with its chain) and
    `key` are this client's own. `patience` is how long one delivery may take.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=6514, ge=1, le=65535)
    server_name: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: SecretReference | None = None
    facility: Facility = "local0"
    language: Literal["fr", "en"] | None = None  # left out: the site's
    patience: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = (
        timedelta(seconds=30)
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise refused_setting("client-certificate", "certificate, key")
        return self


class Soc(SettingsModel):
    """What the SOC is sent."""

    syslog: Syslog | None = None
