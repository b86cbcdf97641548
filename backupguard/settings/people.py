"""The people whose statements count: by the account they use, with their roles and signing keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import SettingsModel, refused_setting
from backupguard.model import Message, is_id
from backupguard.settings.files import Trouble

Role = Literal["rssi", "operator", "custodian"]

#: Types of keys that sign: ssh-keygen(1). A certificate or an option before the key is no key.
KEY_TYPES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)


def key_of(text: str) -> tuple[str, bytes] | None:
    """Return the type and the bytes of a public key as in `id_ed25519.pub`; None when it is none."""
    if not text.isprintable():
        return None
    kind, _, rest = text.strip().partition(" ")
    encoded = rest.strip().partition(" ")[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    named = len(kind).to_bytes(4) + kind.encode("ascii", "replace")
    if kind not in KEY_TYPES or not blob.startswith(named) or len(blob) < len(named) + 32:
        return None
    return kind, blob


def fingerprint(text: str) -> str:
    """Return a key's fingerprint as `ssh-keygen -l` prints it; raise ValueError for no key."""
    found = key_of(text)
    if found is None:
        raise ValueError("no public key")
    digest = base64.b64encode(hashlib.sha256(found[1]).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


class Person(SettingsModel):
    """One person. `user` is the account on this host that the control socket sees.

    `signing_key` is a public key as in `~/.ssh/id_ed25519.pub`; statements signed with it
    (`ssh-keygen -Y sign`) are authenticated, until the end of the day `signing_key_until` where that
    is given.
    """

    name: str = Field(min_length=1)
    user: str = Field(min_length=1)
    roles: tuple[Role, ...] = ()
    signing_key: str | None = None
    signing_key_until: date | None = None

    @model_validator(mode="after")
    def _a_key(self) -> Self:
        if self.signing_key is not None and key_of(self.signing_key) is None:
            raise refused_setting("public-key", "signing-key")
        return self


def rules(data: Mapping[str, Any]) -> Iterator[Trouble]:
    """Report ids that are none, and two people with one account or one key: they would be one."""
    people = data.get("people")
    accounts: dict[str, str] = {}
    keys: dict[bytes, str] = {}
    for name, person in people.items() if isinstance(people, Mapping) else ():
        if not is_id(str(name)):
            yield Trouble(
                path=("people", name),
                message=Message(id="settings.bad-id", values={"id": str(name)[:80]}),
                remedy=Message(id="remedy.bad-id"),
            )
        if not isinstance(person, Mapping):
            continue
        user, key = person.get("user"), person.get("signing-key")
        if isinstance(user, str) and accounts.setdefault(user, name) != name:
            yield _twice((name, "user"), accounts[user])
        found = key_of(key) if isinstance(key, str) else None
        if found is not None and keys.setdefault(found[1], name) != name:
            yield _twice((name, "signing-key"), keys[found[1]])


def _twice(path: tuple[str, str], other: str) -> Trouble:
    return Trouble(
        path=("people", *path),
        message=Message(id="settings.person-twice", values={"other": str(other)[:80]}),
        remedy=Message(id="remedy.person-twice"),
    )
