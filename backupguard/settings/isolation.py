"""What must not answer, and from where that is tried."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from backupguard.contracts import Duration, SecretReference, SettingsModel

Positive = Annotated[Duration, Field(gt=timedelta(0))]
Port = Annotated[int, Field(ge=1, le=65535)]


class Target(SettingsModel):
    """A store that must not answer outside its windows: names or addresses, and their ports.

    `repositories` are the copies that lie there, `media` the offline media behind it.
    """

    hosts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    ports: tuple[Port, ...] = Field(min_length=1)
    repositories: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()  # when it may answer, local time of the site


class Vantage(SettingsModel):
    """A host in production that tries the same and signs what it saw with a key of its own.

    `witness` ("HOST:PORT") must answer it, or it proves nothing.
    """

    zone: str = Field(min_length=1)
    witness: str = Field(pattern=r"^.+:\d{1,5}$")
    key: SecretReference
    max_age: Positive = timedelta(hours=26)


class Isolation(SettingsModel):
    """What must not answer, and who looks besides this host."""

    witness: str | None = Field(default=None, pattern=r"^.+:\d{1,5}$")  # of this host
    targets: Mapping[str, Target] = Field(default_factory=dict)
    vantages: Mapping[str, Vantage] = Field(default_factory=dict)
