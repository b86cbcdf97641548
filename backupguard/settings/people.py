"""The people whose statements count: by the account they use, with their roles and signing keys."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backupguard.contracts import SettingsModel

Role = Literal["rssi", "operator", "custodian"]


class Person(SettingsModel):
    """One person. `user` is the account on this host that the control socket sees.

    `signing_key` is a public key as in `~/.ssh/id_ed25519.pub`; statements signed with it
    (`ssh-keygen -Y sign`) are authenticated.
    """

    name: str = Field(min_length=1)
    user: str = Field(min_length=1)
    roles: tuple[Role, ...] = ()
    signing_key: str | None = None
